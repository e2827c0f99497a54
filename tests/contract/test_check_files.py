"""Files and indexes that are damaged are found; room is given back."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from balsam import settings_file
from balsam.client import maintenance
from balsam.client.connect import create_site, open_client, silent
from balsam.client.local import LocalClient
from balsam.errors import StoreFull
from balsam.model.app import App
from balsam.model.query import ALL
from tests.contract.pilot import add
from tests.contract.upkeep import damage

# the database system's own checks -----------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"])
def test_a_damaged_file(client: LocalClient, site: Path) -> None:
    add(client, *(f"j{i}" for i in range(300)))
    client.close()
    file = site / "balsam.db"
    with open(file, "rb+") as opened:
        opened.seek(page_of(file, "ix_events_job"))
        opened.write(b"\xff" * 64)
    result = maintenance.check(site, mend=False, say=silent)
    assert result.damages
    assert not result.is_sound
    assert all("\n" not in line for line in result.damages)


def page_of(file: Path, name: str) -> int:
    connection = sqlite3.connect(file)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
    ).fetchone()
    connection.close()
    return 4096 * (int(page) - 1)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_damaged_index(client: LocalClient, site: Path) -> None:
    """An index on a function that gives another order now."""
    damage(
        client,
        sa.text(
            "CREATE FUNCTION turned(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1'"
        ),
        sa.text("CREATE INDEX ix_turned ON counters (turned(value))"),
        sa.text("INSERT INTO counters SELECT 'x' || n, n FROM generate_series(1, 50) AS n"),
        sa.text(
            "CREATE OR REPLACE FUNCTION turned(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE"
            " AS 'SELECT -$1'"
        ),
    )
    result = maintenance.check(site, mend=False, say=silent)
    assert result.unchecked == ""
    assert len(result.damages) == 1
    assert "index ix_turned" in result.damages[0]
    damage(client, sa.text("DROP FUNCTION turned(bigint) CASCADE"))
    assert maintenance.check(site, mend=False, say=silent).is_sound
    # Nothing of the check is left behind.
    left = sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'")
    assert client._store.read(lambda connection: connection.scalar(left)) == 0


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_only_a_superuser_may_check_is_told(
    client: LocalClient, site: Path, database: str
) -> None:
    damage(
        client,
        sa.text("CREATE ROLE plain LOGIN"),
        sa.text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain"),
        sa.text("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO plain"),
    )
    try:
        url = database.replace("tester@", "plain@")
        settings_file.change_setting(site, "database.url", url)
        result = maintenance.check(site, mend=False, say=silent)
        assert result.is_sound
        assert "superuser" in result.unchecked
    finally:
        damage(client, sa.text("DROP OWNED BY plain"), sa.text("DROP ROLE plain"))


# room ---------------------------------------------------------------------------------


def test_vacuum_gives_room_back(client: LocalClient, site: Path, database: str) -> None:
    add(client, *(f"j{i}" for i in range(3000)), description="x" * 500)
    keep = add(client, "keep")
    client.delete_jobs(ALL.where(name__startswith="j"))
    client.close()
    done = maintenance.vacuum_site(site, silent)
    if database == "sqlite":
        assert done.before > 2_000_000
        assert done.after < 500_000
        assert not (site / "balsam.db-wal").exists() or not (site / "balsam.db-wal").stat().st_size
    assert maintenance.check(site, mend=False, say=silent).is_sound
    again = open_client(site)
    assert [j.id for j in again.jobs(ALL)] == keep
    again.close()


def test_vacuum_while_others_have_it_open(client: LocalClient, site: Path) -> None:
    add(client, "a")
    maintenance.vacuum_site(site, silent)
    add(client, "b")
    assert client.count_jobs(ALL) == 2


def test_vacuum_without_room(
    small_file_system: Callable[[str], Path],
) -> None:
    path = small_file_system("6m")
    create_site(path / "site", "sqlite")
    client = open_client(path / "site")
    client.add_app(App(name="a", executable="x"))
    add(client, *(f"j{i}" for i in range(3000)), description="x" * 500)
    client.close()
    before = (path / "site" / "balsam.db").read_bytes()
    with pytest.raises(StoreFull, match=r"vacuum needs \d+\.\d MB of room in .*site"):
        maintenance.vacuum_site(path / "site", silent)
    assert (path / "site" / "balsam.db").read_bytes() == before
    subprocess.run(["mount", "-o", "remount,size=60m", path], check=True)
    maintenance.vacuum_site(path / "site", silent)
