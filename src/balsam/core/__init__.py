"""The 0.x import path."""
