"""Connections cut at each request of a cycle: each thing is done once, and every answer is right.

A proxy cuts before a request reaches the server, or before its answer reaches us; the case of
interest is the answer to COMMIT, which says whether all was done or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from balsam import config
from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from balsam.errors import StoreUncertain
from balsam.model.app import App
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, Outcome
from tests import postgres
from tests.contract.pilot import Clock, Pilot, add, everything, request
from tests.proxy import Cut, Proxy

S = State


@pytest.fixture
def proxy(postgres_server: postgres.Server) -> Iterator[Proxy]:
    proxy = Proxy(postgres_server.port)
    yield proxy
    proxy.close()


class Desk:
    """One database: `direct` sees what is there, `client` speaks through the proxy."""

    def __init__(self, site: Path, url: str, proxied: str) -> None:
        self.clock = Clock()
        self.site, self.url = site, url
        settings = config.load(site)
        settings.database.url = url
        self.direct = LocalClient(site, settings, self.clock)
        self.direct.add_app(App(name="a", executable="x"))
        self._proxied = proxied
        self.client = self.connect(60.0)

    def connect(self, busy_seconds: float) -> LocalClient:
        """Return another client through the proxy, which gives up after *busy_seconds*."""
        settings = config.load(self.site)
        settings.database.url, settings.database.busy_seconds = self._proxied, busy_seconds
        return LocalClient(self.site, settings, self.clock)

    def close(self) -> None:
        self.client.close()
        self.direct.close()


@pytest.fixture
def desk(
    postgres_server: postgres.Server, postgres_url: str, proxy: Proxy, tmp_path: Path
) -> Iterator[Desk]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f'[database]\nurl = "{postgres_url}"\n')
    create_site(tmp_path / "site")
    proxied = postgres_server.url_at(proxy.port, postgres_url)
    desk = Desk(tmp_path / "site", postgres_url, proxied)
    yield desk
    desk.close()


class Launcher(Pilot):
    """A launcher that is registered already."""

    def __init__(self, client: LocalClient, clock: Clock, id_: int) -> None:
        self.client, self.clock, self.id = client, clock, id_


#: What is done beside a launcher that holds 'a', 'b' (whose child is 'c') and 'd'; 'e' is free.
Part = Callable[[LocalClient, Launcher, list[Job]], Any]


def creates(client: LocalClient, _launcher: Launcher, held: list[Job]) -> Any:
    new = [
        Job(name="x", workflow="w", application="a", parents=[held[0].id or 0]),
        Job(name="y", workflow="w", application="a", parents_any=[-1]),
        Job(name="z", workflow="w", application="a"),
    ]
    ids = client.create_jobs(new)
    client.add_dependency(ids[2], ids[1], Kind.FAIL)
    return ids


def leases(client: LocalClient, launcher: Launcher, _held: list[Job]) -> Any:
    info = LauncherInfo(host="node2", pid=4711)
    new = Launcher(client, launcher.clock, client.register_launcher(info, 60.0))
    first, nothing = new.lease(number=1), new.lease(number=2)
    renewal = client.renew(new.id, 60.0)
    client.retire_launcher(new.id, "ends", lost=True)
    return [job.name for job in first], nothing, renewal


def reports(_client: LocalClient, launcher: Launcher, held: list[Job]) -> Any:
    """The end of 'b' lets 'c' go, the retry of 'd' is charged once."""
    a, b, d = held
    refusals = launcher.start(a, b, d)
    refusals += launcher.end(b)
    retried = launcher.path(d, S.RUNNING, S.RUN_ERROR, S.RESTART_READY)[1:]
    refusals += launcher.report(moves=retried, attempts=[launcher.attempt(d, Outcome.ERROR)])
    return refusals, [job.name for job in launcher.lease(number=7)]


def users_do(client: LocalClient, launcher: Launcher, held: list[Job]) -> Any:
    """Kill and rerun, move, change and remove."""
    a, b, d = held
    killed = client.kill_jobs(ALL.where(id=b.id), recursive=True)
    renewal = client.renew(launcher.id, 60.0)
    launcher.report(released=[b.id or 0])
    again = client.rerun_jobs(ALL.where(id=b.id))
    moved = client.move_jobs(ALL.where(id=a.id), S.FAILED, "no more")
    changed = client.update_jobs(ALL.where(id=b.id), {"priority": 5})
    removed = client.delete_jobs(ALL.where(id=d.id))
    return sorted(killed), renewal, again, moved, changed, removed


PARTS = [creates, leases, reports, users_do]


def run_through(desk: Desk, proxy: Proxy, part: Part, cut: Cut | None) -> tuple[int, Any]:
    """Do *part* in a database made empty; return how many requests, and what came of it."""
    with psycopg.connect(desk.url) as server:
        for table in ("jobs", "dependencies", "events", "attempts", "launchers"):
            server.execute(f"DELETE FROM {table}".encode())
        server.execute("ALTER SEQUENCE launchers_id_seq RESTART")
        server.execute("UPDATE counters SET value = 0")
    direct = desk.direct
    info = LauncherInfo(host="node1", pid=4711)
    launcher = Launcher(desk.client, desk.clock, direct.register_launcher(info, 60.0))
    first = add(direct, "a", "b", "d", max_retries=1)
    add(direct, "c", parents=[first[1]])
    held = direct.lease(launcher.id, request()).jobs
    add(direct, "e")
    proxy.cut_at(cut)
    answers = part(desk.client, launcher, held)
    requests = proxy.count
    proxy.cut_at(None)
    return requests, (answers, *plain(direct))


def plain(client: LocalClient) -> tuple[Any, ...]:
    """Return all rows; ids that a transaction used which came to nothing leave no gap."""
    found = msgspec.to_builtins((*everything(client), client.launchers(live=False)))
    jobs, events, attempts, edges, apps, launchers = found
    ranks = {info["id"]: rank for rank, info in enumerate(launchers, 1)} | {None: None}
    for event in events:
        del event["id"]
    for row in (*jobs, *attempts):
        row["launcher_id"] = ranks[row["launcher_id"]]
    for info in launchers:
        info["id"] = ranks[info["id"]]
    return jobs, events, attempts, edges, apps, launchers


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("part", PARTS)
def test_each_request_of_a_cycle(desk: Desk, proxy: Proxy, part: Part, after: bool) -> None:
    requests, expected = run_through(desk, proxy, part, None)
    assert requests > 20
    for number in range(1, requests + 1):
        cuts = proxy.cuts
        _, found = run_through(desk, proxy, part, Cut(number, after))
        assert proxy.cuts == cuts + 1
        assert found == expected, (
            f"request {number} of {requests}, a {proxy.kinds[number - 1 : number]}"
        )


# the server stays away -----------------------------------------------------------------------


def cut_the_end(desk: Desk, proxy: Proxy, call: Callable[[LocalClient], Any], after: bool) -> Any:
    """Make *call* once untouched, then with its COMMIT cut and the server away; return the first.

    The second raises `StoreUncertain`.
    """
    client = desk.connect(60.0)
    proxy.cut_at(None)
    answer = call(client)
    last = proxy.count
    client.close()
    client = desk.connect(0.3)
    proxy.cut_at(Cut(last, after), for_good=True)
    with pytest.raises(StoreUncertain, match="whether the change was made is not known"):
        call(client)
    proxy.refuse(False)
    client.close()
    return answer


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
def test_what_cannot_be_known_is_said(desk: Desk, proxy: Proxy, after: bool) -> None:
    """The answer to COMMIT is lost, and the server stays away for longer than we wait."""
    add(desk.direct, "job")
    priority = count(1)

    def change(client: LocalClient) -> int:
        return client.update_jobs(ALL, {"priority": next(priority)})

    assert cut_the_end(desk, proxy, change, after) == 1
    assert [job.priority for job in desk.direct.jobs(ALL)] == [2 if after else 1]


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
def test_a_lease_that_is_asked_for_again_is_the_same(desk: Desk, proxy: Proxy, after: bool) -> None:
    """The launcher asks again, as it does not know whether the first lease was made."""
    launcher = desk.direct.register_launcher(LauncherInfo(host="node1", pid=4711), 60.0)
    add(desk.direct, *(f"j{i}" for i in range(9)))
    number = count(1)
    last = 0

    def lease(client: LocalClient) -> list[str]:
        nonlocal last
        last = next(number)
        return [job.name for job in client.lease(launcher, request(limit=3, number=last)).jobs]

    assert cut_the_end(desk, proxy, lease, after) == ["j0", "j1", "j2"]
    mine = {job.name for job in desk.direct.jobs(ALL.where(launcher_id=launcher))}
    assert len(mine) == (6 if after else 3)
    again = desk.direct.lease(launcher, request(limit=3, number=last)).jobs
    assert [job.name for job in again] == ["j3", "j4", "j5"]
    assert desk.direct.count_jobs(ALL.where(launcher_id=launcher)) == 6
