"""This machine as a batch system, with queues of its own in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balsam.model.batch_job import LIVE_STATES
from balsam.schedulers.command import Command
from balsam.schedulers.find import named
from balsam.schedulers.scheduler import Submission
from tests.contract.schedulers.system import Fate, System

_QUEUES = """\
grace_seconds = 1

[[queue]]
name = "debug"
max_minutes = 60

[[queue]]
name = "batch"

[[queue]]
name = "closed"
is_open = false
"""


class LocalSystem:
    """The batch system `local` of a user whose home is *path*."""

    name = "local"
    num_nodes = 1
    cores_per_node = 0
    patience = 20.0
    queue = "debug"
    max_minutes = 60
    refusal = r"there is no queue 'nope'; this machine has debug, batch, closed\."
    short: tuple[str, ...] = ("--minutes=0.03",)

    def __init__(self, path: Path) -> None:
        self.scheduler = named("local")
        self.environ = {**os.environ, "BALSAM_HOME": str(path)}
        self._state = path / "local"
        self._state.mkdir(parents=True)
        (self._state / "queues.toml").write_text(_QUEUES)
        self._script = path / "filler.sh"
        self._script.write_text("#!/bin/sh\nexec sleep 600\n")
        self._run = Command(self.patience, self.environ)
        self._filler = ""

    def fill(self) -> None:
        submission = Submission(
            name="filler",
            script=str(self._script),
            output=os.devnull,
            directory="/",
            num_nodes=1,
            minutes=10,
            queue="batch",
        )
        self._filler = self.scheduler.submit(self._run, submission)

    def clear(self) -> None:
        live = [file.stem for file in (self._state / "live").glob("*.json")]
        self.scheduler.cancel(self._run, live)
        for each in live:
            self._wait(each, is_over=True)
        self._filler = ""

    def start(self, scheduler_id: str) -> None:
        if self._filler:
            self.scheduler.cancel(self._run, [self._filler])
            self._filler = ""
        self._wait(scheduler_id, is_over=False)

    def end(self, scheduler_id: str, script: str, fate: Fate) -> None:
        codes = {Fate.FINISHED: 0, Fate.FAILED: 3}
        if fate in codes:
            aside = Path(f"{script}.aside")
            aside.write_text(str(codes[fate]))
            aside.rename(f"{script}.end")

    def _wait(self, scheduler_id: str, is_over: bool) -> None:
        """Wait until a request is over, or has started."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            (status,) = self.scheduler.status(self._run, [scheduler_id]).values()
            if status.state not in LIVE_STATES or (status.started_at and not is_over):
                return
            time.sleep(0.02)
        pytest.fail(f"request {scheduler_id} is not so far after {self.patience} s: {status}")


@contextmanager
def local_system(path: Path) -> Iterator[System]:
    system = LocalSystem(path)
    yield system
    system.clear()
