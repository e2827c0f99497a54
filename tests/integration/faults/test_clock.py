"""The machine's clock is set while launchers run: libfaketime moves what they are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam.model.query import Query
from balsam.model.wire import Outcome
from tests import postgres
from tests.integration.conftest import Campaign, Launcher, Start, wait_until
from tests.integration.faults.conftest import (
    all_finished,
    balsam,
    executions,
    note_executions,
    persistent,
    settings,
)
from tests.integration.test_crash import check_accounts

#: Hours by which the clock is wrong, one after the other.
STEPS = (3, -5, 0)
LEASE_SECONDS = 3.0


class Clock:
    """A clock that processes with `environ` read, set with `jump`."""

    def __init__(self, file: Path) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None and os.environ.get("CI"):
            pytest.fail("libfaketime is missing: install it (Debian: apt-get install faketime)")
        if library is None:
            pytest.skip("libfaketime is not installed (Debian: apt-get install faketime)")
        self._file = file
        self.jump(0)
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, hours: int) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{3600 * hours:+d}\n")
        aside.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def check_times(campaign: Campaign) -> None:
    """Check that no execution ended before it began, and events came one after the other."""
    for attempt in campaign.client.iterate_attempts(Query()):
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        assert 0 <= attempt.ended_at - attempt.started_at < 3600, attempt
    times: dict[int, list[float]] = {}
    for event in campaign.client.iterate_events(Query()):
        times.setdefault(event.job, []).append(event.time)
    for job, found in times.items():
        assert found == sorted(found), campaign.tell(job)


def wait_for_signs_of_life(campaign: Campaign, launchers: list[Launcher]) -> None:
    """Wait until each launcher renewed its lease, and so looked for dead ones, twice.

    The first may have been on its way before.
    """
    signs: dict[int, set[float]] = {}

    def two_of_each() -> bool:
        for info in campaign.client.launchers():
            signs.setdefault(info.id, set()).add(info.expires_at)
        return all(len(seen) > 2 for seen in signs.values())

    wait_until(two_of_each, lambda: (signs, [launcher.output for launcher in launchers]))


def run_while_it_jumps(campaign: Campaign, clock: Clock, start: Start) -> None:
    """Run jobs, made before and after each step, on two launchers."""
    settings(campaign, f"[launcher]\nlease_seconds = {LEASE_SECONDS}\n")
    executed = note_executions(campaign, "note", "sleep 0.2")
    with persistent(campaign, start, 2, env=clock.environ) as launchers:
        for hours in STEPS:
            campaign.jobs("note", *(f"before{hours}_{i}" for i in range(20)))
            executions_before = executions(executed)
            wait_until(lambda least=executions_before: executions(executed) > least)
            clock.jump(hours)
            words = ["--name", f"at{hours}", "--workflow", "w", "--application", "note", "--yes"]
            added = balsam(campaign, "job", *words, env=clock.environ)
            said = added.communicate()
            assert added.returncode == 0, said
            wait_for_signs_of_life(campaign, launchers)
        wait_until(lambda: all_finished(campaign), campaign.states)
        live = [info.id for info in campaign.client.launchers()]
        assert live == [1, 2], [launcher.output for launcher in launchers]
    check_accounts(campaign, executed, 21 * len(STEPS))
    outcomes = {attempt.outcome for attempt in campaign.client.iterate_attempts(Query())}
    assert outcomes == {Outcome.DONE}, "a live launcher was taken for dead"
    check_times(campaign)


@pytest.mark.slow
def test_the_clock_of_the_launchers_is_set(campaign: Campaign, clock: Clock, start: Start) -> None:
    run_while_it_jumps(campaign, clock, start)


class TestServer:
    """The database server's clock is set with theirs."""

    @pytest.fixture
    def database(self, clock: Clock) -> Iterator[str]:
        server = postgres.Server(postgres.require(), environ=clock.environ)
        yield server.new_database()
        server.stop()

    @pytest.mark.slow
    def test_the_clock_of_all_is_set(self, campaign: Campaign, clock: Clock, start: Start) -> None:
        run_while_it_jumps(campaign, clock, start)
