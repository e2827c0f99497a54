"""A backup put back: all of it or nothing, and never with a number given twice."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from balsam import config
from balsam.client import maintenance
from balsam.client.connect import create_site, open_client, silent
from balsam.client.local import LocalClient
from balsam.errors import (
    InvalidInput,
    LeaseLost,
    StoreBusy,
    StoreFull,
)
from balsam.model.app import App
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import Outcome
from balsam.store import check
from tests import postgres
from tests.contract.contents import fill_with_everything, rows, rows_of_file
from tests.contract.pilot import Clock, Pilot, add, everything, history, job, states
from tests.contract.upkeep import back_up, quietly, restore

# restored ----------------------------------------------------------------------------


def test_what_was_is_again(
    client: LocalClient, clock: Clock, site: Path, database: str, tmp_path: Path
) -> None:
    fill_with_everything(client, clock)
    seen = everything(client)
    identity = client.identity.uuid(1)
    file = back_up(site, tmp_path / "b.db")
    client.delete_jobs(ALL)
    client.delete_apps(ALL)
    added = add_app_and_job(client)
    done = restore(site, file)
    assert everything(client) == seen
    again = open_client(site)
    assert again.identity.uuid(1) == identity
    assert again._store.read(check.findings) == []  # type: ignore[attr-defined]
    again.close()
    assert done.backup is not None
    assert done.damaged is None
    restore(site, done.backup)
    assert [j.id for j in client.jobs(ALL)] == added


def add_app_and_job(client: LocalClient) -> list[int]:
    client.add_app(App(name="a", executable="/bin/true"))
    return add(client, "after")


def test_into_the_other_system(
    client: LocalClient,
    clock: Clock,
    site: Path,
    database: str,
    tmp_path: Path,
    postgres_server: postgres.Server,
) -> None:
    """A backup knows nothing of the system that it came from."""
    fill_with_everything(client, clock)
    seen = everything(client)
    file = back_up(site, tmp_path / "b.db")
    other = postgres_server.new_database() if database == "sqlite" else "sqlite"
    create_site(tmp_path / "other", other)
    restore(tmp_path / "other", file, force=True)
    found = LocalClient(tmp_path / "other", config.load(tmp_path / "other"), clock)
    there = everything(found)
    for one, two in zip(there[0], seen[0], strict=True):
        one.workdir, two.workdir = "", ""
    assert there == seen
    assert found.identity.uuid(1) == client.identity.uuid(1)
    found.close()
    if other != "sqlite":
        postgres_server.drop_database(other)


def test_numbers_are_not_given_twice(
    client: LocalClient, clock: Clock, site: Path, tmp_path: Path
) -> None:
    """Directories of jobs and reports of launchers are known by them."""
    Pilot(client, clock)
    add(client, "before")
    file = back_up(site, tmp_path / "b.db")
    late = [Pilot(client, clock) for _ in range(3)]
    gone = add(client, "a", "b", "c")
    client.delete_jobs(ALL)
    restore(site, file)
    assert min(add(client, "new")) > max(gone)
    assert Pilot(client, clock).id > late[-1].id
    for pilot in late:
        with pytest.raises(LeaseLost):
            client.renew(pilot.id, 60.0)
    assert [info.id for info in client.launchers(live=False)] == [1, 2, 3, 4, 5]


def test_numbers_of_the_backup_are_kept_too(
    client: LocalClient, clock: Clock, site: Path, tmp_path: Path
) -> None:
    """A backup that is newer than what it replaces."""
    old = back_up(site, tmp_path / "old.db")
    last = Pilot(client, clock).id
    ids = add(client, "a", "b", "c")
    new = back_up(site, tmp_path / "new.db")
    restore(site, old)
    restore(site, new)
    assert min(add(client, "d")) > max(ids)
    assert Pilot(client, clock).id > last


def test_who_held_jobs_holds_them_no_more(
    client: LocalClient, clock: Clock, site: Path, tmp_path: Path
) -> None:
    """A launcher that is still somewhere must not bring into a restored site what it knows."""
    ids = add(client, "runs", "held")
    pilot = Pilot(client, clock)
    leased = pilot.lease()
    pilot.start(leased[0])
    file = back_up(site, tmp_path / "b.db")
    client.retire_launcher(pilot.id, "ended")
    restore(site, file)
    assert states(client, ids) == [State.RESTART_READY, State.PREPROCESSED]
    assert client.launchers(live=True) == []
    refused = pilot.end(leased[0])
    assert [refusal.reason for refusal in refused] == ["the lease has ended"]
    assert [a.outcome for a in client.attempts(ids)] == [Outcome.REFUSED]
    assert job(client, ids[0]).crashes == 0
    assert history(client, ids[0])[-1] == (State.RUNNING, State.RESTART_READY)
    assert client._store.read(check.findings) == []


def test_while_a_launcher_works(client: LocalClient, site: Path, database: str) -> None:
    file = back_up(site)
    real = LocalClient(site, config.load(site))
    pilot = Pilot(real, Clock())
    before = rows(site, database)
    with pytest.raises(StoreBusy, match=r"launcher 1 .*host node1, process 4711"):
        restore(site, file)
    assert rows(site, database) == before
    real.retire_launcher(pilot.id, "ended")
    restore(site, file)
    real.close()


def test_another_sites_backup(
    client: LocalClient, site: Path, database: str, tmp_path: Path
) -> None:
    create_site(tmp_path / "other", "sqlite")
    other = open_client(tmp_path / "other")
    theirs = other.identity.uuid(1)
    other.close()
    file = back_up(tmp_path / "other", tmp_path / "b.db")
    before = rows(site, database)
    with pytest.raises(InvalidInput, match="--force"):
        restore(site, file)
    assert rows(site, database) == before
    restore(site, file, force=True)
    again = open_client(site)
    assert again.identity.uuid(1) == theirs
    again.close()


def test_who_has_it_open_goes_on(client: LocalClient, site: Path, tmp_path: Path) -> None:
    add(client, "a")
    file = back_up(site, tmp_path / "b.db")
    add(client, "b")
    other = open_client(site)
    assert other.count_jobs(ALL) == 2
    restore(site, file)
    assert other.count_jobs(ALL) == client.count_jobs(ALL) == 1
    add(client, "c")
    assert [j.name for j in other.jobs(ALL)] == ["a", "c"]
    other.close()


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_plain_copy_of_the_file(client: LocalClient, site: Path, tmp_path: Path) -> None:
    """As made by `sqlite3 balsam.db .backup`."""
    add(client, "a")
    to = sqlite3.connect(tmp_path / "plain.db")
    connection = sqlite3.connect(site / "balsam.db")
    connection.backup(to)
    connection.close()
    to.close()
    add(client, "b")
    restore(site, tmp_path / "plain.db")
    assert client.count_jobs(ALL) == 1


# broken off ----------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the midst of it."""


