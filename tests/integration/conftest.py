"""Real launchers on real sites: each test has a site of its own and starts what it needs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from balsam import config
from balsam.client.connect import create_site, open_client
from balsam.client.interface import Client
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import Query, parse
from balsam.model.states import State
from balsam.model.wire import Attempt, Event

#: Where the executables of this installation are.
BIN = Path(sys.executable).parent
#: Seconds until a condition that should come true is given up.
PATIENCE = 60.0


def wait_until(
    condition: Callable[[], Any],
    evidence: Callable[[], object] | None = None,
    seconds: float = PATIENCE,
) -> Any:
    """Return what *condition* returns as soon as that is true; fail with the *evidence*."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    told = f":\n{evidence()}" if evidence else ""
    pytest.fail(f"not so after {seconds} s{told}")


def is_running(pid: int) -> bool:
    """Tell whether a process is there, and not only its zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_between_transactions(campaign: Campaign, process: subprocess.Popen[Any]) -> None:
    """SIGSTOP *process*; not, however, while it has SQLite's file locked, as it then stays."""
    stopped, file = psutil.Process(process.pid), campaign.site / "balsam.db"

    def stops() -> bool:
        stopped.suspend()
        wait_until(lambda: stopped.status() == psutil.STATUS_STOPPED)
        if not file.exists():
            return True
        try:
            with closing(sqlite3.connect(file, timeout=0)) as database:
                database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            stopped.resume()  # it goes on until the next try
            return False
        return True

    wait_until(stops)


class Launcher:
    """A `balsam launcher` that was started."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait(self, expected: int = 0) -> str:
        """Wait for its end with the exit code *expected*; return what it said."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the launcher goes on after {PATIENCE} s:\n{self.output}")
        assert code == expected, self.output
        return self.output

    def guardian(self) -> psutil.Process:
        """The process above the worker."""
        return self._below(psutil.Process(self.process.pid))

    def worker(self) -> psutil.Process:
        return self._below(self.guardian())

    def _below(self, process: psutil.Process) -> psutil.Process:
        def worker() -> psutil.Process | None:
            found = [c for c in process.children() if "balsam.launcher.worker" in c.cmdline()]
            return found[0] if found else None

        found = wait_until(worker, lambda: f"{process.children(recursive=True)}\n{self.output}")
        assert isinstance(found, psutil.Process)
        return found


class Campaign:
    """A site, and what a test does with it."""

    def __init__(self, client: Client, scripts: Path) -> None:
        self.client = client
        self.site = client.path
        self._scripts = scripts

    # what is to be run
    def program(self, name: str, text: str) -> str:
        """Write an executable file; return its path. Without '#!' it is one for /bin/sh."""
        self._scripts.mkdir(exist_ok=True)
        file = self._scripts / name
        file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return str(file)

    def app(self, name: str, executable: str = "", **fields: str) -> None:
        """Register an app. Of several lines, *executable* is a script for /bin/sh."""
        if "\n" in executable:
            executable = self.program(f"{name}.sh", executable)
        self.client.add_app(App(name=name, executable=executable, **fields))

    def jobs(self, app: str, *names: str, **fields: Any) -> list[int]:
        """Add a job for each of *names*."""
        given = {"workflow": "w"} | fields
        return self.client.create_jobs([Job(name=n, application=app, **given) for n in names])

    def job(self, app: str, name: str = "job", **fields: Any) -> int:
        return self.jobs(app, name, **fields)[0]

    # what became of it
    def get(self, job: int) -> Job:
        (found,) = self.client.jobs(Query().where(id=job))
        return found

    def state(self, job: int) -> State:
        return self.get(job).state

    def states(self) -> dict[str, int]:
        return {str(state): n for state, n in self.client.state_counts(Query()).items()}

    def events(self, job: int) -> list[Event]:
        return self.client.events(Query(filters=parse({"job": job}, "events")))

    def path(self, job: int) -> str:
        """The states that a job went through, in short: RUNNING RUN_DONE …"""
        return " ".join(event.to_state for event in self.events(job))

    def message(self, job: int, state: State) -> str:
        """The message of the job's last move to *state*."""
        found = [event.message for event in self.events(job) if event.to_state == state]
        assert found, f"job {job} never was {state}: {self.path(job)}"
        return found[-1]

    def attempts(self, job: int) -> list[Attempt]:
        return self.client.attempts([job])

    def output(self, job: int) -> str:
        """The job's `{name}.out`."""
        found = self.get(job)
        return Path(found.workdir, f"{found.name}.out").read_text()

    def wait_for(self, job: int, state: State) -> None:
        wait_until(lambda: self.state(job) == state, lambda: self.tell(job))

    def wait_for_output(self, job: int, text: str) -> str:
        """Wait until the job has written *text*; return all it wrote."""
        found = self.get(job)
        file = Path(found.workdir, f"{found.name}.out")
        wait_until(lambda: file.exists() and text in file.read_text(), lambda: self.tell(job))
        return file.read_text()

    def tell(self, job: int) -> str:
        """What is known of a job, for the message of a test that failed."""
        lines = [
            f"{e.time:.3f} {e.from_state} → {e.to_state} {e.message}" for e in self.events(job)
        ]
        logs = [file.read_text() for file in sorted((self.site / "log").glob("*.log"))]
        return "\n".join([*lines, *map(str, self.attempts(job)), *logs])


