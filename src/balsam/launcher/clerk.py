"""The thread that speaks to the database, so that the launcher's loop never waits for it.

Calls are made one at a time, in order. A database that cannot answer is asked again with
growing pauses; meanwhile the launcher goes on with what it holds.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from balsam.errors import StoreError, StoreUncertain

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
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clerk")
        self._answers: deque[tuple[Callable[[Any], None], Future[Any]]] = deque()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._closing = threading.Event()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are results to collect."""
        return self._reader

    def ask(self, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have *call* made; `collect` will pass what it returns to *then*."""

        def answered(answer: Future[Any]) -> None:
            self._answers.append((then, answer))
            os.write(self._writer, b".")

        self._thread.submit(self._insist, call).add_done_callback(answered)

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
        while self._answers:
            then, answer = self._answers.popleft()
            then(answer.result())

    def close(self) -> None:
        """Make the calls that are left, trying again for one more pause at most, then end."""
        self._closing.set()
        self._thread.shutdown()
        os.close(self._reader)
        os.close(self._writer)

    def _insist(self, call: Callable[[], Any]) -> Any:
        pause = FIRST_PAUSE
        while True:
            try:
                result = call()
            except StoreError as error:
                # What the launcher says twice counts once: there is no doubt to leave to a user.
                again = error.retryable or isinstance(error, StoreUncertain)
                if not again or self._closing.is_set():
                    raise
                self._say(f"the database cannot answer, trying again: {error}")
                self._closing.wait(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            else:
                if pause > FIRST_PAUSE:
                    self._say("the database answers again")
                return result
