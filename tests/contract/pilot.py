"""Brings jobs about, and drives a client as a launcher does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from balsam.client.interface import Client
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.states import STATES, State
from balsam.model.wire import Attempt, LauncherInfo, LeaseRequest, Move, Outcome, Refusal, Report

S = State
#: What each way to end a run takes, from RUNNING.
ENDINGS = {
    Outcome.DONE: (S.RUN_DONE, S.JOB_FINISHED),
    Outcome.ERROR: (S.RUN_ERROR, S.FAILED),
    Outcome.TIMEOUT: (S.RUN_TIMEOUT, S.RESTART_READY),
}
EXIT_CODES = {Outcome.DONE: 0, Outcome.ERROR: 1, Outcome.TIMEOUT: -15}


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def request(limit: int = 1000, **fields: Any) -> LeaseRequest:
    """A request that every ordinary job fits."""
    wide = {"num_nodes": 100, "cores": 1000, "gpus": 100.0, "memory_mib": 1_000_000}
    return LeaseRequest(limit=limit, **(wide | fields))


def add(client: Client, *names: str, **fields: Any) -> list[int]:
    """Create one job a name, alike but for that."""
    shared = {"workflow": "w", "application": "a"} | fields
    return client.create_jobs([Job(name=name, **shared) for name in names])


def job(client: Client, id_: int) -> Job:
    (found,) = client.jobs(ALL.where(id=id_))
    return found


def states(client: Client, ids: Iterable[int]) -> list[State]:
    found = {job.id: job.state for job in client.jobs(ALL.where(id__in=list(ids)))}
    return [found[id_] for id_ in ids]


def history(client: Client, id_: int) -> list[tuple[str, str]]:
    """The moves of a job, in order."""
    events = client.events(Query(filters=parse({"job": id_}, "events")))
    return [(event.from_state, event.to_state) for event in events]


class Pilot:
    """A launcher without processes: what it reports is what the test says."""

    def __init__(self, client: Client, clock: Clock, seconds: float = 60.0) -> None:
        self.client = client
        self.clock = clock
        self.id = client.register_launcher(LauncherInfo(host="node1", pid=4711), seconds)

    def lease(self, limit: int = 1000, **fields: Any) -> list[Job]:
        return self.client.lease(self.id, request(limit, **fields)).jobs

    def path(self, job: Job, *to: State, message: str = "") -> list[Move]:
        """The moves of *job* from where it is leased through the states *to*."""
        moves, state, attempt = [], job.state, job.attempt
        for new in to:
            attempt += new == S.RUNNING
            assert job.id is not None
            moves.append(Move(job.id, attempt, state, new, self.clock(), message))
            state = new
        return moves

    def attempt(self, job: Job, outcome: Outcome, number: int | None = None) -> Attempt:
        """The record of the execution that follows *job*'s last one."""
        running = outcome is Outcome.RUNNING
        assert job.id is not None
        return Attempt(
            job=job.id,
            number=job.attempt + 1 if number is None else number,
            launcher_id=self.id,
            node="node1",
            started_at=self.clock(),
            ended_at=None if running else self.clock(),
            exit_code=EXIT_CODES.get(outcome),
            outcome=outcome,
        )

    def report(self, **fields: Any) -> list[Refusal]:
        return self.client.report(self.id, Report(**fields))

    def start(self, *jobs: Job) -> list[Refusal]:
        """Report that *jobs*, as leased, run now."""
        moves = [move for job in jobs for move in self.path(job, *_until_running(job))]
        return self.report(
            moves=moves, attempts=[self.attempt(job, Outcome.RUNNING) for job in jobs]
        )

    def ended(self, jobs: Iterable[Job], outcome: Outcome) -> Report:
        """The report that the runs of *jobs* (as leased, and started since) ended."""
        moves, attempts, released = [], [], []
        for job in jobs:
            assert job.id is not None
            number = job.attempt + 1
            last = S.RUNNING
            for new in ENDINGS[outcome]:
                moves.append(Move(job.id, number, last, new, self.clock()))
                last = new
            attempts.append(self.attempt(job, outcome))
            released.append(job.id)
        return Report(moves=moves, attempts=attempts, released=released)

    def end(self, *jobs: Job, outcome: Outcome = Outcome.DONE) -> list[Refusal]:
        return self.client.report(self.id, self.ended(jobs, outcome))

    def run(self, *jobs: Job, outcome: Outcome = Outcome.DONE) -> None:
        """Start and end *jobs*, as leased."""
        assert self.start(*jobs) == []
        assert self.end(*jobs, outcome=outcome) == []

    def run_all(self, outcome: Outcome = Outcome.DONE, **fields: Any) -> list[int]:
        """Lease and run whatever can run now, once; return the ids in their order."""
        leased = self.lease(**fields)
        self.run(*leased, outcome=outcome)
        return [job.id or 0 for job in leased]


def _until_running(job: Job) -> tuple[State, ...]:
    before = (S.PREPROCESSED,) if job.state in (S.READY, S.STAGED_IN) else ()
    return (*before, S.RUNNING)


def everything(client: Client) -> Any:
    """All rows that there are, to show that nothing changed."""
    ids = [job.id or 0 for job in client.jobs(ALL)]
    events = client.events(ALL)
    return (
        client.jobs(ALL),
        events,
        client.attempts(ids),
        client.dependencies(ids),
        client.apps(ALL),
    )


IN_DATABASE = [state for state in STATES if state is not S.CREATED]


def brought_to(client: Client, pilot: Pilot, state: State) -> int:
    """A job in *state*, on a legal way there."""
    name = str(state)
    if state is S.READY:
        return add(client, name, input_files="*")[0]
    if state is S.AWAITING_PARENTS:
        return add(client, name, parents=add(client, "parent"))[0]
    (id_,) = add(client, name, input_files="*" if state is S.STAGED_IN else "")
    way: dict[State, tuple[State, ...]] = {
        S.STAGED_IN: (S.STAGED_IN,),
        S.PREPROCESSED: (),
        S.RUNNING: (S.RUNNING,),
        S.RUN_DONE: (S.RUNNING, S.RUN_DONE),
        S.POSTPROCESSED: (S.RUNNING, S.RUN_DONE, S.POSTPROCESSED),
        S.JOB_FINISHED: (S.RUNNING, S.RUN_DONE, S.JOB_FINISHED),
        S.RUN_TIMEOUT: (S.RUNNING, S.RUN_TIMEOUT),
        S.RUN_ERROR: (S.RUNNING, S.RUN_ERROR),
        S.RESTART_READY: (S.RUNNING, S.RUN_TIMEOUT, S.RESTART_READY),
        S.FAILED: (S.RUNNING, S.RUN_ERROR, S.FAILED),
    }
    if state is S.USER_KILLED:
        client.kill_jobs(ALL.where(id=id_))
    elif way[state]:
        (leased,) = [job for job in pilot.lease() if job.id == id_]
        released = [] if state is S.RUNNING else [id_]
        assert pilot.report(moves=pilot.path(leased, *way[state]), released=released) == []
    assert job(client, id_).state is state
    return id_


def chain(client: Client, length: int) -> list[int]:
    return client.create_jobs(
        [
            Job(name=f"j{i}", workflow="w", application="a", parents=[-i] if i else [])
            for i in range(length)
        ]
    )