@contextmanager
def locked(campaign: Campaign) -> Iterator[None]:
    """Let nobody else write to the site's database."""
    url = config.load(campaign.site).database.url
    if url == "sqlite":
        file = sqlite3.connect(campaign.site / "balsam.db", isolation_level=None)
        file.execute("BEGIN IMMEDIATE")
        yield
        file.close()
    else:
        with psycopg.connect(url) as server:
            server.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
            yield


@pytest.fixture
def campaign(
    database: str, tmp_path: Path, balsam_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Campaign]:
    """A new site with the app 'true', on each database there is."""
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    balsam_home.mkdir()
    (balsam_home / "settings.toml").write_text(f'[database]\nurl = "{database}"\n')
    site = tmp_path / "site"
    create_site(site)
    client = open_client(site)
    campaign = Campaign(client, tmp_path / "scripts")
    campaign.app("true", "/bin/true")
    yield campaign
    client.close()


@pytest.fixture
def words_there() -> Callable[[list[str]], list[str]]:
    """Returns the words that run others where launchers are started: here."""
    return list


@pytest.fixture
def start(
    campaign: Campaign, tmp_path: Path, words_there: Callable[[list[str]], list[str]]
) -> Iterator[Callable[..., Launcher]]:
    """Start `balsam launcher --consume-all ARGS…`, with `env` added to its environment."""
    launchers: list[Launcher] = []

    def start(*args: object, env: dict[str, str] | None = None) -> Launcher:
        output = tmp_path / f"launcher{len(launchers)}.txt"
        words = [str(BIN / "balsam"), "--site", str(campaign.site), "launcher"]
        if "--wf-filter" not in args:
            words.append("--consume-all")
        if "--idle-seconds" not in args:
            words += ["--idle-seconds", "0.3"]
        with output.open("wb") as file:
            process = subprocess.Popen(
                words_there([*words, *map(str, args)]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **(env or {})},
                cwd=tmp_path,
            )
        launchers.append(Launcher(process, output))
        return launchers[-1]

    yield start
    for launcher in launchers:
        if launcher.process.poll() is None:
            launcher.process.terminate()
            try:
                launcher.process.wait(5)
            except subprocess.TimeoutExpired:
                launcher.process.kill()
                launcher.process.wait()


@pytest.fixture
def run(start: Callable[..., Launcher]) -> Callable[..., str]:
    """Run a launcher (see `start`) to its end and return what it said."""

    def run(*args: object, env: dict[str, str] | None = None) -> str:
        return start(*args, env=env).wait()

    return run


@pytest.fixture
def mpi() -> None:
    """An MPI start command in PATH; in continuous integration there must be one."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    if not any(shutil.which(word, path=path) for word in ("mpiexec", "mpirun")):
        reason = "neither mpiexec nor mpirun is in PATH (`pip install mpich` brings one)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


Start = Callable[..., Launcher]
Run = Callable[..., str]
