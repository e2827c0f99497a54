"""Counts events and attempts one at a time, in constant memory."""

from __future__ import annotations

from balsam.model.job import Job
from balsam.model.resources import UNITS
from balsam.model.states import State
from balsam.model.wire import Attempt, Event, LauncherInfo, Outcome
from balsam.report.durations import Durations
from balsam.report.failures import Failures
from balsam.report.records import AppUse, Course, LauncherUse, Summary, ratio
from balsam.report.timeline import Timeline

#: The phases that the timeline counts jobs in, and the states of each.
PHASES: dict[str, tuple[State, ...]] = {
    "waiting": (State.CREATED, State.AWAITING_PARENTS),
    "ready": (State.READY, State.STAGED_IN, State.PREPROCESSED, State.RESTART_READY),
    "running": (State.RUNNING,),
    "ending": (State.RUN_DONE, State.POSTPROCESSED, State.RUN_TIMEOUT, State.RUN_ERROR),
    "finished": (State.JOB_FINISHED,),
    "failed": (State.FAILED, State.USER_KILLED),
}
_PHASE = {str(state): phase for phase, states in PHASES.items() for state in states}

#: Failures that happen while no program runs, by the state the job was in.
_STAGES = {
    State.CREATED: "parents",
    State.AWAITING_PARENTS: "parents",
    State.READY: "preprocess",
    State.STAGED_IN: "preprocess",
    State.RUN_DONE: "postprocess",
    State.POSTPROCESSED: "postprocess",
}
_FAILED_RUNS = (Outcome.ERROR, Outcome.TIMEOUT, Outcome.LOST, Outcome.NOT_STARTED)
#: What must be known of a job to count its runs.
REQUEST_FIELDS = (
    "application",
    "num_nodes",
    "ranks_per_node",
    "threads_per_rank",
    "threads_per_core",
    "cores_per_rank",
    "node_packing_count",
)


class _Offer:
    """One launcher, and what was counted of it."""

    def __init__(self, info: LauncherInfo, now: float) -> None:
        self.info = info
        # A lost launcher is retired by a later one: what it offered ended with its lease.
        last = now if info.ended_at is None else info.ended_at
        self.end = max(info.started_at, min(last, info.expires_at or last))
        self.lives = info.ended_at is None and self.end == now
        self.node_cores = info.cores / max(info.nodes, 1)
        self.runs = 0
        self.busy = 0.0

    @property
    def core_seconds(self) -> float:
        return (self.end - self.info.started_at) * self.info.cores


