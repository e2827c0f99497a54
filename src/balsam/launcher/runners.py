"""The warm interpreters of one spawner: processes that call one Python function after another.

A runner (`balsam/runner`) is kept for calls with the same interpreter, environment, devices and
processors as its first one; while it calls, it is a task's process like any other.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from balsam.launcher.messages import Ended, Place, Task
from balsam.launcher.task_files import CannotStart, Stream

_LENGTH = struct.Struct("!I")
#: Runners that are kept though nothing is to be called: those that were used last.
MOST_IDLE = 64


#: File actions of `os.posix_spawn`.
Actions = list[tuple[int, ...] | tuple[int, int, str, int, int]]


class Answer(msgspec.Struct):
    """What a runner says."""

    code: int | None = None  #: of a call that has ended; None: it has not
    result: str = ""
    memory: int = 0  #: KiB at most so far
    cpu: float = 0.0  #: seconds of this call
    blocked: bool | None = None  #: the call waits for another job, or no more


class Heard(NamedTuple):
    """What runners have said."""

    ended: list[tuple[Ended, Place | None]]
    blocked: list[tuple[int, Place]]  #: tasks that wait for other jobs, and the places they left
    unblocked: list[Task]  #: those that wait for a place to go on with


class Kind(NamedTuple):
    """What the calls of one runner have in common."""

    argv: tuple[str, ...]
    prelude: str
    environ: tuple[tuple[str, str], ...]
    cpus: tuple[int, ...]


class Runner:
    """One process and the connection to it."""

    def __init__(self, kind: Kind, pid: int, link: socket.socket, stream: Stream) -> None:
        self.kind = kind
        self.pid = pid
        self.stream = stream  #: the output of calls that have no file for it
        self._link = link
        self._received = bytearray()

    def fileno(self) -> int:
        return self._link.fileno()

    def say(self, message: dict[str, Any]) -> None:
        """Send *message*; when the runner is gone, its end tells."""
        body = msgspec.json.encode(message)
        try:
            self._link.sendall(_LENGTH.pack(len(body)) + body)
        except OSError:
            pass

    def hear(self) -> list[Answer]:
        """Return what it said since the last look."""
        try:
            data = self._link.recv(1 << 20, socket.MSG_DONTWAIT)
        except OSError:
            return []
        self._received += data
        answers = []
        while len(self._received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                break
            answers.append(_decoder.decode(memoryview(self._received)[_LENGTH.size : end]))
            del self._received[:end]
        return answers

    def close(self) -> None:
        self._link.close()


_decoder = msgspec.json.Decoder(Answer)


#: Lets a call go on that waited.
GO = {"go": True}


def _is_of_one_job(variable: str) -> bool:
    return variable.startswith("BALSAM_")


def kind_of(task: Task, place: Place) -> Kind:
    """Return which runners can carry out *task* on *place*.

    What programs and libraries read when they start has to be there then: a runner has the
    variables of its first job for good, but for those that tell jobs from each other.
    """
    shared = {k: v for k, v in task.environ.items() if not _is_of_one_job(k)} | place.environ
    return Kind(tuple(task.argv), task.envscript, tuple(sorted(shared.items())), tuple(place.cpus))


def call_message(task: Task) -> dict[str, Any]:
    """Return the message that has *task* carried out."""
    assert task.call is not None
    return {
        "function": task.call.function,
        "payload": task.call.payload,
        "results": task.call.results,
        "cwd": task.cwd,
        "environ": {k: v for k, v in task.environ.items() if _is_of_one_job(k)},
        "output": task.output,
        "result_file": task.call.result_file,
    }


class Runners:
    """All runners of a spawner.

    Parameters
    ----------
    end
        Ends a runner that is not needed any more.
    """

    def __init__(self, end: Callable[[Runner], None]) -> None:
        self._end = end
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, Runner] = {}
        self._idle: OrderedDict[int, Runner] = OrderedDict()  # by pid, the last used last

    def fileno(self) -> int:
        """Return a descriptor that is readable when one has said something."""
        return self._epoll.fileno()

    def take(self, kind: Kind) -> Runner | None:
        """Return an idle runner of *kind*, the one used last, if there is one."""
        for pid in reversed(self._idle):
            if self._idle[pid].kind == kind:
                return self._idle.pop(pid)
        return None

    def start(self, kind: Kind, stream: Stream, spawn: Callable[[Actions], int]) -> Runner:
        """Start a runner by *spawn*, which returns its pid, and listen to it."""
        here, there = socket.socketpair()
        taken = [(there.fileno(), 0), (stream.descriptor, 1)]
        try:
            pid = spawn([(os.POSIX_SPAWN_DUP2, ours, its) for ours, its in taken])
        except CannotStart:
            here.close()
            raise
        finally:
            there.close()
        runner = Runner(kind, pid, here, stream)
        self._by_descriptor[runner.fileno()] = runner
        self._epoll.register(runner.fileno(), select.EPOLLIN)
        return runner

    def give_back(self, runner: Runner) -> None:
        """Keep a runner that has nothing to do."""
        self._idle[runner.pid] = runner
        if len(self._idle) > MOST_IDLE:
            _, oldest = self._idle.popitem(last=False)
            self._end(oldest)

    def forget(self, runner: Runner) -> None:
        """Its process has ended."""
        self._idle.pop(runner.pid, None)
        if self._by_descriptor.pop(runner.fileno(), None) is not None:
            self._epoll.unregister(runner.fileno())
            runner.close()

    def of_pid(self, pid: int) -> Runner | None:
        """Return the idle runner whose process *pid* is."""
        return self._idle.get(pid)

    def hear(self) -> list[tuple[Runner, Answer]]:
        """Return what runners have said."""
        said: list[tuple[Runner, Answer]] = []
        for descriptor, _ in self._epoll.poll(0):
            runner = self._by_descriptor[descriptor]
            answers = runner.hear()
            said += [(runner, answer) for answer in answers]
            if not answers and is_closed(runner.fileno()):
                self._epoll.unregister(descriptor)  # its end is told by the kernel
                del self._by_descriptor[descriptor]
        return said


def is_closed(descriptor: int) -> bool:
    """Tell whether the other end of a connection is gone."""
    events = dict(_poll(descriptor))
    return bool(events.get(descriptor, 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL))


def _poll(descriptor: int) -> list[tuple[int, int]]:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return poller.poll(0)


def runner_words(python: str, path: list[str], cloudpickle: str) -> list[str]:
    """Return the command of a runner.

    Parameters
    ----------
    path
        Put before the interpreter's own ``sys.path``.
    cloudpickle
        File of the package to use where the interpreter has none; '': none.
    """
    directory = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "runner")
    words = [python, directory, *(f"--path={each}" for each in path)]
    return [*words, f"--cloudpickle={cloudpickle}"] if cloudpickle else words
