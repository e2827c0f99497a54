"""The records that pass between client, store and launcher.

Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from balsam.errors import InvalidInput
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.retry import signal_name
from balsam.model.run_time import RunTime
from balsam.model.states import State
from balsam.model.transfer import Transfer


class Topic(StrEnum):
    """What a waiting process can be woken for."""

    WORK = "work"  #: there may be something for launchers: jobs to lease, kills
    ENDS = "ends"  #: jobs have ended


class Outcome(StrEnum):
    """How an attempt went."""

    RUNNING = "running"
    DONE = "done"  #: exit code 0
    ERROR = "error"  #: exit code not 0, or a signal that was not Balsam's
    TIMEOUT = "timeout"  #: the launcher's time was over
    KILLED = "killed"  #: a user killed the job
    LOST = "lost"  #: its launcher or worker died; whether it ended is not known
    REFUSED = "refused"  #: reported by a launcher whose lease had ended
    NOT_STARTED = "not_started"  #: could not be started


class Event(msgspec.Struct, kw_only=True):
    """One state change. Never rewritten."""

    id: int = 0
    time: float
    job: int  #: the job's integer id
    job_id: str = ""  #: the job's UUID
    from_state: str  #: '' for the first event of a job
    to_state: str
    message: str = ""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What a run had of one node."""

    node: str
    cores: str = ""  #: which cores it had to itself, by position, ``0-3,8``; '' when it shared
    count: float = 0.0  #: cores taken; a fraction when jobs share a node by node_packing_count
    gpus: dict[str, float] = {}  #: of each GPU (as the vendor's variable takes it), the share
    memory_mib: int = 0  #: 0: not counted

    def __str__(self) -> str:
        """Return what a person reads: ``n1: cores 0-3, GPU 0 (0.25), 512 MiB``."""
        if self.cores:
            parts = [f"core{'s' if set(self.cores) & set('-,') else ''} {self.cores}"]
        else:
            parts = [f"{self.count:g} core{'s' if self.count != 1 else ''}"] if self.count else []
        parts += [
            f"GPU {gpu}" if share == 1 else f"GPU {gpu} ({share:g})"
            for gpu, share in self.gpus.items()
        ]
        parts += [f"{self.memory_mib} MiB"] if self.memory_mib else []
        return f"{self.node}: {', '.join(parts)}" if parts else self.node


_placements = msgspec.json.Decoder(list[Placement])


def placement_text(parts: Iterable[Placement]) -> str:
    """Return *parts*, one a node, as `Attempt.placement` holds them; '' for none."""
    found = list(parts)
    return msgspec.json.encode(found).decode() if found else ""


def parts_of(text: str) -> list[Placement]:
    """Return what `Attempt.placement` says, one a node; [] for ''.

    Raises
    ------
    InvalidInput
        It says something else.
    """
    try:
        return _placements.decode(text) if text else []
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"placement {text!r} is not readable: {error}") from error


class Attempt(msgspec.Struct, kw_only=True):
    """One execution of a job."""

    job: int
    job_id: str = ""
    number: int  #: 1, 2, …
    launcher_id: int
    node: str = ""  #: the first, when there are several
    pid: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None  #: minus the signal's number when a signal ended it
    outcome: Outcome = Outcome.RUNNING
    message: str = ""
    peak_memory_mib: float | None = None
    cpu_seconds: float | None = None
    output_file: str = ""  #: relative to the site when it lies below it
    output_offset: int = 0
    output_size: int | None = None  #: None: to the end of the file
    placement: str = ""  #: where it ran: JSON of a list of `Placement`; '' when not known
    result: str = ""  #: what a Python function returned or raised (see model/payload.py)

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, ``SIGKILL``; None when it ended by itself."""
        return signal_name(self.exit_code)


class Aftermath(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the end of a run changes in its job, beside the state."""

    memory_mib: int | None = None  #: for the next run
    wall_time_minutes: float | None = None  #: for the next run
    retry_at: float | None = None  #: not before this time
    crashed: bool = False  #: the run was lost with its worker, which may be its fault


class Move(msgspec.Struct, frozen=True, omit_defaults=True):
    """One state change that a launcher reports."""

    job: int
    attempt: int
    from_state: State
    to_state: State
    time: float
    message: str = ""
    aftermath: Aftermath | None = None


