"""A real PostgreSQL server for the tests of one process, with a new database for each."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psycopg
import pytest

#: What is needed of a server that lives for one test run: durability is tested elsewhere.
OPTIONS = (
    "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    " -c max_connections=100 -c shared_buffers=64MB"
)


def programs() -> Path | None:
    """Return the directory of initdb and pg_ctl, None when there is no PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    program = Path(on_path).resolve() if on_path else found[-1] if found else None
    return program.parent if program else None


def require() -> Path:
    """Return `programs`; without any fail in continuous integration, and skip elsewhere."""
    found = programs()
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail("PostgreSQL is missing: install it (Debian: apt-get install postgresql)")
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def as_user(*words: str | Path) -> list[str]:
    """Return a command that PostgreSQL accepts: it refuses to be run by root."""
    own = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    return [*(own if os.getuid() == 0 else []), *map(str, words)]


class Server:
    """A server on a Unix socket in a short directory of its own."""

    def __init__(self, programs: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pg"))
        self._ctl = programs / "pg_ctl"
        self._number = count(1)
        data = self.path / "data"
        init = as_user(programs / "initdb", "-D", data, "-U", "tester", "-A", "trust")
        subprocess.run(
            [*init, "-E", "UTF8", "--no-locale", "--no-sync"], check=True, capture_output=True
        )
        self._control("-o", f"{OPTIONS} -k {self.path}", "-l", self.path / "log", "start")

    def _control(self, *words: str | Path) -> None:
        command = as_user(self._ctl, "-D", self.path / "data", "-w", *words)
        # It outlives the test that started it, which looks for processes with its home.
        environ = {name: value for name, value in os.environ.items() if name != "BALSAM_HOME"}
        # Not to pipes: the server would keep them open.
        silent = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=silent, stderr=silent, env=environ)

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")
        shutil.rmtree(self.path)

    def sql(self, statement: str) -> None:
        where = f"host={self.path} user=tester dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement.encode())

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test{next(self._number)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://tester@/{name}?host={self.path}"

    def drop_database(self, url: str) -> None:
        name = url.partition("@/")[2].partition("?")[0]
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")
