"""A real service on a site, which asks the batch system `local`, or fake commands, for nodes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balsam.model.batch_job import BatchJob
from balsam.model.query import Query
from balsam.model.service import ServiceStatus
from tests.contract.schedulers.fake_system import FakeSystem
from tests.integration.conftest import BIN, PATIENCE, Campaign, wait_until

#: Looks follow at once, and launchers end soon after their work.
SETTINGS = """
[scheduler]
name = "{scheduler}"
timeout_seconds = {timeout}
[service]
poll_seconds = 0.2
lease_seconds = 5
idle_minutes = 0.01
job_minutes = 1
{more}
"""


class Service:
    """A `balsam service run` that was started."""

    def __init__(self, campaign: Campaign, process: subprocess.Popen[bytes], log: Path) -> None:
        self.campaign, self.process, self._log = campaign, process, log

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def status(self) -> ServiceStatus:
        found = self.campaign.client.service()
        return found.status if found else ServiceStatus()

    @property
    def batch_jobs(self) -> list[BatchJob]:
        """All that are recorded, the oldest first."""
        return self.campaign.client.batch_jobs(Query(order=("id",)))

    def tell(self) -> str:
        """What is known of it, for the message of a test that failed."""
        outputs = [file.read_text() for file in self.campaign.site.glob("qsubmit/*.out")]
        lines = [f"{self.campaign.states()}", self.said, str(self.status)]
        return "\n".join([*lines, *map(str, self.batch_jobs), *outputs])

    def wait_for(self, condition: Callable[[], object]) -> None:
        wait_until(condition, self.tell)

    def wait_for_jobs(self, count: int, state: str = "JOB_FINISHED") -> None:
        self.wait_for(lambda: self.campaign.states().get(state, 0) >= count)

    def wait_until_quiet(self) -> None:
        """Wait until no batch job is live."""
        self.wait_for(lambda: not any(each.is_live for each in self.batch_jobs))

    def wait_until_registered(self) -> None:
        def lives() -> bool:
            found = self.campaign.client.service()
            return found is not None and found.pid == self.process.pid and found.ended_at is None

        self.wait_for(lives)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Serve = Callable[..., Service]


@pytest.fixture
def configure(campaign: Campaign, balsam_home: Path) -> Callable[..., None]:
    """Write the settings of the service, with further ones, and the queues of `local`."""
    file = balsam_home / "settings.toml"
    before = file.read_text()

    def configure(
        more: str = "", queues: str = "", scheduler: str = "local", timeout: float = 20.0
    ) -> None:
        text = SETTINGS.format(scheduler=scheduler, timeout=timeout, more=more)
        file.write_text(f"{before}\n{text}")
        local = balsam_home / "local"
        local.mkdir(exist_ok=True)
        (local / "queues.toml").write_text(f"grace_seconds = 1\n{queues}")

    configure()
    return configure


@pytest.fixture
def serve(campaign: Campaign, configure: Callable[..., None], tmp_path: Path) -> Iterator[Serve]:
    """Start `balsam service run`, with `env` added to its environment."""
    services: list[Service] = []

    def serve(env: dict[str, str] | None = None) -> Service:
        log = tmp_path / f"service{len(services)}.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(BIN / "balsam"), "--site", str(campaign.site), "service", "run"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **(env or {})},
            )
        services.append(Service(campaign, process, log))
        return services[-1]

    yield serve
    for each in services:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
    end_all_requests(campaign)


def end_all_requests(campaign: Campaign) -> None:
    """End what `local` still has."""
    live = [each.scheduler_id for each in campaign.client.batch_jobs(Query())]
    ids = [each for each in live if each.isdecimal()]
    if ids:
        words = ["-P", "-m", "balsam.schedulers.local_queue", "cancel", "--", *ids]
        subprocess.run([str(BIN / "python"), *words], check=True, capture_output=True)


@pytest.fixture
def fake(
    configure: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FakeSystem:
    """A fake Slurm, which the service asks; its requests start and end only when they are told."""
    system = FakeSystem("slurm", tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{system.environ['PATH']}{os.pathsep}{os.environ['PATH']}")
    configure(scheduler="slurm")
    return system
