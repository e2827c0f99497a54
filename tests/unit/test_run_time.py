"""What is learned of run times."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.run_time import Moments, RunTime, joined, moments

SECONDS = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


def found(seconds: list[float]) -> Moments:
    got = moments(seconds)
    assert got is not None
    return got


@given(SECONDS, SECONDS)
def test_parts_joined_are_the_whole(one: list[float], other: list[float]) -> None:
    both = joined(found(one), found(other))
    assert both.count == len(one) + len(other)
    assert both.mean_seconds == pytest.approx(statistics.fmean(one + other), rel=1e-9, abs=1e-9)
    assert both.deviation == pytest.approx(statistics.stdev(one + other), rel=1e-6, abs=1e-4)


def test_a_small_spread_far_from_zero_is_kept() -> None:
    """A sum of squares would have lost it."""
    times = [1e9 + n / 1000 for n in range(100)]
    total = found(times[:1])
    for each in times[1:]:
        total = joined(total, found([each]))
    assert total.deviation == pytest.approx(statistics.stdev(times), rel=1e-3)


def test_what_no_clock_measured_is_left_out() -> None:
    assert moments([]) is None
    assert moments([-1.0, math.nan, math.inf]) is None
    assert moments([-1.0, 4.0, math.inf]) == Moments(1, 4.0, 0.0)
    assert found([0.0]).deviation == 0.0


def run_time(count: int, mean: float, deviation: float) -> RunTime:
    return RunTime(application="a", ranks=1, count=count, mean_seconds=mean, deviation=deviation)


@pytest.mark.parametrize(
    ("count", "mean", "deviation", "longest"),
    [
        (1, 100.0, 0.0, None),
        (2, 100.0, 50.0, None),
        (3, 100.0, 50.0, 250.0),
        (3, 100.0, 0.0, 110.0),
        (9, 100.0, 3.0, 110.0),
        (9, 0.0, 0.0, 0.0),
    ],
)
def test_the_margin(count: int, mean: float, deviation: float, longest: float | None) -> None:
    learned = run_time(count, mean, deviation)
    assert learned.expected == mean
    assert learned.longest == (None if longest is None else pytest.approx(longest))


@pytest.mark.parametrize(
    ("count", "whole", "needed"),
    [
        (2, 1000.0, 0.0),
        (9, 1000.0, 250.0),
        (9, 250.0, 250.0),
        (9, 249.0, 100.0),
        (9, 50.0, 100.0),
    ],
)
def test_what_must_be_left(count: int, whole: float, needed: float) -> None:
    """What takes longer than any launcher has would else never run."""
    assert run_time(count, 100.0, 50.0).needed(whole) == pytest.approx(needed)
