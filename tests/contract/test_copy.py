"""A site moves to another database: every row, once, and nobody writes into the old one."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from balsam import config
from balsam.client.connect import open_client
from balsam.client.local import LocalClient
from balsam.errors import (
    StoreError,
)
from balsam.model.app import App
from balsam.model.query import ALL
from balsam.store import check, copy, schema, transactions
from balsam.store.copy import Contents
from tests.contract.contents import (
    TABLES,
    fill_with_everything,
    rows,
    rows_of_file,
    rows_of_server,
)
from tests.contract.pilot import Clock, Pilot, add, everything
from tests.contract.upkeep import back_up, move, quietly

# rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"])
def test_there_and_back_gives_the_same_file(
    client: LocalClient, clock: Clock, site: Path, postgres_url: str
) -> None:
    fill_with_everything(client, clock)
    before = rows_of_file(site / "balsam.db")
    assert all(before[table] for table in TABLES if table != "batch_jobs")
    seen = everything(client), client.launchers(live=False)
    move(site, postgres_url)
    moved = open_client(site)
    assert (everything(moved), moved.launchers(live=False)) == seen
    moved.close()
    client.close()
    (site / "balsam.db").unlink()
    move(site, "sqlite")
    assert rows_of_file(site / "balsam.db") == before
    again = open_client(site)
    assert (everything(again), again.launchers(live=False)) == seen
    again.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_from_server_to_file_to_server(
    client: LocalClient, clock: Clock, site: Path, database: str, other: str
) -> None:
    fill_with_everything(client, clock)
    seen = everything(client), client.launchers(live=False)
    before = rows_of_server(database)
    move(site, "sqlite")
    in_file = open_client(site)
    assert (everything(in_file), in_file.launchers(live=False)) == seen
    in_file.close()
    move(site, other)
    after = rows_of_server(other)
    # SQLite keeps a mere number as one: 1.0 and 1 are the same to it.
    for job in (*before["jobs"], *after["jobs"]):
        job["data"] = {"1.0": "1", "1e22": "10000000000000000000000"}.get(job["data"], job["data"])
    assert after == before


def test_between_two_of_a_kind(
    client: LocalClient, clock: Clock, site: Path, database: str, other: str, tmp_path: Path
) -> None:
    fill_with_everything(client, clock)
    before = rows(site, database)
    if database == "sqlite":
        file = back_up(site, tmp_path / "b.db")
        assert rows_of_file(file) == before
    else:
        move(site, other)
        assert rows_of_server(other) == before


def test_an_empty_site_moves(client: LocalClient, site: Path, target: str) -> None:
    done = move(site, target)
    assert done.tables["jobs"] == Contents()
    moved = open_client(site)
    assert [app.name for app in moved.apps(ALL)] == ["a"]
    moved.close()


def test_what_is_told_is_what_is_there(
    client: LocalClient, clock: Clock, site: Path, database: str, target: str
) -> None:
    fill_with_everything(client, clock)
    there = rows(site, database)
    done = move(site, target)
    assert {name: contents.rows for name, contents in done.tables.items()} == {
        name: len(found) for name, found in there.items()
    }


def test_pages_do_not_matter(
    client: LocalClient, site: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than are read at a time, to the row."""
    ids = add(client, *(f"j{i}" for i in range(2 * copy.PAGE)))
    seen = everything(client)
    move(site, target)
    moved = open_client(site)
    assert everything(moved) == seen
    assert len(moved.jobs(ALL)) == len(ids) == 2 * copy.PAGE
    moved.close()


def test_a_copy_works_on(client: LocalClient, clock: Clock, site: Path, target: str) -> None:
    """New rows find numbers that are free, and what was queued runs."""
    ids = fill_with_everything(client, clock)
    launchers = [info.id for info in client.launchers(live=False)]
    move(site, target)
    moved = LocalClient(site, config.load(site), clock)
    assert moved.add_app(App(name="new", executable="/bin/true")).id == 4
    assert min(add(moved, "n1", "n2")) == max(ids) + 1
    pilot = Pilot(moved, clock)
    assert pilot.id == max(launchers) + 1
    assert pilot.run_all()
    assert moved._store.read(check.findings) == []
    moved.close()


# checksums --------------------------------------------------------------------------


def sums(client: LocalClient) -> dict[str, Contents]:
    database = client._store._database.another()
    with transactions.snapshot(database) as opened:
        return copy.contents(opened, quietly)


CHANGES: dict[str, sa.UpdateBase] = {
    "apps": sa.update(schema.apps).where(schema.apps.c.id == 1).values(description="x"),
    "attempts": sa.update(schema.attempts).values(cpu_seconds=0.1),
    "counters": sa.update(schema.counters).values(value=schema.counters.c.value + 1),
    "dependencies": sa.delete(schema.dependencies).where(schema.dependencies.c.kind == "any"),
    "events": sa.update(schema.events).where(schema.events.c.id == 3).values(message=" "),
    "jobs": sa.update(schema.jobs).where(schema.jobs.c.id == 2).values(priority=1),
    "launchers": sa.update(schema.launchers).values(gpus=1),
    "meta": sa.update(schema.meta).values(value="0" * 32),
}


@pytest.mark.parametrize("table", CHANGES)
def test_a_checksum_sees_every_change(client: LocalClient, clock: Clock, table: str) -> None:
    fill_with_everything(client, clock)
    before = sums(client)
    assert sums(client) == before
    client._store.write(lambda connection: connection.execute(CHANGES[table]) and None)
    after = sums(client)
    assert {name for name in before if before[name] != after[name]} == {table}


def test_a_checksum_does_not_see_the_order(client: LocalClient) -> None:
    add(client, *(f"j{i}" for i in range(50)))
    before = sums(client)["events"]

    def turn(connection: sa.Connection) -> None:
        rows = connection.execute(sa.select(schema.events)).mappings().all()
        connection.execute(sa.delete(schema.events))
        connection.execute(schema.events.insert(), [dict(row) for row in reversed(rows)])

    client._store.write(turn)
    assert sums(client)["events"] == before


def test_two_rows_that_are_exchanged_for_two_equal_ones(client: LocalClient) -> None:
    """Equal rows must not cancel each other out."""
    add(client, "a", "b")
    one = sums(client)["events"]
    both = sa.update(schema.events).values(message="same", time=1.0, job=1)
    client._store.write(lambda connection: connection.execute(both) and None)
    assert sums(client)["events"] not in (one, Contents(2))


def test_a_difference_is_an_error() -> None:
    with pytest.raises(StoreError, match="the table jobs is not what it should be: 1 rows"):
        copy.compare({"jobs": Contents(2, "f")}, {"jobs": Contents(1, "f")}, "there")
    with pytest.raises(StoreError, match="jobs"):
        copy.compare({"jobs": Contents(2, "f")}, {}, "there")
    copy.compare({"jobs": Contents(2, "f")}, {"jobs": Contents(2, "f")}, "there")
