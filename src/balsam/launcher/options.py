"""What one launcher is told."""

from __future__ import annotations

import signal

import msgspec

from balsam.model.wire import LeaseRequest


def why_ended_by(number: int) -> str:
    """Return why a launcher ends that got the signal *number*."""
    return f"the launcher got {signal.Signals(number).name}"


class Options(msgspec.Struct, kw_only=True):
    """What a planner is told once."""

    launcher_id: int
    site: str
    lease: LeaseRequest  #: whose jobs, and which; sizes are filled in as workers join
    idle_seconds: float
    persistent: bool = False  #: never end for want of work
    grace_seconds: float = 10.0
    ends_at: float | None = None  #: when the allocation is over
    hooks: int = 1  #: most hooks at a time
    stage_files: str = "auto"  #: see `LauncherSettings.stage_files`
    crash_limit: int = 0  #: how often a job may be lost with its worker; 0: no limit
    node_failure_limit: int = 0  #: jobs that fail in a row before a node is set aside; 0: no limit
