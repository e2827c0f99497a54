"""Starting, watching and ending the processes of one node.

Processes are started by `posix_spawn` (vfork underneath: its cost does not grow with our
memory), each as leader of its own process group, and reaped with `wait4`, which tells
their memory and CPU time.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

from balsam.launcher.messages import Ended, Place, Started, Task
from balsam.launcher.task_files import (
    OUTPUT_FLAGS,
    CannotStart,
    enter,
    prepare_output,
    reason,
    tail,
    which,
)

_BASH = "/bin/bash"
#: Sources its first argument, which sees no arguments, and becomes the rest; nothing is ever
#: put into this text.
_SOURCE = (
    'balsam_words=("$@"); set --; source "${balsam_words[0]}" || exit; exec "${balsam_words[@]:1}"'
)
#: Seconds for which the end of a task by a SIGTERM that was not ours is kept back, and its failure
#: after one that reached the worker, too. A batch system that ends an allocation sends it to all
#: processes at once: also to the head, which then asks all tasks to end, so that such a task has
#: not failed.
TERM_SECONDS = 2.0
_BY_TERM = (-signal.SIGTERM, 128 + signal.SIGTERM)
#: Ignored in the worker, by Python or by us; the programs it starts shall not inherit that.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT)


class _Stream(NamedTuple):
    """One shared output file; one task writes to it at a time."""

    path: str
    descriptor: int


class _Running:
    """A process that runs."""

    __slots__ = (
        *("deadline", "is_kept", "offset", "output", "place", "reason"),
        *("started", "stream", "task", "wait"),
    )

    def __init__(self, task: Task, place: Place, stream: _Stream | None) -> None:
        self.task = task
        self.place = place
        self.stream = stream
        self.output = ""
        self.offset = 0
        self.started = 0.0
        self.reason = ""  #: why we ended it
        self.deadline = 0.0  #: of its time of grace, when it was asked to end
        self.is_kept = False  #: its end is, for a while, not told
        self.wait: tuple[int, resource.struct_rusage] | None = None  #: it ended, its group not


class Processes:
    """The processes that a worker has started.

    Parameters
    ----------
    stream_prefix
        Path of the stream files, to which ``-{n}.out`` is added.
    now
        Gives the time of starts and ends, in seconds since the epoch.
    """

    def __init__(self, stream_prefix: str, now: Callable[[], float]) -> None:
        self._stream_prefix = stream_prefix
        self._now = now
        self._streams: list[_Stream] = []
        self._stream_count = 0
        self._environ = dict(os.environb)
        self._all_cpus = os.sched_getaffinity(0)
        self._null = os.open(os.devnull, os.O_RDWR)
        self._programs: dict[tuple[str, str], str] = {}
        self._running: dict[int, _Running] = {}
        self._pids: dict[int, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._term_until = 0.0  #: until then, by the monotonic clock, all may be ending
        self._ending: dict[int, _Running] = {}

    def __len__(self) -> int:
        return len(self._pids)

    @property
    def some_are_ending(self) -> bool:
        """A task ended when it was asked to, and others of its group are still there."""
        return bool(self._ending)

    def start(self, task: Task, place: Place) -> Started:
        """Start *task* on *place*.

        Raises
        ------
        CannotStart
            Its directory, output or program cannot be used.
        """
        running = _Running(task, place, None)
        enter(task)
        added = {**task.environ, **place.environ}
        environ = {**self._environ, **{k.encode(): v.encode() for k, v in added.items()}}
        argv = task.argv
        if task.envscript:
            if not os.path.isfile(task.envscript):
                raise CannotStart(f"envscript {task.envscript} does not exist")
            argv = [_BASH, "-c", _SOURCE, "balsam", task.envscript, *argv]
        program = self._program(argv[0], added.get("PATH"))
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]]
        actions = [(os.POSIX_SPAWN_DUP2, self._null, 0)]
        try:
            if task.output:
                running.output = f"{task.cwd}/{task.output}"
                running.offset = prepare_output(task)
                actions.append((os.POSIX_SPAWN_OPEN, 1, task.output, OUTPUT_FLAGS, 0o666))
            else:
                running.stream = self._take_stream()
                running.output = running.stream.path
                running.offset = os.fstat(running.stream.descriptor).st_size
                actions.append((os.POSIX_SPAWN_DUP2, running.stream.descriptor, 1))
            actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
            if place.cpus:
                os.sched_setaffinity(0, place.cpus)  # the program inherits it
            started = self._now()
            pid = os.posix_spawn(
                program,
                argv,
                environ,
                file_actions=actions,
                setpgroup=0,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:
            if running.stream:
                self._streams.append(running.stream)
            if "/" not in argv[0] and self._programs and not os.path.exists(program):
                self._programs.clear()  # it was moved, perhaps: look for it again
                return self.start(task, place)
            raise CannotStart(reason(error, program, task)) from error
        finally:
            if place.cpus:
                os.sched_setaffinity(0, self._all_cpus)
        running.started = started
        self._running[pid] = running
        self._pids[task.id] = pid
        if task.seconds:
            heappush(self._deadlines, (time.monotonic() + task.seconds, task.id))
        return Started(task.id, pid, started, running.output, running.offset, place.id)

    def _program(self, word: str, path: str | None) -> str:
        """Return the file to execute for the first word of a command."""
        if "/" in word:
            return word
        key = (word, path or "")
        found = self._programs.get(key)
        if found is None:
            search = path or os.fsdecode(self._environ.get(b"PATH", os.defpath.encode()))
            found = which(word, search)
            if found is None:
                raise CannotStart(f"program {word!r} is not found in PATH ({search})")
            if all(directory.startswith("/") for directory in search.split(os.pathsep)):
                self._programs[key] = found
        return found

    def _take_stream(self) -> _Stream:
        if self._streams:
            return self._streams.pop()
        os.makedirs(os.path.dirname(self._stream_prefix), exist_ok=True)
        path = f"{self._stream_prefix}-{self._stream_count}.out"
        self._stream_count += 1
        return _Stream(path, os.open(path, OUTPUT_FLAGS, 0o666))

    def note_term(self) -> None:
        """Note that the worker was sent SIGTERM, and so maybe all processes of the allocation."""
        self._term_until = time.monotonic() + TERM_SECONDS

    def _may_end_with_all(self, exit_code: int) -> bool:
        """Tell whether a task that nobody asked to end may have ended with the allocation."""
        if exit_code in _BY_TERM:
            return True
        return exit_code != 0 and time.monotonic() < self._term_until

    def reap(self) -> list[tuple[Ended, Place]]:
        """Return the tasks that have ended, each with the place that is free now.

        Whatever else runs in an ended task's process group is killed; where the task was
        asked to end, its group has the rest of the time of grace. One that ended by a SIGTERM
        which was not ours is kept for `TERM_SECONDS`, or until it is asked to end.
        """
        ended: list[tuple[Ended, Place]] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            running = self._running.pop(pid, None)
            if running is None:
                continue  # an orphan of a task
            running.wait = os.waitstatus_to_exitcode(status), usage
            if not running.deadline and self._may_end_with_all(running.wait[0]):
                running.is_kept, running.deadline = True, time.monotonic() + TERM_SECONDS
                heappush(self._deadlines, (running.deadline, running.task.id))
            if running.deadline:
                self._ending[pid] = running
            else:
                ended.append((self._end(pid, running), running.place))
        for pid, running in list(self._ending.items()):
            is_gone = not running.is_kept and not _signal_group(pid, 0)
            if running.deadline <= time.monotonic() or is_gone:
                del self._ending[pid]
                ended.append((self._end(pid, running), running.place))
        return ended

    def _end(self, pid: int, running: _Running) -> Ended:
        now = self._now()
        _signal_group(pid, signal.SIGKILL)
        task = running.task
        del self._pids[task.id]
        assert running.wait is not None
        exit_code, usage = running.wait
        size, tail = self._close_output(running, exit_code)
        memory_mib, cpu_seconds = usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime
        message = running.reason + tail
        return Ended(task.id, pid, now, exit_code, memory_mib, cpu_seconds, size, message)

    def _close_output(self, running: _Running, exit_code: int) -> tuple[int, str]:
        if running.stream:
            end = os.fstat(running.stream.descriptor).st_size
            self._streams.append(running.stream)
        else:
            try:
                end = os.stat(running.output).st_size
            except OSError:
                return 0, ""  # the program removed its own output
        size = max(0, end - running.offset)
        return size, tail(running.output, running.offset, size) if exit_code else ""

    def kill(self, task: int, grace_seconds: float) -> None:
        """Ask the task's process group to end now, and force it after the grace time."""
        pid = self._pids.get(task)
        if pid is None:
            return
        _signal_group(pid, signal.SIGTERM if grace_seconds > 0 else signal.SIGKILL)
        _signal_group(pid, signal.SIGCONT)
        deadline = time.monotonic() + grace_seconds
        running = self._running.get(pid) or self._ending[pid]
        running.is_kept = False
        running.deadline = min(deadline, running.deadline or deadline)
        heappush(self._deadlines, (running.deadline, task))

    def send_signal(self, task: int, number: int) -> None:
        """Send a signal to the task's process group."""
        pid = self._pids.get(task)
        if pid is not None:
            _signal_group(pid, number)

    def kill_all(self, grace_seconds: float) -> None:
        for task in list(self._pids):
            self.kill(task, grace_seconds)

    def force_overdue(self) -> float | None:
        """Force the ends that are due; return seconds until the next one, or None."""
        now = time.monotonic()
        while self._deadlines and (
            self._deadlines[0][0] <= now or self._deadlines[0][1] not in self._pids
        ):
            _, task = heappop(self._deadlines)
            if task in self._pids:
                pid = self._pids[task]
                running = self._running.get(pid)
                if running and not running.deadline:
                    running.reason = f"took longer than its {running.task.seconds:g} s\n"
                _signal_group(pid, signal.SIGKILL)
        return self._deadlines[0][0] - now if self._deadlines else None


def _signal_group(group: int, number: int) -> bool:
    """Send a signal (0: none) to a process group; tell whether it is there."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
