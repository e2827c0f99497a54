"""How many connections to a PostgreSQL server we hold, and when we let go of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.errors import StoreAway, StoreUnreadable
from balsam.model.wire import LauncherInfo, LeaseRequest, Topic
from tests import postgres
from tests.contract.pilot import Pilot, add, everything
from tests.integration.conftest import wait_until

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@pytest.fixture
def admin(
    database: str, postgres_server: postgres.Server
) -> Iterator[psycopg.Connection[tuple[int]]]:
    """A connection that sees those of the site's database."""
    where = f"host={postgres_server.path} port={postgres_server.port} user=tester dbname=postgres"
    with psycopg.connect(where, autocommit=True) as connection:
        yield connection


OURS = "SELECT {} FROM pg_stat_activity WHERE datname LIKE 'test%' AND state IS NOT NULL"


def held(admin: psycopg.Connection[tuple[int]], *, in_transaction: bool = False) -> int:
    statement = OURS.format("count(*)") + (" AND state LIKE 'idle in%'" if in_transaction else "")
    row = admin.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def end_all(admin: psycopg.Connection[tuple[int]]) -> None:
    admin.execute(OURS.format("pg_terminate_backend(pid)").encode()).fetchall()
    wait_until(lambda: held(admin) == 0)


def test_a_client_has_one_connection_and_a_launcher_two(
    client: LocalClient, pilot: Pilot, admin: psycopg.Connection[tuple[int]]
) -> None:
    add(client, "a")
    pilot.lease()
    everything(client)
    assert held(admin) == 1
    waiting = client.watch(Topic.ENDS)
    assert not waiting.wait(0)
    assert held(admin) == 1, "`balsam wait` listens on the one it has"
    launcher = client.watch(Topic.WORK)
    launcher.fileno()
    wait_until(lambda: held(admin) == 2)
    wait_until(lambda: held(admin, in_transaction=True) == 0)  # a new one first looks at the server
    launcher.close()
    waiting.close()
    wait_until(lambda: held(admin) == 1)


def test_a_hundred_launchers_fit_into_the_hundred_connections_of_a_server(
    client: LocalClient, site: Path, admin: psycopg.Connection[tuple[int]]
) -> None:
    """Ten are kept for others: the tests themselves, users, the server's own."""
    limit = admin.execute(b"SELECT current_setting('max_connections')::int").fetchone()
    assert limit == (100,)
    add(client, *(f"j{i}" for i in range(100)))
    clients, watches, leased = [], [], []
    for _ in range(100):
        another = LocalClient(site, config.load(site))
        clients.append(another)
        watches.append(another.watch(Topic.WORK))
        watches[-1].fileno()
        launcher = another.register_launcher(LauncherInfo(host="h", pid=1), 60)
        request = LeaseRequest(limit=1, memory_mib=1, number=1)
        leased += [job.id for job in another.lease(launcher, request).jobs]
        assert held(admin) <= 90
    for another in clients:
        another.renew(1, 60)
    assert sorted(leased) == list(range(1, 101))
    assert held(admin) <= 90
    assert held(admin, in_transaction=True) == 0
    for watch in watches:
        watch.close()
    for another in clients:
        another.close()


def test_a_connection_that_was_ended_is_made_anew(
    client: LocalClient, pilot: Pilot, admin: psycopg.Connection[tuple[int]]
) -> None:
    watch = client.watch(Topic.WORK)
    watch.fileno()
    wait_until(lambda: held(admin) == 2)
    end_all(admin)
    (id_,) = add(client, "a")
    assert [job.id for job in pilot.lease()] == [id_]
    wait_until(lambda: held(admin) == 2)
    watch.close()


def test_a_watch_hears_of_the_time_without_a_connection(
    client: LocalClient, site: Path, admin: psycopg.Connection[tuple[int]]
) -> None:
    """Something may have happened meanwhile: whoever waits looks."""
    waiting = client.watch(Topic.ENDS)
    end_all(admin)
    assert waiting.wait(30)
    waiting.close()


def test_a_server_that_is_away(site: Path, postgres_server: postgres.Server) -> None:
    settings = config.load(site)
    settings.database.busy_seconds = 0.1
    settings.database.url = f"postgresql://tester@/test?host={site}"
    with pytest.raises(StoreAway, match=r"cannot be reached") as caught:
        LocalClient(site, settings)
    assert caught.value.retryable
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["tester@/nothing", "nobody@/postgres"])
def test_a_server_that_refuses_us(site: Path, postgres_server: postgres.Server, wrong: str) -> None:
    settings = config.load(site)
    settings.database.url = (
        f"postgresql://{wrong}?host={postgres_server.path}&port={postgres_server.port}"
    )
    with pytest.raises(StoreUnreadable, match="does not exist"):
        LocalClient(site, settings)


def test_another_database_of_the_server(site: Path, postgres_server: postgres.Server) -> None:
    settings = config.load(site)
    settings.database.url = (
        f"postgresql://tester@/postgres?host={postgres_server.path}&port={postgres_server.port}"
    )
    with pytest.raises(StoreUnreadable, match="not a Balsam database"):
        LocalClient(site, settings)
