"""A batch job: one request to the batch scheduler for nodes and time, which starts a launcher."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class BatchState(StrEnum):
    """Where a batch job stands, in one vocabulary for all batch systems."""

    PENDING_SUBMISSION = "pending_submission"  #: recorded; the scheduler may not know of it yet
    SUBMIT_FAILED = "submit_failed"  #: the scheduler refused it
    QUEUED = "queued"  #: waits for nodes
    HELD = "held"  #: waits until somebody lets it go
    RUNNING = "running"
    ENDING = "ending"  #: has nodes still, but its end has begun
    FINISHED = "finished"  #: ended with exit code 0
    FAILED = "failed"  #: ended otherwise
    TIMEOUT = "timeout"  #: was ended at its walltime
    CANCELLED = "cancelled"  #: ended or taken back by a person, the service, or for others' sake
    LOST = "lost"  #: neither the queue nor the history of the scheduler knows it any more
    UNKNOWN = "unknown"  #: the scheduler says a word that we do not know


#: States before the start.
WAITING_STATES = frozenset({BatchState.PENDING_SUBMISSION, BatchState.QUEUED, BatchState.HELD})
#: States that a batch job does not leave.
ENDED_STATES = frozenset(
    {
        BatchState.SUBMIT_FAILED,
        BatchState.FINISHED,
        BatchState.FAILED,
        BatchState.TIMEOUT,
        BatchState.CANCELLED,
        BatchState.LOST,
    }
)
#: States in which it may hold nodes, now or later.
LIVE_STATES = frozenset(BatchState) - ENDED_STATES


class BatchJob(msgspec.Struct, kw_only=True):
    """One allocation asked for, with what the scheduler and its launcher said of it.

    Batch jobs are never removed from the record.
    """

    id: int | None = None
    scheduler: str = ""  #: name of the batch system, as `schedulers.find` takes it
    scheduler_id: str = ""  #: '' until the scheduler has given one
    name: str = ""  #: what the scheduler calls it; tells it from all others of the user
    project: str = ""
    queue: str = ""
    num_nodes: int = 1
    wall_time_minutes: float = 0.0
    job_mode: str = "auto"
    wf_filter: str = ""  #: its launcher runs jobs whose workflow contains this
    tags: dict[str, str] = {}  #: its launcher runs jobs that have all these
    scheduler_flags: str = ""
    script: str = ""  #: relative to the site
    output_file: str = ""  #: relative to the site; what the script and its launcher wrote
    state: BatchState = BatchState.PENDING_SUBMISSION
    scheduler_state: str = ""  #: the scheduler's own word
    message: str = ""  #: why it waits, or how it ended
    owner: str = ""
    host: str = ""  #: where it was submitted
    service_id: int | None = None  #: the service that asked for it; None: a person did
    cancel_reason: str = ""  #: not '': it is to be cancelled, and why
    nodes: str = ""  #: the hosts, as the scheduler writes them
    exit_code: int | None = None
    created_at: float = 0.0
    submitted_at: float | None = None
    starts_at: float | None = None  #: when the scheduler expects to start it
    started_at: float | None = None
    ended_at: float | None = None
    seen_at: float | None = None  #: when the scheduler last knew it

    @property
    def is_live(self) -> bool:
        """Whether it may hold nodes, now or later."""
        return self.state in LIVE_STATES

    def came_back_after(self, ended_at: float) -> bool:
        """Tell whether it waits, or has begun, since a launcher of it ended: it was requeued."""
        if self.state in WAITING_STATES:
            return True
        return self.started_at is not None and self.started_at >= ended_at

    def node_hours(self, now: float) -> float:
        """Return what it costs: until it has ended, all that was asked for."""
        if self.state in ENDED_STATES:
            if self.started_at is None or self.ended_at is None:
                return 0.0
            return self.num_nodes * max(0.0, self.ended_at - self.started_at) / 3600
        asked = self.wall_time_minutes / 60
        used = (now - self.started_at) / 3600 if self.started_at is not None else 0.0
        return self.num_nodes * max(asked, used)
