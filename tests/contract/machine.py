"""Two launchers and a user do anything in any order, also at once; what must always hold, holds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    multiple,
    rule,
)

from balsam.client.local import LocalClient
from balsam.config import Settings
from balsam.errors import AlreadyExists, CyclicDependency, IllegalMove, LeaseLost, NotFound
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import END_STATES, STATES, State, legal
from balsam.model.wire import (
    Attempt,
    LauncherInfo,
    Lease,
    Move,
    Outcome,
    Refusal,
    Report,
)
from tests.contract.pilot import Clock, request
from tests.contract.what_holds import WhatHolds

S = State
LEASE_SECONDS = 10.0
#: What users and launchers are told when what they ask for cannot be. Nothing else may be said.
ANSWERS = (AlreadyExists, CyclicDependency, IllegalMove, LeaseLost, NotFound)

#: Where a site is, its settings, and the clock of those who work on it.
Where = tuple[Path, Settings, Clock]
#: Makes a new site. What undoes that goes to the stack.
New = Callable[[ExitStack], Where]


class Call(NamedTuple):
    """A call to be made beside another, and what to learn from its answer."""

    make: Callable[[LocalClient], Any]
    learn: Callable[[Any], None] = lambda _: None


def again(report: Report) -> Report:
    """Return *report* as it is sent when nobody knows whether it has been applied."""
    return msgspec.structs.replace(report, again=True)


class Work(NamedTuple):
    """A report on one job, and where the launcher believes it to be then."""

    job: int
    report: Report
    state: State
    attempt: int
    gives_back: bool


class Launcher:
    """What one launcher believes: its id, and where its jobs are."""

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.held: dict[int, Job] = {}
        self.last: Report | None = None

    def take(self, leased: Lease) -> None:
        """Hold what was *leased*.

        It asked for that when its last report had had an answer: what was given back by that
        report, and may be among these, is not given back again.
        """
        self.held.update((job.id or 0, job) for job in leased.jobs)
        if self.last is not None:
            self.last = msgspec.structs.replace(self.last, released=[])


#: For what depends on what is there: another run of the same steps may find something else,
#: as threads decide, and must draw as often.
seeds = st.integers(0, 2**32 - 1)
#: What can happen beside something else: names of methods of `Site` that prepare a call.
CALLS = ("creates", "depends", "kills", "kills_all", "reruns_all", "deletes")
CALLS += ("leases", "leases", "reports", "reports", "replays")


class Site(WhatHolds):
    """Two launchers and users; `WhatHolds` looks after each step."""

    new: New
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        where = type(self).new(self.stack)
        self.clock = where[2]
        self.client, self.beside = (LocalClient(*where) for _ in range(2))
        for client in (self.client, self.beside):
            self.stack.callback(client.close)
        self.launchers = [self.register(), self.register()]

    def teardown(self) -> None:
        self.stack.close()

    def register(self) -> Launcher:
        info = LauncherInfo(host="h", pid=1)
        return Launcher(self.client.register_launcher(info, LEASE_SECONDS))

    def there(self, id_: int) -> bool:
        return self.client.count_jobs(ALL.where(id=id_)) == 1

    def some_job(self, chance: Random) -> int:
        """Return a job, or what was one."""
        known = [job.id or 0 for job in self.client.jobs(ALL)]
        return chance.choice(known or [1])

    # what users do
    @rule(target=jobs, count=st.integers(1, 3), seed=seeds)
    def create(self, count: int, seed: int) -> Any:
        return multiple(*self.client.create_jobs(self.new_jobs(count, Random(seed))))

    def new_jobs(self, count: int, chance: Random) -> list[Job]:
        known = [job.id or 0 for job in self.client.jobs(ALL)][-8:]
        new = []
        for position in range(count):
            choices = known + [-n for n in range(1, position + 1)]
            drawn = chance.sample(choices, chance.randint(0, min(3, len(choices))))
            parents: dict[Kind, list[int]] = {kind: [] for kind in Kind}
            for parent in drawn:
                parents[chance.choice(list(Kind))].append(parent)
            new.append(
                Job(
                    name=f"j{position}",
                    workflow="w",
                    application="a",
                    input_files=chance.choice(["", "*"]),
                    parents=parents[Kind.OK],
                    parents_failed=parents[Kind.FAIL],
                    parents_any=parents[Kind.ANY],
                )
            )
        return new

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
            launcher.take(self.client.lease(launcher.id, request(limit)))
        except LeaseLost:
            return

    @rule(which=st.integers(0, 1), seed=seeds)
    def work(self, which: int, seed: int) -> None:
        """Report one to four legal moves of a job that the launcher believes it holds."""
        launcher = self.launchers[which]
        if launcher.held:
            work = self.some_work(launcher, Random(seed))
            self.learn(launcher, work, self.client.report(launcher.id, work.report))

    def some_work(self, launcher: Launcher, chance: Random) -> Work:
        id_ = chance.choice(sorted(launcher.held))
        job = launcher.held[id_]
        moves: list[Move] = []
        attempts: list[Attempt] = []
        state, number = job.state, job.attempt
        for _ in range(chance.randint(1, 4)):
            targets = [new for new in STATES if legal(state, new) and new is not S.USER_KILLED]
            targets = [new for new in targets if new is not S.AWAITING_PARENTS]
            if not targets:
                break
            new = chance.choice(targets)
            number += new is S.RUNNING
            self.clock.now += 0.001
            moves.append(Move(id_, number, state, new, self.clock.now))
            if S.RUNNING in (state, new):
                attempts = [a for a in attempts if a.number != number]
                attempts.append(self.attempt(launcher, id_, number, new))
            state = new
        gives_back = state is not S.RUNNING and chance.random() < 0.5
        report = Report(moves=moves, attempts=attempts, released=[id_] if gives_back else [])
        launcher.last = report
        return Work(id_, report, state, number, gives_back)

    def learn(self, launcher: Launcher, work: Work, refusals: list[Refusal]) -> None:
        """Go on from where the job is now, or let it go."""
        if refusals or work.gives_back or work.state in END_STATES:
            del launcher.held[work.job]
            self.client.report(launcher.id, Report(released=[work.job]))
        else:
            job = launcher.held[work.job]
            job.state, job.attempt = work.state, work.attempt

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
        self.client.report(launcher.id, again(launcher.last))
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

    # what happens at the same moment
    @rule(seed=seeds, what=st.lists(st.sampled_from(CALLS), min_size=2, max_size=2))
    def at_once(self, seed: int, what: list[str]) -> None:
        """Two do something on connections of their own; each gets an answer, as if alone."""
        chance = Random(seed)
        calls = [
            getattr(self, name)(chance, launcher)
            for name, launcher in zip(what, self.launchers, strict=True)
        ]
        barrier = Barrier(2)

        def run(call: Call, client: LocalClient) -> Any:
            barrier.wait()
            try:
                return call.make(client)
            except ANSWERS as answer:
                return answer

        with ThreadPoolExecutor(2) as threads:
            results = list(threads.map(run, calls, (self.client, self.beside)))
        for call, result in zip(calls, results, strict=True):
            if not isinstance(result, ANSWERS):
                call.learn(result)

    def creates(self, chance: Random, _launcher: Launcher) -> Call:
        new = self.new_jobs(chance.randint(1, 3), chance)
        return Call(lambda client: client.create_jobs(new))

    def depends(self, chance: Random, _launcher: Launcher) -> Call:
        parent, child = self.some_job(chance), self.some_job(chance)
        kind = chance.choice(list(Kind))
        return Call(lambda client: client.add_dependency(parent, child, kind))

    def kills(self, chance: Random, _launcher: Launcher) -> Call:
        job, recursive = self.some_job(chance), chance.random() < 0.5
        return Call(lambda client: client.kill_jobs(ALL.where(id=job), recursive=recursive))

    def kills_all(self, _chance: Random, _launcher: Launcher) -> Call:
        return Call(lambda client: client.kill_jobs(ALL))

    def reruns_all(self, _chance: Random, _launcher: Launcher) -> Call:
        self.asked |= {job.id or 0 for job in self.client.jobs(ALL)}
        return Call(lambda client: client.rerun_jobs(ALL))

    def deletes(self, chance: Random, _launcher: Launcher) -> Call:
        job = self.some_job(chance)
        return Call(lambda client: client.delete_jobs(ALL.where(id=job)))

    def leases(self, chance: Random, launcher: Launcher) -> Call:
        limit = chance.randint(1, 4)
        return Call(lambda client: client.lease(launcher.id, request(limit)), launcher.take)

    def reports(self, chance: Random, launcher: Launcher) -> Call:
        if not launcher.held:
            return self.leases(chance, launcher)
        work = self.some_work(launcher, chance)
        return Call(
            lambda client: client.report(launcher.id, work.report),
            lambda refusals: self.learn(launcher, work, refusals),
        )

    def replays(self, chance: Random, launcher: Launcher) -> Call:
        """Another takes over: it tells what the launcher told, and retires it."""
        (other,) = [each for each in self.launchers if each is not launcher]
        last = again(other.last or Report())

        def take_over(client: LocalClient) -> None:
            client.report(other.id, last)
            client.retire_launcher(other.id, "died", lost=True)

        def learn(_: None) -> None:
            self.launchers[self.launchers.index(other)] = self.register()

        return Call(take_over, learn)
