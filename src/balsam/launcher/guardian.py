"""The process above a worker that leaves nothing running behind it.

However the worker ends, also by SIGKILL, what its jobs started becomes the guardian's own
(it is their sub-reaper) and is killed. When whoever started the guardian dies, the kernel
tells it, and it ends the worker first. When the guardian itself is killed, the kernel tells the
worker (SIGHUP), which is to end what it runs and then itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def guard(work: Callable[[int], int], count: int = 1) -> int:
    """Run *work* in *count* child processes (0, 1, …); when one fails, kill the others.

    When all have ended, kill what they left; return the highest of their codes.
    """
    parent, guardian = os.getppid(), os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getsid(0) != guardian:
        # Grid Engine ends a script by SIGKILL to its process group: we are to outlive that.
        os.setpgid(0, 0)
    workers = {_start(work, number, guardian) for number in range(count)}

    def kill_workers() -> None:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)

    def end(_number: int, _frame: object) -> None:
        # Sent to the whole process group or job step, it is the launcher that acts on it.
        if os.getppid() != parent:
            kill_workers()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent, signal.SIGTERM)
    worst = 0
    while workers:
        pid, status = os.waitpid(-1, 0)
        if pid not in workers:
            continue
        workers.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code:
            worst = worst or code
            kill_workers()
    kill_descendants()
    return worst


def _start(work: Callable[[int], int], number: int, guardian: int) -> int:
    worker = os.fork()
    if worker:
        return worker
    _die_with(guardian, signal.SIGHUP)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that it sees the end of what its jobs orphan
    code = 1
    try:
        code = work(number)
    finally:
        os._exit(code)


def _die_with(parent: int, number: int) -> None:
    """Have the kernel send us signal *number* when our *parent* dies, or has died already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def kill_descendants() -> None:
    """Kill all our children, and theirs, which become ours as their parents die."""
    while True:
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        with open(path) as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in _all_pids() if _parent(pid) == os.getpid()]


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
