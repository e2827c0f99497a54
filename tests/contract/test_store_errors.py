"""What a database can do to us: locked, damaged, forbidden, gone, full."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balsam import config
from balsam.client.connect import create_site, open_client
from balsam.client.local import LocalClient
from balsam.errors import (
    BalsamError,
    SiteError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnreadable,
)
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LeaseRequest, Move, Report
from tests.contract.pilot import Clock, add
from tests.contract.test_jobs import everything

NEW = Job(name="new", workflow="w", application="a")
WRITES: dict[str, Callable[[LocalClient], Any]] = {
    "add_app": lambda client: client.add_app(App(name="b", executable="x")),
    "update_apps": lambda client: client.update_apps(ALL, {"description": "x"}),
    "delete_apps": lambda client: client.delete_apps(ALL),
    "create_jobs": lambda client: client.create_jobs([NEW]),
    "update_jobs": lambda client: client.update_jobs(ALL, {"priority": 7}),
    "move_jobs": lambda client: client.move_jobs(ALL.where(name="free"), State.FAILED),
    "rerun_jobs": lambda client: client.rerun_jobs(ALL),
    "kill_jobs": lambda client: client.kill_jobs(ALL, recursive=True),
    "delete_jobs": lambda client: client.delete_jobs(ALL),
    "add_dependency": lambda client: client.add_dependency(1, 2),
    "register_launcher": lambda client: client.register_launcher(LauncherInfo(host="h", pid=1), 9),
    "lease": lambda client: client.lease(1, LeaseRequest(limit=5)),
    "report": lambda client: client.report(
        1, Report(moves=[Move(1, 1, State.PREPROCESSED, State.RUNNING, 1.0)])
    ),
    "renew": lambda client: client.renew(1, 1000.0),
    "retire_launcher": lambda client: client.retire_launcher(1, "x"),
}
READS: dict[str, Callable[[LocalClient], Any]] = {
    "apps": lambda client: client.apps(ALL),
    "jobs": lambda client: client.jobs(ALL),
    "iterate_jobs": lambda client: list(client.iterate_jobs(ALL)),
    "count_jobs": lambda client: client.count_jobs(ALL),
    "state_counts": lambda client: client.state_counts(ALL),
    "workflow_counts": lambda client: client.workflow_counts(ALL),
    "dependencies": lambda client: client.dependencies([1]),
    "events": lambda client: client.events(ALL),
    "iterate_events": lambda client: list(client.iterate_events(ALL)),
    "attempts": lambda client: client.attempts([1]),
    "iterate_attempts": lambda client: list(client.iterate_attempts(ALL)),
    "batch_jobs": lambda client: client.batch_jobs(ALL),
    "launchers": lambda client: client.launchers(),
    "outlook": lambda client: client.outlook(1, LeaseRequest(limit=5)),
    "expired_launchers": lambda client: client.expired_launchers(),
}
NEITHER = {"close", "watch"}


def test_every_method_of_a_client_is_tried() -> None:
    from balsam.client.interface import Client

    methods = {name for name in vars(Client) if callable(getattr(Client, name)) and name[0] != "_"}
    assert methods == set(WRITES) | set(READS) | NEITHER


def fill(client: LocalClient) -> None:
    """One app; jobs 1 (leased by launcher 1), 2, and 3, which has ended."""
    client.add_app(App(name="a", executable="x"))
    client.register_launcher(LauncherInfo(host="h", pid=1), 60)
    add(client, "held", "free", "ended")
    client.lease(1, LeaseRequest(limit=1))
    client.move_jobs(ALL.where(name="ended"), State.FAILED)


@pytest.fixture
def impatient(site: Path, clock: Clock) -> Iterator[LocalClient]:
    """A client with jobs that gives up after a twentieth of a second."""
    settings = config.load(site)
    settings.database.busy_seconds = 0.05
    client = LocalClient(site, settings, clock)
    fill(client)
    yield client
    client.close()


def look(client: LocalClient) -> Any:
    return everything(client), client.launchers(live=False)


# locked -----------------------------------------------------------------------------


@pytest.fixture
def locked(impatient: LocalClient, site: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the right to write until it is spoken to."""
    program = """if True:
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        print(flush=True)
        sys.stdin.readline()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", program, site / "balsam.db"],
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


def checkpointed(site: Path) -> Path:
    """Bring all that is in the log into the file."""
    connection = sqlite3.connect(site / "balsam.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return site / "balsam.db"


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


def test_a_file_that_is_no_database(filled: Path, site: Path) -> None:
    filled.write_text("this is no database, but it is long enough for one. " * 500)
    before = filled.read_bytes()
    with pytest.raises(StoreUnreadable, match=str(site)) as caught:
        with_all(site)
    assert "\n" not in str(caught.value)
    assert filled.read_bytes() == before


@pytest.mark.parametrize("size", [0, 10, 100, 1000, 5000, 20_000])
def test_a_file_that_was_cut_off(filled: Path, site: Path, size: int) -> None:
    os.truncate(filled, size)
    with pytest.raises(StoreUnreadable) as caught:
        with_all(site)
    assert not caught.value.retryable
    assert "\n" not in str(caught.value)


def test_a_file_with_a_hole(filled: Path, site: Path) -> None:
    size = filled.stat().st_size
    with open(filled, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreUnreadable) as caught:
        with_all(site)
    assert "\n" not in str(caught.value)


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


# full -------------------------------------------------------------------------------


def grow_until_full(client: LocalClient) -> int:
    """Create jobs until the database refuses, and return how many it took."""
    taken = 0
    batch = [Job(name="big", workflow="w", application="a", description="x" * 2000)] * 50
    full: StoreFull | None = None
    while full is None and taken < 50_000:
        try:
            taken += len(client.create_jobs(batch))
        except StoreFull as error:
            full = error
    assert full is not None
    assert "\n" not in str(full)
    return taken


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, of the size asked for."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("small", ["3m"], indirect=True)
def test_a_full_disk(small: Path) -> None:
    create_site(small / "site")
    (small / "ballast").write_bytes(bytes(500_000))
    client = LocalClient(small / "site", config.load(small / "site"))
    fill(client)
    taken = grow_until_full(client)
    assert client.count_jobs(ALL) == taken + 3
    before = look(client)
    (small / "ballast").unlink()
    assert look(client) == before
    add(client, "fits")
    assert client.count_jobs(ALL) == taken + 4
    client.close()
    connection = sqlite3.connect(small / "site" / "balsam.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize("small", ["64k"], indirect=True)
def test_a_full_disk_makes_no_site(small: Path) -> None:
    with pytest.raises(StoreFull):
        create_site(small / "site")
    assert not config.is_site(small / "site")
    subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
    create_site(small / "site")
    client = open_client(small / "site")
    assert client.count_jobs(ALL) == 0
    client.close()


@pytest.mark.parametrize("write", ["create_jobs", "update_jobs", "report", "kill_jobs"])
def test_a_database_that_may_not_grow(impatient: LocalClient, site: Path, write: str) -> None:
    """As a quota: SQLite's own limit of pages says the same as a full disk."""
    checkpointed(site)
    engine = impatient._store.engine
    engine.dispose()

    def set_limit(connection: Any, _record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    import sqlalchemy as sa

    sa.event.listen(engine, "connect", set_limit)
    taken = grow_until_full(impatient)
    before = look(impatient)
    assert impatient.count_jobs(ALL) == taken + 3
    with pytest.raises(StoreFull):
        impatient.update_jobs(ALL, {"description": "y" * 10_000})
    assert look(impatient) == before
    sa.event.remove(engine, "connect", set_limit)
    engine.dispose()
    assert look(impatient) == before
    WRITES[write](impatient)
    assert look(impatient) != before


# every error -------------------------------------------------------------------------


def test_only_some_errors_are_worth_another_try() -> None:
    def below(error: type[BalsamError]) -> set[type[BalsamError]]:
        return {error}.union(*(below(sub) for sub in error.__subclasses__()))

    retryable = {error for error in below(BalsamError) if error.retryable}
    assert retryable == {StoreBusy, StoreFull}
    assert {error.exit_code for error in below(StoreError)} == {1}
