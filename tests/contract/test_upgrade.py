"""An older site is upgraded, with its rows, or stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from balsam.client import maintenance
from balsam.client.connect import open_client, silent
from balsam.errors import (
    StoreBusy,
    StoreError,
    StoreUnreadable,
    StoreVersion,
)
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.store import revisions, run_times, schema, transactions
from tests.contract.upkeep import quietly, restore

# upgrades ------------------------------------------------------------------------------


@pytest.fixture
def old(site: Path) -> Path:
    """The site with a database of the first schema."""
    made = maintenance.database_of(site, silent)
    with transactions.sole_writer(made) as opened:
        schema.metadata.drop_all(opened.connection)
        opened.connection.execute(sa.text("DROP TABLE alembic_version"))
        revisions.upgrade(opened.connection, "0001")
        for statement in (
            "INSERT INTO meta VALUES ('key', '00112233445566778899aabbccddeeff')",
            "INSERT INTO counters VALUES ('job', 2)",
            "INSERT INTO apps (id, name, executable) VALUES (1, 'a', '/bin/true')",
            "INSERT INTO launchers (id, host, pid, owner) VALUES (7, 'far', 9, 'alice')",
            "INSERT INTO jobs (id, name, workflow, application, state, tags, data)"
            " VALUES (1, 'one', 'w', 'a', 'PREPROCESSED', '{\"k\": \"v\"}', '7'),"
            " (2, 'two', 'w', 'a', 'JOB_FINISHED', '{}', '{}')",
            "INSERT INTO events (time, job, from_state, to_state)"
            " VALUES (1, 1, '', 'PREPROCESSED'), (2, 2, '', 'PREPROCESSED')",
        ):
            opened.connection.exec_driver_sql(statement)
    return site


def migrate(site: Path, *, backup: bool = True) -> maintenance.Migration:
    return maintenance.migrate(site, backup=backup, say=silent, tell=quietly)


def test_an_upgrade_keeps_the_rows(old: Path) -> None:
    number, steps = maintenance.steps(old, silent)
    assert number == "0001"
    assert [step.number for step in steps] == [
        revision.number for revision in revisions.known()[1:]
    ]
    assert steps[0].title.startswith("Retry policy")
    with pytest.raises(StoreVersion, match="balsam db migrate"):
        open_client(old)
    done = migrate(old)
    assert (done.before, done.after) == ("0001", schema.REVISION)
    client = open_client(old)
    one, two = client.jobs(ALL)
    assert (one.name, one.tags, one.data, one.retry) == ("one", {"k": "v"}, 7, [])
    assert two.state is State.JOB_FINISHED
    client.close()
    assert maintenance.steps(old, silent) == (schema.REVISION, [])
    assert migrate(old) == maintenance.Migration(schema.REVISION, schema.REVISION)


def test_an_upgrade_learns_from_earlier_attempts(old: Path) -> None:
    run(old, "UPDATE jobs SET num_nodes = 2, ranks_per_node = 3 WHERE id = 2")
    runs = [(1, 1, 0.0, 10.0, "done"), (1, 2, 5.0, 25.0, "done"), (2, 1, 0.0, 7.5, "done")]
    others = [(1, 3, 0.0, 99.0, "error"), (1, 4, 9.0, 0.0, "done"), (9, 1, 0.0, 99.0, "done")]
    for number, row in enumerate([*runs, *others]):
        job, attempt, started, ended, outcome = row
        run(
            old,
            "INSERT INTO attempts (job, number, launcher_id, started_at, ended_at, outcome)"
            f" VALUES ({job}, {attempt}, {number}, {started}, {ended}, '{outcome}')",
        )
    run(
        old,
        "INSERT INTO attempts (job, number, launcher_id, started_at, outcome)"
        " VALUES (2, 2, 7, 1.0, 'running')",
    )
    migrate(old)
    with transactions.snapshot(maintenance.database_of(old, silent)) as opened:
        found = run_times.fetch(opened.connection)
    assert [(t.ranks, t.count, t.mean_seconds) for t in found] == [(1, 2, 15.0), (6, 1, 7.5)]
    assert [round(t.deviation, 6) for t in found] == [round(50**0.5, 6), 0.0]


def test_an_upgrade_is_backed_up(old: Path) -> None:
    done = migrate(old)
    assert done.backup is not None
    assert done.backup.name.startswith("before-migration-0001-")
    kept = maintenance.read_backup(done.backup, quietly)
    assert (kept.revision, kept.tables["jobs"].rows) == ("0001", 2)
    client = open_client(old)
    client.delete_jobs(ALL)
    restore(old, done.backup)
    assert client.count_jobs(ALL) == 2
    client.close()


def test_an_upgrade_without_a_backup(old: Path) -> None:
    assert migrate(old, backup=False).backup is None
    assert not (old / "backup").exists()


def run(site: Path, statement: str) -> None:
    with transactions.sole_writer(maintenance.database_of(site, silent)) as opened:
        opened.connection.exec_driver_sql(statement)


def schema_of(site: Path) -> dict[str, list[str]]:
    with transactions.snapshot(maintenance.database_of(site, silent)) as opened:
        inspector = sa.inspect(opened.connection)
        return {
            name: sorted(column["name"] for column in inspector.get_columns(name))
            for name in inspector.get_table_names()
        }


def test_an_upgrade_that_fails_changes_nothing(old: Path) -> None:
    """One of the last columns is there already."""
    run(old, "ALTER TABLE launchers ADD COLUMN leased INTEGER")
    before = schema_of(old)
    with pytest.raises(StoreError) as caught:
        migrate(old)
    assert "\n" not in str(caught.value)
    assert schema_of(old) == before
    assert maintenance.steps(old, silent)[0] == "0001"
    run(old, "ALTER TABLE launchers DROP COLUMN leased")
    migrate(old)
    open_client(old).close()


def test_no_upgrade_while_launchers_work(old: Path) -> None:
    run(old, "UPDATE launchers SET expires_at = 1e11")
    before = schema_of(old)
    with pytest.raises(StoreBusy, match=r"launcher 7 of alice \(host far, process 9"):
        migrate(old)
    assert schema_of(old) == before
    assert not (old / "backup").exists()


def test_no_upgrade_of_what_is_newer_or_unknown(old: Path) -> None:
    for number, error in (("9999", StoreVersion), ("0000", StoreUnreadable)):
        run(old, f"UPDATE alembic_version SET version_num = '{number}'")
        for call in (lambda: migrate(old), lambda: maintenance.steps(old, silent)):
            with pytest.raises(error):
                call()
