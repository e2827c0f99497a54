"""One small campaign on a real site, whose jobs write down that they ran."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from balsam.client.connect import create_site, open_client
from balsam.client.interface import Client
from balsam.model.app import App
from balsam.model.job import Job
from tests import postgres
from tests.proxy import Proxy

BALSAM = str(Path(sys.executable).with_name("balsam"))
#: Leases are short, so that a stopped launcher is soon taken for dead; whose jobs crash in these
#: tests is chance, and no reason to give them up.
SETTINGS = """
[database]
url = "{url}"
busy_seconds = 20.0
[launcher]
lease_seconds = 1.5
idle_seconds = 1.0
grace_seconds = 1.0
crash_limit = 0
"""
#: What every job runs: ``job.sh SECONDS EXIT_CODE [COMMAND …]``.
SCRIPT = """#!/bin/sh
echo "$BALSAM_JOB_ID $BALSAM_ATTEMPT $BALSAM_LAUNCHER_ID start" >> {ledger}
seconds=$1 code=$2
shift 2
"$@"
sleep $seconds
echo "$BALSAM_JOB_ID $BALSAM_ATTEMPT $BALSAM_LAUNCHER_ID end" >> {ledger}
exit $code
"""


class Campaign:
    """A site with jobs of all kinds, drawn from *chance*."""

    def __init__(self, folder: Path, chance: random.Random, server: postgres.Server | None) -> None:
        self.folder = folder
        self.chance = chance
        self.server = server
        self.site = folder / "site"
        self.ledger = folder / "ledger"
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("BALSAM_")}
        self.environ["BALSAM_HOME"] = str(folder / "home")
        url = server.new_database() if server else "sqlite"
        create_site(self.site, url)
        self.proxy = Proxy(server.port) if server else None
        if server and self.proxy:
            url = server.url_at(self.proxy.port, url)
        (self.site / "balsam.toml").write_text(SETTINGS.format(url=url))
        self.ledger.touch()
        script = folder / "job.sh"
        script.write_text(SCRIPT.format(ledger=self.ledger))
        script.chmod(0o755)
        self.client: Client = open_client(self.site)
        self.client.add_app(App(name="job", executable=str(script)))
        self.given = self._fill()

    def close(self) -> None:
        self.client.close()
        if self.proxy:
            self.proxy.close()

    def balsam(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `balsam WORDS…` on the site."""
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                self.balsam_words(*words),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def balsam_words(self, *words: str) -> list[str]:
        return [BALSAM, "--site", str(self.site), *words]

    def array(self, workflow: str, count: int) -> list[str]:
        """Return the words of a command that adds jobs."""
        named = ["--name", "{i}", "--workflow", workflow, "--application", "job"]
        return ["job", "--array", f"0-{count - 1}", *named, "--args", "0 0", "--yes"]

    def _job(self, name: str, *, code: int = 0, command: str = "", **fields: object) -> Job:
        seconds = self.chance.choice([0, 0, 0, 0.05, 0.1, 0.3])
        args = f"{seconds} {code} {command}".strip()
        return Job(name=name, workflow="w", application="job", args=args, **fields)  # type: ignore[arg-type]

    def _fill(self) -> list[int]:
        """Insert jobs that end well and badly, retries, chains, fans, fallbacks, spawners."""
        chance = self.chance
        ids = self.client.create_jobs(
            [self._job(f"plain{i}") for i in range(chance.randint(20, 50))]
        )
        bad = [
            self._job(f"bad{i}", code=1, max_retries=chance.randint(0, 2))
            for i in range(chance.randint(3, 8))
        ]
        failing = self.client.create_jobs(bad)
        chain = [
            self._job(f"chain{i}", parents=[-i] if i else []) for i in range(chance.randint(4, 10))
        ]
        ids += failing + self.client.create_jobs(chain)
        width = chance.randint(3, 8)
        fan = [self._job("root"), *(self._job(f"leaf{i}", parents=[-1]) for i in range(width))]
        fan.append(self._job("join", parents=[-i - 2 for i in range(width)]))
        ids += self.client.create_jobs(fan)
        after = [
            self._job("fallback", parents_failed=[chance.choice(failing)]),
            self._job("never", parents=[chance.choice(failing)]),
            self._job("always", parents_any=[chance.choice(failing)]),
        ]
        ids += self.client.create_jobs(after)
        spawn = " ".join([BALSAM, *self.array("spawned", 3)])
        spawners = [self._job(f"spawner{i}", command=spawn) for i in range(chance.randint(1, 2))]
        return ids + self.client.create_jobs(spawners)
