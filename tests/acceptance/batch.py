"""Sites whose batch system is this machine, with queues of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Balsam, Result

QUEUES = """\
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


def ok(done: Result) -> str:
    """Return what a command wrote that ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(done: Result, code: int = 2) -> str:
    """Return the one line by which a command refused, having written nothing else."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("balsam: error: "), done.stderr
    return lines[-1]


def use_local(home: Path, *sites: Path, queues: str = QUEUES, settings: str = "") -> None:
    """Have *sites* use the batch system `local`, with *queues*; *settings* are further tables."""
    (home / "local").mkdir(parents=True, exist_ok=True)
    (home / "local" / "queues.toml").write_text(queues)
    for site in sites:
        (site / "balsam.toml").write_text(f'[scheduler]\nname = "local"\n{settings}')


def add_jobs(balsam: Balsam, count: int, executable: str, *words: object) -> None:
    """Add *count* jobs of a new app."""
    ok(balsam("app", "--name", "app", "--executable", executable))
    more = ("--workflow", "work", "--app", "app", "--array", f"1-{count}", "--yes", *words)
    ok(balsam("job", "--name", "j{i}", *more))


def batch_jobs(balsam: Balsam, *words: object) -> list[dict[str, Any]]:
    """Return all batch jobs, as `balsam queue ls` has them."""
    found: list[dict[str, Any]] = json.loads(ok(balsam("queue", "ls", "--all", "--json", *words)))
    return found


def wait_for(balsam: Balsam, number: int, *states: str) -> dict[str, Any]:
    """Wait until a batch job is in one of *states*; return it."""
    seen: list[str] = []
    for _ in range(300):
        found = next(each for each in batch_jobs(balsam) if each["id"] == number)
        if found["state"] in states:
            return found
        seen.append(f"{found['state']} {found['message']}")
    raise AssertionError(f"batch job {number} was never {states}: {seen[:3]} … {seen[-3:]}")
