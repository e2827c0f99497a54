"""What goes wrong: a schedule of faults drawn from a seed, and how each is done."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

from balsam.errors import StoreError
from balsam.model.query import Query
from balsam.model.states import END_STATES
from tests.chaos.campaign import Campaign

#: Longest time from one fault to the next, in seconds.
LONGEST_GAP = 0.7


class Fault(NamedTuple):
    """One thing that goes wrong: how long after the last one, what, and to which."""

    after: float
    kind: str
    which: float  #: chooses among those there are: 0 to 1


def schedule(chance: random.Random, *, server: bool) -> list[Fault]:
    """Draw what goes wrong in one round."""
    others = "file" if server else "server"
    kinds = [kind for kind in KINDS if not kind.startswith(others)]
    return [
        Fault(round(chance.uniform(0.0, LONGEST_GAP), 3), chance.choice(kinds), chance.random())
        for _ in range(chance.randint(4, 8))
    ]


class Round:
    """Launchers at work, and all that happens to them."""

    def __init__(self, campaign: Campaign, launchers: int) -> None:
        self.campaign = campaign
        self._launchers: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self._stopped: list[psutil.Process] = []
        self._inserts = 0
        for _ in range(launchers):
            self.start_launcher()

    def start_launcher(self) -> None:
        self._launchers.append(self.campaign.balsam("launcher", "--consume-all"))

    def inflict(self, fault: Fault) -> None:
        """Do it, after its time; then see that there is a launcher that works."""
        time.sleep(fault.after)
        try:
            KINDS[fault.kind](self, fault.which)
        except StoreError as error:
            # A launcher that is stopped in the middle of a transaction on SQLite keeps its lock.
            if not error.retryable:
                raise
        working = [one for one in self._live() if psutil.Process(one.pid) not in self._stopped]
        if len(working) < 2:
            self.start_launcher()

    def end(self) -> None:
        """Let everything go on, and wait for its end."""
        for process in self._stopped:
            send(process, signal.SIGCONT)
        for one in (*self._launchers, *self._others):
            try:
                one.wait(timeout=90)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
                raise AssertionError(f"{one.args} goes on and on") from None

    # what there is
    def _live(self) -> list[subprocess.Popen[bytes]]:
        return [one for one in self._launchers if one.poll() is None]

    def _choose(self, which: float, depth: int) -> psutil.Process | None:
        """Return a launcher, its guardian (depth 1) or worker (2)."""
        live = self._live()
        if not live:
            return None
        process = psutil.Process(live[int(which * len(live))].pid)
        for _ in range(depth):
            found = [c for c in process.children() if "balsam.launcher.worker" in _words(c)]
            if not found:
                return None
            process = found[0]
        return process

    # what goes wrong
    def kill_launcher(self, which: float) -> None:
        send(self._choose(which, 0), signal.SIGKILL)

    def kill_guardian(self, which: float) -> None:
        send(self._choose(which, 1), signal.SIGKILL)

    def kill_worker(self, which: float) -> None:
        send(self._choose(which, 2), signal.SIGKILL)

    def kill_all_three(self, which: float) -> None:
        """Kill a launcher, its guardian and its worker, so that none sees another's end."""
        found = [self._choose(which, depth) for depth in range(3)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in found:
                send(process, number)

    def end_launcher(self, which: float) -> None:
        send(self._choose(which, 0), signal.SIGTERM)

    def stop_launcher(self, which: float) -> None:
        self._stop(self._choose(which, 0))

    def stop_worker(self, which: float) -> None:
        self._stop(self._choose(which, 2))

    def _stop(self, process: psutil.Process | None) -> None:
        if process is not None and process not in self._stopped:
            send(process, signal.SIGSTOP)
            self._stopped.append(process)

    def continue_one(self, which: float) -> None:
        if self._stopped:
            send(self._stopped.pop(int(which * len(self._stopped))), signal.SIGCONT)

    def insert_jobs(self, which: float) -> None:
        self._inserts += 1
        words = self.campaign.array(f"more{self._inserts}", 1 + int(which * 20))
        self._others.append(self.campaign.balsam(*words))

    def kill_insert(self, which: float) -> None:
        """kill -9 a command line in the middle of inserting more than one batch of jobs."""
        self._inserts += 1
        words = self.campaign.array(f"more{self._inserts}", 60)
        insert = self.campaign.balsam(*words)
        time.sleep(0.2 + 0.6 * which)
        insert.kill()
        self._others.append(insert)

    def kill_jobs(self, which: float) -> None:
        ids = [job.id for job in self.campaign.client.jobs(Query(), ["id"])]
        chosen = ids[int(which * len(ids)) :][:3]
        self.campaign.client.kill_jobs(Query().where(id__in=chosen), recursive=which > 0.7)

    def rerun_jobs(self, which: float) -> None:
        ended = Query().where(state__in=[str(state) for state in END_STATES])
        ids = [job.id for job in self.campaign.client.jobs(ended, ["id"])]
        chosen = ids[int(which * len(ids)) :][:3]
        if chosen:
            self.campaign.client.rerun_jobs(Query().where(id__in=chosen))

    def server_crash(self, which: float) -> None:
        """kill -9 the postmaster, and start it again after a while."""
        server = self.campaign.server
        assert server is not None
        server.kill()
        time.sleep(0.5 * which)
        server.start()

    def server_backend(self, which: float) -> None:
        """kill -9 one backend: the server ends all connections, and recovers."""
        server = self.campaign.server
        assert server is not None
        backends = server.backends()
        if backends:
            os.kill(backends[int(which * len(backends))], signal.SIGKILL)

    def server_unreachable(self, which: float) -> None:
        """Cut all connections, and let nobody connect for a while."""
        assert self.campaign.proxy is not None
        with self.campaign.proxy.away():
            time.sleep(2 * which)

    def file_locked(self, which: float) -> None:
        """Keep everybody from writing to SQLite's file for a while."""
        file = sqlite3.connect(self.campaign.site / "balsam.db", isolation_level=None)
        try:
            file.execute("BEGIN IMMEDIATE")
            time.sleep(2 * which)
        except sqlite3.OperationalError:
            pass  # by a launcher that is stopped, say
        finally:
            file.close()

    def server_cut(self, _which: float) -> None:
        """End every connection, in the middle of whatever it does."""
        server = self.campaign.server
        assert server is not None
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def send(process: psutil.Process | None, number: signal.Signals) -> None:
    """Send a signal to *process*, if it is there."""
    try:
        if process is not None:
            process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


KINDS: dict[str, Callable[[Round, float], None]] = {
    "kill launcher": Round.kill_launcher,
    "kill guardian": Round.kill_guardian,
    "kill worker": Round.kill_worker,
    "kill all three": Round.kill_all_three,
    "end launcher": Round.end_launcher,
    "stop launcher": Round.stop_launcher,
    "stop worker": Round.stop_worker,
    "continue one": Round.continue_one,
    "insert jobs": Round.insert_jobs,
    "kill insert": Round.kill_insert,
    "kill jobs": Round.kill_jobs,
    "rerun jobs": Round.rerun_jobs,
    "server crash": Round.server_crash,
    "server backend": Round.server_backend,
    "server cut": Round.server_cut,
    "server unreachable": Round.server_unreachable,
    "file locked": Round.file_locked,
}
