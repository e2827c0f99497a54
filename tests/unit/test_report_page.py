"""The page: complete, self-contained, and safe against what jobs are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from balsam.model.job import Job
from balsam.model.states import State
from balsam.model.wire import Attempt, Event, LauncherInfo, Outcome
from balsam.report.axes import amount_ticks, time_ticks
from balsam.report.charts import HEIGHT, WIDTH, utilization_chart
from balsam.report.job_rows import JobRow
from balsam.report.page import render
from balsam.report.quantities import core_time, duration, rate
from balsam.report.records import Summary
from balsam.report.tally import Tally

START = 1_900_000_000.0
VOID = {"meta", "input"}


class Checker(HTMLParser):
    """Collects the open tags and everything that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.titles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.titles += tag == "title"
        self.loads += [f"{k}={v}" for k, v in attrs if k in ("src", "href", "srcset", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{k}={v}" for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def campaign(name: str = "job") -> tuple[Summary, list[JobRow]]:
    info = LauncherInfo(
        id=1, host="h", pid=1, cores=2, started_at=START, ended_at=START + 50, expires_at=START + 99
    )
    tally = Tally([info], START + 60)
    job = Job(id=1, name=name, application="sim", state=State.JOB_FINISHED, attempt=1, exit_code=0)
    attempt = Attempt(
        job=1,
        number=1,
        launcher_id=1,
        started_at=START + 1,
        ended_at=START + 41,
        outcome=Outcome.DONE,
        exit_code=0,
    )
    tally.attempt(attempt, job)
    tally.offer(used_only=False)
    tally.event(Event(time=START, job=1, from_state="", to_state="PREPROCESSED"))
    tally.event(Event(time=START + 41, job=1, from_state="RUNNING", to_state="JOB_FINISHED"))
    return tally.summary("/path/site", "", {State.JOB_FINISHED: 1}), [JobRow(job, attempt)]


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = render(*campaign())
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.loads == []
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert checker.titles > 100  # one for the page, the others show on hovering
    for heading in ("Utilization", "Throughput", "Jobs by phase", "Applications", "Launchers"):
        assert f"<h2>{heading}</h2>" in page
    assert "40.0 %" in page


def test_names_cannot_become_markup() -> None:
    page = render(*campaign("<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_site_where_nothing_ran_has_a_page_too() -> None:
    tally = Tally([], START)
    tally.offer(used_only=False)
    page = render(tally.summary("/path/site", "", {}), [])
    assert "Nothing has run yet." in page
    assert "nan" not in page


def test_curves_stay_inside_the_canvas() -> None:
    chart = utilization_chart(campaign()[0].course)
    for curve in chart.curves:
        for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", curve.path):
            assert 0 <= float(x) <= WIDTH
            assert 0 <= float(y) <= HEIGHT
    assert chart.y_ticks[-1].label == "2"
    assert chart.strips[-1].text.startswith("50.0 s: 0 of 2 cores busy (0.0 %)")


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (0, ["0", "1"]),
        (2, ["0", "1", "2"]),
        (7, ["0", "2", "4", "6", "8"]),
        (2371, ["0", "500", "1\u202f000", "1\u202f500", "2\u202f000", "2\u202f500"]),
    ],
)
def test_amounts_have_round_ticks(highest: float, labels: list[str]) -> None:
    assert [tick.label for tick in amount_ticks(highest)] == labels


@pytest.mark.parametrize(
    ("span", "last", "unit"),
    [
        (0.4, 0.4, "s"),
        (8, 8, "s"),
        (95, 90, "s"),
        (600, 600, "min"),
        (7200, 7200, "min"),
        (86400 * 3, 86400 * 3, "h"),
        (86400 * 40, 86400 * 40, "d"),
    ],
)
def test_times_have_round_ticks(span: float, last: float, unit: str) -> None:
    ticks, found = time_ticks(span)
    assert found == unit
    assert 2 <= len(ticks) <= 11
    assert ticks[-1].value == pytest.approx(last)


def test_quantities_read_well() -> None:
    assert [duration(s) for s in (None, 0.0123, 5.25, 99.97, 3725, 200_000)] == [
        "\u2013",
        "12 ms",
        "5.2 s",
        "1 min 40 s",
        "1 h 02 min",
        "2 d 07 h",
    ]
    assert rate(12.34) == "12.3 jobs/s"
    assert rate(0.5) == "30 jobs/min"
    assert rate(0.001) == "3.6 jobs/h"
    assert [core_time(s) for s in (7, 90, 7200)] == ["7.0 core-s", "1.5 core-min", "2.0 core-h"]