class Report(msgspec.Struct, kw_only=True):
    """What happened in a launcher since its last report; applied in one transaction.

    Moves of one job must be in order. A move from RUN_ERROR to RESTART_READY is a retry and
    charged as one, a move to RUN_TIMEOUT is counted in `timeouts`. `released` jobs go back to
    everybody.
    """

    moves: list[Move] = []
    attempts: list[Attempt] = []
    released: list[int] = []
    transfers: list[Transfer] = []  #: of each the newest word
    again: bool = False  #: it may have been applied before, whole or in part


class Refusal(msgspec.Struct, frozen=True):
    """A move that was not applied."""

    job: int
    state: str  #: the state the job really has, '' when it was deleted
    reason: str


class LauncherKind(StrEnum):
    """What holds leases on jobs."""

    PILOT = "pilot"  #: runs jobs on its nodes
    SERVICE = "service"  #: the site's service: it has no nodes, and moves files only


class LauncherInfo(msgspec.Struct, kw_only=True):
    """A launcher as the store knows it."""

    id: int = 0
    host: str
    pid: int
    pid_started: str = ""  #: tells a process from a later one with the same pid
    owner: str = ""
    workflow_filter: str = ""
    job_mode: str = "auto"
    nodes: int = 1
    cores: int = 1
    gpus: int = 0
    started_at: float = 0.0
    expires_at: float = 0.0
    ended_at: float | None = None
    message: str = ""
    batch_job_id: int | None = None
    scheduler_id: str = ""  #: of the allocation it runs in, '' when it is in none
    memory_mib: int = 0  #: of each node
    tags: dict[str, str] = {}  #: it takes jobs that have all these
    jobs_of: str = ""  #: the user whose jobs it takes; '': anybody's
    ends_at: float | None = None  #: when its time is over; None: that is not known
    kind: LauncherKind = LauncherKind.PILOT

    def silent_since(self, now: float) -> float | None:
        """Return since when it has ended, or not been heard of for too long; None: it lives."""
        if self.ended_at is not None:
            return self.ended_at
        return self.expires_at if self.expires_at < now else None


class LeaseRequest(msgspec.Struct, kw_only=True):
    """Which jobs a launcher can take."""

    limit: int
    workflow_filter: str = ""  #: substring of the workflow's name
    owner: str = ""  #: '' for any
    tags: dict[str, str] = {}  #: jobs that have all these
    serial: bool = True  #: jobs of one rank on one node
    parallel: bool = True  #: jobs of several ranks or nodes
    num_nodes: int = 1
    cores: int = 1  #: on the largest node
    gpus: float = 0.0
    memory_mib: int = 0
    minutes_left: float | None = None  #: None: no limit
    #: (application, ranks) whose runs take longer than is left, as was learned: their jobs that
    #: say no wall_time_minutes, and have not been timed out yet, are not taken.
    too_long: list[tuple[str, int]] = []
    only_priority_from: int | None = None  #: only jobs of at least this priority
    number: int = 0  #: the launcher's 1st, 2nd, … request; 0: not numbered
    # Jobs whose files are to be moved come beside the `limit` others. A launcher without nodes
    # has a limit of 0, and is given these whatever they need to run.
    stage_in: int = 0  #: most jobs whose files are to be brought
    stage_out: int = 0  #: most jobs whose results are to be taken away
    leave_files: bool = True  #: none of either where a live service moves them
    staged_ahead: int | None = None  #: to bring no more while so many staged in are free


class Lease(msgspec.Struct, kw_only=True):
    """Jobs leased to a launcher, in the order to run them, with the apps they name.

    `parents` and `tags` of these jobs are filled; `data` is not.
    """

    jobs: list[Job] = []
    apps: dict[str, App] = {}
    run_times: list[RunTime] = []  #: what was learned of these apps
    next_in: float | None = None  #: seconds until a job that waits for its retry can be leased
    #: Of these jobs' parents whose results are among their arguments: what they returned, by id.
    results: dict[int, str] = {}
    has_mover: bool = False  #: a live service moves the files of the jobs that the launcher takes


class Renewal(msgspec.Struct, kw_only=True):
    """The answer to a launcher's sign of life."""

    expires_at: float
    killed: list[int] = []  #: leased jobs that a user killed since


class Outlook(msgspec.Struct, kw_only=True):
    """What is left to do for a launcher: decides whether it waits or ends."""

    leasable: int  #: free jobs it could take now
    unfit: int  #: free jobs that need more than its nodes have
    waiting: int  #: jobs that wait for parents
    held_elsewhere: int  #: jobs leased by other launchers
    delayed: int = 0  #: free jobs that wait for their retry
    too_long: int = 0  #: free jobs that its nodes could hold, but not the time that is left
    to_stage: int = 0  #: free jobs whose files are to be moved first
