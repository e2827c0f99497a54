"""The launcher's loop: carries events to the planner and its actions out.

One thread waits for everything at once: workers, the database's answers, bells, signals,
the end of a worker's process, the clock. It never sleeps and never waits for the database.
"""

from __future__ import annotations

import errno
import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterable

import zmq

from balsam.client.interface import Client
from balsam.errors import LeaseLost, StoreBusy, StoreFull
from balsam.launcher import actions
from balsam.launcher.clerk import Clerk
from balsam.launcher.invitation import Invitation
from balsam.launcher.link import Links
from balsam.launcher.log import Log
from balsam.launcher.messages import Kill, Recall, Run, Sweep, Warn
from balsam.launcher.options import why_ended_by
from balsam.launcher.plan import Planner
from balsam.launcher.team import Team
from balsam.launcher.workers import GivenUp, Happening, Joined, Lost, News, NotStarted, Workers
from balsam.lifecycle.journal import Journal
from balsam.lifecycle.recover import (
    Recovery,
    journal_path,
    launcher_directory,
    launcher_marks,
)
from balsam.lifecycle.stager import PROGRESS_SECONDS, Stager
from balsam.lifecycle.unsent import Unsent
from balsam.model.wire import Lease, Refusal, Renewal, Report, Topic

#: The database hears news when they are this old, or this many.
FLUSH_SECONDS, FLUSH_MOVES = 0.25, 2500
#: Shortest time between two looks for kills, however often the bell rings.
LOOK_SECONDS = 0.05
#: Seconds between two lines that tell the user how far it is.
STATUS_SECONDS = 30.0
#: Seconds that an ending launcher waits, after the grace time, for a database that is away.
PATIENCE_SECONDS = 15.0


