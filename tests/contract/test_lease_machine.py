"""Two launchers and a user do anything in any order, also at once; what must always hold, holds."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from balsam import config
from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from balsam.errors import LeaseLost
from balsam.model.app import App
from tests import postgres
from tests.contract.machine import ANSWERS, CALLS, New, Site, Where
from tests.contract.pilot import Clock


@pytest.fixture
def new(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> New:
    """Makes copies of an empty site."""
    template = tmp_path / "site"
    create_site(template, database)
    client = LocalClient(template, config.load(template))
    client.add_app(App(name="a", executable="x"))
    client.close()

    def copy_file(stack: ExitStack) -> Where:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.copytree(template, folder / "site")
        return folder / "site", config.load(template), Clock()

    def copy_database(stack: ExitStack) -> Where:
        server: postgres.Server = request.getfixturevalue("postgres_server")
        there = config.load(template)
        there.database.url = server.new_database(database)
        stack.callback(server.drop_database, there.database.url)
        return template, there, Clock()

    return copy_file if database == "sqlite" else copy_database


@pytest.mark.slow
def test_what_must_hold_holds(database: str, new: New) -> None:
    Site.new = staticmethod(new)
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=60 if database == "sqlite" else 20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class Crowd:
    """Several at work on one site, each with a thread, a launcher and users of its own."""

    def __init__(self, new: New, stack: ExitStack, count: int) -> None:
        where = new(stack)
        Site.new = staticmethod(lambda _: where)
        self.sites = [Site() for _ in range(count)]
        for site in self.sites:
            stack.callback(site.teardown)
        for site in self.sites:
            site.one_clock = False
        for site, neighbour in zip(self.sites, self.sites[1:] + self.sites[:1], strict=True):
            site.launchers[1] = neighbour.launchers[0]  # which it takes for dead now and then

    def work(self, number: int, seed: int, steps: int) -> None:
        """Do *steps* things at random, and learn from the answers."""
        site, chance = self.sites[number], Random(f"{seed}/{number}")
        for _ in range(steps):
            launcher = site.launchers[0]
            call = getattr(site, chance.choice(CALLS))(chance, launcher)
            try:
                call.learn(call.make(site.client))
            except LeaseLost:
                site.launchers[0] = site.register()
            except ANSWERS:
                pass

    def check(self) -> None:
        site = self.sites[0]
        site.leases_are_of_live_launchers()
        site.events_explain_every_state()
        site.waiting_jobs_know_for_whom()
        site.executions_are_accounted_for()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_crowd(new: New, seed: int) -> None:
    """Four do anything at the same time: each gets an answer as if alone, and all holds."""
    with ExitStack() as stack:
        crowd = Crowd(new, stack, 4)
        with ThreadPoolExecutor(4) as threads:
            for part in range(5):
                at_work = [threads.submit(crowd.work, i, 10 * seed + part, 8) for i in range(4)]
                for each in at_work:
                    each.result()
                crowd.check()
