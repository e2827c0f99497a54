"""Processes of one request of the batch system `local`: how they are started, found and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: Has the request in the environment of all that its script starts.
MARK = "BALSAM_LOCAL_REQUEST"
#: Longest time to end what does not want to end, in seconds: a process that waits for a broken
#: file system cannot be killed.
KILL_SECONDS = 5.0

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of all that our children start and leave."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_script(script: str, output: str, environ: Mapping[bytes, bytes]) -> int:
    """Start a script here, in a session of its own, and return its number.

    It is read by the program of its first line, whether it is executable or not. It has no
    signal blocked and none ignored that Python ignores.

    Raises
    ------
    OSError
        The script or its output cannot be opened, or there is no such program.
    """
    argv = [*interpreter(script), script]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    out = os.open(output, flags, 0o666)
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, out, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        error.filename = argv[0]
        raise
    finally:
        os.close(out)


def interpreter(script: str) -> list[str]:
    """Return the words of a script's first line, as the kernel takes them; [] without ``#!``."""
    with open(script, "rb") as file:
        first = os.fsdecode(file.readline())
    return first[2:].strip().split(None, 1) if first.startswith("#!") else []


def reap() -> dict[int, int]:
    """Return the wait status of each child that has ended since."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended[pid] = status


def await_children(spared: Callable[[], set[int]], seconds: float, kill: bool) -> dict[int, int]:
    """Wait until we have no children but the *spared*; return the status of those that ended.

    SIGCHLD must be blocked.

    Parameters
    ----------
    seconds
        Return then at the latest.
    kill
        Kill them, and what they leave to us as they end.
    """
    deadline = time.monotonic() + seconds
    ended: dict[int, int] = {}
    while left := _children() - spared():
        if kill:
            for pid in left:
                _kill(pid)
        ended |= reap()
        if (remaining := deadline - time.monotonic()) <= 0:
            break
        if _children() - spared():
            signal.sigtimedwait({signal.SIGCHLD}, remaining)
    return ended | reap()


def _children() -> set[int]:
    own = os.getpid()
    try:
        words = Path(f"/proc/self/task/{own}/children").read_text().split()
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return {pid for pid in _pids() if _parent(pid) == own}
    return {int(word) for word in words}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it is gone, or has become somebody else's
        pass


def kill_marked(mark: str) -> None:
    """Kill all processes but us that have this `MARK`: what a killed keeper left.

    Looks again until there are none, for they may start others meanwhile, but no longer than
    `KILL_SECONDS`.
    """
    wanted = f"{MARK}={mark}".encode()
    deadline = time.monotonic() + KILL_SECONDS
    while (found := _marked(wanted)) and time.monotonic() < deadline:
        for pid in found:
            _kill(pid)


def _marked(wanted: bytes) -> list[int]:
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:  # it is gone, or somebody else's
            continue
    return found
