"""Ids of jobs that are not stored yet, reserved a few at a time."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path

from balsam.client.interface import Client

#: Most ids that one process reserves at a time. What it does not use stays unused.
MOST = 64


class Pool:
    """Ids that a process has reserved on one site. Threads may share it.

    It begins with one id and takes twice as many each time: a process that makes one job wastes
    none, and thousands of jobs cost few round trips.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: deque[int] = deque()
        self._size = 1

    def take(self, client: Client, count: int) -> list[int]:
        """Return *count* ids that no other job will have."""
        with self._lock:
            if len(self._ids) < count:
                self._ids.extend(client.reserve_jobs(max(count - len(self._ids), self._size)))
                self._size = min(MOST, 2 * self._size)
            return [self._ids.popleft() for _ in range(count)]


#: By process, as a forked child must not use its parent's, and by site.
_pools: dict[tuple[int, Path], Pool] = {}


def take(client: Client, count: int = 1) -> list[int]:
    """Return *count* ids of the client's site that no other job will have."""
    return _pools.setdefault((os.getpid(), client.path), Pool()).take(client, count)
