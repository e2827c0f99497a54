"""How far a transfer is, seen from outside, and the wish that it end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """The transfer was to end."""


class Progress:
    """Shared by the thread that moves and those that look and stop."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self.trouble = ""  #: what keeps it
        self._measure: Callable[[], int] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None

    def stop(self) -> None:
        """Have the transfer end soon."""
        with self._lock:
            self._stopping.set()
            if self._end is not None:
                self._end()

    def check(self) -> None:
        """Raise `Stopped` when the transfer is to end."""
        if self._stopping.is_set():
            raise Stopped

    def moved(self, count: int) -> None:
        """Count bytes. Raises `Stopped`."""
        self.bytes_done += count
        self.check()

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises `Stopped`, at once when the transfer is to end."""
        if self._stopping.wait(seconds):
            raise Stopped

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Meanwhile have `stop` call *end*, too."""
        with self._lock:
            self.check()
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None

    @contextmanager
    def measured_by(self, measure: Callable[[], int]) -> Iterator[None]:
        """Meanwhile have `look` count the bytes that *measure* returns."""
        self._measure = measure
        try:
            yield
        finally:
            self._measure = None

    def look(self) -> None:
        """Bring the count of bytes up to date, where it is only measured."""
        if (measure := self._measure) is not None:
            self.bytes_done = measure()

    def begin(self) -> None:
        """Count anew, for another transfer."""
        self.files = self.bytes_done = 0
        self.bytes_total, self.trouble = None, ""
