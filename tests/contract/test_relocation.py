"""A site goes on in another database: whole, or where it was; nobody writes into the old one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from balsam import config, settings_file
from balsam.client import maintenance, relocation
from balsam.client.connect import create_site, open_client, silent
from balsam.client.local import LocalClient
from balsam.errors import (
    AlreadyExists,
    BalsamError,
    InvalidInput,
    SiteError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreMoved,
    StoreUnreadable,
    StoreVersion,
)
from balsam.model.app import App
from balsam.model.query import ALL
from tests.contract.contents import (
    fill_with_everything,
    rows,
)
from tests.contract.pilot import Clock, Pilot, add, everything
from tests.contract.upkeep import back_up, move

# what becomes of the settings and the old database ------------------------------------


def test_the_site_goes_on_in_the_copy(client: LocalClient, site: Path, target: str) -> None:
    (site / "balsam.toml").write_text("# mine\n[launcher] # too\nlease_seconds = 7 # short\n")
    add(client, "j")
    done = move(site, target)
    assert done.switched
    assert config.load(site).database.url == target
    text = (site / "balsam.toml").read_text()
    assert text.startswith("# mine\n[launcher] # too\nlease_seconds = 7 # short\n")
    moved = open_client(site)
    assert moved.count_jobs(ALL) == 1
    moved.close()


def test_without_a_switch_the_site_stays(
    client: LocalClient, site: Path, database: str, target: str
) -> None:
    before = (site / "balsam.toml").read_text()
    done = move(site, target, switch=False)
    assert not done.switched
    assert (site / "balsam.toml").read_text() == before
    add(client, "later")
    assert client.count_jobs(ALL) == 1
    assert config.load(site).database.url == database


def test_who_has_the_old_database_open_is_refused(
    client: LocalClient, clock: Clock, site: Path, target: str
) -> None:
    """What a program that waited would write there would be lost."""
    fill_with_everything(client, clock)
    seen = everything(client)
    move(site, target)
    for write in (
        lambda: add(client, "lost"),
        lambda: client.update_jobs(ALL, {"priority": 3}),
        lambda: client.delete_jobs(ALL.where(id=1)),
        lambda: Pilot(client, clock),
        lambda: client.add_app(App(name="z", executable="x")),
    ):
        with pytest.raises(StoreMoved, match="since it was copied there") as caught:
            write()
        assert "\n" not in str(caught.value)
    assert everything(client) == seen
    moved = open_client(site)
    assert everything(moved) == seen
    moved.close()


def test_the_old_database_is_opened_again(
    client: LocalClient, site: Path, database: str, target: str
) -> None:
    add(client, "j")
    move(site, target)
    settings_file.change_setting(site, "database.url", database)
    found = maintenance.check(site, mend=False, say=silent)
    assert [finding.name for finding in found.findings] == ["closed"]
    assert not found.is_sound
    assert maintenance.check(site, mend=True, say=silent).is_sound
    assert add(client, "here") == [2]
    assert maintenance.check(site, mend=False, say=silent).findings == []


def test_no_writer_comes_between(client: LocalClient, site: Path, target: str) -> None:
    """While rows are copied others can read, and wait to write."""
    settings = config.load(site)
    settings.database.busy_seconds = 0.05
    impatient = LocalClient(site, settings)
    add(client, "j")
    told: list[str] = []
    refused: list[BalsamError] = []

    def tell(what: str, _done: int, _total: int) -> None:
        if what == "copying jobs" and not refused:
            told.append(what)
            assert impatient.count_jobs(ALL) == 1
            with pytest.raises(StoreBusy) as caught:
                add(impatient, "between")
            refused.append(caught.value)

    relocation.copy(site, target, switch=True, overwrite=False, say=silent, tell=tell)
    assert told
    assert refused
    moved = open_client(site)
    assert moved.count_jobs(ALL) == 1
    moved.close()
    impatient.close()


# what is refused ----------------------------------------------------------------------


def test_while_a_launcher_works(
    client: LocalClient, site: Path, target: str, database: str
) -> None:
    real = LocalClient(site, config.load(site))
    pilot = Pilot(real, Clock())
    before = rows(site, database)
    with pytest.raises(StoreBusy, match=r"launcher 1 .*host node1, process 4711") as caught:
        move(site, target)
    assert "\n" not in str(caught.value)
    assert rows(site, database) == before
    assert config.load(site).database.url == database
    real.retire_launcher(pilot.id, "ended")
    move(site, target)
    real.close()


def test_a_launcher_that_is_long_dead_holds_nobody_up(
    client: LocalClient, clock: Clock, site: Path, target: str
) -> None:
    Pilot(client, clock)  # on a clock of long ago
    move(site, target)


def test_where_the_site_is_already(client: LocalClient, site: Path, database: str) -> None:
    with pytest.raises(InvalidInput, match="already"):
        move(site, database)
    if database != "sqlite":
        with pytest.raises(InvalidInput, match="already"):
            move(site, f"{database}&application_name=x", overwrite=True)
    add(client, "j")


def test_an_older_copy(client: LocalClient, site: Path, target: str) -> None:
    move(site, target, switch=False)
    add(client, "later")
    with pytest.raises(AlreadyExists, match="--overwrite"):
        move(site, target)
    move(site, target, overwrite=True)
    moved = open_client(site)
    assert moved.count_jobs(ALL) == 1
    moved.close()


def test_back_over_what_was_left(
    client: LocalClient, site: Path, database: str, target: str
) -> None:
    """The old database is closed; a copy back is the way to use it again."""
    add(client, "j")
    move(site, target)
    moved = open_client(site)
    add(moved, "k")
    seen = everything(moved)
    moved.close()
    move(site, database, overwrite=True)
    assert everything(client) == seen
    add(client, "l")


def test_numbers_that_an_older_copy_gave_are_not_given_again(
    client: LocalClient, clock: Clock, site: Path, database: str, target: str
) -> None:
    """Somebody went on in both."""
    move(site, target, switch=False)
    settings_file.change_setting(site, "database.url", target)
    beside = LocalClient(site, config.load(site), clock)
    highest = max(add(beside, "a", "b", "c"))
    late = [Pilot(beside, clock).id for _ in range(3)]
    beside.delete_jobs(ALL)
    beside.close()
    settings_file.change_setting(site, "database.url", database)
    move(site, target, overwrite=True)
    moved = LocalClient(site, config.load(site), clock)
    assert min(add(moved, "d")) > highest
    assert Pilot(moved, clock).id > max(late)
    assert [info.id for info in moved.launchers(live=True)] == [max(late) + 1]
    moved.close()


def test_another_sites_database(
    client: LocalClient, site: Path, tmp_path: Path, database: str, target: str, other: str
) -> None:
    strange = "sqlite" if target == "sqlite" else other
    if strange == "sqlite":
        create_site(tmp_path / "stranger", "sqlite")
        shutil.copyfile(tmp_path / "stranger" / "balsam.db", site / "balsam.db")
    else:
        create_site(tmp_path / "stranger", other)
    for overwrite in (False, True):
        with pytest.raises(AlreadyExists, match="another site"):
            move(site, target, overwrite=overwrite)
    assert config.load(site).database.url == database


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_file_that_is_no_database(client: LocalClient, site: Path) -> None:
    (site / "balsam.db").write_text("my thesis, which is not a database at all " * 100)
    for overwrite in (False, True):
        with pytest.raises(StoreUnreadable):
            move(site, "sqlite", overwrite=overwrite)
    assert (site / "balsam.db").read_text().startswith("my thesis")


@pytest.mark.parametrize("to", ["oracle://x/y", "mysql", "sqlite:///x.db", ""])
def test_no_place_for_a_copy(client: LocalClient, site: Path, to: str) -> None:
    with pytest.raises(InvalidInput):
        move(site, to)


def test_a_server_that_is_away(client: LocalClient, site: Path, database: str) -> None:
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        move(site, "postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)
    assert config.load(site).database.url == database
    add(client, "j")


def test_an_older_schema(client: LocalClient, site: Path, target: str) -> None:
    def age(connection: sa.Connection) -> None:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))

    client._store.write(age)
    with pytest.raises(StoreVersion, match="balsam db migrate"):
        move(site, target)


def test_settings_that_cannot_be_changed(
    client: LocalClient, site: Path, database: str, target: str
) -> None:
    """Known before the work, not after."""
    (site / "balsam.toml").write_text(f'database = {{url = "{database}"}}\n')
    with pytest.raises(SiteError, match="write url = "):
        move(site, target)
    if target == "sqlite":
        assert not (site / "balsam.db").exists()


# when it fails ------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the midst of a copy."""


