"""Nodes: what they have, and what of it is free."""
