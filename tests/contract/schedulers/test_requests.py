"""The life of a request, from the script to what is remembered of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from balsam.errors import SchedulerRefused
from balsam.model.batch_job import ENDED_STATES, BatchState
from tests.contract.schedulers.desk import Desk, wait_until
from tests.contract.schedulers.system import Fate, System

S = BatchState


def test_it_waits_with_a_reason_then_runs_then_ends(desk: Desk, system: System) -> None:
    before = time.time()
    system.fill()
    number = desk.submit()
    waiting = desk.wait_for(number, S.QUEUED)
    assert waiting.scheduler_id == number
    assert waiting.queue in ("", system.queue)
    assert not waiting.nodes
    assert waiting.started_at is waiting.ended_at is waiting.exit_code is None
    wait_until(
        lambda: bool((status := desk.status(number)) and status.reason),
        system.patience,
        lambda: desk.status(number),
    )
    system.start(number)
    running = desk.wait_for(number, S.RUNNING)
    assert running.nodes
    assert running.queue == system.queue
    assert running.started_at is not None
    precision = getattr(system, "precision", 1.0)  # some write no seconds
    assert before - precision < running.started_at < time.time() + 1
    assert running.ended_at is running.exit_code is None
    desk.end(number, Fate.FINISHED)
    ended = desk.wait_for(number, *ENDED_STATES)
    assert (ended.state, ended.exit_code) == (S.FINISHED, 0)
    # Of Grid Engine, qmaster looks at the clock for the one and the host for the other.
    assert ended.started_at is not None
    assert abs(ended.started_at - running.started_at) <= 1
    assert ended.ended_at is not None
    assert running.started_at <= ended.ended_at < time.time() + 1


def test_its_exit_code_is_told(desk: Desk) -> None:
    number = desk.running()
    desk.end(number, Fate.FAILED)
    ended = desk.wait_for(number, *ENDED_STATES)
    assert (ended.state, ended.exit_code) == (S.FAILED, 3)


@pytest.mark.slow
def test_it_is_killed_at_its_walltime(desk: Desk, system: System) -> None:
    number = desk.running(flags=system.short)
    desk.end(number, Fate.TIMEOUT)
    assert desk.wait_for(number, *ENDED_STATES).state is S.TIMEOUT


def test_it_is_cancelled_while_it_runs_and_again(desk: Desk, system: System) -> None:
    number = desk.running()
    system.scheduler.cancel(desk.run, [number])
    assert desk.wait_for(number, *ENDED_STATES).state is S.CANCELLED
    system.scheduler.cancel(desk.run, [number])


def test_it_is_cancelled_while_it_waits(desk: Desk, system: System) -> None:
    system.fill()
    number = desk.submit()
    desk.wait_for(number, S.QUEUED)
    system.scheduler.cancel(desk.run, [number])
    ended = desk.wait_for(number, *ENDED_STATES)
    assert ended.state is S.CANCELLED
    assert ended.started_at is None


def test_one_command_asks_for_all_and_leaves_out_what_is_not_known(
    desk: Desk, system: System
) -> None:
    system.fill()
    numbers = [desk.submit(f"balsam.{n}") for n in range(3)]
    before = len(desk.calls)
    found = system.scheduler.status(desk.run, [*numbers, "999999"])
    asked = len(desk.calls) - before
    assert set(found) == set(numbers)
    assert {each.state for each in found.values()} == {S.QUEUED}
    before = len(desk.calls)
    assert set(system.scheduler.status(desk.run, numbers[:1])) == {numbers[0]}
    assert len(desk.calls) - before == asked
    assert system.scheduler.status(desk.run, ["999999"]) == {}
    assert system.scheduler.history(desk.run, ["999999"]) == {}
    assert "999999" not in system.scheduler.history(desk.run, [*numbers, "999999"])


def test_nothing_is_asked_of_no_requests(desk: Desk, system: System) -> None:
    assert system.scheduler.status(desk.run, []) == {}
    assert system.scheduler.history(desk.run, []) == {}
    system.scheduler.cancel(desk.run, [])
    assert desk.calls == []


def test_to_cancel_what_is_not_known_is_no_error(desk: Desk, system: System) -> None:
    number = desk.running()
    system.scheduler.cancel(desk.run, ["999999", number])
    assert desk.wait_for(number, *ENDED_STATES).state is S.CANCELLED


def test_it_is_found_by_its_name(desk: Desk, system: System) -> None:
    name = "balsam-0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ.abcdefghijklmno"
    system.fill()
    desk.submit(f"{name}1")
    number = desk.submit(name)
    assert system.scheduler.find(desk.run, name) == number
    assert system.scheduler.find(desk.run, name[:-1]) is None
    assert system.scheduler.find(desk.run, "balsam-nothing") is None


def test_paths_keep_their_odd_characters(desk: Desk, system: System, tmp_path: Path) -> None:
    desk.path = tmp_path / "a b'c$HOME%j#d;e&f"
    number = desk.running()
    desk.end(number, Fate.FINISHED)
    desk.wait_for(number, S.FINISHED)
    output = Path(desk.submissions[number].output)
    wait_until(output.exists, system.patience, lambda: sorted(tmp_path.rglob("*")))
    wait_until(lambda: f"in {desk.path}\n" in output.read_text(), system.patience, output.read_text)


def test_what_is_refused_is_told_in_its_words(desk: Desk, system: System) -> None:
    with pytest.raises(SchedulerRefused, match=system.refusal):
        desk.submit(queue="nope")


def test_several_nodes_are_given_at_once(desk: Desk, system: System) -> None:
    number = desk.running(num_nodes=system.num_nodes)
    assert desk.wait_for(number, S.RUNNING).nodes
