"""Workflows in WfFormat, the JSON of WfCommons: read, and made into apps and jobs."""
