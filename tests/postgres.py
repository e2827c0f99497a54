"""A real PostgreSQL server for the tests of one process, with a new database for each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

#: What is needed of a server that lives for one test run: durability is tested elsewhere.
OPTIONS = (
    "-c listen_addresses=127.0.0.1 -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    " -c max_connections=100 -c shared_buffers=64MB"
)
#: What makes it keep all that it confirmed when it is killed (not when the machine dies).
DURABLE = "-c synchronous_commit=on -c full_page_writes=on"
#: Seconds until a server that does not start is given up.
STARTING_SECONDS = 60.0


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


def as_user(*words: object) -> list[str]:
    """Return a command that PostgreSQL accepts: it refuses to be run by root."""
    own = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    return [*(own if os.getuid() == 0 else []), *map(str, words)]


class Server:
    """A server of our own, on a Unix socket in a short directory and on a port of 127.0.0.1.

    Parameters
    ----------
    options
        Settings besides `OPTIONS`.
    place
        An existing directory to keep it in, instead of a new one.
    environ
        Added to its environment.
    """

    def __init__(
        self,
        programs: Path,
        options: str = "",
        place: Path | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pg", dir=place))
        self.port = _free_port()
        self._program = programs / "postgres"
        self._options = f"{OPTIONS} {options}".split()
        # It outlives the test that started it, which looks for processes with its home.
        own = {name: value for name, value in os.environ.items() if name != "BALSAM_HOME"}
        self._environ = own | (environ or {})
        self._number = count(1)
        data = self.path / "data"
        init = as_user(programs / "initdb", "-D", data, "-U", "tester", "-A", "trust")
        subprocess.run(
            [*init, "-E", "UTF8", "--no-locale", "--no-sync"], check=True, capture_output=True
        )
        self.start()

    @property
    def log(self) -> str:
        return (self.path / "log").read_text()

    def start(self) -> None:
        """Start it, also after `kill`, and return when it answers."""
        words = as_user(self._program, "-D", self.path / "data", "-k", self.path, "-p", self.port)
        deadline = time.monotonic() + STARTING_SECONDS
        while True:
            with (self.path / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*words, *self._options], stdout=log, stderr=log, env=self._environ
                )
            while self.process.poll() is None:
                if self.answers():
                    return
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)
            # The children of one that was killed are still there, for a moment.
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[Any]:
        where = f"host={self.path} port={self.port} user=tester dbname=postgres"
        return psycopg.connect(where, autocommit=True)

    def kill(self) -> None:
        """kill -9 the postmaster."""
        self.process.kill()
        self.process.wait()

    def backends(self) -> list[int]:
        """Return the pids of the processes that serve connections of Balsam."""
        found = self.sql("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^[^ ]+ .*:'")
        return [int(pid) for (pid,) in found]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # at once
            self.process.wait()
        shutil.rmtree(self.path)

    def sql(self, statement: str) -> list[Any]:
        """Execute *statement*, once a server that recovers lets us."""
        deadline = time.monotonic() + STARTING_SECONDS
        while self.process.poll() is None and not self.answers():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        with self._connect() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """Make a database, empty or like that at the URL *template*, and return its URL."""
        name = f"test{next(self._number)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {_name_in(template)}")
        return f"postgresql://tester@/{name}?host={self.path}&port={self.port}"

    def url_at(self, port: int, url: str) -> str:
        """Return what reaches the database of *url* by *port* of 127.0.0.1."""
        name = _name_in(url)
        return f"postgresql://tester@127.0.0.1:{port}/{name}?sslmode=disable&gssencmode=disable"

    def drop_database(self, url: str) -> None:
        self.sql(f"DROP DATABASE {_name_in(url)} WITH (FORCE)")


def _name_in(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
