"""The service: who it is, and what it last knew of the batch system.

What it knows is kept in the database, so that every question about it is answered from
anywhere, also while it is down.
"""

from __future__ import annotations

import msgspec


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as the service uses it: the batch system's limits and the site's policy together."""

    name: str
    is_open: bool = True
    comment: str = ""  #: why it is not used now: closed, paused after failures, not in the policy
    min_nodes: int = 1
    max_nodes: int | None = None  #: None: no limit is known
    min_minutes: float = 0.0
    max_minutes: float | None = None
    max_queued: int | None = None  #: requests of this site at a time, waiting or running
    nodes: int = 0  #: all its nodes; 0: not known
    cores_per_node: int = 0  #: 0: not known
    gpus_per_node: int = 0
    memory_mib: int = 0  #: of a node; 0: not known


class Unmet(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs for which the service asks for no nodes, and why."""

    count: int
    example: int  #: id of one of them
    what: str  #: what they ask for, in words
    reason: str


class FilesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The files that the service moves."""

    launcher_id: int = 0  #: the launcher without nodes that it does this as; 0: it moves none
    in_hand: int = 0  #: jobs whose files are moved, or wait for their turn
    done: int = 0  #: jobs whose files it has moved since it started
    failed: int = 0  #: jobs whose files could not be


class ServiceStatus(msgspec.Struct, kw_only=True):
    """What the service last knew."""

    scheduler: str = ""
    elastic: bool = True  #: it asks for nodes by itself
    updated_at: float = 0.0
    scheduler_seen_at: float | None = None  #: when the batch system last answered
    trouble: str = ""  #: what keeps it from working: the batch system is away, …
    queues: list[QueueState] = []
    unmet: list[Unmet] = []
    waits: str = ""  #: why it submits nothing now although jobs wait, '' when it does
    budget_node_hours: float = 0.0  #: 0: no limit
    spent_node_hours: float = 0.0  #: of all batch jobs, until they end all that they asked for
    files: FilesStatus = FilesStatus()
    news: list[str] = []  #: what happened last, oldest first, each with its time


class ServiceInfo(msgspec.Struct, kw_only=True):
    """A service as the database knows it. Of a site's services one is live at most."""

    id: int = 0
    host: str = ""
    pid: int = 0
    pid_started: str = ""  #: tells a process from a later one with the same pid
    owner: str = ""
    started_at: float = 0.0
    expires_at: float = 0.0
    ended_at: float | None = None
    stop_requested: bool = False
    message: str = ""  #: why it ended
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)
