"""What a database can do to us: locked, damaged, forbidden, gone, full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam import config
from balsam.client.connect import open_client
from balsam.client.local import LocalClient
from balsam.errors import (
    BalsamError,
    NoScheduler,
    SchedulerAway,
    SiteError,
    StoreAway,
    StoreBusy,
    StoreConflict,
    StoreError,
    StoreFull,
    StoreUnreadable,
    TransferBroken,
)
from balsam.model.app import App
from balsam.model.query import ALL
from tests.contract.calls import NEW, READS, WRITES, checkpointed, look, on_sqlite
from tests.contract.pilot import add

NEITHER = {"close", "now", "watch", "reserve_jobs"}


def test_every_method_of_a_client_is_tried() -> None:
    from balsam.client.interface import Client

    methods = {name for name in vars(Client) if callable(getattr(Client, name)) and name[0] != "_"}
    assert methods == set(WRITES) | set(READS) | NEITHER


# locked -----------------------------------------------------------------------------


LOCKERS = {
    "sqlite": """if True:
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        print(flush=True)
        sys.stdin.readline()
    """,
    "postgresql": """if True:
        import psycopg, sys
        with psycopg.connect(sys.argv[1]) as connection:
            for table in ("counters", "apps", "launchers", "jobs", "batch_jobs", "services"):
                connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            print(flush=True)
            sys.stdin.readline()
    """,
}


@pytest.fixture
def locked(impatient: LocalClient, site: Path, database: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the right to write until it is spoken to."""
    system, _, _ = database.partition(":")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LOCKERS[system],
            site / "balsam.db" if system == "sqlite" else database,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    yield holder
    if holder.poll() is None:
        holder.communicate("\n", timeout=60)


@pytest.mark.parametrize("write", WRITES)
def test_a_locked_database_is_told_and_nothing_changes(
    impatient: LocalClient, locked: subprocess.Popen[str], write: str
) -> None:
    before = look(impatient)
    with pytest.raises(StoreBusy, match="locked by another process") as caught:
        WRITES[write](impatient)
    assert caught.value.retryable
    assert "\n" not in str(caught.value)
    assert look(impatient) == before
    locked.communicate("\n", timeout=60)
    WRITES[write](impatient)
    assert look(impatient) != before


@pytest.mark.parametrize("read", READS)
def test_a_locked_database_can_be_read(
    impatient: LocalClient, locked: subprocess.Popen[str], read: str
) -> None:
    READS[read](impatient)


def test_a_site_can_be_opened_while_it_is_locked(
    impatient: LocalClient, locked: subprocess.Popen[str], site: Path
) -> None:
    client = open_client(site)
    assert client.count_jobs(ALL) == 3
    client.close()


# damaged ----------------------------------------------------------------------------


@pytest.fixture
def filled(site: Path) -> Path:
    """The database file of a closed site with jobs."""
    client = LocalClient(site, config.load(site))
    client.add_app(App(name="a", executable="x"))
    add(client, *(f"j{i}" for i in range(500)), description="x" * 100)
    client.close()
    return checkpointed(site)


def with_all(site: Path) -> None:
    client = open_client(site)
    try:
        client.jobs(ALL)
        client.create_jobs([NEW])
    finally:
        client.close()


@on_sqlite
def test_a_file_that_is_no_database(filled: Path, site: Path) -> None:
    filled.write_text("this is no database, but it is long enough for one. " * 500)
    before = filled.read_bytes()
    with pytest.raises(StoreUnreadable, match=str(site)) as caught:
        with_all(site)
    assert "\n" not in str(caught.value)
    assert filled.read_bytes() == before


@on_sqlite
@pytest.mark.parametrize("size", [0, 10, 100, 1000, 5000, 20_000])
def test_a_file_that_was_cut_off(filled: Path, site: Path, size: int) -> None:
    os.truncate(filled, size)
    with pytest.raises(StoreUnreadable) as caught:
        with_all(site)
    assert not caught.value.retryable
    assert "\n" not in str(caught.value)


@on_sqlite
def test_a_file_with_a_hole(filled: Path, site: Path) -> None:
    size = filled.stat().st_size
    with open(filled, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreUnreadable) as caught:
        with_all(site)
    assert "\n" not in str(caught.value)


@on_sqlite
def test_a_database_that_is_gone(filled: Path, site: Path) -> None:
    filled.unlink()
    with pytest.raises(SiteError, match=r"balsam\.db is missing"):
        open_client(site)
    assert not filled.exists(), "looking for it does not make one"


# forbidden --------------------------------------------------------------------------


def as_nobody(program: str, path: Path, warm: Path) -> str:
    """Run *program* on *path* as a user who owns nothing, and return what it prints."""
    head = """if True:
        import os, sys
        from pathlib import Path
        from balsam.client.connect import create_site, open_client
        from balsam.errors import BalsamError
        from balsam.model.query import ALL
        # All that is imported when it is used, while the package can be read.
        create_site(Path(sys.argv[2]))
        open_client(Path(sys.argv[2])).close()
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
    """
    done = subprocess.run(
        [sys.executable, "-c", head + program, path, warm],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OPEN = """
        try:
            client = open_client(Path(sys.argv[1]))
            client.count_jobs(ALL)
            client.update_jobs(ALL, {"priority": 5})
            print("did it")
        except BalsamError as error:
            print(type(error).__name__, error)
    """


def open_to_all(path: Path, but: Path, mode: int) -> None:
    """Let everybody pass to *path*, and give *but* the permissions *mode*."""
    for parent in path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    for below in (path, *path.rglob("*")):
        below.chmod(0o755 if below.is_dir() else 0o644)
    but.chmod(mode)


@on_sqlite
@pytest.mark.parametrize(
    ("which", "mode", "expected"),
    [
        ("balsam.db", 0o000, "StoreUnreadable"),
        ("balsam.db", 0o444, "StoreUnreadable"),
        ("balsam.toml", 0o000, "InvalidInput"),
        (".", 0o000, "SiteError"),
    ],
)
def test_a_site_that_may_not_be_read(
    filled: Path, site: Path, tmp_path: Path, which: str, mode: int, expected: str
) -> None:
    open_to_all(site, site / which, mode)
    try:
        told = as_nobody(OPEN, site, tmp_path / "warm")
    finally:
        (site / which).chmod(0o755)
    assert told.startswith(expected), told
    assert str(site) in told
    assert "\n" not in told


def test_a_site_cannot_be_made_where_one_may_not_write(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    open_to_all(place, place, 0o555)
    program = OPEN.replace("open_client", "create_site")
    told = as_nobody(program, place / "site", tmp_path / "warm")
    assert told.startswith("SiteError"), told
    assert list(place.iterdir()) == []


# every error -------------------------------------------------------------------------


def test_only_some_errors_are_worth_another_try() -> None:
    def below(error: type[BalsamError]) -> set[type[BalsamError]]:
        return {error}.union(*(below(sub) for sub in error.__subclasses__()))

    retryable = {error for error in below(BalsamError) if error.retryable}
    of_the_store = {StoreAway, StoreBusy, StoreConflict, StoreFull}
    assert retryable == of_the_store | {SchedulerAway, NoScheduler, TransferBroken}
    assert {error.exit_code for error in below(StoreError)} == {1}