@pytest.fixture
def full(client: LocalClient, clock: Clock) -> LocalClient:
    fill_with_everything(client, clock)
    return client


@pytest.mark.parametrize("moment", ["copying launchers", "copying jobs", "checking meta"])
def test_a_restore_that_is_broken_off(
    full: LocalClient, site: Path, database: str, tmp_path: Path, moment: str
) -> None:
    file = back_up(site, tmp_path / "b.db")
    add(full, "later")
    before = rows(site, database)
    seen = 0

    def tell(what: str, _done: int, _total: int) -> None:
        nonlocal seen
        seen += what == moment
        if seen == 2:  # the first is the backup of what is there
            raise Stop

    with pytest.raises(Stop):
        maintenance.restore(site, file, force=False, say=silent, tell=tell)
    assert rows(site, database) == before
    add(full, "works on")
    assert full._store.read(check.findings) == []


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_restore_without_room(
    client: LocalClient, site: Path, small_file_system: Callable[[str], Path], tmp_path: Path
) -> None:
    add(client, *(f"j{i}" for i in range(600)), description="x" * 500)
    file = back_up(site, tmp_path / "b.db")
    client.close()
    path = small_file_system("1500k")
    shutil.copyfile(site / "balsam.toml", path / "balsam.toml")
    create_site_file(path, file)
    before = rows_of_file(path / "balsam.db")
    with pytest.raises(StoreFull):
        restore(path, file)
    assert rows_of_file(path / "balsam.db") == before


def create_site_file(path: Path, file: Path) -> None:
    """Make a small database of the same site as *file*."""
    maintenance.restore(path, file, force=False, say=silent, tell=quietly)