class Driver:
    """Runs one launcher to its end.

    Parameters
    ----------
    team
        The nodes.
    environ
        Added to the workers' environment, and so to that of every job.
    lease_seconds
        How long our lease lasts without a sign of life.
    say
        Shows a line to the user.
    stager
        Moves the jobs' files; it is closed at the end.
    """

    def __init__(
        self,
        client: Client,
        planner: Planner,
        team: Team,
        environ: dict[str, str],
        lease_seconds: float,
        say: Callable[[str], None],
        stager: Stager,
    ) -> None:
        self._client = client
        self._planner = planner
        self._id = planner.options.launcher_id
        self._lease_seconds = lease_seconds
        self._say = say
        self._log = Log(client.path / "log" / f"launcher_{self._id}.log", client.now)
        self._journal = Journal(journal_path(client.path, self._id))
        self._node_count = len(team.hosts)
        self._links = Links(team.hosts)
        self._workers = self._make_workers(team, environ)
        self._clerk = Clerk(self.note)
        self._recovery = Recovery(client, self._id, planner.options.crash_limit, self.note)
        self._stager = stager
        self._watch = client.watch(Topic.WORK)
        self._unsent = Unsent()
        self._reporting = False
        self._renewing = False
        self._renew_at = self._look_at = 0.0
        self._recover_at = 0.0
        self._status = ""
        self._status_at = self._client.now() + STATUS_SECONDS
        self._ends = 0  # signals to end that we got
        self._give_up_at: float | None = None
        self._stop_files_at = math.inf  #: when to end transfers, once we are to end
        self._result: str | None = None
        self._wakeup, self._waker = os.pipe()
        for end in (self._wakeup, self._waker):
            os.set_blocking(end, False)
        stager.wake_by(self._wake)

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            pass  # it is full: somebody else wakes the loop

    def _make_workers(self, team: Team, environ: dict[str, str]) -> Workers:
        directory = launcher_directory(self._client.path, self._id)
        keys, settings = self._links.keys, team.settings
        invitation = Invitation(
            endpoints=self._links.endpoints,
            server_key=keys.server,
            public_key=keys.public,
            secret_key=keys.secret,
            hosts=list(team.hosts),
            environ=dict(os.environb) | {k.encode(): v.encode() for k, v in environ.items()},
            stream_prefix=str(self._client.path / "stream" / str(self._id)),
            words_prefix=str(directory),
            silence_seconds=settings.silence_seconds,
            cores=settings.cores,
            gpus=settings.gpus,
            memory_mib=settings.memory_mib,
            profile=team.profile,
        )
        return Workers(
            self._links,
            team.starter,
            shlex.split(settings.ssh),
            invitation,
            directory,
            launcher_marks(self._client.path, self._id),
            self._log.file,
            self._client.now,
        )

    def note(self, text: str) -> None:
        """Write a line to the log and show it."""
        self._log.line(text)
        self._say(text)

    # the loop -----------------------------------------------------------------------
    def run(self) -> str:
        """Run until there is nothing left to do or the time is over; return why it ended.

        Raises
        ------
        LeaseLost
            Others took over our jobs because we gave no sign of life; all was killed.
        """
        self._catch_signals()
        poller = zmq.Poller()
        for source in (self._links.socket, self._workers, self._clerk, self._watch, self._wakeup):
            poller.register(source, zmq.POLLIN)
        clean = False
        try:
            while self._result is None:
                self._turn(poller)
            clean = True
        except LeaseLost:
            self._tell_late()
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = f"the journal or log in {self._client.path / 'log'}"
                raise StoreFull(f"cannot write {where}: the disk or your quota is full") from error
            raise
        finally:
            self._close(clean)
        return self._result

    def _tell_late(self) -> None:
        """End what runs, at once, and tell of it: that is refused, and recorded as such."""
        self._take(self._workers.end(), self._client.now())
        self._gather(self._client.now())
        self._client.report(self._id, self._unsent.take())

    def _turn(self, poller: zmq.Poller) -> None:
        now = self._client.now()
        for action in self._planner.plan(now):
            self._carry_out(action)
        self._flush(now)
        self._keep_alive(now)
        if self._result is not None:
            return
        self._check_patience(now)
        wake = min(self._planner.wake_at(now), now + self._workers.wake_at() - time.monotonic())
        if self._give_up_at is not None:
            wake = min(wake, self._give_up_at, self._stop_files_at)
        if self._stager.is_moving:
            wake = min(wake, now + PROGRESS_SECONDS)
        if not self._renewing:
            wake = min(wake, self._renew_at)
        if self._unsent.since is not None and not self._reporting:
            wake = min(wake, self._unsent.since + FLUSH_SECONDS)
        timeout = max(0, int((wake - self._client.now()) * 1000) + 1)
        ready = {source for source, _ in poller.poll(timeout)}
        now = self._client.now()
        if self._wakeup in ready:
            self._take_signals()
        self._hear(now)
        self._clerk.collect()
        if self._watch.fileno() in ready or self._watch in ready:
            self._watch.clear()
            self._planner.work_may_have_come()
            self._renew_at = min(self._renew_at, max(now, self._look_at))
        self._take(self._workers.look(), now)

    def _check_patience(self, now: float) -> None:
        """Raise `StoreBusy` when we are to end and the database will not hear the last news."""
        if self._planner.stopping and self._give_up_at is None:
            self._stop_files_at = now + self._planner.options.grace_seconds
            self._give_up_at = self._stop_files_at + PATIENCE_SECONDS
            self._stager.stop_waiting()
        if now >= self._stop_files_at:
            self._stop_files_at = math.inf
            self._stager.stop_all()
        if self._give_up_at is not None and now >= self._give_up_at:
            raise StoreBusy(
                f"the database does not answer; the next launcher takes over from the journal"
                f" {self._journal.path}"
            )

    def _carry_out(self, action: actions.Action) -> None:
        match action:
            case actions.Send(spawner, places, tasks, runs):
                if runs:
                    self._journal.sent(runs)
                self._workers.send(spawner, Run(places, tasks, self._client.now()))
            case actions.KillTasks(spawner, task_ids, grace_seconds):
                self._workers.send(spawner, Kill(task_ids, grace_seconds))
            case actions.WarnTasks(spawner, task_ids, number):
                self._workers.send(spawner, Warn(task_ids, number))
            case actions.RecallTasks(spawner, lane, most):
                self._workers.send(spawner, Recall(lane, most))
            case actions.SweepJob(spawner, job, attempt):
                of_run = {"BALSAM_JOB_ID": job.job_id, "BALSAM_ATTEMPT": str(attempt)}
                marks = launcher_marks(self._client.path, self._id) | of_run
                self._workers.send(spawner, Sweep(marks))
            case actions.LeaseJobs(request):
                self._clerk.ask(lambda: self._client.lease(self._id, request), self._leased)
            case actions.StageFiles(job, inward):
                self._stager.put(job, inward=inward)
            case actions.Say(text):
                self.note(text)
            case actions.Finish(message):
                self._result = message

    def _leased(self, lease: Lease) -> None:
        self._planner.leased(lease, self._client.now())

    # the workers ----------------------------------------------------------------------
    def _take(self, happenings: Iterable[Happening], now: float) -> None:
        """Tell the planner what happened to workers."""
        for happening in happenings:
            match happening:
                case News(spawner, done):
                    if done.returned:
                        self._journal.back(self._planner.jobs_of(done.returned))
                    self._planner.heard(spawner, done, now)
                case Joined(host, resources, spawners):
                    self._log.line(f"node {host} joined: {resources.summary}")
                    self._planner.worker_joined(host, resources, spawners)
                    if self._node_count > 1 and not self._workers.are_starting:
                        self.note(f"nodes: {self._planner.capacity()}")
                case Lost(host, message):
                    self.note(f"{message}; what it ran is run again")
                    self._planner.worker_lost(host, message, now)
                case NotStarted(host, message):
                    self.note(f"node {host}: {message}; the log says more; trying again")
                case GivenUp(host, message):
                    self.note(f"node {host} is not used any more: {message}")
                    if self._workers.all_given_up:
                        self._planner.stop(f"there is no node left: {message}")

    def _hear(self, now: float) -> None:
        self._take(self._workers.hear(), now)
        for job, note, error, stopped in self._stager.take():
            self._planner.staged(job, note, error, now, stopped=stopped)

    # the database ---------------------------------------------------------------------
    def _gather(self, now: float) -> None:
        """Journal what happened, and keep it until the database is told."""
        self._unsent.add_transfers(self._stager.news(now), now)
        if self._planner.ledger.is_empty:
            return
        news = self._planner.ledger.take()
        self._journal.done(news)
        self._log.moves(news, self._planner.labels)
        self._unsent.add(news, now)

    def _flush(self, now: float) -> None:
        """Journal what happened at once; tell the database in batches."""
        self._gather(now)
        self._planner.unconfirmed = self._unsent.since is not None or self._reporting
        self._planner.awaits_nodes = self._workers.are_starting
        if self._unsent.since is None or self._reporting:
            return
        due = (
            now - self._unsent.since >= FLUSH_SECONDS
            or len(self._unsent.report.moves) >= FLUSH_MOVES
            or self._planner.is_short_of_work
        )
        if due:
            report = self._unsent.take()
            self._reporting = True
            self._clerk.ask(
                lambda: self._send_report(report),
                lambda refusals: self._reported(report, refusals),
            )

    def _send_report(self, report: Report) -> list[Refusal]:
        try:
            return self._client.report(self._id, report)
        finally:
            report.again = True  # should the answer be lost, and the clerk send it again

    def _reported(self, report: Report, refusals: list[Refusal]) -> None:
        self._reporting = False
        self._planner.unconfirmed = self._unsent.since is not None
        self._stager.stop(refusal.job for refusal in refusals)
        for refusal in refusals:  # a handler that moved its job itself is one, too
            self._log.line(f"job {refusal.job}: {refusal.reason}")
        self._planner.confirmed(report, refusals, self._client.now())
        if self._journal.is_long:
            self._journal.shorten(self._unsent.report, self._unsent.attempts)

    def _keep_alive(self, now: float) -> None:
        if now >= self._status_at:
            self._status_at = now + STATUS_SECONDS
            if self._planner.status() != self._status:
                self._status = self._planner.status()
                self.note(self._status)
        if now >= self._renew_at and not self._renewing:
            self._renewing = True
            self._renew_at = now + self._lease_seconds / 3
            self._look_at = now + LOOK_SECONDS
            self._clerk.ask(
                lambda: self._client.renew(self._id, self._lease_seconds), self._renewed
            )
        if now >= self._recover_at:
            self._recover_at = now + self._lease_seconds / 3
            self._clerk.ask(self._recovery.look, self._recovered)

    def _recovered(self, count: int) -> None:
        if count:  # what we free ourselves, no bell tells us of
            self._planner.work_may_have_come()

    def _renewed(self, renewal: Renewal) -> None:
        self._renewing = False
        self._planner.killed(renewal.killed, self._client.now())
        self._stager.stop(renewal.killed)

    # signals and the end --------------------------------------------------------------
    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def _take_signals(self) -> None:
        ends = (signal.SIGTERM, signal.SIGINT)
        got = [number for number in os.read(self._wakeup, 4096) if number in ends]
        for number in got:
            self._ends += 1
            name = signal.Signals(number).name
            if self._ends == 1:
                self.note(f"got {name}: asking what runs to end; a second one kills it")
                self._planner.stop(why_ended_by(number))
            else:
                self._planner.hurry()
                self._stager.stop_all()

    def _close(self, clean: bool) -> None:
        """End the workers, tell the database what is left to tell, and retire."""
        signal.set_wakeup_fd(-1)
        for _ in self._workers.end():
            pass  # nobody waits for it: what ran was to be given up
        self._stager.close()
        self._clerk.close()
        self._links.close()
        self._watch.close()
        if clean:
            self._client.retire_launcher(self._id, self._result or "ended")
        self._journal.close(remove=clean)
        self._log.close()
        for end in (self._wakeup, self._waker):
            os.close(end)
