"""Two launchers and a user do anything in any order; what must always hold, holds."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from balsam.config import Settings
from balsam.errors import AlreadyExists, CyclicDependency, IllegalMove, LeaseLost
from balsam.model.app import App
from balsam.model.graph import Kind, Verdict, verdict
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import END_STATES, STATES, State, legal
from balsam.model.wire import Attempt, Event, LauncherInfo, Move, Outcome, Report
from tests.contract.pilot import Clock, request

S = State
LEASE_SECONDS = 10.0


class Launcher:
    """What one launcher believes: its id, and where its jobs are."""

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.held: dict[int, Job] = {}
        self.last: Report | None = None


class Site(RuleBasedStateMachine):
    """A model is not needed: the history must explain each job's state by itself."""

    template: Path
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp()) / "site"
        shutil.copytree(self.template, self.path)
        self.clock = Clock()
        self.client = LocalClient(self.path, Settings(), self.clock)
        self.launchers = [self.register(), self.register()]
        #: What users asked for since the last look: jobs that may leave an end state.
        self.asked: set[int] = set()
        self.ended: dict[int, State] = {}

    def teardown(self) -> None:
        self.client.close()
        shutil.rmtree(self.path.parent)

    def register(self) -> Launcher:
        info = LauncherInfo(host="h", pid=1)
        return Launcher(self.client.register_launcher(info, LEASE_SECONDS))

    def there(self, id_: int) -> bool:
        return self.client.count_jobs(ALL.where(id=id_)) == 1

    # what users do
    @rule(target=jobs, count=st.integers(1, 3), data=st.data())
    def create(self, count: int, data: st.DataObject) -> Any:
        known = [job.id or 0 for job in self.client.jobs(ALL)][-8:]
        new = []
        for position in range(count):
            choices = known + [-n for n in range(1, position + 1)]
            edges = st.lists(
                st.tuples(st.sampled_from(choices), st.sampled_from(Kind)),
                max_size=3,
                unique_by=lambda edge: edge[0],
            )
            drawn = data.draw(edges if choices else st.just([]))
            new.append(
                Job(
                    name=f"j{position}",
                    workflow="w",
                    application="a",
                    input_files=data.draw(st.sampled_from(["", "*"])),
                    parents=[p for p, kind in drawn if kind is Kind.OK],
                    parents_failed=[p for p, kind in drawn if kind is Kind.FAIL],
                    parents_any=[p for p, kind in drawn if kind is Kind.ANY],
                )
            )
        return multiple(*self.client.create_jobs(new))

    @rule(job=jobs, recursive=st.booleans())
    def kill(self, job: int, recursive: bool) -> None:
        self.client.kill_jobs(ALL.where(id=job), recursive=recursive)

    @rule(job=jobs)
    def rerun(self, job: int) -> None:
        self.asked.add(job)
        self.client.rerun_jobs(ALL.where(id=job))

    @rule(job=jobs, state=st.sampled_from(STATES))
    def move(self, job: int, state: State) -> None:
        self.asked.add(job)
        try:
            self.client.move_jobs(ALL.where(id=job), state, "asked for")
        except IllegalMove:
            pass

    @rule(job=jobs)
    def delete(self, job: int) -> None:
        try:
            self.client.delete_jobs(ALL.where(id=job))
        except IllegalMove:
            pass

    @rule(parent=jobs, child=jobs, kind=st.sampled_from(Kind))
    def depend(self, parent: int, child: int, kind: Kind) -> None:
        if not (self.there(parent) and self.there(child)):
            return
        try:
            self.client.add_dependency(parent, child, kind)
        except (CyclicDependency, AlreadyExists, IllegalMove):
            pass

    # what launchers do
    @rule(which=st.integers(0, 1), limit=st.integers(1, 4))
    def lease(self, which: int, limit: int) -> None:
        launcher = self.launchers[which]
        try:
            leased = self.client.lease(launcher.id, request(limit)).jobs
        except LeaseLost:
            return
        launcher.held.update((job.id or 0, job) for job in leased)

    @rule(which=st.integers(0, 1), data=st.data())
    def work(self, which: int, data: st.DataObject) -> None:
        """Report one to four legal moves of a job that the launcher believes it holds."""
        launcher = self.launchers[which]
        if not launcher.held:
            return
        id_ = data.draw(st.sampled_from(sorted(launcher.held)))
        job = launcher.held[id_]
        moves: list[Move] = []
        attempts: list[Attempt] = []
        state, number = job.state, job.attempt
        for _ in range(data.draw(st.integers(1, 4))):
            targets = [new for new in STATES if legal(state, new) and new is not S.USER_KILLED]
            targets = [new for new in targets if new is not S.AWAITING_PARENTS]
            if not targets:
                break
            new = data.draw(st.sampled_from(targets))
            number += new is S.RUNNING
            self.clock.now += 0.001
            moves.append(Move(id_, number, state, new, self.clock.now))
            if S.RUNNING in (state, new):
                attempts = [a for a in attempts if a.number != number]
                attempts.append(self.attempt(launcher, id_, number, new))
            state = new
        gives_back = state is not S.RUNNING and data.draw(st.booleans())
        report = Report(moves=moves, attempts=attempts, released=[id_] if gives_back else [])
        launcher.last = report
        refused = {refusal.job for refusal in self.client.report(launcher.id, report)}
        if refused or gives_back or state in END_STATES:
            del launcher.held[id_]
            self.client.report(launcher.id, Report(released=[id_]))
        else:
            job.state, job.attempt = state, number

    def attempt(self, launcher: Launcher, job: int, number: int, state: State) -> Attempt:
        runs = state is S.RUNNING
        return Attempt(
            job=job,
            number=number,
            launcher_id=launcher.id,
            started_at=self.clock.now,
            ended_at=None if runs else self.clock.now,
            exit_code=None if runs else 0,
            outcome=Outcome.RUNNING if runs else Outcome.DONE,
        )

    @rule(which=st.integers(0, 1))
    def repeat(self, which: int) -> None:
        """Send the last report again: it was applied, or refused, and stays so."""
        launcher = self.launchers[which]
        if launcher.last is None:
            return
        before = self.client.jobs(ALL), self.client.events(ALL)
        self.client.report(launcher.id, launcher.last)
        assert (self.client.jobs(ALL), self.client.events(ALL)) == before

    @rule(which=st.integers(0, 1))
    def renew(self, which: int) -> None:
        launcher = self.launchers[which]
        try:
            renewal = self.client.renew(launcher.id, LEASE_SECONDS)
        except LeaseLost:
            return
        for id_ in renewal.killed:
            launcher.held.pop(id_, None)
            self.client.report(launcher.id, Report(released=[id_]))

    @rule(which=st.integers(0, 1), lost=st.booleans())
    def retire(self, which: int, lost: bool) -> None:
        self.client.retire_launcher(self.launchers[which].id, "retired", lost=lost)

    @rule(which=st.integers(0, 1))
    def replace(self, which: int) -> None:
        """A launcher ends in order, and another one comes."""
        self.client.retire_launcher(self.launchers[which].id, "replaced")
        self.launchers[which] = self.register()

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def expire(self, seconds: float) -> None:
        self.clock.now += seconds
        for info in self.client.expired_launchers():
            self.client.retire_launcher(info.id, "gave no sign of life", lost=True)

    # what must hold
    @invariant()
    def leases_are_of_live_launchers(self) -> None:
        live = {launcher.id for launcher in self.client.launchers()}
        for job in self.client.jobs(ALL):
            assert job.launcher_id is None or job.launcher_id in live, job
            assert job.state is not S.RUNNING or job.launcher_id is not None, job

    @invariant()
    def events_explain_every_state(self) -> None:
        paths: dict[int, list[Event]] = {}
        last_id = 0
        for event in self.client.events(ALL):
            assert event.id > last_id
            last_id = event.id
            paths.setdefault(event.job, []).append(event)
        jobs = {job.id: job for job in self.client.jobs(ALL)}
        assert set(paths) == set(jobs)
        for id_, path in paths.items():
            state = ""
            for event in path:
                assert event.from_state == state
                if state:
                    assert legal(State(state), State(event.to_state), by_user=True), event
                state = event.to_state
            assert state == jobs[id_].state
            assert [e.time for e in path] == sorted(e.time for e in path)

    @invariant()
    def waiting_jobs_know_for_whom(self) -> None:
        jobs = {job.id or 0: job for job in self.client.jobs(ALL)}
        edges = self.client.dependencies(list(jobs))
        for id_, job in jobs.items():
            assert job.state is not S.CREATED
            if job.state is S.AWAITING_PARENTS:
                open_ = [
                    parent
                    for parent, child, kind in edges
                    if child == id_ and verdict(kind, jobs[parent].state) is Verdict.WAIT
                ]
                assert job.pending_parents == len(open_) > 0, job

    @invariant()
    def ended_is_ended(self) -> None:
        now = {job.id or 0: job.state for job in self.client.jobs(ALL)}
        for id_, state in self.ended.items():
            assert id_ not in now or now[id_] == state or id_ in self.asked
        self.ended = {id_: state for id_, state in now.items() if state in END_STATES}
        self.asked.clear()

    @invariant()
    def executions_are_accounted_for(self) -> None:
        jobs = {job.id or 0: job for job in self.client.jobs(ALL)}
        live = {launcher.id for launcher in self.client.launchers()}
        numbers: dict[int, set[int]] = {id_: set() for id_ in jobs}
        for attempt in self.client.attempts(list(jobs)):
            assert attempt.ended_at is not None or attempt.launcher_id in live, attempt
            numbers[attempt.job].add(attempt.number)
        starts = Counter(
            event.job for event in self.client.events(ALL) if event.to_state == "RUNNING"
        )
        for id_, job in jobs.items():
            assert starts[id_] <= job.attempt
            assert set(range(1, job.attempt + 1)) <= numbers[id_], job


@pytest.mark.slow
def test_what_must_hold_holds(tmp_path: Path) -> None:
    create_site(tmp_path / "site")
    client = LocalClient(tmp_path / "site", Settings())
    client.add_app(App(name="a", executable="x"))
    client.close()
    Site.template = tmp_path / "site"
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
