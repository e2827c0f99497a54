"""What must hold in a database at any time, whatever users and launchers do."""

from __future__ import annotations

from collections import Counter

from hypothesis.stateful import RuleBasedStateMachine, invariant

from balsam.client.interface import Client
from balsam.model.graph import Verdict, verdict
from balsam.model.query import ALL
from balsam.model.states import END_STATES, State, legal
from balsam.model.wire import Event

S = State


class WhatHolds(RuleBasedStateMachine):
    """A model is not needed: the history must explain each job's state by itself."""

    client: Client
    #: Whether all have the time from one clock: else two who are at a job at once may disagree.
    one_clock = True

    def __init__(self) -> None:
        super().__init__()
        #: What users asked for since the last look: jobs that may leave an end state.
        self.asked: set[int] = set()
        self.ended: dict[int, State] = {}

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
            if self.one_clock:
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