@pytest.mark.parametrize("moment", ["copying events", "checking jobs"])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_a_copy_that_is_broken_off(
    client: LocalClient,
    clock: Clock,
    site: Path,
    database: str,
    target: str,
    moment: str,
    error: type[BaseException],
) -> None:
    fill_with_everything(client, clock)
    before = rows(site, database)

    def tell(what: str, _done: int, _total: int) -> None:
        if what == moment:
            raise error

    with pytest.raises(error):
        relocation.copy(site, target, switch=True, overwrite=False, say=silent, tell=tell)
    assert config.load(site).database.url == database
    assert rows(site, database) == before
    left = {file.name for file in site.iterdir()} & {"balsam.db", *leftovers(site)}
    assert left == ({"balsam.db"} if database == "sqlite" else set())
    add(client, "works on")
    move(site, target)
    moved = open_client(site)
    assert moved.count_jobs(ALL.where(name="works on")) == 1
    moved.close()


def leftovers(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir() if ".part-" in file.name]


def test_what_a_killed_copy_left_is_removed(
    client: LocalClient, site: Path, tmp_path: Path
) -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    host = os.uname().nodename
    for name in (f"b.db.part-{host}-{done.pid}", f"b.db.part-{host}-{done.pid}-journal"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"b.db.part-elsewhere-{done.pid}").write_bytes(b"x")
    back_up(site, tmp_path / "b.db")
    assert leftovers(tmp_path) == [f"b.db.part-elsewhere-{done.pid}"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_full_disk(
    client: LocalClient, clock: Clock, small_file_system: Callable[[str], Path], site: Path
) -> None:
    path = small_file_system("300k")
    shutil.copyfile(site / "balsam.toml", path / "balsam.toml")
    add(client, *(f"j{i}" for i in range(600)), description="x" * 500)
    with pytest.raises(StoreFull) as caught:
        move(path, "sqlite")
    assert "\n" not in str(caught.value)
    assert leftovers(path) == []
    assert not (path / "balsam.db").exists()
    subprocess.run(["mount", "-o", "remount,size=20m", path], check=True)
    move(path, "sqlite")
    moved = open_client(path)
    assert moved.count_jobs(ALL) == 600
    moved.close()


def test_a_site_that_cannot_be_written(
    client: LocalClient, small_file_system: Callable[[str], Path], site: Path, target: str
) -> None:
    path = small_file_system("5m")
    client.close()
    for name in ("balsam.toml", "balsam.db"):
        if (site / name).exists():
            shutil.copyfile(site / name, path / name)
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    with pytest.raises(BalsamError) as caught:
        move(path, target)
    assert "\n" not in str(caught.value)