class Tally:
    """The counts of one campaign; times that have not ended are counted to *now*."""

    def __init__(self, launchers: list[LauncherInfo], now: float) -> None:
        self.now = now
        self.timeline = Timeline(origin=min((i.started_at for i in launchers), default=None))
        self.failures = Failures()
        self.offers = {info.id: _Offer(info, now) for info in launchers}
        self.outcomes: dict[str, int] = {}
        self.runs: dict[str, Durations] = {}
        self.core_seconds: dict[str, float] = {}
        self.started: float | None = None
        self.ended: float | None = None
        self.range: tuple[float, float] | None = None  #: in which something could run

    def attempt(self, attempt: Attempt, job: Job) -> None:
        self.outcomes[attempt.outcome] = self.outcomes.get(attempt.outcome, 0) + 1
        if attempt.outcome in _FAILED_RUNS:
            self.failures.add(
                attempt.job, attempt.outcome, attempt.exit_code, attempt.message, attempt.node
            )
        start = attempt.started_at
        if start is None:
            return
        offer = self.offers.get(attempt.launcher_id)
        end = self.now if attempt.ended_at is None else attempt.ended_at
        if offer and (attempt.ended_at is None or attempt.outcome == Outcome.LOST):
            end = min(end, offer.end)  # when it is found dead says nothing about its end
        end = max(start, end)
        cores = _cores(job, offer.node_cores if offer else 1.0)
        self.timeline.interval("busy_cores", start, end, cores)
        self.timeline.interval("running_jobs", start, end, 1)
        if attempt.outcome in _FAILED_RUNS:
            self.timeline.step("failed_runs", end, 1)
        self.started = start if self.started is None else min(start, self.started)
        self.ended = end if self.ended is None else max(end, self.ended)
        durations = self.runs.get(job.application)
        if durations is None:
            durations = self.runs[job.application] = Durations()
            self.core_seconds[job.application] = 0.0
        durations.add(end - start)
        used = cores * (end - start)
        self.core_seconds[job.application] += used
        if offer:
            offer.runs += 1
            offer.busy += used

    def offer(self, *, used_only: bool) -> None:
        """Count what the launchers offered, after all attempts: all, or those that ran some."""
        times = [self.started, self.ended] if self.started and self.ended else []
        for number, offer in list(self.offers.items()):
            if used_only and not offer.runs:
                del self.offers[number]
                continue
            info = offer.info
            self.timeline.interval("offered_cores", info.started_at, offer.end, info.cores)
            times += [info.started_at, offer.end]
        self.range = (min(times), max(times)) if times else None

    def event(self, event: Event) -> None:
        """Count one change of state; all attempts must have been counted before."""
        # Jobs may wait for days before the first launcher: the time axis is not for that.
        when = min(max(event.time, self.range[0]), self.range[1]) if self.range else event.time
        old, new = _PHASE.get(event.from_state), _PHASE[event.to_state]
        if old != new:
            if old is not None:
                self.timeline.step(old, when, -1)
            self.timeline.step(new, when, 1)
        if event.to_state == State.FAILED and event.from_state in _STAGES:
            stage = _STAGES[State(event.from_state)]
            self.failures.add(event.job, stage, None, event.message)

    def summary(self, site: str, selection: str, states: dict[State, int]) -> Summary:
        wall = self.ended - self.started if self.ended and self.started else 0.0
        busy = sum(self.core_seconds.values())
        offered = sum(offer.core_seconds for offer in self.offers.values())
        failed = sum(self.outcomes.get(outcome, 0) for outcome in _FAILED_RUNS)
        finished = states.get(State.JOB_FINISHED, 0)
        return Summary(
            site=site,
            selection=selection,
            generated_at=self.now,
            jobs=sum(states.values()),
            states={str(state): count for state, count in states.items()},
            runs=sum(self.outcomes.values()),
            outcomes={str(outcome): count for outcome, count in self.outcomes.items()},
            started_at=self.started,
            ended_at=self.ended,
            wall_seconds=wall,
            finished_per_second=ratio(finished, wall),
            busy_core_seconds=busy,
            offered_core_seconds=offered,
            utilization=ratio(busy, offered),
            error_rate=ratio(failed, failed + self.outcomes.get(Outcome.DONE, 0)),
            failed_runs=failed,
            failures=self.failures.groups(),
            apps=self._apps(),
            launchers=[self._launcher(offer) for offer in self.offers.values()],
            course=self._course(),
        )

    def _apps(self) -> list[AppUse]:
        uses = [
            AppUse(
                name=name,
                runs=durations.count,
                core_seconds=self.core_seconds[name],
                mean=durations.mean,
                median=durations.quantile(0.5),
                percentile_95=durations.quantile(0.95),
                longest=durations.longest,
            )
            for name, durations in self.runs.items()
        ]
        return sorted(uses, key=lambda use: (-use.core_seconds, use.name))

    def _launcher(self, offer: _Offer) -> LauncherUse:
        return LauncherUse(
            id=offer.info.id,
            host=offer.info.host,
            nodes=offer.info.nodes,
            cores=offer.info.cores,
            started_at=offer.info.started_at,
            ended_at=None if offer.lives else offer.end,
            runs=offer.runs,
            busy_core_seconds=offer.busy,
            offered_core_seconds=offer.core_seconds,
            message=offer.info.message,
        )

    def _course(self) -> Course:
        line = self.timeline
        ends = line.times
        start = line.start
        return Course(
            started_at=start,
            width_seconds=line.width,
            seconds=[end - start for end in ends] if start is not None else [],
            busy_cores=line.averages("busy_cores"),
            offered_cores=line.averages("offered_cores"),
            running_jobs=line.averages("running_jobs"),
            phases={phase: [round(n) for n in line.levels(phase)] for phase in PHASES},
            failed_runs=[round(n) for n in line.levels("failed_runs")],
        )


def _cores(job: Job, node_cores: float) -> float:
    """Return the cores that *job* takes on all its nodes."""
    if job.node_packing_count == 1 and job.ranks_per_node == job.threads_per_rank == 1:
        return job.num_nodes * (job.cores_per_rank or 1)
    return job.num_nodes * job.request.core_units(round(node_cores)) / UNITS
