"""Taking turns: threads that share a few connections."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """A semaphore that lets threads in by the order in which they came.

    One of the standard library's would let a thread that writes in a loop in again before
    those that wait.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._changing = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()  #: each is unlocked when its turn has come

    def take(self, seconds: float) -> bool:
        """Wait for a turn; return whether it came in time."""
        with self._changing:
            if self._free:  # then nobody waits
                self._free -= 1
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        came = False
        try:
            came = mine.acquire(timeout=seconds)
        finally:
            if not came and not self._withdraw(mine):
                self.give_back()  # it came just now, and we are gone
        return came

    def _withdraw(self, mine: threading.Lock) -> bool:
        with self._changing:
            if mine not in self._waiting:
                return False
            self._waiting.remove(mine)
            return True

    def give_back(self) -> None:
        """End a turn; the next begins."""
        with self._changing:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
