"""Snakemake executor plugin: the jobs of a workflow run as jobs of a Balsam site."""

from .executor import Executor
from .settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
