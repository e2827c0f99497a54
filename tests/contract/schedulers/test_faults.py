"""Wrong answers: each is the right error, and no request vanishes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from balsam.errors import SchedulerAway, UnreadableAnswer
from balsam.model.batch_job import ENDED_STATES, BatchState
from balsam.schedulers.command import Command
from balsam.schedulers.scheduler import Run, Scheduler
from tests.contract.schedulers.desk import Desk
from tests.contract.schedulers.system import Fate, Fault, Faulty

S = BatchState
NAME = "balsam.test-1_a"

#: What is asked of an adapter, of one request.
QUESTIONS: dict[str, Callable[[Scheduler, Run, str], object]] = {
    "status": lambda scheduler, run, number: scheduler.status(run, [number]),
    "find": lambda scheduler, run, number: scheduler.find(run, NAME),
    "queues": lambda scheduler, run, number: scheduler.queues(run),
    "cancel": lambda scheduler, run, number: scheduler.cancel(run, [number]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_nobody_to_ask(faulty: Faulty, faulty_desk: Desk, question: str) -> None:
    number = faulty_desk.submit()
    faulty.fault(Fault.AWAY)
    with pytest.raises(SchedulerAway):
        QUESTIONS[question](faulty.scheduler, faulty_desk.run, number)
    faulty.fault(None)
    assert faulty_desk.status(number)


def test_nobody_to_submit_to(faulty: Faulty, faulty_desk: Desk) -> None:
    faulty.fault(Fault.AWAY)
    with pytest.raises(SchedulerAway):
        faulty_desk.submit(NAME)
    faulty.fault(None)
    assert faulty.scheduler.find(faulty_desk.run, NAME) is None


def test_no_command(faulty: Faulty, tmp_path: Path) -> None:
    run = Command(5, {"PATH": str(tmp_path)})
    assert not faulty.scheduler.is_here(run)
    with pytest.raises(SchedulerAway, match=r"there is no program"):
        faulty.scheduler.status(run, ["101"])


def test_a_submission_whose_command_hangs_is_found(faulty: Faulty, faulty_desk: Desk) -> None:
    submission = faulty_desk.write(NAME)
    faulty.fault(Fault.HANGS, only_submission=True)
    with pytest.raises(SchedulerAway, match=r"did not end within 2 s"):
        faulty.scheduler.submit(Command(2, faulty.environ), submission)
    faulty.fault(None)
    number = faulty.scheduler.find(faulty_desk.run, NAME)
    assert number is not None
    found = faulty_desk.status(number)
    assert found is not None
    assert found.state is S.QUEUED


def test_a_query_that_hangs(faulty: Faulty, faulty_desk: Desk) -> None:
    number = faulty_desk.submit()
    faulty.fault(Fault.HANGS)
    with pytest.raises(SchedulerAway):
        faulty.scheduler.status(Command(0.5, faulty.environ), [number])


def test_a_submission_that_says_nothing_is_found(faulty: Faulty, faulty_desk: Desk) -> None:
    faulty.fault(Fault.EMPTY, only_submission=True)
    with pytest.raises(UnreadableAnswer, match=r"wrote nothing"):
        faulty_desk.submit(NAME)
    faulty.fault(None)
    assert faulty.scheduler.find(faulty_desk.run, NAME) is not None


def test_an_empty_answer_is_none(faulty: Faulty, faulty_desk: Desk) -> None:
    number = faulty_desk.submit()
    faulty.fault(Fault.EMPTY)
    with pytest.raises(UnreadableAnswer, match=r"nothing"):
        faulty_desk.status(number)
    with pytest.raises(UnreadableAnswer, match=r"nothing"):
        faulty.scheduler.queues(faulty_desk.run)


@pytest.mark.parametrize("fate", [None, Fate.FINISHED, Fate.FAILED])
def test_chatter_before_the_answer(faulty: Faulty, faulty_desk: Desk, fate: Fate | None) -> None:
    faulty.fault(Fault.CHATTER)
    number = faulty_desk.running()
    assert faulty.scheduler.is_here(faulty_desk.run)
    found = faulty_desk.status(number)
    assert found is not None
    assert found.state is S.RUNNING
    assert faulty.scheduler.find(faulty_desk.run, NAME) == number
    assert {queue.name for queue in faulty.scheduler.queues(faulty_desk.run)} >= {faulty.queue}
    faulty.scheduler.windows(faulty_desk.run)
    if fate:
        faulty_desk.end(number, fate)
        assert faulty_desk.wait_for(number, *ENDED_STATES).state == fate.value
    else:
        faulty.scheduler.cancel(faulty_desk.run, [number])
        assert faulty_desk.wait_for(number, *ENDED_STATES).state is S.CANCELLED


def test_a_damaged_answer_is_an_error_with_its_line(faulty: Faulty, faulty_desk: Desk) -> None:
    number = faulty_desk.running()
    good = faulty_desk.status(number)
    faulty.fault(Fault.DAMAGED)
    with pytest.raises(UnreadableAnswer, match=r"wrote .*"):
        faulty_desk.status(number)
    with pytest.raises(UnreadableAnswer, match=r"wrote .*"):
        faulty.scheduler.queues(faulty_desk.run)
    faulty.fault(None)
    assert faulty_desk.status(number) == good


def test_a_strange_word_is_kept(faulty: Faulty, faulty_desk: Desk) -> None:
    number = faulty_desk.running()
    faulty.fault(Fault.STRANGE)
    found = faulty_desk.status(number)
    assert found is not None
    assert found.state is S.UNKNOWN
    assert found.word
    assert found.exit_code is found.ended_at is None


def test_what_is_missing_for_a_while_has_not_ended(faulty: Faulty, faulty_desk: Desk) -> None:
    number = faulty_desk.running()
    faulty.fault(Fault.MISSING)
    assert faulty_desk.ask(number) is None
    faulty.fault(None)
    found = faulty_desk.status(number)
    assert found is not None
    assert found.state is S.RUNNING


def test_what_the_queue_forgot_is_history_or_nothing(faulty: Faulty, faulty_desk: Desk) -> None:
    number = faulty_desk.running()
    faulty_desk.end(number, Fate.FAILED)
    faulty.forget(number)
    assert faulty_desk.status(number) is None
    history = faulty.scheduler.history(faulty_desk.run, [number])
    for found in history.values():
        assert (found.scheduler_id, found.state, found.exit_code) == (number, S.FAILED, 3)
