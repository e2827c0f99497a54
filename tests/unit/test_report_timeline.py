"""Binned timelines against exact integration."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from balsam.report.timeline import Timeline

EPOCH = 1_900_000_000.0


def test_averages_are_exact_in_every_bin() -> None:
    line = Timeline(most_bins=8, origin=EPOCH)
    line.interval("busy", EPOCH + 0.5, EPOCH + 2.25, 3)
    line.step("end", EPOCH + 4, 0)
    assert line.width == 0.5
    edges = [EPOCH, *line.times]
    assert edges[-1] == EPOCH + 4
    assert line.averages("busy") == [0, 3, 3, 3, 1.5, 0, 0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_the_integral_survives_any_number_of_widenings_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    line = Timeline(most_bins=50)
    exact = 0.0
    for _ in range(300):
        start = EPOCH + rng.uniform(-1000, 1000) * rng.random() ** 6
        length, amount = rng.expovariate(0.1), rng.randint(1, 9)
        line.interval("x", start, start + length, amount)
        exact += length * amount
    assert line.start is not None
    edges = [line.start, *line.times]
    assert 2 < len(edges) <= 51
    widths = [b - a for a, b in pairwise(edges)]
    integral = sum(w * mean for w, mean in zip(widths, line.averages("x"), strict=True))
    assert integral == pytest.approx(exact, rel=1e-6)
    assert line.levels("x")[-1] == 0


def test_levels_are_those_at_the_end_of_each_bin() -> None:
    line = Timeline(most_bins=4, origin=EPOCH)
    for second in range(8):
        line.step("finished", EPOCH + second + 0.5, 1)
    assert line.width == 2
    assert line.levels("finished") == [2, 4, 6, 8]


def test_the_last_bin_ends_with_the_last_step() -> None:
    line = Timeline(most_bins=4, origin=EPOCH)
    line.interval("offered", EPOCH, EPOCH + 7, 2)
    assert line.times[-1] == EPOCH + 7
    assert line.averages("offered") == [2, 2, 2, 2]


def test_times_before_the_origin_make_room() -> None:
    line = Timeline(most_bins=4)
    line.step("x", EPOCH, 1)
    line.step("x", EPOCH - 10, 1)
    assert line.start is not None
    assert line.start <= EPOCH - 10
    assert line.levels("x")[-1] == 2


def test_an_empty_timeline_has_no_bins() -> None:
    line = Timeline()
    assert (line.start, line.times, line.averages("x"), line.levels("x")) == (None, [], [], [])
