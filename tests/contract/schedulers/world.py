"""What fake commands show: requests, queues and nodes, in one file that they and the test change.

A fake is a module of `fakes/` with

    COMMANDS = {"sbatch": sbatch, "squeue": squeue, …}

each a function ``(world, args, stdin) -> exit code`` that prints to `sys.stdout` and `sys.stderr`
what the real command prints, and

    AWAY = ("sbatch: error: Unable to contact slurm controller …", 1)

or a dict of these by command: what they write to standard error when nobody is there, and their
exit code; and SUBMIT, how the command begins that submits (its answer is never damaged).

`main` runs them and adds the faults that every fake has; a fake adds `Fault.STRANGE`, by
`world.is_strange`. Only the standard library is used: the programs start often.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

NUM_NODES = 4
CORES = 8
MEMORY_MIB = 4096


@dataclass
class Request:
    """One request. Times are seconds since the epoch."""

    id: int
    name: str = ""
    queue: str = ""
    project: str = ""
    nodes: int = 1
    minutes: float = 60
    script: str = ""
    output: str = ""
    directory: str = ""
    words: list[str] = field(default_factory=list)  #: of the directives, as they stand there
    state: str = "queued"  #: queued, held, running, ended
    fate: str = ""  #: as `Fate`, once it has ended
    hosts: list[str] = field(default_factory=list)
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    forgotten: bool = False  #: the queue does not show it any more

    @property
    def code(self) -> int:
        """Its exit code, for fates that come with one."""
        return 3 if self.fate == "failed" else 0


@dataclass
class Queue:
    name: str
    is_default: bool = False
    is_open: bool = True
    max_nodes: int = NUM_NODES
    max_minutes: float = 1440


#: The queues of every fake.
QUEUES = (
    Queue("debug", is_default=True, max_nodes=2, max_minutes=60),
    Queue("batch"),
    Queue("closed", is_open=False),
)


class World:
    """The state of a fake system."""

    def __init__(
        self, requests: list[Request], fault: str, only_submission: bool, is_full: bool
    ) -> None:
        self._requests = requests
        self.fault = fault  #: as `Fault`; '': none
        self.only_submission = only_submission  #: the fault is that of the command that submits
        self.is_full = is_full  #: nodes are taken by others

    @property
    def is_strange(self) -> bool:
        return self.fault == "strange"

    @property
    def requests(self) -> list[Request]:
        """Those that commands may show."""
        return [] if self.fault == "missing" else self._requests

    @property
    def num_nodes(self) -> int:
        return NUM_NODES

    @property
    def free_hosts(self) -> list[str]:
        if self.is_full:
            return []
        taken = {
            host for request in self._requests if request.ended is None for host in request.hosts
        }
        return [host for host in hosts() if host not in taken]

    def get(self, number: int) -> Request | None:
        found = [request for request in self.requests if request.id == number]
        return found[0] if found else None

    def problem(self, request: Request) -> str:
        """Return why it would be refused: 'queue', 'closed', 'nodes', 'time', or ''."""
        found = queue(request.queue)
        if found is None:
            return "queue"
        if not found.is_open:
            return "closed"
        if request.nodes > found.max_nodes:
            return "nodes"
        return "time" if request.minutes > found.max_minutes else ""

    def submit(self, request: Request) -> Request:
        """Take it, with an id of its own."""
        request.id = 1 + max([each.id for each in self._requests], default=100)
        request.queue = request.queue or QUEUES[0].name
        request.submitted = time.time()
        self._requests.append(request)
        return request

    def start(self, number: int) -> None:
        for request in self._requests:
            if request.id == number:
                request.state, request.started = "running", time.time()
                request.hosts = hosts()[: request.nodes]

    def end(self, number: int, fate: str) -> None:
        for request in self._requests:
            if request.id == number and request.ended is None:
                request.state, request.fate, request.ended = "ended", fate, time.time()

    def forget(self, number: int) -> None:
        for request in self._requests:
            if request.id == number:
                request.forgotten = True


def hosts() -> list[str]:
    return [f"node{number}" for number in range(1, NUM_NODES + 1)]


def queue(name: str) -> Queue | None:
    """Return the queue of this name; '' is the default."""
    found = [each for each in QUEUES if each.name == (name or QUEUES[0].name)]
    return found[0] if found else None


_AT_FIRST = {"fault": "", "only_submission": False, "is_full": False}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[World]:
    """Have the world of *path* alone; what was changed is kept."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        requests = [Request(**each) for each in state.pop("requests", [])]
        world = World(requests, **(_AT_FIRST | state))
        yield world
        state = {name: getattr(world, name) for name in _AT_FIRST}
        state["requests"] = [asdict(each) for each in requests]
        file.seek(0)
        file.truncate()
        file.write(json.dumps(state))


def main(module: str, path: str, command: str, args: list[str]) -> int:
    """Run one command of a fake; return its exit code."""
    fake = importlib.import_module(module)
    out = io.StringIO()
    submits = " ".join([command, *args]).startswith(fake.SUBMIT)
    with opened(Path(path)) as world:
        fault = "" if world.only_submission and not submits else world.fault
        if fault == "away":
            text, code = fake.AWAY[command] if isinstance(fake.AWAY, dict) else fake.AWAY
            print(text, file=sys.stderr)
            return int(code)
        with contextlib.redirect_stdout(out):
            stdin = "" if sys.stdin.isatty() else sys.stdin.read()
            code = fake.COMMANDS[command](world, args, stdin)
    text = out.getvalue()
    if fault == "hangs":
        signal.pause()
    if fault == "empty":
        return 0
    if fault == "chatter":
        print("*** Maintenance of /scratch on Monday: see https://example.org/news?id=7 ***\n")
    if fault == "damaged" and not submits:
        text = text.rstrip("\n")
        text = text[: -max(1, (len(text) - text.rfind("\n")) // 2)] if text else text
    sys.stdout.write(text)
    return int(code)
