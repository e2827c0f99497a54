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

from balsam.launcher.messages import Ended, Place, Started, Task
from balsam.launcher.runners import (
    GO,
    Actions,
    Answer,
    Heard,
    Runner,
    Runners,
    call_message,
    kind_of,
)
from balsam.launcher.task_files import (
    OUTPUT_FLAGS,
    CannotStart,
    Programs,
    Stream,
    Streams,
    enter,
    prepare_output,
    reason,
    tail,
    take_result,
    words_of,
)

#: Seconds for which the end of a task by a SIGTERM that was not ours is kept back, and its failure
#: after one that reached the worker, too. A batch system that ends an allocation sends it to all
#: processes at once: also to the head, which then asks all tasks to end, so that such a task has
#: not failed.
TERM_SECONDS = 2.0
_BY_TERM = (-signal.SIGTERM, 128 + signal.SIGTERM)
#: Ignored in the worker, by Python or by us; the programs it starts shall not inherit that.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT)


class _Running:
    """A process that runs."""

    __slots__ = (
        *("deadline", "is_kept", "offset", "output", "place", "reason", "runner"),
        *("started", "stream", "task", "wait"),
    )

    def __init__(self, task: Task, place: Place) -> None:
        self.task = task
        self.place: Place | None = place  #: None: it waits for another job
        self.stream: Stream | None = None
        self.runner: Runner | None = None  #: that calls the function that it is
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
        self._streams = Streams(stream_prefix)
        self._now = now
        self._environ = dict(os.environb)
        self._programs = Programs(os.fsdecode(self._environ.get(b"PATH", os.defpath.encode())))
        self._all_cpus = os.sched_getaffinity(0)
        self._null = os.open(os.devnull, os.O_RDWR)
        self._running: dict[int, _Running] = {}
        self._pids: dict[int, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._term_until = 0.0  #: until then, by the monotonic clock, all may be ending
        self._ending: dict[int, _Running] = {}
        self._runners = Runners(self._end_runner)

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
        if task.call is not None:
            return self._start_call(task, place)
        running = _Running(task, place)
        enter(task)
        added = {**task.environ, **place.environ}
        try:
            actions: Actions = [(os.POSIX_SPAWN_DUP2, self._null, 0)]
            if task.output:
                running.output = f"{task.cwd}/{task.output}"
                running.offset = prepare_output(task)
                actions.append((os.POSIX_SPAWN_OPEN, 1, task.output, OUTPUT_FLAGS, 0o666))
            else:
                running.stream = self._streams.take()
                running.output = running.stream.path
                running.offset = os.fstat(running.stream.descriptor).st_size
                actions.append((os.POSIX_SPAWN_DUP2, running.stream.descriptor, 1))
            running.started = self._now()
            pid = self._spawn(task, added, place, actions)
        except (OSError, CannotStart) as error:
            if running.stream:
                self._streams.give_back(running.stream)
            if isinstance(error, OSError):
                raise CannotStart(reason(error, task.argv[0], task)) from error
            raise
        return self._note_start(pid, running)

    def _spawn(self, task: Task, added: dict[str, str], place: Place, actions: Actions) -> int:
        """Start the program of *task*, in the working directory; return its pid.

        Raises
        ------
        CannotStart
            It cannot be started.
        """
        environ = {**self._environ, **{k.encode(): v.encode() for k, v in added.items()}}
        argv = words_of(task)
        program = self._programs.find(argv[0], added.get("PATH"))
        try:
            if place.cpus:
                os.sched_setaffinity(0, place.cpus)  # the program inherits it
            return os.posix_spawn(
                program,
                argv,
                environ,
                file_actions=[*actions, (os.POSIX_SPAWN_DUP2, 1, 2)],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:
            if "/" not in argv[0] and self._programs.forget(program):
                return self._spawn(task, added, place, actions)
            raise CannotStart(reason(error, program, task)) from error
        finally:
            if place.cpus:
                os.sched_setaffinity(0, self._all_cpus)

    def _note_start(self, pid: int, running: _Running) -> Started:
        task, place = running.task, running.place
        self._running[pid] = running
        self._pids[task.id] = pid
        if task.seconds:
            heappush(self._deadlines, (time.monotonic() + task.seconds, task.id))
        number = place.id if place else 0
        return Started(task.id, pid, running.started, running.output, running.offset, number)

    # calls of functions -------------------------------------------------------------------
    def _start_call(self, task: Task, place: Place) -> Started:
        enter(task)
        runner = self._runners.take(kind_of(task, place)) or self._new_runner(task, place)
        running = _Running(task, place)
        running.runner = runner
        if task.output:
            running.output = f"{task.cwd}/{task.output}"
            running.offset = prepare_output(task)
        else:
            running.output = runner.stream.path
            running.offset = os.fstat(runner.stream.descriptor).st_size
        running.started = self._now()
        runner.say(call_message(task))
        return self._note_start(runner.pid, running)

    def _new_runner(self, task: Task, place: Place) -> Runner:
        """Start the process for *task* and for others of its kind."""
        kind, stream = kind_of(task, place), self._streams.take()
        environ = dict(kind.environ)
        try:
            return self._runners.start(
                kind, stream, lambda actions: self._spawn(task, environ, place, actions)
            )
        except CannotStart:
            self._streams.give_back(stream)
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable when `hear` has something."""
        return self._runners.fileno()

    def hear(self) -> Heard:
        """Return what runners have said."""
        heard = Heard([], [], [])
        for runner, answer in self._runners.hear():
            running = self._running.get(runner.pid)
            if running is None:
                continue
            if answer.code is not None:
                heard.ended.append((self._end_call(runner, running, answer), running.place))
            elif not running.task.call or not running.task.call.may_block:
                if not answer.blocked:
                    runner.say(GO)
            elif answer.blocked and running.place:
                heard.blocked.append((running.task.id, running.place))
                running.place = None
            elif not answer.blocked and not running.place:
                heard.unblocked.append(running.task)
        return heard

    def resume(self, task: int, place: Place) -> bool:
        """Let a call go on, on *place*, that waited; tell whether it is still there."""
        pid = self._pids.get(task)
        running = self._running.get(pid) if pid is not None else None
        if pid is None or running is None or running.runner is None:
            return False
        running.place = place
        if place.cpus:
            try:
                os.sched_setaffinity(pid, place.cpus)
            except OSError:
                pass  # it is just ending
        running.runner.say(GO)
        return True

    def _end_call(self, runner: Runner, running: _Running, answer: Answer) -> Ended:
        now, task, code = self._now(), running.task, answer.code or 0
        del self._running[runner.pid]
        del self._pids[task.id]
        size, told = self._close_output(running, code)
        if running.deadline:  # it was asked to end, and will
            _signal_group(runner.pid, signal.SIGKILL)
        else:
            self._runners.give_back(runner)
        memory_mib = answer.memory / 1024
        message = running.reason + told
        return Ended(
            task.id, runner.pid, now, code, memory_mib, answer.cpu, size, message, answer.result
        )

    def _end_runner(self, runner: Runner) -> None:
        """End a runner that is idle; its end is reaped."""
        _signal_group(runner.pid, signal.SIGKILL)
        self._forget_runner(runner)

    def _forget_runner(self, runner: Runner) -> None:
        self._runners.forget(runner)
        self._streams.give_back(runner.stream)

    def note_term(self) -> None:
        """Note that the worker was sent SIGTERM, and so maybe all processes of the allocation."""
        self._term_until = time.monotonic() + TERM_SECONDS

    def _may_end_with_all(self, exit_code: int) -> bool:
        """Tell whether a task that nobody asked to end may have ended with the allocation."""
        if exit_code in _BY_TERM:
            return True
        return exit_code != 0 and time.monotonic() < self._term_until

    def reap(self) -> list[tuple[Ended, Place | None]]:
        """Return the tasks that have ended, each with the place that is free now.

        Whatever else runs in an ended task's process group is killed; where the task was
        asked to end, its group has the rest of the time of grace. One that ended by a SIGTERM
        which was not ours is kept for `TERM_SECONDS`, or until it is asked to end.
        """
        ended: list[tuple[Ended, Place | None]] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            running = self._running.pop(pid, None)
            if running is None:  # an orphan of a task, or a runner that had nothing to do
                idle = self._runners.of_pid(pid)
                if idle is not None:
                    self._forget_runner(idle)
                continue
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
        if running.runner is not None:
            exit_code = exit_code or 1
            running.reason = running.reason or "its process ended before the function returned\n"
        size, told = self._close_output(running, exit_code)
        if running.runner is not None:
            self._forget_runner(running.runner)
        memory_mib, cpu_seconds = usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime
        message = running.reason + told
        result = take_result(task.calls_file) if task.calls_file else ""
        return Ended(task.id, pid, now, exit_code, memory_mib, cpu_seconds, size, message, result)

    def _close_output(self, running: _Running, exit_code: int) -> tuple[int, str]:
        if running.stream:
            end = os.fstat(running.stream.descriptor).st_size
            self._streams.give_back(running.stream)
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
