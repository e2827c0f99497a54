"""Waiting for several futures: `concurrent.futures`' functions, which also know our jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent import futures
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
    _wake(given)
    if all(future.done() for future in given):
        return futures.wait(given, timeout, return_when)
    with waiting():
        return futures.wait(given, timeout, return_when)


def as_completed(
    fs: Iterable[futures.Future[Any]], timeout: float | None = None
) -> Iterator[futures.Future[Any]]:
    """Yield as `concurrent.futures.as_completed` does; inside a job, others run meanwhile."""
    given = list(fs)
    _wake(given)
    ends = futures.as_completed(given, timeout)
    while True:
        with waiting():
            future = next(ends, None)
        if future is None:
            return
        yield future


def _wake(given: list[futures.Future[Any]]) -> None:
    for watcher in {future._watcher for future in given if isinstance(future, Future)}:
        watcher.wake()
