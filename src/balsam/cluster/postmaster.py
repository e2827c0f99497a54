"""The process that is a cluster's server, as its `postmaster.pid` tells (pidfile.h, version 18)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from balsam.cluster import processes

DATA = "balsamdb"
PID_FILE = "postmaster.pid"


@dataclass(frozen=True)
class Postmaster:
    """A server that wrote its `postmaster.pid`; whether it still runs is another question."""

    pid: int
    #: Seconds since the epoch.
    started_at: float
    port: int
    #: 'starting', 'ready' or 'stopping'; '' in its first moments.
    status: str


def recorded(data: Path) -> Postmaster | None:
    """Return what the pid file says; None when there is none, or nothing in it."""
    try:
        lines = [line.strip() for line in (data / PID_FILE).read_text().splitlines()]
    except FileNotFoundError:
        return None
    lines += [""] * (8 - len(lines))
    if not lines[0].lstrip("-").isdecimal():
        return None
    started_at = float(lines[2]) if lines[2].isdecimal() else 0.0
    port = int(lines[3]) if lines[3].isdecimal() else 0
    return Postmaster(abs(int(lines[0])), started_at, port, lines[7])


def running(data: Path) -> Postmaster | None:
    """Return the server that runs on *data* on this host; a stale pid file is none."""
    found = recorded(data)
    return found if found and processes.works_in(found.pid, data) else None


def left_a_file(data: Path) -> bool:
    """Tell whether a server did not end properly, or still runs somewhere."""
    return os.path.lexists(data / PID_FILE)
