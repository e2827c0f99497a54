"""Many calls in few jobs, and their results in order."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from balsam.client.interface import Client
from balsam.errors import InvalidInput
from balsam.functions.calls import Call
from balsam.functions.futures import Future

#: Jobs of a map at most, unless there are so many cores that each would have less than a few.
JOBS, JOBS_OF_A_CORE = 2000, 4
#: Jobs that are submitted at once.
BATCH = 1000

Chunk = list[Call]
Submit = Callable[[list[Chunk]], list[tuple[Future, bool]]]


def map_calls(
    client: Client,
    submit: Submit,
    iterables: tuple[Iterable[Any], ...],
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
) -> Iterator[Any]:
    """Submit calls with the items of *iterables*, and return an iterator over their results.

    Parameters
    ----------
    submit
        Makes jobs of chunks of calls; tells for each future whether it is of many calls.
    chunksize
        Calls of a job; None: as many as make a few thousand jobs.
    buffersize
        Calls that may be ahead of the results that were taken. None: all, of inputs whose number
        is known; else some thousand jobs.

    Raises
    ------
    InvalidInput
        *chunksize* or *buffersize* is not positive.
    """
    for name, value in (("chunksize", chunksize), ("buffersize", buffersize)):
        if value is not None and value < 1:
            raise InvalidInput(f"{name} is {value}; it must be 1 or more")
    if not iterables:
        raise TypeError("map() needs at least one iterable")
    count = min(map(len, iterables)) if all(isinstance(i, Sized) for i in iterables) else None  # type: ignore[arg-type]
    most_jobs = max(JOBS, JOBS_OF_A_CORE * _cores(client)) if chunksize is None else JOBS
    if chunksize is None and count is not None:
        chunksize = max(1, math.ceil(count / most_jobs))
    window = None if buffersize is None and count is None else buffersize or math.inf
    mapped = _Mapped(submit, zip(*iterables, strict=False), chunksize, window, most_jobs)
    mapped.fill()
    return mapped.results(None if timeout is None else time.monotonic() + timeout)


def _cores(client: Client) -> int:
    return sum(info.nodes * info.cores for info in client.launchers())


class _Mapped:
    """A map under way."""

    def __init__(
        self,
        submit: Submit,
        items: Iterator[tuple[Any, ...]],
        chunksize: int | None,
        window: float | None,
        most_jobs: int,
    ) -> None:
        self._submit = submit
        self._items = items
        self._chunksize = chunksize
        self._window = window
        self._most_jobs = most_jobs
        self._taken = 0
        self._ahead = 0  #: calls that are submitted, with results not taken yet
        self._futures: deque[tuple[Future, bool]] = deque()
        self._is_exhausted = False

    def fill(self) -> None:
        """Submit what may be submitted now."""
        while not self._is_exhausted:
            chunks = self._chunks()
            if not chunks:
                return
            self._futures.extend(self._submit(chunks))

    def _chunks(self) -> list[Chunk]:
        """Take the next chunks from the input, as many as one batch may have now."""
        chunks: list[Chunk] = []
        while len(chunks) < BATCH and not self._is_exhausted:
            size = self._chunksize or 1 + self._taken // self._most_jobs
            if self._window is not None:
                size = int(min(size, self._window - self._ahead))
            elif len(self._futures) + len(chunks) >= self._most_jobs:
                size = 0
            if size < 1:
                break
            chunk: Chunk = [(words, {}) for words in islice(self._items, size)]
            self._is_exhausted = len(chunk) < size
            if chunk:
                chunks.append(chunk)
            self._taken += len(chunk)
            self._ahead += len(chunk)
        return chunks

    def results(self, deadline: float | None) -> Iterator[Any]:
        """Yield the results in order, submitting further calls as there is room."""
        while self._futures:
            future, has_many = self._futures.popleft()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            result = future.result(left)
            del future  # not kept while the caller works with its results
            if has_many:
                self._ahead -= len(result)
                yield from result
            else:
                self._ahead -= 1
                yield result
            self.fill()
