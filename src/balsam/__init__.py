"""Balsam: large campaigns of jobs and workflows on supercomputers."""

__version__ = "1.0.0.dev0"
