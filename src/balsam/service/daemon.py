"""The service's loop: looks at the batch system and at the work, and acts on both.

One service a site lives at a time: its right is a lease in the database, as a launcher's is. What
it knows it writes there too, so that it can be asked about from anywhere, and also when it is down.
Nothing that matters is in its memory: killed and started again it goes on where it was.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from balsam import config
from balsam.client.interface import Client, Watch
from balsam.config import Settings
from balsam.errors import (
    BalsamError,
    NoScheduler,
    SchedulerError,
    SchedulerRefused,
    ServiceRuns,
    StoreError,
    UnreadableAnswer,
)
from balsam.lifecycle.recover import Recovery, is_seen_dead, process_start
from balsam.model.resources import NodeResources
from balsam.model.service import FilesStatus, ServiceInfo, ServiceStatus
from balsam.model.wire import Topic
from balsam.nodes.hardware import this_node
from balsam.schedulers.command import Command
from balsam.schedulers.find import find
from balsam.schedulers.scheduler import Answer, Queue, Scheduler, Window
from balsam.service import elastic, record, submit, watch
from balsam.service.files import FileMover

#: Work that is being inserted is let come in for a moment before it is bundled.
SETTLE_SECONDS = 1.0
#: Shortest time between two plans, however often there is news.
PLAN_SECONDS = 5.0
#: The queues themselves seldom change.
QUEUES_SECONDS = 300.0
#: Longest time between two questions to a batch system that does not answer.
LONGEST_PAUSE = 600.0
#: The last so many things that happened are kept to be asked about.
NEWS = 50

Say = Callable[[str], None]


class Service:
    """One service, from its registration to its end.

    Parameters
    ----------
    say
        Told, in one line each, what happens.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        scheduler: Scheduler,
        command: Command,
        here: NodeResources,
        say: Say,
    ) -> None:
        self._client, self._settings, self._scheduler = client, settings, scheduler
        self._command, self._here, self._say = command, here, say
        self._status = ServiceStatus(
            scheduler=scheduler.name, elastic=settings.service.elastic, news=[]
        )
        self._id = 0
        self._started_at = 0.0
        self._stop = ""  #: why it is to end
        self._renewed_at = 0.0
        self._recovery = Recovery(client, 0, settings.launcher.crash_limit, self._tell)
        self._recovered_at = -1e9
        self._queues: list[Queue] = []
        self._queues_at = -1e9
        self._asked_at = -1e9
        self._pause = settings.service.poll_seconds
        self._is_away = False  #: the batch system did not answer
        self._unseen = ""  #: why it was not told which nodes are free, the last time
        self._surplus: set[int] = set()
        self._heard: list[str] = []  #: of the last look at the batch jobs
        self._files: FileMover | None = None  #: None: it moves none
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  #: files were moved

    # its life ---------------------------------------------------------------------------

    def run(self) -> str:
        """Work until asked to stop; return why it ended.

        Raises
        ------
        ServiceRuns
            Another one lives, or took over.
        StoreError
            The database cannot be used, and trying again would not help.
        """
        with _stopped_by_signals(self._ask_to_stop) as signals:
            self._register()
            watching = self._client.watch(Topic.WORK)
            if self._settings.service.move_files:
                wake = partial(os.eventfd_write, self._news, 1)
                self._files = FileMover(self._client, self._settings, wake)
            try:
                while not self._stop:
                    self._look()
                    self._wait(watching, signals)
                self._close_files()
                self._try_to_renew(urgent=True)  # who asked, when a signal was not all
                self._client.end_service(self._id, self._stop)
            except ServiceRuns:
                raise
            except BaseException as error:
                self._end(f"it failed: {error}")
                raise
            finally:
                self._close_files()
                watching.close()
                os.close(self._news)
        return self._stop

    def _close_files(self) -> None:
        """Move no more files; launchers do from here on."""
        if self._files is not None:
            self._files.close()
            self._files = None

    def _register(self) -> None:
        before = self._client.service()
        # A lease need not be waited for where the process is seen to be gone.
        left = before if before is not None and before.ended_at is None else None
        if left is not None and is_seen_dead(left.host, left.pid, left.pid_started):
            self._client.end_service(left.id, "its process died")
        info = ServiceInfo(
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_started=process_start(os.getpid()),
            owner=config.user_name(),
            status=self._status,
        )
        self._id = self._client.register_service(info, self._settings.service.lease_seconds)
        self._started_at = self._client.now()
        if before is not None:
            self._status.news = before.status.news
        self._tell(f"service {self._id} started for {self._scheduler.name}")

    def _end(self, message: str) -> None:
        try:
            self._client.end_service(self._id, message)
        except StoreError:
            pass  # its lease will tell

    def _ask_to_stop(self, number: int) -> None:
        self._stop = self._stop or f"asked to by {signal.Signals(number).name}"

    def _wait(self, watching: Watch, signals: int) -> None:
        """Wait for work, a signal, or the time of the next look."""
        deadline = time.monotonic() + min(self._pause, self._settings.service.lease_seconds / 3)
        earliest = time.monotonic() + PLAN_SECONDS
        while not self._stop:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            bells = [watching.fileno()] if watching.fileno() >= 0 else []
            descriptors = [signals, self._news, *bells]
            ready = select.select(descriptors, [], [], left)[0]
            if signals in ready:
                os.read(signals, 512)
            if self._news in ready:
                os.eventfd_read(self._news)
            if watching.fileno() in ready:
                watching.clear()
                self._try_to_renew()  # it may be that it is asked to stop
                self._ring()
            if {self._news, watching.fileno()} & set(ready):
                now = time.monotonic()
                deadline = min(deadline, max(earliest, now + SETTLE_SECONDS))

    # one look ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Follow the batch jobs, take over from dead launchers, ask for nodes."""
        try:
            self._renew()
            if self._stop:
                return
            self._recover()
            for line in self._files.news() if self._files else ():
                self._tell(line)
            if self._is_time_to_ask():
                self._follow()
            if self._is_away:
                return
            if self._settings.service.elastic:
                self._plan()
            self._status.trouble = ""
        except SchedulerError as error:
            self._is_away = True
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._asked_at = time.monotonic()
            self._say_trouble(f"the batch system: {error}")
        except StoreError as error:
            if not error.retryable:
                raise
            self._say(f"{error}; trying again")
        except ServiceRuns:
            raise
        except BalsamError as error:  # a template or a setting that cannot be used
            self._say_trouble(str(error))
        self._try_to_renew(urgent=True)

    def _say_trouble(self, trouble: str) -> None:
        if self._status.trouble != trouble:
            self._tell(f"{trouble}; trying again")
        self._status.trouble = trouble

    def _try_to_renew(self, *, urgent: bool = False) -> None:
        """Renew, unless the database is away: the next look tries again."""
        try:
            self._renew(urgent=urgent)
        except StoreError as error:
            if not error.retryable:
                raise

    def _is_time_to_ask(self) -> bool:
        return time.monotonic() - self._asked_at >= self._pause - PLAN_SECONDS / 2

    def _run(self, argv: Sequence[str], stdin: str = "") -> Answer:
        """Run a command of the batch system; the lease is kept while one after the other is."""
        self._renew()
        return self._command(argv, stdin)

    def _follow(self) -> None:
        """Ask the batch system what became of the batch jobs."""
        news = watch.refresh(self._client, self._scheduler, self._run, self._settings)
        for line in news:
            if line not in self._heard:
                self._tell(line)
        self._heard = news
        now = time.monotonic()
        if now - self._queues_at >= QUEUES_SECONDS:
            self._queues = self._scheduler.queues(self._run)
            self._queues_at = now
        self._asked_at = now
        self._pause = self._settings.service.poll_seconds
        self._status.scheduler_seen_at = self._client.now()
        if self._is_away:
            self._tell("the batch system answers again")
            self._status.trouble = ""
        self._is_away = False

    def _plan(self) -> None:
        """Ask for nodes as the work needs, and take back what nothing needs."""
        found = elastic.foresee(
            self._client, self._settings, self._queues, self._free(), self._here, self._started_at
        )
        self._say_pauses(found)
        self._status.queues, self._status.unmet = found.queues, found.plan.unmet
        self._status.budget_node_hours = found.budget
        for line in elastic.ask(
            self._client,
            self._settings,
            self._scheduler,
            self._run,
            found.plan.submissions,
            self._id,
        ):
            self._tell(line)
        if found.plan.waits and found.plan.waits != self._status.waits:
            self._tell(f"nothing more is asked for: {found.plan.waits}")
        self._status.waits = found.plan.waits
        self._take_back(found.plan.surplus)
        self._status.spent_node_hours = self._client.node_hours()

    def _free(self) -> Sequence[Window]:
        """Return the nodes that are free, as far as that is told: requests can do without."""
        if not self._settings.service.backfill:
            return []
        try:
            return self._scheduler.windows(self._run)
        except (NoScheduler, SchedulerRefused, UnreadableAnswer) as error:
            if str(error) != self._unseen:
                self._tell(f"which nodes are free cannot be told: {error}")
            self._unseen = str(error)
            return []

    def _say_pauses(self, found: elastic.Forecast) -> None:
        known = {queue.name: queue.comment for queue in self._status.queues}
        for queue in found.queues:
            if queue.comment and known.get(queue.name) != queue.comment:
                self._tell(f"queue {queue.name} is not used: {queue.comment}")

    def _take_back(self, surplus: Sequence[int]) -> None:
        """Cancel requests that were left without work in two looks in a row."""
        again = self._surplus & set(surplus)
        self._surplus = set(surplus) - again
        if not again:
            return
        unneeded = [each for each in record.live(self._client) if each.id in again]
        reason = "no job needs it any more"
        for each in submit.cancel(self._client, self._scheduler, self._run, unneeded, reason):
            self._tell(f"batch job {each.id} ({each.scheduler_id}) is taken back: {reason}")

    def _recover(self) -> None:
        """Take over from launchers that died: their jobs go back."""
        now = time.monotonic()
        if now - self._recovered_at >= self._settings.launcher.lease_seconds / 3:
            self._recovered_at = now
            if self._recovery.look():  # what we free ourselves, no bell tells us of
                self._ring()

    def _ring(self) -> None:
        if self._files is not None:
            self._files.bell()

    def _renew(self, *, urgent: bool = False) -> None:
        """Keep the lease, and hear whether to stop."""
        now = time.monotonic()
        if not urgent and now - self._renewed_at < 1.0 and self._renewed_at:
            return
        self._status.updated_at = self._client.now()
        self._status.files = self._files.status if self._files else FilesStatus()
        lease = self._settings.service.lease_seconds
        if self._client.renew_service(self._id, self._status, lease):
            self._stop = "asked to by `balsam service stop`"
        self._renewed_at = now

    def _tell(self, text: str) -> None:
        self._say(text)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._status.news = [*self._status.news, f"{stamp} {text}"][-NEWS:]


@contextmanager
def _stopped_by_signals(stop: Callable[[int], None]) -> Any:
    """Have SIGTERM and SIGINT call *stop*; yield a descriptor that they make readable."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def handle(number: int, frame: FrameType | None) -> None:
        stop(number)
        os.write(writable, b"x")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield readable
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def run(client: Client, say: Say) -> str:
    """Run the site's service here until it is asked to stop; return why it ended.

    Raises
    ------
    ServiceRuns
        The site has one already, or another took over.
    InvalidInput
        There is no such batch system.
    """
    settings = config.load(client.path)
    command = Command(settings.scheduler.timeout_seconds)
    scheduler = find(settings.scheduler.name, command)
    return Service(client, settings, scheduler, command, this_host(), say).run()


def this_host() -> NodeResources:
    """Return what this host has."""
    return this_node()
