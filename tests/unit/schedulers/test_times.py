"""Durations and moments, as batch systems write them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.errors import UnreadableAnswer
from balsam.schedulers.times import duration, moment, walltime


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("01:30:00", 5400),
        ("1-12:00:00", 129600),
        ("2-06", 194400),
        ("2-06:30", 196200),
        ("10:00", 600),
        ("90", 90),
        ("::30", 30),
        ("1:0:0", 3600),
        (" 36:00:00 ", 129600),
        ("00:00:10.25", 10),
        ("0", 0),
        ("UNLIMITED", None),
        ("infinite", None),
        ("INFINITY", None),
        ("NOT_SET", None),
        ("n/a", None),
        ("-", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("10:00", 36000), ("01:30:00", 5400), ("1-12:00", 129600)],
)
def test_durations_of_systems_that_count_minutes(text: str, seconds: float) -> None:
    assert duration(text, 60) == seconds


@pytest.mark.parametrize("text", ["", " ", ":", "soon", "1:2:3:4", "-5", "1-", "1h", "10:00 min"])
def test_what_is_no_duration_is_an_error(text: str) -> None:
    with pytest.raises(UnreadableAnswer, match=r"is no duration"):
        duration(text)


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (1, "00:01:00"),
        (90, "01:30:00"),
        (1440, "24:00:00"),
        (0.51, "00:00:31"),
        (6000, "100:00:00"),
    ],
)
def test_walltimes(minutes: float, text: str) -> None:
    assert walltime(minutes) == text


@given(st.integers(1, 10**7))
def test_a_walltime_is_read_as_it_was_written(minutes: int) -> None:
    assert duration(walltime(minutes)) == minutes * 60


@pytest.fixture(params=["UTC", "America/Chicago", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T01:44:37",
        "Mon Nov 23 01:44:37 2026",
        "Mon Nov  2 01:44:37 2026",
        "11/23/2026 01:44:37.123",
    ],
)
def test_moments_are_local(text: str, zone: None) -> None:
    found = moment(text)
    assert found is not None
    assert time.strftime("%H:%M:%S", time.localtime(found)) == "01:44:37"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1795398277", 1795398277.0), ("0", None), ("Unknown", None), ("N/A", None), ("-/-", None)],
)
def test_moments_that_are_seconds_or_not_known(text: str, seconds: float | None) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-45T01:44:37", "12:00:00"])
def test_what_is_no_moment_is_an_error(text: str) -> None:
    with pytest.raises(UnreadableAnswer, match=r"is no time"):
        moment(text)
