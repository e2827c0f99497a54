"""The service's moving of files: a thread, with the lease of a launcher that has no nodes.

How files are moved is what launchers do, too (`lifecycle.stager`). A job's lease is the right to
move its files; when the service dies, whoever takes over from dead launchers gives it to others.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from balsam import config
from balsam.client.interface import Client
from balsam.config import Settings
from balsam.errors import LeaseLost, StoreError, StoreUncertain
from balsam.lifecycle.recover import launcher_marks, process_start
from balsam.lifecycle.stager import PROGRESS_SECONDS, Stager, parents_of
from balsam.lifecycle.unsent import Unsent
from balsam.model.job import Job
from balsam.model.service import FilesStatus
from balsam.model.states import State
from balsam.model.transfer import after_transfers
from balsam.model.wire import LauncherInfo, LauncherKind, LeaseRequest, Move, Refusal, Report
from balsam.transfers.movers import Movers

#: Jobs of each direction that are in hand, moved or waiting for their turn.
IN_HAND = 1000
#: Seconds after which it looks for work by itself, though no bell rang.
LOOK_SECONDS = 5.0
#: Shortest time between two looks for work, or for kills, however often the bell rings.
BELL_SECONDS = 0.25
#: First and longest pause, in seconds, before a database that is away is asked again.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0

R = TypeVar("R")


class FileMover:
    """Moves the files of the user's jobs until it is closed.

    Parameters
    ----------
    wake
        Called, from the thread, when jobs have gone on, or it has failed.
    """

    def __init__(self, client: Client, settings: Settings, wake: Callable[[], None]) -> None:
        self._client, self._settings, self._wake = client, settings, wake
        self._ends = threading.Event()
        self._term: _Term | None = None
        self._lines: deque[str] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._life = self._thread.submit(self._live)
        self._life.add_done_callback(lambda _: wake())

    def bell(self) -> None:
        """There may be files to move, or jobs that were killed."""
        if self._term is not None:
            self._term.bell()

    def news(self) -> list[str]:
        """Return what happened since the last call, in words.

        Raises
        ------
        BalsamError
            It has ended by an error that trying again does not mend.
        """
        if self._life.done():
            self._life.result()
        return [self._lines.popleft() for _ in range(len(self._lines))]

    @property
    def status(self) -> FilesStatus:
        """What it does."""
        return self._term.status() if self._term is not None else FilesStatus()

    def close(self) -> None:
        """End what moves, give all jobs back, and wait for that; it does not raise."""
        self._ends.set()
        if self._term is not None:
            self._term.bell()
        self._thread.shutdown()

    def _live(self) -> None:
        try:
            while not self._ends.is_set():
                launcher = self._insist(self._register)
                self._term = _Term(
                    self._client, self._settings, launcher, self._ends, self._insist, self._wake
                )
                try:
                    self._term.run()
                except LeaseLost as error:
                    self._tell(f"files: {error}; they are moved under a new lease")
        except StoreError:
            if not self._ends.is_set():
                raise

    def _register(self) -> int:
        user, pid = config.user_name(), os.getpid()
        info = LauncherInfo(
            host=socket.gethostname(),
            pid=pid,
            pid_started=process_start(pid),
            owner=user,
            jobs_of=user,
            nodes=0,
            cores=0,
            kind=LauncherKind.SERVICE,
        )
        return self._client.register_launcher(info, self._settings.launcher.lease_seconds)

    def _tell(self, line: str) -> None:
        self._lines.append(line)
        self._wake()

    def _insist(self, call: Callable[[], R]) -> R:
        """Return what *call* does, asking again while the database is away, until the end."""
        pause = FIRST_PAUSE
        while True:
            try:
                return call()
            except StoreError as error:
                # What is said twice counts once: there is no doubt to leave to a user.
                again = error.retryable or isinstance(error, StoreUncertain)
                if not again or self._ends.is_set():
                    raise
                if pause == FIRST_PAUSE:
                    self._tell(f"files: {error}; trying again")
            self._ends.wait(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


class _Term:
    """One lease, from its registration to its end."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        launcher: int,
        ends: threading.Event,
        insist: Callable[[Callable[[], object]], object],
        wake: Callable[[], None],
    ) -> None:
        self._client, self._id, self._ends, self._wake = client, launcher, ends, wake
        self._insist = insist
        self._lease_seconds = settings.launcher.lease_seconds
        transfers = settings.transfers
        movers = Movers(transfers, launcher_marks(client.path, launcher))
        parents = partial(parents_of, client)
        self._stager = Stager(movers, transfers, launcher, parents, client.now)
        self._request = LeaseRequest(
            limit=0,
            owner=config.user_name(),
            leave_files=False,
            staged_ahead=settings.service.files_ahead,
        )
        self._event = threading.Event()
        self._rang = True
        self._hungry = True
        self._there_is_more = False  #: than could be taken into hand
        self._hand: dict[int, Job] = {}
        self._unsent = Unsent()
        self._done = self._failed = 0
        self._renew_at = client.now() + self._lease_seconds / 3
        self._looked_at = 0.0
        self._stager.wake_by(self._event.set)

    def bell(self) -> None:
        self._rang = True
        self._event.set()

    def status(self) -> FilesStatus:
        return FilesStatus(
            launcher_id=self._id,
            in_hand=len(self._hand),
            done=self._done,
            failed=self._failed,
        )

    def run(self) -> None:
        """Move files until asked to end. Raises `LeaseLost` when others took the jobs over."""
        try:
            while not self._ends.is_set():
                self._turn()
        finally:
            self._stager.close()
        self._take(self._client.now())
        self._report()
        self._client.retire_launcher(self._id, "the service ended")

    def _turn(self) -> None:
        now = self._client.now()
        self._take(now)
        self._report()
        if self._rang and now - self._looked_at >= BELL_SECONDS:
            self._rang, self._hungry = False, True
            self._renew_at = now
        if now >= self._renew_at:
            self._renew(now)
        if now - self._looked_at >= LOOK_SECONDS:
            self._hungry = True
        if self._hungry:
            self._lease(now)
        times = [self._renew_at, self._looked_at + LOOK_SECONDS]
        times += [self._looked_at + BELL_SECONDS] if self._rang else []
        times += [now + PROGRESS_SECONDS] if self._stager.is_moving else []
        if not self._event.wait(max(0.0, min(times) - self._client.now())):
            return
        self._event.clear()

    def _take(self, now: float) -> None:
        """Take what was moved, and what could not be, and let go of these jobs."""
        news = Report(moves=[], attempts=[], released=[])
        for id_, note, error, stopped in self._stager.take():
            job = self._hand.pop(id_)
            news.released.append(id_)
            if stopped:
                continue
            to, time = after_transfers(job.state, error), max(now, job.updated_at)
            news.moves.append(Move(id_, job.attempt, job.state, to, time, error or note))
            self._done += not error
            self._failed += bool(error)
        if news.released:
            self._unsent.add(news, now)
            self._hungry = self._hungry or self._there_is_more
        self._unsent.add_transfers(self._stager.news(now), now)

    def _report(self) -> None:
        if self._unsent.since is None:
            return
        report = self._unsent.take()

        def send() -> list[Refusal]:
            try:
                return self._client.report(self._id, report)
            finally:
                report.again = True  # should the answer be lost

        self._insist(send)
        if report.released:
            self._wake()

    def _renew(self, now: float) -> None:
        self._renew_at = now + self._lease_seconds / 3
        killed: list[int] = []

        def renew() -> None:
            killed[:] = self._client.renew(self._id, self._lease_seconds).killed

        self._insist(renew)
        self._stager.stop(job for job in killed if job in self._hand)

    def _lease(self, now: float) -> None:
        """Take jobs into hand, where there is room for a good number of them."""
        self._hungry, self._looked_at = False, now
        request = self._request
        results = sum(job.state == State.POSTPROCESSED for job in self._hand.values())
        request.stage_out = _room(results)
        request.stage_in = _room(len(self._hand) - results)
        if not (request.stage_out or request.stage_in):
            return
        request.number += 1
        found: list[Job] = []

        def lease() -> None:
            found[:] = self._client.lease(self._id, replace(request)).jobs

        self._insist(lease)
        self._there_is_more = len(found) >= max(request.stage_in, request.stage_out)
        for job in found:
            self._hand[job.id or 0] = job
            self._stager.put(job, inward=job.state == State.READY)


def _room(in_hand: int) -> int:
    """Return how many jobs more to take into hand; few at a time are not worth asking."""
    return IN_HAND - in_hand if in_hand <= IN_HAND // 2 else 0
