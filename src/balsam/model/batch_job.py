"""A batch job: one request to the batch scheduler for nodes and time."""

from __future__ import annotations

import msgspec


class BatchJob(msgspec.Struct, kw_only=True):
    """One allocation asked for, with what the scheduler said of it."""

    id: int | None = None
    scheduler_id: str = ""
    project: str = ""
    queue: str = ""
    num_nodes: int = 1
    wall_time_minutes: float = 0.0
    job_mode: str = "auto"
    wf_filter: str = ""
    scheduler_flags: str = ""
    script: str = ""
    state: str = "pending_submission"
    message: str = ""
    created_at: float = 0.0
