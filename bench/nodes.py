"""Many nodes on one machine: how well they are kept busy, and what that costs the head."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from balsam.client.connect import open_client
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import Query

if TYPE_CHECKING:
    from collections.abc import Callable

    from run import Site

#: Seconds after the last node has joined, and those that are then looked at.
SETTLE_SECONDS, PLATEAU_SECONDS = 5.0, 20.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process, with all its threads, has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy(spans: list[tuple[float, float]], since: float, until: float) -> float:
    """Return the seconds of *spans* (start, end) that lie between two times."""
    return sum(max(0.0, min(end, until) - max(start, since)) for start, end in spans)


def imports(tell: Callable[..., None]) -> None:
    """Tell how long a worker takes to import what it needs: a thousand nodes do so at once."""
    words = [sys.executable, "-X", "importtime", "-c", "import balsam.launcher.worker"]
    taken = []
    for _ in range(9):
        said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
        (line,) = (line for line in said.splitlines() if line.endswith("| balsam.launcher.worker"))
        taken.append(int(line.split("|")[1]) / 1000)
    tell("imports", worker_ms=round(statistics.median(taken), 1), least_ms=min(taken), wanted_ms=60)


def pretended(site: Site, nodes: int, slots: int, tell: Callable[..., None]) -> None:
    """Run one-second jobs on nodes whose workers start no processes; all else is real."""
    script = Path(__file__).with_name("pretend.py")
    (site.path / "balsam.toml").write_text(
        f'[nodes]\nstart = "ssh"\nssh = "{sys.executable} {script}"\ncores = {slots}\n'
        "memory_mib = 1000000\n"
    )
    count = int(nodes * slots * (SETTLE_SECONDS + PLATEAU_SECONDS + 15))
    hosts = ",".join(f"127.1.{n >> 8}.{n & 255}" for n in range(1, nodes + 1))
    figures = _plateau(site, "1", count, nodes, slots, "--nodes", hosts)
    tell("nodes", nodes=nodes, slots=slots, **figures)


def processes(site: Site, tell: Callable[..., None]) -> None:
    """Run processes of 100 ms on two slots of this machine."""
    (site.path / "balsam.toml").write_text("[nodes]\ncores = 2\n")
    count = int(2 * 10 * (SETTLE_SECONDS + PLATEAU_SECONDS + 5))
    tell("processes", slots=2, **_plateau(site, "0.1", count, 1, 2))


def _plateau(
    site: Site, seconds: str, count: int, nodes: int, slots: int, *words: str
) -> dict[str, float]:
    """Return the figures of a launcher in full swing."""
    client = open_client(site.path)
    client.add_app(App(name="wait", executable="sleep"))
    for first in range(0, count, 20_000):
        numbers = range(first, min(first + 20_000, count))
        fields = {"workflow": "w", "application": "wait", "args": seconds}
        client.create_jobs([Job(name=f"w{n}", **fields) for n in numbers])
    launcher = site.launcher(*words)
    log = site.path / "log" / "launcher_1.log"
    while not log.exists() or log.read_text().count(" joined: ") < nodes:
        if launcher.poll() is not None:
            raise SystemExit(f"the launcher ended: {log.read_text()[-2000:]}")
        time.sleep(0.2)
    time.sleep(SETTLE_SECONDS)
    began, used = time.time(), cpu_seconds(launcher.pid)
    time.sleep(PLATEAU_SECONDS)
    ended, used = time.time(), cpu_seconds(launcher.pid) - used
    launcher.send_signal(signal.SIGTERM)
    launcher.wait()
    spans = [
        (attempt.started_at, attempt.ended_at)
        for attempt in client.iterate_attempts(Query())
        if attempt.started_at and attempt.ended_at
    ]
    client.close()
    lasted = ended - began
    return {
        "utilization_percent": round(100 * busy(spans, began, ended) / (nodes * slots * lasted), 2),
        "head_cores": round(used / lasted, 3),
        "jobs_per_second": round(sum(began <= end < ended for _, end in spans) / lasted, 1),
    }
