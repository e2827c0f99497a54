"""`balsam db` is killed, or interrupted, in the middle: the site is as it was and works on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from balsam import config
from balsam.client.connect import create_site, open_client
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.store import check
from tests import postgres
from tests.contract.contents import Rows, rows
from tests.integration.conftest import BIN

JOBS = 6_000


@pytest.fixture
def other(database: str, postgres_server: postgres.Server) -> Iterator[str]:
    """A database of the other system."""
    if database != "sqlite":
        yield "sqlite"
        return
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def site(database: str, tmp_path: Path) -> Path:
    """A site with so many jobs that nothing is done with it at once."""
    path = tmp_path / "site"
    create_site(path, database)
    client = open_client(path)
    client.add_app(App(name="a", executable="/bin/true"))
    client.create_jobs(
        [Job(name=f"j{i}", workflow="w", application="a", args=f"{i}") for i in range(JOBS)]
    )
    client.close()
    return path


class Verb:
    """A `balsam db …` that tells its progress to a terminal."""

    def __init__(self, site: Path, *words: object) -> None:
        self._terminal, end = os.openpty()
        self.process = subprocess.Popen(
            [str(BIN / "balsam"), "--site", str(site), "db", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=end,
            text=True,
        )
        os.close(end)
        self.told = ""

    def _hear(self) -> bool:
        try:
            heard = os.read(self._terminal, 4096).decode()
        except OSError:  # it has ended
            return False
        self.told += heard
        return bool(heard)

    def wait_for(self, what: str) -> None:
        """Wait until *what* was begun, after what was waited for before."""
        while f"\x1b[K{what}:" not in self.told:
            assert self._hear(), f"no {what} in {self.told}"
        self.told = self.told.partition(f"{what}:")[2]

    def end(self) -> tuple[int, str]:
        """Return exit code and what was told once it has ended."""
        while self._hear():
            pass
        out, _ = self.process.communicate()
        os.close(self._terminal)
        return self.process.returncode, out + self.told


def succeed(site: Path, *words: object) -> None:
    code, told = Verb(site, *words).end()
    assert code == 0, told


def check_untouched(site: Path, database: str, before: Rows) -> None:
    """The site is where and what it was, and takes jobs."""
    assert config.load(site).database.url == database
    assert rows(site, database) == before
    client = open_client(site)
    (new,) = client.create_jobs([Job(name="new", workflow="w", application="a")])
    client.delete_jobs(ALL.where(id=new))
    assert client._store.read(check.findings) == []  # type: ignore[attr-defined]
    client.close()


def leftovers(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir() if ".part-" in file.name]


SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_a_copy(site: Path, database: str, other: str, number: signal.Signals) -> None:
    before = rows(site, database)
    copying = Verb(site, "copy", "--to", other)
    copying.wait_for("copying events")
    copying.process.send_signal(number)
    code, told = copying.end()
    assert code != 0
    assert "Traceback" not in told
    if number == signal.SIGINT:
        assert leftovers(site) == []
    check_untouched(site, database, before)
    succeed(site, "copy", "--to", other)
    assert leftovers(site) == []
    client = open_client(site)
    assert client.count_jobs(ALL) == JOBS
    client.close()


@SIGNALS
def test_a_restore(site: Path, database: str, tmp_path: Path, number: signal.Signals) -> None:
    succeed(site, "backup", tmp_path / "b.db")
    client = open_client(site)
    client.delete_jobs(ALL.where(id__lte=JOBS // 2))
    client.close()
    before = rows(site, database)
    restoring = Verb(site, "restore", tmp_path / "b.db", "--yes")
    restoring.wait_for("checking meta")  # the file
    restoring.wait_for("checking meta")  # the backup of what is there
    restoring.wait_for("copying events")
    restoring.process.send_signal(number)
    code, told = restoring.end()
    assert code != 0
    assert "Traceback" not in told
    check_untouched(site, database, before)
    succeed(site, "restore", tmp_path / "b.db", "--yes")
    client = open_client(site)
    assert client.count_jobs(ALL) == JOBS
    client.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_backup(site: Path, database: str, tmp_path: Path, number: signal.Signals) -> None:
    before = rows(site, database)
    file = tmp_path / "b.db"
    backing = Verb(site, "backup", file)
    backing.wait_for("copying events")
    backing.process.send_signal(number)
    code, told = backing.end()
    assert code != 0
    assert "Traceback" not in told
    assert not file.exists()
    check_untouched(site, database, before)
    succeed(site, "backup", file)
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith("b.db")] == ["b.db"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_server_ends_the_connection(site: Path, database: str) -> None:
    """A copy from a server that goes away in the middle."""
    before = rows(site, database)
    copying = Verb(site, "copy", "--to", "sqlite")
    copying.wait_for("copying events")
    with psycopg.connect(database) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    code, told = copying.end()
    assert code == 1
    error = told.splitlines()[-1]
    assert "balsam: error: " in error
    assert "cannot be reached" in error
    assert leftovers(site) == []
    check_untouched(site, database, before)
