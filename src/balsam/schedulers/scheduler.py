"""`Scheduler`: what an adapter of a batch system does.

An adapter never starts a process itself: each method is given `run`, which does (`command.py`),
gives argument vectors to it and reads what it returns. So each is tried on captured text.

To add one: write a class with these methods, and name it in `find.SCHEDULERS`, or from another
package by an entry point of the group ``balsam.schedulers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from balsam.model.batch_job import BatchState


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a command of the batch system said."""

    argv: tuple[str, ...]
    code: int  #: its exit code
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What it said of its failure, in one line."""
        text = " ".join((self.err.strip() or self.out.strip()).split())
        return text or f"it ended with exit code {self.code} and said nothing"


#: Runs a command of the batch system, with *stdin* if given, and returns what it said, whatever
#: its exit code. Raises `SchedulerAway` when it cannot be run, or takes too long.
Run = Callable[..., Answer]  # run(argv: Sequence[str], stdin: str = "") -> Answer


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One request for nodes."""

    name: str  #: letters, digits, '-', '_', '.'; unique among the user's requests, at most 60
    script: str  #: absolute path; holds `Scheduler.directives`
    output: str  #: absolute path for standard output and standard error, appended or written
    directory: str  #: absolute path where the script starts
    num_nodes: int  #: whole nodes
    minutes: int
    queue: str = ""  #: '': the system's default
    project: str = ""  #: '': the system's default
    flags: tuple[str, ...] = ()  #: the user's own words for the submit command
    cores_per_node: int = 0  #: 0: not known; systems that count slots need it
    gpus_per_node: int = 0  #: 0: none asked for by themselves


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the batch system says of one request. Times are seconds since the epoch, UTC."""

    scheduler_id: str
    state: BatchState
    word: str  #: its own word for the state
    reason: str = ""  #: why it waits, or how it ended, in its own words
    queue: str = ""
    nodes: str = ""  #: hosts, as it writes them; '' when there are none yet
    exit_code: int | None = None  #: minus the signal's number when a signal ended it
    starts_at: float | None = None  #: when it expects to start it
    started_at: float | None = None
    ended_at: float | None = None


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What the batch system tells of a queue. None and 0: it does not tell, or has no limit."""

    name: str
    is_default: bool = False
    is_open: bool = True  #: takes requests and starts them
    comment: str = ""  #: why it is not open
    min_nodes: int | None = None
    max_nodes: int | None = None
    min_minutes: float | None = None
    max_minutes: float | None = None
    max_queued: int | None = None  #: requests of one user, waiting or running
    nodes: int = 0  #: all its nodes that are up
    cores_per_node: int = 0
    gpus_per_node: int = 0
    memory_mib: int = 0  #: of a node


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that are free now, and for how long."""

    queue: str
    num_nodes: int
    minutes: float | None = None  #: None: as long as the queue allows


class Scheduler(Protocol):
    """One batch system. All ids are texts, as the system writes them.

    What cannot be read raises `UnreadableAnswer` with the line. What the system cannot do just
    now (it is away, busy, restarting) raises `SchedulerAway`: trying again helps. What it refuses
    raises `SchedulerRefused` with its own words.
    """

    #: Its name in the settings and in the record of batch jobs.
    name: str

    def is_here(self, run: Run) -> bool:
        """Tell whether this machine has this batch system, and not another of the same commands.

        Raises
        ------
        SchedulerAway
            Its commands are there, but do not answer.
        """

    def directives(self, submission: Submission) -> list[str]:
        """Return the lines that go to the top of the script: ``#SBATCH --nodes=2``, ….

        They ask for whole nodes, and end with the user's own flags, which so have the last word.
        """

    def submit(self, run: Run, submission: Submission) -> str:
        """Submit the script and return the id of the request.

        After `SchedulerAway` it is not known whether it was submitted: see `find`.
        """

    def find(self, run: Run, name: str) -> str | None:
        """Return the id of the request of this name among the user's own, or None.

        Also one that has just ended, if the system still tells.
        """

    def status(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        """Return what the system says of these requests, in one query for all of them.

        A request that it does not name is left out; that never means that it has ended. Lines
        about others are passed over, also when they cannot be read.
        """

    def history(self, run: Run, ids: Sequence[str]) -> dict[str, Status]:
        """Return what the system remembers of requests that are over; {} where it forgets."""

    def cancel(self, run: Run, ids: Sequence[str]) -> None:
        """Take these requests back, or end them. Those that are over already are no error."""

    def queues(self, run: Run) -> list[Queue]:
        """Return the queues that the user can see."""

    def windows(self, run: Run) -> list[Window]:
        """Return what is free now; [] where the system does not tell."""
