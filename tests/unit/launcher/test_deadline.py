"""The end of a launcher's time: who may still start, and who is warned when."""

from __future__ import annotations

import math
import signal
from typing import Any

import pytest

from balsam.launcher.deadline import LAST_SECONDS, Deadline, Warned
from balsam.launcher.messages import Started
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.run_time import RunTime

#: When the launchers of these tests begin, and when all is asked to end.
BEGIN, STOP = 1_000.0, 4_600.0


def deadline(*run_times: RunTime, seconds: float = STOP - BEGIN) -> Deadline:
    """A launcher that has so many seconds before it asks all to end."""
    made = Deadline(BEGIN + seconds + LAST_SECONDS + 10, 10.0)
    assert made.minutes_left(BEGIN) == seconds / 60
    made.learn(list(run_times))
    return made


def took(mean: float, deviation: float = 0.0, ranks: int = 1, count: int = 9) -> RunTime:
    return RunTime(
        application="a", ranks=ranks, count=count, mean_seconds=mean, deviation=deviation
    )


def job(**fields: Any) -> Job:
    return Job(id=1, name="j", application="a", **fields)


def started(time: float) -> Started:
    return Started(7, 99, time, "", 0)


# who may start ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learned", "fields", "left", "can_end"),
    [
        ([], {}, 1.0, True),
        ([], {"wall_time_minutes": 2.0}, 120.0, True),
        ([], {"wall_time_minutes": 2.0}, 119.0, False),
        ([took(100)], {}, 111.0, True),
        ([took(100)], {}, 109.0, False),
        ([took(100, 20)], {}, 159.0, False),
        ([took(100, count=2)], {}, 1.0, True),
        ([took(100, ranks=2)], {}, 1.0, True),
        ([took(100, ranks=6)], {"num_nodes": 2, "ranks_per_node": 3}, 109.0, False),
        ([took(100)], {"timeouts": 1}, 1.0, True),
        ([took(100)], {"timeouts": 1, "wall_time_minutes": 2.0}, 1.0, False),
        ([took(1000)], {"wall_time_minutes": 2.0}, 120.0, True),
    ],
)
def test_who_has_time_enough(
    learned: list[RunTime], fields: dict[str, Any], left: float, can_end: bool
) -> None:
    assert deadline(*learned).can_end(job(**fields), STOP - left) is can_end


def test_without_an_end_all_have_time() -> None:
    endless = Deadline(None, 10.0)
    endless.learn([took(1e9)])
    assert endless.minutes_left(BEGIN) is None
    assert endless.can_end(job(wall_time_minutes=1e6), BEGIN)
    assert endless.too_long(BEGIN) == []
    assert endless.times() == []
    assert endless.stop_at == math.inf


def test_the_database_is_told_what_would_be_refused() -> None:
    learned = [took(100), took(300, ranks=2), took(900, ranks=4), took(500, ranks=8, count=1)]
    time = deadline(*learned)
    assert time.too_long(STOP - 320) == [("a", 2), ("a", 4)]
    for left in (50.0, 200.0, 320.0, 350.0, 2000.0):
        refused = {
            ("a", each.ranks)
            for each in learned
            if not time.can_end(job(ranks_per_node=each.ranks), STOP - left)
        }
        assert set(time.too_long(STOP - left)) == refused


def test_runs_that_may_be_longer_than_any_launcher_has_are_started_with_time_for_most() -> None:
    """Else they would never run where allocations are short."""
    short = deadline(took(100, 50), seconds=200.0)
    assert short.can_end(job(), BEGIN)
    assert short.too_long(BEGIN) == []
    assert not short.can_end(job(), BEGIN + 101)
    assert short.too_long(BEGIN + 101) == [("a", 1)]


# warnings ---------------------------------------------------------------------------


def test_a_job_is_warned_once() -> None:
    time = deadline()
    end = STOP + LAST_SECONDS + 10
    time.warn(job(signal="USR1@120"), None, started(BEGIN))
    assert time.times() == [STOP, end - 120]
    assert time.due(end - 121) == []
    assert time.due(end - 120) == [Warned(end - 120, 7, signal.SIGUSR1)]
    assert time.due(end) == []
    assert time.times() == [STOP]


@pytest.mark.parametrize(
    ("of_job", "of_app", "number"),
    [("", "USR2@60", signal.SIGUSR2), ("TERM@60", "USR2@60", signal.SIGTERM), ("none", "USR2", 0)],
)
def test_a_jobs_signal_goes_before_its_apps(of_job: str, of_app: str, number: int) -> None:
    time = deadline()
    app = App(name="a", executable="x", signal=of_app)
    time.warn(job(signal=of_job), app, started(BEGIN))
    assert [warned.signal for warned in time.due(STOP)] == ([number] if number else [])


def test_a_late_warning_comes_with_the_request_to_end() -> None:
    time = deadline()
    time.warn(job(signal="USR1@1"), None, started(BEGIN))
    assert [warned.time for warned in time.due(STOP)] == [STOP]


def test_who_starts_after_his_warning_is_not_warned() -> None:
    time = deadline()
    time.warn(job(signal="USR1@3000"), None, started(BEGIN + 700))
    assert time.due(STOP) == []
