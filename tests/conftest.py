"""What all tests share: a home of their own, and nothing left running."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    _, left = psutil.wait_procs(_started_by(balsam_home), timeout=PATIENCE)
    told = [f"{process.pid} {process.name()}" for process in left if process.is_running()]
    for process in left:
        process.kill()
    assert not told, f"still running after the test: {', '.join(told)}"


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
