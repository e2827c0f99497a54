"""The schema: migrations give exactly what the code declares, on every database."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

import balsam.store
from balsam.client.connect import create_site, open_client
from balsam.client.local import LocalClient
from balsam.errors import AlreadyExists, BalsamError, SiteError, StoreUnreadable, StoreVersion
from balsam.model.app import App
from balsam.model.graph import Kind
from balsam.model.query import ALL, Query, parse
from balsam.model.states import STATES, State
from balsam.store import schema
from balsam.store.revisions import MIGRATIONS
from tests.contract.calls import on_sqlite
from tests.contract.pilot import Clock, Pilot, add, request

STORE = Path(balsam.store.__file__).parent


def tables_and_indexes(file: Path) -> dict[str, str]:
    """The text of each table and index, without what only spacing and order change."""
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        found = dict(rows.fetchall())
    connection.close()
    found.pop("alembic_version", None)
    return {name: _normal(sql) for name, sql in found.items()}


#: A comma between two columns, not one inside parentheses.
BETWEEN_COLUMNS = re.compile(r",(?![^(]*\))")


def _normal(sql: str) -> str:
    """Sort the columns of a table: only their order differs between two ways to make it."""
    head, _, body = sql.partition("(")
    body, _, rest = body.rpartition(")")
    columns = [" ".join(column.split()) for column in BETWEEN_COLUMNS.split(body)]
    return "\n".join([" ".join(head.split()), *sorted(columns), " ".join(rest.split())])


@on_sqlite
def test_migrations_give_the_declared_schema(site: Path, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    schema.metadata.create_all(engine)
    engine.dispose()
    declared = tables_and_indexes(tmp_path / "declared.db")
    assert tables_and_indexes(site / "balsam.db") == declared
    assert {"jobs", "events", "attempts", "dependencies", "ix_jobs_queue"} <= set(declared)


def test_autogenerate_finds_nothing_to_do(client: LocalClient) -> None:
    with client._store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []


def test_the_revision_in_code_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [schema.REVISION]


def test_a_new_site_is_at_the_newest_revision(client: LocalClient) -> None:
    with client._store.engine.connect() as connection:
        version = sa.table("alembic_version", sa.column("version_num"))
        assert connection.execute(sa.select(version)).scalar_one() == schema.REVISION


def test_each_site_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        create_site(tmp_path / name)
        client = open_client(tmp_path / name)
        keys.add(client.identity.uuid(1))
        client.close()
    assert len(keys) == 2


# from one version to the next -------------------------------------------------------


def migrate(file: Path, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@on_sqlite
def test_a_site_of_the_first_version_is_upgraded_with_its_jobs(site: Path) -> None:
    (site / "balsam.db").unlink()
    migrate(site / "balsam.db", "0001")
    connection = sqlite3.connect(site / "balsam.db")
    connection.executescript(
        """
        INSERT INTO meta VALUES ('key', '00112233445566778899aabbccddeeff');
        INSERT INTO counters VALUES ('job', 2);
        INSERT INTO apps (id, name, executable) VALUES (1, 'a', '/bin/true');
        INSERT INTO launchers (id, host, pid) VALUES (1, 'h', 2);
        INSERT INTO jobs (id, name, workflow, application, state, retries, memory_mib, tags)
            VALUES (1, 'one', 'w', 'a', 'RESTART_READY', 2, 64, '{"k": "v"}'),
                   (2, 'two', 'w', 'a', 'JOB_FINISHED', 0, 0, '{}');
        """
    )
    rows = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchall()
    with pytest.raises(StoreVersion, match="older"):
        open_client(site)
    migrate(site / "balsam.db", "head")
    after = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchall()
    assert after == rows, "the table was copied"
    connection.close()
    client = open_client(site)
    one, two = client.jobs(ALL)
    assert (one.name, one.state, one.retries, one.memory_mib) == ("one", "RESTART_READY", 2, 64)
    assert one.tags == {"k": "v"}
    assert two.state is State.JOB_FINISHED
    for job in (one, two):
        assert (job.retry, job.retry_at, job.timeouts, job.crashes) == ([], None, 0, 0)
    assert client.apps(ALL) == [App(id=1, name="a", executable="/bin/true")]
    assert [info.id for info in client.launchers()] == [1]
    pilot = Pilot(client, Clock())
    assert [leased.id for leased in pilot.lease()] == [1]
    client.close()


@on_sqlite
def test_an_upgraded_database_equals_a_new_one(site: Path, tmp_path: Path) -> None:
    migrate(tmp_path / "old.db", "0001")
    migrate(tmp_path / "old.db", "head")
    assert tables_and_indexes(tmp_path / "old.db") == tables_and_indexes(site / "balsam.db")


# constraints ------------------------------------------------------------------------


@pytest.mark.parametrize("state", [*STATES, "BOGUS", "", "running"])
def test_only_states_of_the_table_can_be_stored(client: LocalClient, state: str) -> None:
    """Fault A8."""
    add(client, "x")
    statement = sa.update(schema.jobs).values(state=state)
    with client._store.engine.connect() as connection:
        if state in STATES:
            connection.execute(statement)
        else:
            with pytest.raises(sa.exc.IntegrityError):
                connection.execute(statement)


def test_parents_cannot_be_fewer_than_none(client: LocalClient) -> None:
    add(client, "x")
    with (
        client._store.engine.connect() as connection,
        pytest.raises(sa.exc.IntegrityError),
    ):
        connection.execute(sa.update(schema.jobs).values(pending_parents=-1))


def test_an_edge_needs_both_its_jobs_and_a_kind(client: LocalClient) -> None:
    (id_,) = add(client, "x")
    for edge in ({"child": 999, "kind": "ok"}, {"child": id_, "kind": "maybe"}):
        with (
            client._store.engine.connect() as connection,
            pytest.raises(sa.exc.IntegrityError),
        ):
            connection.execute(schema.dependencies.insert().values(parent=id_, **edge))


# versions ---------------------------------------------------------------------------


def set_version(site: Path, version: str | None) -> None:
    connection = sqlite3.connect(site / "balsam.db")
    connection.execute("DELETE FROM alembic_version")
    if version is not None:
        connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
    connection.commit()
    connection.close()


@on_sqlite
@pytest.mark.parametrize(("version", "words"), [("9999", "newer"), ("0000", "older")])
def test_a_database_of_another_version(site: Path, version: str, words: str) -> None:
    set_version(site, version)
    before = (site / "balsam.db").read_bytes()
    with pytest.raises(StoreVersion, match=words) as caught:
        open_client(site)
    assert str(site) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (site / "balsam.db").read_bytes() == before


@on_sqlite
def test_a_database_without_a_version(site: Path) -> None:
    set_version(site, None)
    with pytest.raises(StoreUnreadable, match="not a Balsam database"):
        open_client(site)


@on_sqlite
def test_a_database_without_its_key(site: Path) -> None:
    connection = sqlite3.connect(site / "balsam.db")
    connection.execute("DELETE FROM meta")
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnreadable):
        open_client(site)


@on_sqlite
def test_an_sqlite_database_of_something_else(site: Path) -> None:
    (site / "balsam.db").unlink()
    connection = sqlite3.connect(site / "balsam.db")
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.execute("INSERT INTO alembic_version VALUES ('abcdef')")
    connection.commit()
    connection.close()
    with pytest.raises(BalsamError):
        open_client(site)


# two times, and elsewhere -----------------------------------------------------------


@on_sqlite
def test_a_site_is_made_once(site: Path) -> None:
    before = (site / "balsam.db").read_bytes()
    with pytest.raises(AlreadyExists, match=str(site)):
        create_site(site)
    assert (site / "balsam.db").read_bytes() == before


def test_a_database_is_not_made_over_another(site: Path) -> None:
    """The settings were lost; the jobs are not."""
    client = open_client(site)
    before = client.identity.uuid(1)
    client.close()
    (site / "balsam.toml").unlink()
    with pytest.raises(AlreadyExists, match=f"there is a database at {site}"):
        create_site(site)
    assert not (site / "balsam.toml").exists()
    (site / "balsam.toml").write_text("")
    client = open_client(site)
    assert client.identity.uuid(1) == before
    client.close()


def test_a_database_is_not_made_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.mkdir()
    (path / "balsam.db").write_text("my thesis, which is not a database at all " * 100)
    with pytest.raises(BalsamError):
        create_site(path)
    assert (path / "balsam.db").read_text().startswith("my thesis")
    assert not (path / "balsam.toml").exists()


def test_an_unknown_database_system(tmp_path: Path, balsam_home: Path) -> None:
    balsam_home.mkdir()
    (balsam_home / "settings.toml").write_text('[database]\nurl = "oracle://x/y"\n')
    with pytest.raises(BalsamError, match="oracle"):
        create_site(tmp_path / "new")
    assert not (tmp_path / "new" / "balsam.toml").exists()


def test_where_no_site_is(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="balsam init"):
        open_client(tmp_path)


# one store for all databases --------------------------------------------------------

#: Where systems differ, and may.
SYSTEMS = (
    "dialect.py",
    "sqlite.py",
    "postgres.py",
    "listen.py",
    "users.py",
    "sqlite_upkeep.py",
    "postgres_upkeep.py",
)
#: What only one system understands, as text in a source file.
ONE_SYSTEM = re.compile(
    r"\bjson_(?:each|extract|type|tree|array|object)\b|PRAGMA|sqlite_master|INSERT OR|\browid\b"
    r"|strftime|datetime\(|\bGLOB\b|exec_driver_sql|unnest|jsonb|\bCOPY\b|pg_[a-z]+|\bLISTEN\b|IFNULL|julianday|changes\(\)|last_insert_rowid"
)


@pytest.mark.parametrize("file", sorted(STORE.glob("*.py")), ids=lambda file: file.name)
def test_sql_of_one_system_is_in_few_files(file: Path) -> None:
    found = ONE_SYSTEM.findall(file.read_text())
    assert bool(found) is (file.name in SYSTEMS), found


def test_the_schema_compiles_for_postgresql() -> None:
    system = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in schema.metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=system))
        assert text.strip().startswith("CREATE TABLE")
        for index in table.indexes:
            assert "CREATE" in str(CreateIndex(index).compile(dialect=system))


def test_every_statement_compiles_for_postgresql(client: LocalClient, pilot: Pilot) -> None:
    """Each statement that the store makes while all its functions are used."""
    statements: list[sa.ClauseElement] = []

    def note(_connection: object, statement: sa.ClauseElement, *_: object) -> None:
        if isinstance(statement, sa.ClauseElement):
            statements.append(statement)

    sa.event.listen(client._store.engine, "before_execute", note)
    use_everything(client, pilot)
    sa.event.remove(client._store.engine, "before_execute", note)
    assert len(statements) > 50
    system = postgresql.dialect()  # type: ignore[no-untyped-call]
    for statement in statements:
        text = str(statement.compile(dialect=system))
        assert not re.search(r"\?|INDEXED BY|json_each|json_extract|instr\(", text), text


def use_everything(client: LocalClient, pilot: Pilot) -> None:
    parents = add(client, "a", "b", tags={"k": "v"})
    children = add(client, "c", parents=parents)
    client.add_dependency(parents[0], add(client, "d")[0], Kind.ANY)
    conditions = {
        "name__contains": "a", "name__icontains": "a", "name__startswith": "a",
        "name__endswith": "b", "exit_code__isnull": True, "exit_code__ne": 3, "id__in": [1, 2],
        "name__in": ["a"], "data__x__gt": 1, "data__x": "y", "data__0__ne": True,
        "data__has_key": "x", "tags__k": "v", "data": {}, "data__contains": "x",
        "state_history__contains": "x", "parents": 1, "children__in": [1, 2],
    }  # fmt: skip
    for key, value in conditions.items():
        query = Query(filters=parse({key: value}), order=("-priority",), limit=3, offset=1)
        client.jobs(query)
        client.count_jobs(query)
        client.jobs(Query(excludes=(parse({key: value}),)))
        client.update_jobs(query, {"priority": 1})
    client.state_counts(ALL)
    client.workflow_counts(Query(limit=3))
    client.apps(ALL)
    client.update_apps(ALL, {"name": "a"})
    client.batch_jobs(ALL)
    client.lease(pilot.id, request(1, workflow_filter="w", owner="", minutes_left=3.0))
    pilot.run(*pilot.lease(1, owner=client.jobs(ALL)[0].owner, parallel=False))
    client.outlook(pilot.id, request(serial=False))
    client.renew(pilot.id, 60.0)
    client.expired_launchers()
    client.launchers()
    client.events(Query(filters=parse({"workflow": "w", "message__contains": ""}, "events")))
    client.attempts(parents)
    client.kill_jobs(ALL.where(id__in=children), recursive=True)
    client.rerun_jobs(ALL)
    client.move_jobs(ALL.where(name="d"), State.FAILED)
    client.retire_launcher(pilot.id, "", lost=True)
    client.delete_jobs(ALL)
    client.delete_apps(ALL)
