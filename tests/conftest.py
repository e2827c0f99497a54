"""What all tests share: a home of their own, and nothing left running."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests import postgres

#: Seconds that processes get to end by themselves after a test.
PATIENCE = 10.0
#: What runs on one runs on all.
DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(autouse=True)
def balsam_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user directory; nothing of the user's own settings and sites is seen."""
    for name in list(os.environ):
        if name.startswith(("BALSAM_", "_BALSAM")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("BALSAM_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for this test process."""
    server = postgres.Server(postgres.require())
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """The URL of a new, empty database."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The setting `database.url` of a new site, for each database system."""
    if request.param == "sqlite":
        return "sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest, balsam_home: Path) -> Iterator[None]:
    """Fail an integration or acceptance test that leaves a process behind."""
    yield
    if not {"integration", "acceptance", "chaos"} & set(Path(request.path).parts):
        return
    left = ending(_started_by(balsam_home), PATIENCE)
    told = [f"{process.pid} {_name(process)}" for process in left]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert not told, f"still running after the test: {', '.join(told)}"


def ending(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until *processes* have ended; return those that have not after so many *seconds*.

    Not as `psutil.wait_procs`, which waits for whoever takes their zombies away, too.
    """
    deadline = time.monotonic() + seconds
    while processes := [process for process in processes if not _has_ended(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return processes


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "(ended since)"


def _started_by(home: Path) -> list[psutil.Process]:
    """Return the other processes that have *home* in their environment: children and orphans."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("BALSAM_HOME") == str(home)
            if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
