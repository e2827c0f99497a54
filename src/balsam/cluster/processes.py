"""Processes of this host that may be, or may have been, a cluster's server."""

from __future__ import annotations

import os
from pathlib import Path


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, and not only its zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def works_in(pid: int, directory: Path) -> bool:
    """Tell whether *directory*, wherever it is now, is where the process is at home.

    A process that we may not look at is not ours, and so no server of our cluster.
    """
    try:
        return is_running(pid) and os.path.samefile(f"/proc/{pid}/cwd", directory)
    except OSError:
        return False


def at_home_in(directory: Path) -> list[int]:
    """Return the processes that are at home in *directory*."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    return [pid for pid in pids if works_in(pid, directory)]


def servers_in(directory: Path) -> list[int]:
    """Return the processes of PostgreSQL that are at home in *directory*."""
    return [pid for pid in at_home_in(directory) if _name(pid) == "postgres"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def pid_space() -> str:
    """Return what tells boots and containers apart: within it a pid means one process."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
