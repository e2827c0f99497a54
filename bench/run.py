"""Benchmarks of the whole system, with its durable part.

``make bench`` runs all of them; ``make bench BENCH="noop latency"`` some. Each prints JSON
lines; a table follows. Machines are noisy: what matters are ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BALSAM = str(Path(sys.executable).with_name("balsam"))


class Site:
    """A site in a temporary folder, driven from the command line."""

    def __init__(self, folder: Path, database: str = "sqlite") -> None:
        self.path = folder / "site"
        self.environ = os.environ | {"BALSAM_HOME": str(folder / "home")}
        self.environ["BALSAM_SITE"] = str(self.path)
        folder.mkdir(parents=True, exist_ok=True)
        self("init", str(self.path), "--database", database)
        self("app", "--name", "noop", "--executable", "/bin/true")

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [BALSAM, *words], env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"balsam {' '.join(words)}: {done.stderr}")
        return done.stdout

    def seconds(self, *words: str) -> float:
        start = time.perf_counter()
        self(*words)
        return time.perf_counter() - start

    def launcher(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [BALSAM, "launcher", "--consume-all", *words],
            env=self.environ,
            stderr=subprocess.DEVNULL,
        )


def tell(name: str, **figures: object) -> None:
    print(json.dumps({"bench": name, **figures}), flush=True)
    RESULTS.append((name, figures))


RESULTS: list[tuple[str, dict[str, object]]] = []


def bare_rate(count: int, in_flight: int) -> float:
    """Return processes a second of the smallest possible loop: posix_spawn and wait4."""
    environ, running, begun = dict(os.environb), 0, 0
    start = time.perf_counter()
    while begun < count or running:
        while running < in_flight and begun < count:
            os.posix_spawn("/bin/true", ["/bin/true"], environ)
            begun, running = begun + 1, running + 1
        os.wait4(-1, 0)
        running -= 1
    return count / (time.perf_counter() - start)


def noop(folder: Path) -> None:
    """Jobs a second of /bin/true with full history, against the bare loop, side by side."""
    count, cores = 6000, len(os.sched_getaffinity(0))
    for output in ("stream", "directory"):
        site = Site(folder / output)
        ratios = []
        for repeat in range(3):
            site(
                "job",
                "--array",
                f"0-{count - 1}",
                "--name",
                "n{i}",
                "--workflow",
                f"{output}{repeat}",
                "--application",
                "noop",
                "--yes",
            )
            before = bare_rate(2000, cores)
            with site.launcher("--output", output, "--idle-seconds", "0") as launcher:
                launcher.wait()
            after = bare_rate(2000, cores)
            rate = _rate(site, f"{output}{repeat}")
            ratios.append(rate / ((before + after) / 2))
            tell(
                "noop",
                output=output,
                jobs_per_second=round(rate),
                in_flight=cores,
                bare_per_second=round((before + after) / 2),
                ratio=round(ratios[-1], 3),
            )
        tell(
            "noop",
            output=output,
            median_ratio=round(statistics.median(ratios), 3),
            wanted=0.7 if output == "stream" else 0.5,
        )


def _rate(site: Site, workflow: str) -> float:
    """Return jobs a second between the first start and the last end, from the events."""
    from balsam.client.connect import open_client
    from balsam.model.query import Query, parse

    client = open_client(site.path)
    query = Query(filters=parse({"workflow": workflow}, "events"))
    times: dict[str, list[float]] = {}
    for event in client.iterate_events(query):
        times.setdefault(event.to_state, []).append(event.time)
    client.close()
    ended = times["RUN_DONE"]
    return len(ended) / (max(ended) - min(times["RUNNING"]))


def latency(folder: Path) -> None:
    """Milliseconds from `balsam job` returning to the process starting, launcher waiting."""
    from balsam.client.connect import open_client
    from balsam.model.query import Query

    site = Site(folder)
    launcher = site.launcher("--persistent")
    waits = []
    for i in range(25):
        site("job", "--name", f"l{i}", "--workflow", "w", "--application", "noop", "--yes")
        waits.append((i + 1, time.time()))
    client = open_client(site.path)
    while client.count_jobs(Query().where(state="JOB_FINISHED")) < len(waits):
        time.sleep(0.1)
    started = {a.job: a.started_at or 0.0 for a in client.attempts([job for job, _ in waits])}
    client.close()
    launcher.send_signal(signal.SIGTERM)
    launcher.wait()
    delays = [1000 * (started[job] - at) for job, at in waits[1:]]
    tell(
        "latency",
        median_ms=round(statistics.median(delays), 1),
        worst_ms=round(max(delays), 1),
        wanted_ms=50,
    )


def cli(folder: Path) -> None:
    """Seconds of `balsam ls` on a small site."""
    site = Site(folder)
    site(
        "job",
        "--array",
        "0-19",
        "--name",
        "n{i}",
        "--workflow",
        "w",
        "--application",
        "noop",
        "--yes",
    )
    times = [site.seconds("ls") for _ in range(15)]
    python = [
        _seconds([sys.executable, "-c", "import sqlalchemy, msgspec, argparse"]) for _ in range(15)
    ]
    tell(
        "cli",
        ls_median_s=round(statistics.median(times), 3),
        wanted_s=0.4,
        imports_alone_s=round(statistics.median(python), 3),
    )


def _seconds(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True)
    return time.perf_counter() - start


def million(folder: Path) -> None:
    """A million jobs: filling in, listing, counting, and a launcher's memory."""
    count = 1_000_000
    site = Site(folder)
    seconds = site.seconds(
        "job",
        "--array",
        f"0-{count - 1}",
        "--name",
        "n{i}",
        "--workflow",
        "w",
        "--application",
        "noop",
        "--args",
        "{i}",
        "--yes",
    )
    tell("million", insert_per_second=round(count / seconds), wanted=40_000)
    (site.path / "balsam.toml").write_text('[scheduler]\nname = "local"\n')
    commands = {
        **dict.fromkeys(("ls", "ls --by-states", "ls --state FAILED", "progress"), 1.0),
        # Every look of the service is bounded; why looks at all jobs, for it is asked but once.
        "service plan": 2.0,
        "why --all": 5.0,
    }
    for command, wanted in commands.items():
        times = [site.seconds(*command.split()) for _ in range(3)]
        median = round(statistics.median(times), 3)
        tell("million", command=command, median_s=median, wanted_s=wanted)
    launcher = site.launcher("--output", "stream", "--time-limit-minutes", "0.5")
    most = 0
    while launcher.poll() is None:
        try:
            text = Path(f"/proc/{launcher.pid}/status").read_text()
        except FileNotFoundError:
            break
        sizes = [int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")]
        most = max([most, *sizes])
        time.sleep(0.2)
    tell("million", launcher_memory_mib=round(most / 1024), wanted_mib=200)


def store(folder: Path) -> None:
    """Rates of the store on each database, against bare driver loops."""
    import store as measured

    with postgres_servers() as started:

        def new_site(name: str, database: str) -> Path:
            site = Site(folder / name, database)
            if database == "postgres":
                started.append(site)
            return site.path

        measured.store(new_site, tell)


def bulk(folder: Path) -> None:
    """A million jobs through `bulk_create` on PostgreSQL."""
    import store as measured

    with postgres_servers() as started:
        started.append(Site(folder, "postgres"))
        measured.bulk(started[0].path, tell)


def launchers(folder: Path) -> None:
    """Four launchers with two slots each share 20,000 jobs on PostgreSQL."""
    import launchers as measured

    with postgres_servers() as started:
        site = Site(folder, "postgres")
        started.append(site)
        measured.share(site.path, BALSAM, site.environ, lambda: bare_rate(2000, 2), tell)


def nodes(folder: Path) -> None:
    """How busy many nodes are kept, and what that costs the head; and two slots of this machine."""
    import nodes as measured

    measured.imports(tell)
    for count in (64, 256):
        measured.pretended(Site(folder / str(count)), count, 16, tell)
    measured.processes(Site(folder / "processes"), tell)


def graph(folder: Path) -> None:
    """The creation of graphs, and a chain link by link."""
    import graphs as measured

    with postgres_servers() as started:
        for database in ("sqlite", "postgres"):
            site = Site(folder / database, database)
            if database == "postgres":
                started.append(site)
            measured.links(site.path, lambda site=site: site.launcher(*LINK_OPTIONS).wait(), tell)
            measured.insert(site.path, tell)


def release(folder: Path) -> None:
    """What the end of a parent costs for each child, in small graphs and in large ones."""
    import graphs as measured
    from release import cascades

    with postgres_servers() as started:
        for database in ("sqlite", "postgres"):
            site = Site(folder / database, database)
            if database == "postgres":
                started.append(site)
            measured.release(site.path, database, tell)
            cascades(site.path, database, tell)


#: A chain's launcher: nothing else waits, and it ends with the chain.
LINK_OPTIONS = ("--output", "stream", "--idle-seconds", "0.3")


def functions(folder: Path) -> None:
    """Calls of a Python function a second, through `Executor.map` and a real launcher."""
    import functions as measured

    site = Site(folder)
    measured.recursion(site.path, site.environ, tell)
    measured.measure(site.path, site.environ, tell)


def transfers(folder: Path) -> None:
    """Jobs that each bring a small file by ssh, over one connection and over one each."""
    import transfers as measured

    site = Site(folder)
    measured.measure(site.path, lambda: site("launcher", "--consume-all"), tell)


@contextmanager
def postgres_servers() -> Iterator[list[Site]]:
    """Stop the servers of the sites that are put into the list."""
    started: list[Site] = []
    try:
        yield started
    finally:
        for site in started:
            site("server", "--stop", "--yes")


BENCHMARKS: dict[str, Callable[[Path], None]] = {
    "noop": noop,
    "latency": latency,
    "cli": cli,
    "million": million,
    "store": store,
    "bulk": bulk,
    "launchers": launchers,
    "nodes": nodes,
    "functions": functions,
    "graph": graph,
    "release": release,
    "transfers": transfers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"balsam-bench-{name}-"))
        try:
            BENCHMARKS[name](folder)
        finally:
            shutil.rmtree(folder)
    print()
    for name, figures in RESULTS:
        print(f"{name:>10}  " + "  ".join(f"{key} {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
