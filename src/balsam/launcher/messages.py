"""What the launcher's head and its workers say to each other.

A *place* is a set of a node's resources, granted for one class of equal requests. A worker
runs one task on a place at a time, and goes on with the next task of the class by itself:
a queue of tasks behind the places hides the way to the head. When a class's queue is empty,
the worker gives the place back.
"""

from __future__ import annotations

import msgspec

from balsam.model.resources import NodeResources

PROTOCOL = 1


class Task(msgspec.Struct, array_like=True):
    """One process to start."""

    id: int  #: unique within the launcher
    class_id: int  #: which places it can run on
    argv: list[str]
    cwd: str
    environ: dict[str, str]  #: added to the worker's environment
    output: str  #: file in `cwd` that takes stdout and stderr; '' for the stream
    make_cwd: bool = True  #: make the directory; else it must exist
    header: str = ""  #: written to the output first
    append: bool = False  #: the output may exist: note where this attempt's begins
    envscript: str = ""  #: bash file to source first
    seconds: float = 0.0  #: kill it when it takes longer; 0: no limit


class Place(msgspec.Struct, array_like=True):
    """Resources granted to a class on one node."""

    id: int
    class_id: int
    environ: dict[str, str] = {}  #: for the task that runs on it, e.g. its GPUs


class Run(msgspec.Struct, array_like=True, tag="run"):
    """Take these places and tasks."""

    places: list[Place]
    tasks: list[Task]


class Kill(msgspec.Struct, array_like=True, tag="kill"):
    """End these tasks: SIGTERM to the process group, SIGKILL after the grace time."""

    tasks: list[int]
    grace_seconds: float


class Recall(msgspec.Struct, array_like=True, tag="recall"):
    """Give back every task that has not started."""


class Beat(msgspec.Struct, array_like=True, tag="beat"):
    """The head is alive."""


class Stop(msgspec.Struct, array_like=True, tag="stop"):
    """Kill what runs and end."""


class Started(msgspec.Struct, array_like=True):
    task: int
    pid: int
    time: float
    output_file: str  #: absolute
    output_offset: int


class Ended(msgspec.Struct, array_like=True):
    """A task's end. `pid` 0: it could not be started, `message` says why."""

    task: int
    pid: int
    time: float
    exit_code: int  #: minus the signal's number when a signal ended it
    peak_memory_mib: float
    cpu_seconds: float
    output_size: int
    message: str  #: the tail of the output when it did not end well


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """A worker is there."""

    protocol: int
    pid: int
    node: NodeResources


class Done(msgspec.Struct, array_like=True, tag="done"):
    """What happened on a worker since its last message (nothing: a sign of life)."""

    started: list[Started] = []
    ended: list[Ended] = []
    freed: list[int] = []  #: places given back
    returned: list[int] = []  #: tasks given back without having been started
    last: bool = False  #: nothing follows: the worker ends, as it was told


ToWorker = Run | Kill | Recall | Beat | Stop
ToHead = Hello | Done

encoder = msgspec.msgpack.Encoder()
to_worker = msgspec.msgpack.Decoder(ToWorker)
to_head = msgspec.msgpack.Decoder(ToHead)
