"""The process above a worker that leaves nothing running behind it.

However the worker ends, also by SIGKILL, what its jobs started becomes the guardian's own
(it is their sub-reaper) and is killed. When whoever started the guardian dies, the kernel
tells it, and it ends the worker first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def guard(work: Callable[[], int]) -> int:
    """Run *work* in a child process; when it has ended, kill all that it left; return its code."""
    parent, guardian = os.getppid(), os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    worker = os.fork()
    if worker == 0:
        _die_with(guardian, signal.SIGKILL)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that it sees the end of what its jobs orphan
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)

    def end(_number: int, _frame: object) -> None:
        # Sent to the whole process group or job step, it is the launcher that acts on it.
        if os.getppid() != parent:
            os.kill(worker, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent, signal.SIGTERM)
    _, status = os.waitpid(worker, 0)
    kill_descendants()
    return os.waitstatus_to_exitcode(status)


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
