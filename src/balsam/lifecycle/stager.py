"""Moves the files of many jobs at a time, within limits, in threads of its own.

What one host is slow at keeps no other's waiting. All methods but `__init__` may be called while
threads move; none of them waits, but `close`.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

from msgspec.structs import replace

from balsam.client.interface import Client
from balsam.config import TransferSettings
from balsam.errors import BalsamError, StoreError
from balsam.lifecycle.staging import Staging, urls_of
from balsam.model.job import Job
from balsam.model.query import Query
from balsam.model.transfer import Transfer, TransferState
from balsam.transfers.movers import Movers
from balsam.transfers.progress import Stopped

#: Jobs whose files are moved on this machine only, at the same time: disks like few.
LOCAL = 2
#: Jobs whose files Globus moves, at the same time: we only wait for it, and it likes few tasks.
GLOBUS = 200
#: Seconds between two looks at how far transfers are.
PROGRESS_SECONDS = 2.0


class Staged(NamedTuple):
    """What came of a job's files."""

    job: int
    note: str = ""  #: what was moved
    error: str = ""  #: why it could not be
    stopped: bool = False  #: it was to end before it was done: another launcher may go on


class Lane(StrEnum):
    """What limits how many jobs' files move."""

    LOCAL = "<local>"
    GLOBUS = "<globus>"
    REMOTE = "<remote>"


def _lane(machines: frozenset[str]) -> Lane:
    if not machines:
        return Lane.LOCAL
    by_globus = all(machine.startswith("globus:") for machine in machines)
    return Lane.GLOBUS if by_globus else Lane.REMOTE


def parents_of(client: Client, job: Job) -> list[Job]:
    """Return all parents of *job*, however they had to end."""
    ids = [*job.parents, *job.parents_any, *job.parents_failed]
    return client.jobs(Query().where(id__in=ids)) if ids else []


class Stager:
    """See the module's head.

    Parameters
    ----------
    launcher_id
        Whose transfers these are.
    parents
        Returns the parents of a job; called from threads.
    now
        Gives the time for records.
    """

    def __init__(
        self,
        movers: Movers,
        settings: TransferSettings,
        launcher_id: int,
        parents: Callable[[Job], list[Job]],
        now: Callable[[], float],
    ) -> None:
        self._movers = movers
        self._settings = settings
        self._launcher_id = launcher_id
        self._parents = parents
        self._now = now
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._waiting: dict[frozenset[str], deque[Staging]] = {}
        self._moving: dict[int, Staging] = {}
        self._busy: Counter[str] = Counter()  #: jobs by machine, and by lane
        self._done: deque[Staged] = deque()
        self._told: deque[Transfer] = deque()  #: that have ended, or begun to wait
        self._looked_at = 0.0
        self._fault: BaseException | None = None
        most = settings.total + LOCAL + GLOBUS
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="staging")

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Have *wake* called, from a thread, when there is something to `take`."""
        self._wake = wake

    @property
    def is_moving(self) -> bool:
        """Whether something moves whose progress is to be told now and then."""
        return any(staging.machines for staging in list(self._moving.values()))

    def put(self, job: Job, *, inward: bool) -> None:
        """Move a job's files as soon as the limits allow; `take` tells what came of it."""
        try:
            urls = urls_of(job, inward=inward)
        except BalsamError as error:
            self._finish(Staged(job.id or 0, error=str(error)))
            return
        staging = Staging(job, urls, self._launcher_id, self._now, inward=inward)
        with self._lock:
            self._waiting.setdefault(staging.machines, deque()).append(staging)
            self._start()
            if job.id not in self._moving and staging.machines:
                self._told.extend(replace(transfer) for transfer in staging.transfers)

    def take(self) -> list[Staged]:
        """Return what is done since the last call."""
        if self._fault is not None:
            raise self._fault
        found = []
        while self._done:
            found.append(self._done.popleft())
        return found

    def news(self, now: float) -> list[Transfer]:
        """Return what has changed: each end at once, how far others are every few seconds."""
        found = []
        while self._told:
            found.append(self._told.popleft())
        if now - self._looked_at >= PROGRESS_SECONDS:
            self._looked_at = now
            for staging in list(self._moving.values()):
                if staging.machines:
                    staging.look()
                    begun = (t for t in staging.transfers if t.started_at and not t.ended_at)
                    found += [replace(transfer) for transfer in begun]
        return found

    def stop(self, jobs: Iterable[int]) -> None:
        """End what moves for *jobs*, or waits to."""
        chosen = set(jobs)
        with self._lock:
            self._give_back(lambda staging: staging.job.id in chosen)
            moving = [staging for job, staging in self._moving.items() if job in chosen]
        for staging in moving:
            staging.stop()
        self._wake()

    def stop_waiting(self) -> None:
        """Give back what has not begun."""
        with self._lock:
            self._give_back(lambda _: True)
        self._wake()

    def stop_all(self) -> None:
        """End everything; what can be resumed is left so that it can be."""
        self.stop_waiting()
        self.stop(list(self._moving))

    def close(self) -> None:
        """End everything, and wait for that."""
        self._wake = lambda: None
        self.stop_all()
        self._threads.shutdown()
        self._movers.close()

    # inside
    def _start(self) -> None:
        """Begin as many as the limits allow; the lock is held."""
        for machines in list(self._waiting):
            queue = self._waiting[machines]
            while queue and self._has_room(machines):
                staging = queue.popleft()
                self._busy.update([*machines, _lane(machines)])
                self._moving[staging.job.id or 0] = staging
                self._threads.submit(self._run, staging).add_done_callback(self._look_at)
            if not queue:
                del self._waiting[machines]

    def _look_at(self, ended: Future[None]) -> None:
        if (error := ended.exception()) is not None:  # a fault of ours: `take` raises it
            self._fault = error
        self._wake()

    def _has_room(self, machines: frozenset[str]) -> bool:
        match lane := _lane(machines):
            case Lane.LOCAL:
                return self._busy[lane] < LOCAL
            case Lane.GLOBUS:
                return self._busy[lane] < GLOBUS
        most = self._settings.per_host
        free = self._busy[lane] < self._settings.total
        return free and all(self._busy[machine] < most for machine in machines)

    def _give_back(self, chosen: Callable[[Staging], bool]) -> None:
        for queue in self._waiting.values():
            for staging in [staging for staging in queue if chosen(staging)]:
                queue.remove(staging)
                self._end(staging, Staged(staging.job.id or 0, stopped=True))

    def _run(self, staging: Staging) -> None:
        job = staging.job.id or 0
        result = Staged(job, stopped=True)
        try:
            wants_parents = staging.inward and staging.job.input_files
            parents = self._parents(staging.job) if wants_parents else []
            note = staging.run(parents, self._movers, self._settings)
            result = Staged(job, note)
        except (Stopped, StoreError):
            pass  # when the database is away the job waits for it, here or elsewhere
        except BalsamError as error:
            way = "in" if staging.inward else "out"
            result = Staged(job, error=f"staging {way}: {error}")
        finally:
            with self._lock:
                self._busy.subtract([*staging.machines, _lane(staging.machines)])
                del self._moving[job]
                self._end(staging, result)
                self._start()

    def _end(self, staging: Staging, result: Staged) -> None:
        """Tell that it is over, and of the transfers that never began."""
        for transfer in staging.transfers:
            if transfer.ended_at is None:
                transfer.state, transfer.ended_at = TransferState.STOPPED, self._now()
        self._told.extend(replace(transfer) for transfer in staging.transfers)
        self._done.append(result)

    def _finish(self, result: Staged) -> None:
        self._done.append(result)
        self._wake()
