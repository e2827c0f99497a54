"""A site in one file: whole, of one moment, alone."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from balsam.client import maintenance
from balsam.client.connect import open_client, silent
from balsam.client.local import LocalClient
from balsam.errors import (
    AlreadyExists,
    StoreError,
    StoreFull,
)
from balsam.model.query import ALL
from balsam.store import check, schema, transactions
from tests.contract.contents import fill_with_everything, rows, rows_of_file
from tests.contract.pilot import Clock, add
from tests.contract.upkeep import back_up, quietly, restore

# backups ------------------------------------------------------------------------------


def test_a_backup_has_all_rows(
    client: LocalClient, clock: Clock, site: Path, database: str, tmp_path: Path
) -> None:
    fill_with_everything(client, clock)
    there = rows(site, database)
    file, told = maintenance.back_up(site, tmp_path / "b.db", silent, quietly)
    assert {name: contents.rows for name, contents in told.tables.items()} == {
        name: len(found) for name, found in there.items()
    }
    assert maintenance.read_backup(file, quietly) == told
    assert (told.site, told.revision) == (str(site), schema.REVISION)
    if database == "sqlite":
        assert rows_of_file(file) == there


def test_a_backup_stands_alone(client: LocalClient, site: Path, tmp_path: Path) -> None:
    """One file, which its owner alone reads, and which can be read where nobody may write."""
    add(client, "j")
    file = back_up(site, tmp_path / "b.db")
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith("b.db")] == ["b.db"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_where_backups_are(client: LocalClient, site: Path) -> None:
    files = [back_up(site) for _ in range(3)]
    assert len(set(files)) == 3
    for file in files:
        assert file.parent == site / "backup"
        assert file.name.startswith("balsam-2")
        assert file.suffix == ".db"
    assert stat.S_IMODE((site / "backup").stat().st_mode) == 0o700


def test_nothing_is_overwritten(client: LocalClient, site: Path, tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("my thesis")
    (tmp_path / "nowhere.db").symlink_to(tmp_path / "missing")
    for name in ("b.db", "nowhere.db"):
        with pytest.raises(AlreadyExists, match="already; name another"):
            back_up(site, tmp_path / name)
    assert (tmp_path / "b.db").read_text() == "my thesis"


def test_of_two_backups_to_one_file_one_is_made(
    client: LocalClient, site: Path, tmp_path: Path
) -> None:
    """The other comes to its end later, and finds the file."""
    file = tmp_path / "b.db"

    def tell(what: str, _done: int, _total: int) -> None:
        if what == "checking meta" and not file.exists():
            file.write_text("faster")

    with pytest.raises(AlreadyExists):
        maintenance.back_up(site, file, silent, tell)
    assert file.read_text() == "faster"
    assert [f.name for f in tmp_path.iterdir() if "part" in f.name] == []


def test_a_backup_is_of_one_moment_while_others_write(
    client: LocalClient, site: Path, tmp_path: Path
) -> None:
    """Jobs and their events, children and their parents, all of them or none."""
    client.close()
    ended = threading.Event()
    made: list[int] = []

    def write() -> None:
        writer = open_client(site)
        while not ended.is_set():
            parents = add(writer, "p", "q")
            made.extend(add(writer, "c", parents=parents))
            writer.kill_jobs(ALL.where(id=parents[0]))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        files: list[Path] = []
        while len(files) < 5:
            before = len(made)
            files.append(back_up(site, tmp_path / f"b{len(files)}.db"))
            assert len(made) >= before
    finally:
        ended.set()
        thread.join()
    counts = [len(rows_of_file(file)["jobs"]) for file in files]
    assert counts == sorted(counts)
    for file in files:
        with transactions.snapshot(transactions.reading_file(file)) as opened:
            assert check.findings(opened.connection) == []


def test_where_nobody_may_write(
    client: LocalClient, site: Path, small_file_system: Callable[[str], Path], tmp_path: Path
) -> None:
    path = small_file_system("5m")
    add(client, "j")
    file = back_up(site, path / "b.db")
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    with pytest.raises(StoreError, match="cannot write") as caught:
        back_up(site, path / "c.db")
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot write"):
        back_up(site, tmp_path / "missing" / "c.db")
    restore(site, file)
    assert client.count_jobs(ALL) == 1


def test_a_full_disk(
    client: LocalClient, site: Path, small_file_system: Callable[[str], Path]
) -> None:
    path = small_file_system("300k")
    add(client, *(f"j{i}" for i in range(600)), description="x" * 500)
    with pytest.raises(StoreFull) as caught:
        back_up(site, path / "b.db")
    assert "\n" not in str(caught.value)
    assert list(path.iterdir()) == []
    assert client.count_jobs(ALL) == 600
