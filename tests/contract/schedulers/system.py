"""`System`: a batch system that the suite submits to, and what it can be told to do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from balsam.schedulers.scheduler import Scheduler


class Fate(StrEnum):
    """How a request ends."""

    FINISHED = "finished"  #: by itself, with exit code 0
    FAILED = "failed"  #: by itself, with exit code 3
    TIMEOUT = "timeout"  #: killed at its walltime
    CANCELLED = "cancelled"  #: only by the adapter's `cancel`


class Fault(StrEnum):
    """What is wrong with the answers of a fake system."""

    HANGS = "hangs"  #: commands do what they should, and never end
    AWAY = "away"  #: commands find nobody to ask, and say so as the real ones do
    EMPTY = "empty"  #: commands do what they should, end with 0 and say nothing
    CHATTER = "chatter"  #: lines of somebody else come before what they say
    DAMAGED = "damaged"  #: the end of their last line is missing
    STRANGE = "strange"  #: the word for the state of every request is one that nobody knows
    MISSING = "missing"  #: no request is named by any command


class System(Protocol):
    """A batch system with two nodes or more (`local`: one), on which nobody else is.

    Its nodes are free at the start of each test. A script that the suite submits runs until the
    file SCRIPT.end is there, and ends with the exit code that stands in it.
    """

    name: str  #: of the adapter
    scheduler: Scheduler
    environ: Mapping[str, str]  #: PATH has its commands; all that they need
    num_nodes: int  #: most that one request can have
    cores_per_node: int  #: for `Submission.cores_per_node`
    patience: float  #: seconds in which everything happens that is to happen
    queue: str  #: its default queue
    max_minutes: float  #: of a request in that queue
    refusal: str  #: regular expression: what it says of a request to the queue 'nope'
    #: The user's flags for a walltime of a few seconds; () if `end` can do without.
    short: tuple[str, ...]

    def fill(self) -> None:
        """Take all nodes, so that what is submitted after it waits."""

    def clear(self) -> None:
        """Give back what `fill` took, and end all requests; heal every fault."""

    def start(self, scheduler_id: str) -> None:
        """Let a request that waits start; return when it runs (at once, or after patience)."""

    def end(self, scheduler_id: str, script: str, fate: Fate) -> None:
        """Let a request that runs end in this way; may return before it has ended."""


class Faulty(System, Protocol):
    """A fake system, which can also answer wrongly."""

    def fault(self, fault: Fault | None, only_submission: bool = False) -> None:
        """From now on answer with this fault, or only when something is submitted; None: none."""

    def forget(self, scheduler_id: str) -> None:
        """Let the queue, not the history, know nothing of this request any more."""
