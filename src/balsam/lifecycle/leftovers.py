"""Ending what jobs left running: they are known by the variables that every job is given."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

#: Longest time to end what is left, in seconds.
LEFTOVER_SECONDS = 5.0


def kill_marked(marks: Mapping[str, str]) -> int:
    """Kill the processes on this machine with all these variables; return how many.

    Looks again until there are none, for they may start others meanwhile; but no longer than
    `LEFTOVER_SECONDS`, for one that waits for a broken file system cannot be ended.
    """
    wanted = {f"{name}={value}".encode() for name, value in marks.items()}
    deadline = time.monotonic() + LEFTOVER_SECONDS
    killed: set[int] = set()
    while (found := _kill(wanted)) and time.monotonic() < deadline:
        killed |= found
    return len(killed)


def _kill(marks: set[bytes]) -> set[int]:
    killed: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if marks <= set(file.read().split(b"\0")):
                    os.kill(int(name), signal.SIGKILL)
                    killed.add(int(name))
        except OSError:  # it is gone, or somebody else's
            continue
    return killed
