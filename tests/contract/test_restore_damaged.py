"""Backups that are old, new or damaged, and sites that are."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from balsam import config
from balsam.client import maintenance
from balsam.client.connect import open_client
from balsam.client.local import LocalClient
from balsam.client.maintenance import Restored
from balsam.errors import (
    StoreError,
    StoreFull,
    StoreVersion,
)
from balsam.model.query import ALL
from balsam.store import check, revisions, transactions
from tests.contract.contents import fill_with_everything, rows
from tests.contract.pilot import Clock, Pilot, add, everything
from tests.contract.upkeep import back_up, quietly, restore, spoil

# old and new ---------------------------------------------------------------------------


def old_database(file: Path) -> None:
    """Make a database of the first schema with two jobs."""
    with transactions.new_file(file, for_site=True) as opened:
        revisions.upgrade(opened.connection, "0001")
    connection = sqlite3.connect(file)
    connection.executescript(
        """
        INSERT INTO meta VALUES ('key', '00112233445566778899aabbccddeeff');
        INSERT INTO counters VALUES ('job', 2);
        INSERT INTO apps (id, name, executable) VALUES (1, 'a', '/bin/true');
        INSERT INTO jobs (id, name, workflow, application, state)
            VALUES (1, 'one', 'w', 'a', 'PREPROCESSED'), (2, 'two', 'w', 'a', 'PREPROCESSED');
        INSERT INTO events (time, job, from_state, to_state)
            VALUES (1, 1, '', 'PREPROCESSED'), (2, 2, '', 'PREPROCESSED');
        """
    )
    connection.close()


def test_a_backup_of_an_older_schema(client: LocalClient, site: Path, tmp_path: Path) -> None:
    old_database(tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    assert maintenance.read_backup(tmp_path / "old.db", quietly).revision == "0001"
    restore(site, tmp_path / "old.db", force=True)
    assert [j.name for j in client.jobs(ALL)] == ["one", "two"]
    assert client._store.read(check.findings) == []
    assert (tmp_path / "old.db").read_bytes() == before
    assert [f.suffix for f in (site / "backup").iterdir()] == [".db"]


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_site_of_an_older_schema(site: Path, tmp_path: Path) -> None:
    """It is backed up as it is, and restored to by what is newer."""
    (site / "balsam.db").unlink()
    old_database(site / "balsam.db")
    file = back_up(site, tmp_path / "b.db")
    assert maintenance.read_backup(file, quietly).revision == "0001"
    restore(site, file)
    client = open_client(site)
    assert client.count_jobs(ALL) == 2
    client.close()


def test_a_backup_of_a_newer_schema(client: LocalClient, site: Path, tmp_path: Path) -> None:
    file = back_up(site, tmp_path / "b.db")
    spoil(file, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreVersion, match="newer"):
        restore(site, file)


# damaged -------------------------------------------------------------------------------


def cut(file: Path) -> None:
    with open(file, "rb+") as opened:
        opened.truncate(file.stat().st_size // 2)


def into_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def scratch(file: Path) -> None:
    """Turn over a page in the middle."""
    with open(file, "rb+") as opened:
        opened.seek(4096 * (file.stat().st_size // 8192))
        opened.write(bytes(255 - byte for byte in opened.read(0) or bytes(4096)))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": cut,
    "one page": scratch,
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("my thesis, which is no database at all " * 1000),
    "other database": lambda file: spoil(file, "DROP TABLE alembic_version"),
    "a row less": lambda file: spoil(file, "DELETE FROM events WHERE id = 2"),
    "a row more": lambda file: spoil(file, "INSERT INTO meta VALUES ('x', 'y')"),
    "another value": lambda file: spoil(file, "UPDATE jobs SET priority = 1 WHERE id = 2"),
    "no manifest": lambda file: spoil(file, "DELETE FROM balsam_backup"),
    "bad manifest": lambda file: spoil(file, "UPDATE balsam_backup SET about = '{}'"),
    "no key": lambda file: spoil(file, "UPDATE meta SET value = ''"),
    "unknown schema": lambda file: spoil(file, "UPDATE alembic_version SET version_num = '0000'"),
    "a table less": lambda file: spoil(file, "DROP TABLE events"),
    "missing": lambda file: file.unlink(),
    "directory": into_directory,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused(
    client: LocalClient, clock: Clock, site: Path, database: str, tmp_path: Path, damage: str
) -> None:
    fill_with_everything(client, clock)
    add(client, *(f"j{i}" for i in range(300)))
    file = back_up(site, tmp_path / "b.db")
    before = rows(site, database)
    DAMAGES[damage](file)
    with pytest.raises(StoreError) as caught:
        restore(site, file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert rows(site, database) == before
    assert not (site / "backup").exists()


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("damage", ["cut off", "one page", "empty", "text"])
def test_over_a_damaged_site(
    client: LocalClient, clock: Clock, site: Path, tmp_path: Path, damage: str
) -> None:
    """What is left of it is kept; numbers go on far from those that it may have given."""
    fill_with_everything(client, clock)
    seen = everything(client)
    pilot = Pilot(client, clock)
    client.retire_launcher(pilot.id, "")
    file = back_up(site, tmp_path / "b.db")
    ids = add(client, *(f"j{i}" for i in range(300)))
    client.close()
    DAMAGES[damage](site / "balsam.db")
    spoiled = (site / "balsam.db").read_bytes()
    done = restore(site, file)
    assert done.backup is None
    assert done.damaged is not None
    assert (done.damaged / "balsam.db").read_bytes() == spoiled
    again = LocalClient(site, config.load(site), clock)
    assert everything(again) == seen
    assert min(add(again, "new")) > max(ids)
    assert Pilot(again, clock).id > pilot.id + 1000
    assert [info.id for info in again.launchers(live=True)] == [pilot.id + 100_001]
    assert again._store.read(check.findings) == []
    again.close()


@pytest.mark.parametrize("database", ["sqlite"])
def test_for_a_lost_file(client: LocalClient, site: Path, tmp_path: Path) -> None:
    add(client, "j")
    file = back_up(site, tmp_path / "b.db")
    client.close()
    (site / "balsam.db").unlink()
    assert restore(site, file) == Restored()
    again = open_client(site)
    assert [j.name for j in again.jobs(ALL)] == ["j"]
    assert min(add(again, "new")) > 1000
    again.close()


@pytest.mark.parametrize("database", ["sqlite"])
def test_over_a_damaged_site_without_room(
    client: LocalClient, site: Path, small_file_system: Callable[[str], Path], tmp_path: Path
) -> None:
    """The damaged file stays where it was: it is all there is."""
    add(client, *(f"j{i}" for i in range(600)), description="x" * 500)
    file = back_up(site, tmp_path / "b.db")
    path = small_file_system("300k")
    shutil.copyfile(site / "balsam.toml", path / "balsam.toml")
    (path / "balsam.db").write_bytes(b"x" * 10_000)
    with pytest.raises(StoreFull):
        restore(path, file)
    assert (path / "balsam.db").read_bytes() == b"x" * 10_000
    assert list((path / "backup").iterdir()) == []
