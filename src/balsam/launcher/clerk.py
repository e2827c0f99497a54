"""The thread that speaks to the database, so that the launcher's loop never waits for it.

Calls are made one at a time, in order. A database that cannot answer is asked again with
growing pauses; meanwhile the launcher goes on with what it holds.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from balsam.errors import BalsamError, LeaseLost, StoreError

#: First and longest pause, in seconds, before a failed call is made again.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0


class Clerk:
    """Carries out calls and hands their results back through `collect`.

    Parameters
    ----------
    say
        Told (from the thread) when the database cannot answer, and when it can again.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None]
        self._calls = queue.SimpleQueue()
        self._results: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="clerk", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are results to collect."""
        return self._reader

    def ask(self, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have *call* made; `collect` will pass what it returns to *then*."""
        self._calls.put((call, then))

    def collect(self) -> None:
        """Pass on the results that have come.

        Raises
        ------
        LeaseLost
            The launcher may do nothing more.
        BalsamError
            A call failed in a way that trying again does not mend.
        """
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass
        while self._results:
            then, result = self._results.popleft()
            then(result)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Make the calls that are left, then end."""
        self._closing.set()
        self._calls.put(None)
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, then = item
            try:
                self._results.append((then, self._insist(call)))
            except BaseException as error:  # handed to the loop, which ends the launcher
                self._failure = error
                os.write(self._writer, b"!")
                return
            os.write(self._writer, b".")

    def _insist(self, call: Callable[[], Any]) -> Any:
        pause = FIRST_PAUSE
        while True:
            try:
                result = call()
            except LeaseLost:
                raise
            except StoreError as error:
                if not error.retryable or (self._closing.is_set() and pause >= LONGEST_PAUSE):
                    raise
                self._say(f"the database cannot answer, trying again: {error}")
                self._closing.wait(pause) if not self._closing.is_set() else None
                pause = min(LONGEST_PAUSE, 2 * pause)
            except BalsamError:
                raise
            else:
                if pause > FIRST_PAUSE:
                    self._say("the database answers again")
                return result
