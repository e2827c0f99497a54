"""Inserting many jobs in several transactions: all of them, or none."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from balsam.cli.context import warn
from balsam.client.interface import Client
from balsam.client.new_jobs import PARENT_FIELDS
from balsam.errors import BalsamError
from balsam.model.job import Job
from balsam.model.query import Query

#: Jobs inserted in one transaction.
BATCH = 20_000
#: From here on a terminal is told how far it is.
LONG = 100_000

Span = tuple[int, int]


def insert(client: Client, batches: Iterable[list[Job]], total: int) -> list[Span]:
    """Insert all *batches* and return the ids as spans (first, last), both inclusive.

    Parents are ids, or minus the position, from 1, of another of the jobs in the same batch or
    before.

    When the user interrupts or the database fails, what was inserted is removed again; a
    warning says so where that cannot be.
    """
    spans: list[Span] = []
    done = 0
    shown = total >= LONG and sys.stderr.isatty()
    gc.disable()  # jobs hold no cycles: looking for some costs a fifth of the time
    try:
        with _interrupts() as interrupts:
            for batch in batches:
                for job in batch:
                    _place_parents(job, done, spans)
                for span in _spans(client.create_jobs(batch)):
                    if spans and spans[-1][1] + 1 == span[0]:
                        spans[-1] = (spans[-1][0], span[1])
                    else:
                        spans.append(span)
                done += len(batch)
                if shown:
                    print(f"\r{done:,} of {total:,} jobs", end="", file=sys.stderr, flush=True)
                if interrupts:
                    raise KeyboardInterrupt
    except (BalsamError, KeyboardInterrupt):
        if spans:
            _take_back(client, spans, done)
        raise
    finally:
        gc.enable()
        if shown:
            print(file=sys.stderr)
    return spans


def _place_parents(job: Job, done: int, spans: list[Span]) -> None:
    """Give the positions among the parents of *job* as its batch has them, after *done* jobs."""
    for field in PARENT_FIELDS:
        parents: list[int] = getattr(job, field)
        if parents and min(parents) < 0:
            placed = [p if p >= 0 else _place(-p, done, spans) for p in parents]
            setattr(job, field, placed)


def _place(position: int, done: int, spans: list[Span]) -> int:
    """Return the id of the job at *position*, or minus its position in the batch."""
    if position > done:
        return done - position
    for first, last in spans:
        if position <= last - first + 1:
            return first + position - 1
        position -= last - first + 1
    raise AssertionError(f"{done} jobs are there, and not {position} more")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect interrupts instead of raising them.

    One that came after a commit and before the ids are known would leave jobs behind.
    """
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield seen
        return
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _take_back(client: Client, spans: list[Span], done: int) -> None:
    try:
        for span in spans:
            client.delete_jobs(_between(span))
    except BalsamError as error:
        warn(f"of {done} jobs added before, {spelled(spans)}, some are left: {error}")


def _spans(ids: list[int]) -> Iterator[Span]:
    if ids and ids[-1] - ids[0] + 1 == len(ids):
        yield ids[0], ids[-1]
    else:
        yield from ((job, job) for job in ids)


def _between(span: Span) -> Query:
    return Query().where(id__gte=span[0], id__lte=span[1])


def read_back(client: Client, spans: list[Span]) -> Iterator[Job]:
    """Yield the jobs of *spans*, complete."""
    for span in spans:
        yield from client.iterate_jobs(_between(span))


def spelled(spans: list[Span]) -> str:
    """Return ``ids 1-1000, 1005`` for *spans*."""
    named = [f"{first}-{last}" if first != last else str(first) for first, last in spans]
    return f"ids {', '.join(named[:10])}{', …' if len(named) > 10 else ''}"
