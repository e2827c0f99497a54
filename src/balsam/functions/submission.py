"""Storing jobs of calls, as many at once as come together."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from balsam.client.site import Site
from balsam.errors import (
    AlreadyExists,
    BalsamError,
    InvalidInput,
    JobFailed,
    NotFound,
    StoreError,
    StoreUncertain,
)
from balsam.functions.futures import Future
from balsam.functions.watcher import watcher_of
from balsam.model.job import Job

log = logging.getLogger("balsam")
#: Jobs of one transaction, and bytes of their payloads.
BATCH, BATCH_BYTES = 5000, 64 << 20
#: Calls that wait to be stored; who submits more waits.
MOST_WAITING = 50_000
#: Ids are reserved so many at a time, when many jobs are submitted.
MOST_RESERVED = 10_000

_submitters: dict[Path, Submitter] = {}
_making = threading.Lock()
_is_forked = False


def submitter_of(site: Site) -> Submitter:
    """Return what stores the jobs for *site* in this process."""
    with _making:
        if site.path not in _submitters:
            if not _submitters:
                os.register_at_fork(after_in_child=_after_fork)
            _submitters[site.path] = Submitter(site)
        found = _submitters[site.path]
        found.site = site
        return found


def _after_fork() -> None:
    global _making, _is_forked
    _making = threading.Lock()
    _is_forked = True
    _submitters.clear()  # what waits there is stored by the parent


class _New(NamedTuple):
    record: Job
    future: Future


class Submitter:
    """Stores jobs in the order in which they come, in a thread.

    While a transaction is on its way, what comes gathers for the next one: a single job is stored
    at once, and of many not each costs a transaction. At the end of the program all that was
    submitted is stored.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self._waiting: deque[_New] = deque()
        self._change = threading.Condition()
        self._ids: deque[int] = deque()
        self._reserved = 0
        self._is_storing = False
        self._is_ending = False
        self._thread: threading.Thread | None = None
        self._taking = threading.Lock()

    def take_ids(self, count: int) -> list[int]:
        """Return *count* ids for new jobs, ascending."""
        with self._taking:
            missing = count - len(self._ids)
            if missing > 0:
                # The first job takes one id; whoever submits more and more takes more at a time.
                block = max(missing, self._reserved)
                self._ids.extend(self.site.client.reserve_jobs(block))
                self._reserved = min(MOST_RESERVED, 2 * block)
            return [self._ids.popleft() for _ in range(count)]

    def submit(self, records: list[Job], *, name: str) -> list[Future]:
        """Have *records* stored, and return the futures of their jobs.

        Parents are integer ids. What keeps a job from being stored, its future raises.
        """
        numbers = self.take_ids(len(records))
        watcher = watcher_of(self.site)
        futures = [Future(watcher, number, name) for number in numbers]
        watcher.follow(futures)  # before they are stored: no end is missed
        with self._change:
            while len(self._waiting) >= MOST_WAITING:
                self._change.wait()
            self._waiting.extend(map(_New, records, futures))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="balsam-submit", daemon=True)
                self._thread.start()
                atexit.register(self.end)
            self._change.notify_all()
        if _is_forked or "BALSAM_JOB_ID" in os.environ:
            self.flush()  # such a process may end without notice
        return futures

    def flush(self) -> None:
        """Wait until all that was submitted is stored, or refused."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting and not self._is_storing)

    def end(self) -> None:
        """Wait until all is stored, and end the thread."""
        with self._change:
            self._is_ending = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()

    # the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._store(batch)
            except BalsamError as error:
                self._refuse(batch, error)
            except BaseException as error:  # nobody may wait for ever for what is not stored
                self._refuse(batch, JobFailed(f"the job was not stored: {error!r}"))
                raise
            _notify(batch)

    def _next(self) -> list[_New]:
        """Return what is to be stored next; [] at the end."""
        with self._change:
            self._is_storing = False
            self._change.notify_all()
            while not self._waiting and not self._is_ending:
                self._change.wait()
            self._is_storing = True
            batch: list[_New] = []
            size = 0
            while self._waiting and len(batch) < BATCH and size < BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].record.payload)
            self._change.notify_all()
            return batch

    def _store(self, batch: list[_New]) -> None:
        # Parents are ids; those that are stored by the same call are positions in it.
        numbers = [new.future.number for new in batch]
        places = {number: -place for place, number in enumerate(numbers, 1)}
        try:
            self._create([_with_places(new.record, places) for new in batch], numbers)
        except (InvalidInput, NotFound) as error:
            if len(batch) == 1:
                raise
            for new in batch:  # only those are refused that are to blame
                try:
                    self._create([new.record], [new.future.number])
                except (InvalidInput, NotFound) as own:
                    own.__context__ = error
                    self._refuse([new], own)
                else:
                    new.future.note_stored()
            return
        for new in batch:
            new.future.note_stored()

    def _create(self, records: list[Job], numbers: list[int]) -> None:
        """Store *records*. The ids are ours alone: if they are there, we have stored them."""
        try:
            self.site.client.create_jobs(records, numbers)
        except StoreUncertain:
            try:
                self.site.client.create_jobs(records, numbers)
            except AlreadyExists:
                pass

    def _refuse(self, batch: list[_New], error: BalsamError) -> None:
        if isinstance(error, StoreError):
            log.error("%d jobs were not stored: %s", len(batch), error)
        for new in batch:
            new.future.watcher.forget(new.future)
            new.future.end(error)
        _notify(batch)


def _notify(batch: list[_New]) -> None:
    """Wake those who wait until the jobs of *batch* are stored."""
    for watcher in {new.future.watcher for new in batch}:
        with watcher.stored:
            watcher.stored.notify_all()


def _with_places(record: Job, places: dict[int, int]) -> Job:
    if not (record.parents or record.parents_any or record.parents_failed):
        return record
    return replace(
        record,
        parents=[places.get(parent, parent) for parent in record.parents],
        parents_any=[places.get(parent, parent) for parent in record.parents_any],
        parents_failed=[places.get(parent, parent) for parent in record.parents_failed],
    )
