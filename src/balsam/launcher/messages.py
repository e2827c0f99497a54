"""What the launcher's head and its workers say to each other.

A *place* is a set of resources, granted for one *lane* of tasks. A worker runs one task on a
place at a time, and goes on with the next task of its lane by itself: a queue of tasks behind
the places hides the way to the head. When a lane's queue is empty, the worker gives the place
back. The jobs of one class of equal requests share a lane; a parallel job, whose command names
its nodes, has a lane of its own.

A node's worker has one process or several, its *spawners*, each with a link of its own.
"""

from __future__ import annotations

import msgspec

from balsam.model.resources import NodeResources

PROTOCOL = 3


class Call(msgspec.Struct, array_like=True):
    """A Python function to call, in a process that may have called others before."""

    function: str  #: file with the function
    payload: str  #: its arguments (see model/payload.py)
    results: dict[str, str] = {}  #: results of other jobs that are among them, by id
    result_file: str = ""  #: where a result goes that is too large to be sent
    may_block: bool = False  #: its place is free for others while it waits for another job


class Task(msgspec.Struct, array_like=True):
    """One process to start, or one function to call."""

    id: int  #: unique within the launcher
    lane: int  #: which places it can run on
    argv: list[str]
    cwd: str
    environ: dict[str, str]  #: added to the worker's environment
    output: str  #: file in `cwd` that takes stdout and stderr; '' for the stream
    make_cwd: bool = True  #: make the directory; else it must exist
    header: str = ""  #: written to the output first
    append: bool = False  #: the output may exist: note where this attempt's begins
    envscript: str = ""  #: bash file to source first
    seconds: float = 0.0  #: kill it when it takes longer; 0: no limit
    call: Call | None = None  #: what the process of `argv` calls
    calls_file: str = ""  #: what the ranks that `argv` starts call; beside it they leave results


class Place(msgspec.Struct, array_like=True):
    """Resources granted to a lane."""

    id: int
    lane: int
    environ: dict[str, str] = {}  #: for the task that runs on it, e.g. its GPUs
    cpus: list[int] = []  #: hardware threads to bind the task to; none: it is not bound


class Run(msgspec.Struct, array_like=True, tag="run"):
    """Take these places and tasks."""

    places: list[Place]
    tasks: list[Task]
    time: float  #: the head's, when it was sent


class Kill(msgspec.Struct, array_like=True, tag="kill"):
    """End these tasks: SIGTERM to the process group, SIGKILL after the grace time."""

    tasks: list[int]
    grace_seconds: float


class Warn(msgspec.Struct, array_like=True, tag="warn"):
    """Send a signal to the process groups of these tasks: their time will be over."""

    tasks: list[int]
    number: int


class Recall(msgspec.Struct, array_like=True, tag="recall"):
    """Give back tasks that have not started, the last first."""

    lane: int | None = None  #: None: of all lanes
    most: int = 0  #: 0: all


class Sweep(msgspec.Struct, array_like=True, tag="sweep"):
    """Kill what a job left on this node: all processes that have these variables."""

    marks: dict[str, str]


class Welcome(msgspec.Struct, array_like=True, tag="welcome"):
    """The answer to `Hello`."""

    time: float  #: the head's


class Beat(msgspec.Struct, array_like=True, tag="beat"):
    """The head is alive, and has heard all up to this number."""

    heard: int
    time: float  #: the head's


class Stop(msgspec.Struct, array_like=True, tag="stop"):
    """Kill what runs and end."""


class Started(msgspec.Struct, array_like=True):
    task: int
    pid: int
    time: float
    output_file: str  #: absolute
    output_offset: int
    place: int = 0  #: that it runs on


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
    result: str = ""  #: what a function returned or raised


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """A spawner is there."""

    protocol: int
    pid: int
    spawner: int  #: 0, 1, … of its worker
    spawners: int  #: how many the worker has
    node: NodeResources


class Done(msgspec.Struct, array_like=True, tag="done"):
    """What happened on a spawner since its last message (nothing: a sign of life)."""

    started: list[Started] = []
    ended: list[Ended] = []
    freed: list[int] = []  #: places given back
    returned: list[int] = []  #: tasks given back without having been started
    last: bool = False  #: nothing follows: the spawner ends, as it was told
    number: int = 0  #: 1, 2, …
    #: Calls that wait for other jobs, whose places are free; those that wait no more, and need one.
    blocked: list[int] = []
    unblocked: list[int] = []


ToWorker = Run | Kill | Warn | Recall | Sweep | Welcome | Beat | Stop
ToHead = Hello | Done

encoder = msgspec.msgpack.Encoder()
to_worker = msgspec.msgpack.Decoder(ToWorker)
to_head = msgspec.msgpack.Decoder(ToHead)
#: What a spawner that lost its head writes to a file: news that were not heard.
last_words = msgspec.msgpack.Decoder(list[Done])
