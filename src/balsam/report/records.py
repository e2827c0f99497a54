"""What is known of a campaign when its events and attempts have been counted."""

from __future__ import annotations

import msgspec

from balsam.report.failures import FailureGroup


class AppUse(msgspec.Struct, kw_only=True):
    """What the runs of one app took; seconds."""

    name: str
    runs: int
    core_seconds: float
    mean: float
    median: float
    percentile_95: float  #: quantiles are right to 2.5 %
    longest: float


class LauncherUse(msgspec.Struct, kw_only=True):
    """What one launcher offered and what the jobs used of it."""

    id: int
    host: str
    nodes: int
    cores: int
    started_at: float
    ended_at: float | None  #: None: it lives
    runs: int
    busy_core_seconds: float
    offered_core_seconds: float
    message: str

    @property
    def utilization(self) -> float | None:
        return ratio(self.busy_core_seconds, self.offered_core_seconds)


class Course(msgspec.Struct, kw_only=True):
    """The campaign over time, in bins of equal width.

    `busy_cores`, `offered_cores` and `running_jobs` are means over a bin; the others are
    numbers of jobs at its end, `failed_runs` the number of runs that had failed by then.
    """

    started_at: float | None
    width_seconds: float
    seconds: list[float]  #: where each bin ends, from `started_at`
    busy_cores: list[float]
    offered_cores: list[float]
    running_jobs: list[float]
    phases: dict[str, list[int]]
    failed_runs: list[int]


class Summary(msgspec.Struct, kw_only=True):
    """A campaign, or a selection of its jobs. Times are seconds since the epoch."""

    site: str
    selection: str  #: '' for all jobs
    generated_at: float
    jobs: int
    states: dict[str, int]
    runs: int
    outcomes: dict[str, int]
    started_at: float | None  #: when the first run started
    ended_at: float | None  #: when the last run ended
    wall_seconds: float
    finished_per_second: float | None
    busy_core_seconds: float
    offered_core_seconds: float
    utilization: float | None
    error_rate: float | None  #: share of the ended runs that did not end well
    failed_runs: int
    failures: list[FailureGroup]
    apps: list[AppUse]
    launchers: list[LauncherUse]
    course: Course


def ratio(part: float, whole: float) -> float | None:
    """Return *part* / *whole*, or None when there is no whole."""
    return part / whole if whole > 0 else None
