"""Rounds in which the service asks `local` for launchers, and what can go wrong with that."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from balsam.model.batch_job import BatchJob
from balsam.model.query import Query
from balsam.model.states import LIVE_STATES
from tests.chaos.campaign import Campaign
from tests.chaos.faults import LONGEST_GAP, Fault, send

#: Requests that may be there at a time; node-hours that all may cost.
MOST_QUEUED, BUDGET = 2, 2.0
SETTINGS = f"""
[scheduler]
name = "local"
timeout_seconds = 5.0
[service]
poll_seconds = 0.2
lease_seconds = 5
idle_minutes = 0.02
job_minutes = 1
budget_node_hours = {BUDGET}
[queues.local]
max_queued = {MOST_QUEUED}
"""
QUEUES = "grace_seconds = 1\nmax_running = 2\n"
#: Seconds until a round that goes on without faults must be over.
LAST_SECONDS = 120.0


class ServiceRound:
    """A service at work, and all that happens to it and to its requests."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        with (campaign.site / "balsam.toml").open("a") as settings:
            settings.write(SETTINGS)
        self._local = Path(campaign.environ["BALSAM_HOME"]) / "local"
        self._local.mkdir(parents=True)
        self._queues = self._local / "queues.toml"
        self._queues.write_text(QUEUES)
        self._stopped = False
        self._wrong: list[str] = []
        self._inserts: list[subprocess.Popen[bytes]] = []
        self._service = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return self.campaign.balsam("service", "run")

    def inflict(self, fault: Fault) -> None:
        """Do it, after its time; then see that there is a service."""
        time.sleep(fault.after)
        KINDS[fault.kind](self, fault.which)
        self._see_that_it_runs()

    def _see_that_it_runs(self) -> None:
        code = self._service.poll()
        if code is None:
            return
        if code not in (0, -signal.SIGKILL, -signal.SIGTERM):  # before it minds
            self._wrong.append(f"the service ended by itself, with {code}")
        self._service = self._start()

    def end(self) -> None:
        """Let everything go on until all is done, and end the service and its requests."""
        self.go_on(0.0)
        self._queues.write_text(QUEUES)
        deadline = time.monotonic() + LAST_SECONDS
        for insert in self._inserts:
            insert.wait(timeout=LAST_SECONDS)
        live = Query().where(state__in=[str(state) for state in LIVE_STATES])
        while time.monotonic() < deadline and self.campaign.client.count_jobs(live):
            self._see_that_it_runs()
            time.sleep(0.1)
        left = self.campaign.client.count_jobs(live)
        if left:
            self._wrong.append(f"the service left {left} jobs")
        while time.monotonic() < deadline and any(each.is_live for each in self.batch_jobs()):
            time.sleep(0.1)
        send(psutil.Process(self._service.pid), signal.SIGTERM)
        self._service.wait(timeout=LAST_SECONDS)

    def batch_jobs(self) -> list[BatchJob]:
        return self.campaign.client.batch_jobs(Query(order=("id",)))

    def verdict(self) -> list[str]:
        """Return what is wrong with the requests that were made."""
        made = self.batch_jobs()
        wrong = self._wrong + [
            f"batch job {each.id} is still {each.state}" for each in made if each.is_live
        ]
        spent = self.campaign.client.node_hours()
        if spent > BUDGET:
            wrong.append(f"{spent} node-hours were spent, of {BUDGET}")
        begun = [(each.created_at, 1) for each in made]
        ended = [(each.ended_at, -1) for each in made if each.ended_at is not None]
        there = 0
        for when, step in sorted(begun + ended):
            there += step
            if there > MOST_QUEUED:
                wrong.append(f"{there} requests were there at {when}")
        return wrong

    # what goes wrong
    def kill_service(self, _which: float) -> None:
        self._service.kill()
        self._service.wait()
        self._stopped = False

    def end_service(self, _which: float) -> None:
        if not self._stopped:
            self._service.terminate()
            self._service.wait(timeout=60)

    def stop_service(self, _which: float) -> None:
        """Stop it, perhaps for longer than its lease."""
        self._service.send_signal(signal.SIGSTOP)
        self._stopped = True

    def go_on(self, _which: float) -> None:
        self._service.send_signal(signal.SIGCONT)
        self._stopped = False

    def cancel(self, which: float) -> None:
        """Take a request from the batch system, as an administrator would."""
        live = [each.scheduler_id for each in self.batch_jobs() if each.is_live]
        ids = [each for each in live if each.isdecimal()]
        if ids:
            chosen = ids[int(which * len(ids))]
            words = ["-P", "-m", "balsam.schedulers.local_queue", "cancel", "--", chosen]
            subprocess.run(
                [sys.executable, *words], env=self.campaign.environ, capture_output=True, check=True
            )

    def kill_launcher(self, which: float) -> None:
        live = self.campaign.client.launchers(live=True)
        if live:
            try:
                send(psutil.Process(live[int(which * len(live))].pid), signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass

    def scheduler_away(self, which: float) -> None:
        """Have the batch system answer nobody for a while."""
        self._queues.write_text("this is not TOML")
        time.sleep(2 * which)
        self._queues.write_text(QUEUES)

    def insert(self, which: float) -> None:
        words = self.campaign.array(f"more{len(self._inserts)}", 1 + int(which * 20))
        self._inserts.append(self.campaign.balsam(*words))


KINDS = {
    "kill service": ServiceRound.kill_service,
    "end service": ServiceRound.end_service,
    "stop service": ServiceRound.stop_service,
    "go on": ServiceRound.go_on,
    "cancel": ServiceRound.cancel,
    "kill launcher": ServiceRound.kill_launcher,
    "scheduler away": ServiceRound.scheduler_away,
    "insert": ServiceRound.insert,
}


def schedule(chance: random.Random) -> list[Fault]:
    """Draw what goes wrong in one round."""
    return [
        Fault(
            round(chance.uniform(0.0, 2 * LONGEST_GAP), 3),
            chance.choice(list(KINDS)),
            chance.random(),
        )
        for _ in range(chance.randint(4, 8))
    ]
