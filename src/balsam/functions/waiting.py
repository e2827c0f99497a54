"""Waiting for several futures: `concurrent.futures`' functions, which also know our jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from queue import Empty, SimpleQueue
from typing import Any

from balsam.functions.futures import Future
from balsam.functions.inside import waiting


def wait(
    fs: Iterable[futures.Future[Any]],
    timeout: float | None = None,
    return_when: str = futures.ALL_COMPLETED,
) -> Any:
    """Wait as `concurrent.futures.wait` does; inside a job, others run meanwhile."""
    given = list(fs)
    for watcher in {future.watcher for future in given if isinstance(future, Future)}:
        watcher.wake()
    if all(future.done() for future in given):
        return futures.wait(given, timeout, return_when)
    with waiting():
        return futures.wait(given, timeout, return_when)


def as_completed(
    fs: Iterable[futures.Future[Any]], timeout: float | None = None
) -> Iterator[futures.Future[Any]]:
    """Yield as `concurrent.futures.as_completed` does; inside a job, others run meanwhile.

    Raises
    ------
    TimeoutError
        Not all have ended *timeout* seconds after the first one was asked for.
    """
    given = set(fs)
    deadline = None if timeout is None else time.monotonic() + timeout
    ended: SimpleQueue[futures.Future[Any]] = SimpleQueue()
    for future in given:
        future.add_done_callback(ended.put)
    for count in range(len(given)):
        try:
            yield ended.get_nowait()
            continue
        except Empty:
            pass  # only then is a place given away, and waited for afterwards
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        with waiting():
            try:
                future = ended.get(timeout=left)
            except Empty:
                raise TimeoutError(
                    f"{len(given) - count} (of {len(given)}) futures unfinished"
                ) from None
        yield future
