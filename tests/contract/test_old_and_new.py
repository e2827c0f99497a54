"""What is done by the names of 0.x comes out as what is done by the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balsam.api import Job, Site
from balsam.compat.texts import environ_text
from balsam.core.models import BalsamJob
from balsam.errors import BalsamError, IllegalMove
from balsam.launcher import dag
from balsam.model.states import STATES, State

NUMBERS = st.integers(0, 4)
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), NUMBERS, st.lists(NUMBERS, max_size=2, unique=True)),
    st.tuples(st.just("wait"), NUMBERS, NUMBERS),
    st.tuples(st.just("replace_parents"), NUMBERS, st.lists(NUMBERS, max_size=2, unique=True)),
    st.tuples(st.just("state"), NUMBERS, st.sampled_from([*STATES])),
    st.tuples(
        st.just("environ"), NUMBERS, st.dictionaries(st.sampled_from("AB"), st.just("/x:/y"))
    ),
    st.tuples(st.just("data"), NUMBERS, st.integers()),
    st.tuples(st.just("minutes"), NUMBERS, st.sampled_from([1, 2.5, 10])),
    st.tuples(st.just("kill"), NUMBERS, st.booleans()),
    st.tuples(st.just("delete"), NUMBERS, st.none()),
)


class Sites(NamedTuple):
    """Two sites that are treated alike: one by the names of 0.x."""

    old: Site
    new: Site
    numbers: Iterator[int]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    path = tmp_path_factory.mktemp("sites")
    with Site.create(path / "old") as old, Site.create(path / "new") as new:
        for site in old, new:
            site.apps.create(name="a", executable="/bin/true")
        yield Sites(old, new, count())


class Old:
    """Does it by the names of 0.x, with objects that may be stale."""

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        self.jobs: dict[int, BalsamJob] = {}

    def add(self, number: int, parents: list[int]) -> None:
        job = BalsamJob(name=f"j{number}", workflow=self.workflow, application="a")
        job.set_parents([self.jobs[parent] for parent in parents])
        job.save()
        self.jobs[number] = job

    def wait(self, child: int, parent: int) -> None:
        dag.add_dependency(self.jobs[parent], self.jobs[child])

    def replace_parents(self, child: int, parents: list[int]) -> None:
        self.jobs[child].set_parents([str(self.jobs[parent].pk) for parent in parents])

    def state(self, number: int, state: str) -> None:
        self.jobs[number].update_state(state)

    def environ(self, number: int, environ: dict[str, str]) -> None:
        self.jobs[number].environ_vars = environ_text(environ)
        self.jobs[number].save(update_fields=["environ_vars"])

    def data(self, number: int, value: int) -> None:
        self.jobs[number].data["x"] = value % 1000
        self.jobs[number].save()

    def minutes(self, number: int, minutes: float) -> None:
        BalsamJob.objects.filter(pk=self.jobs[number].pk).update(wall_time_minutes=minutes)

    def kill(self, number: int, recursive: bool) -> None:
        dag.kill(self.jobs[number], recursive=recursive)

    def delete(self, number: int, _: None) -> None:
        self.jobs.pop(number).delete()


class New:
    """Does it by the real names."""

    def __init__(self, site: Site, workflow: str) -> None:
        self.site = site
        self.workflow = workflow
        self.ids: dict[int, int] = {}

    def job(self, number: int) -> Job:
        return self.site.jobs.get(id=self.ids[number])

    def add(self, number: int, parents: list[int]) -> None:
        fields = {"name": f"j{number}", "workflow": self.workflow, "application": "a"}
        made = self.site.jobs.create(**fields, parents=[self.ids[parent] for parent in parents])
        self.ids[number] = made.id or 0

    def wait(self, child: int, parent: int) -> None:
        self.site.client.add_dependency(self.ids[parent], self.ids[child])

    def replace_parents(self, child: int, parents: list[int]) -> None:
        job = self.job(child)
        job.parents = [self.ids[parent] for parent in parents]
        job.save()

    def state(self, number: int, state: str) -> None:
        job = self.job(number)
        if state == State.USER_KILLED:
            job.kill()
        elif job.state == State.USER_KILLED and state in (State.CREATED, State.RESTART_READY):
            job.rerun()
        elif job.state != State.USER_KILLED:
            self.site.jobs.filter(id=job.id).update(state=state)

    def environ(self, number: int, environ: dict[str, str]) -> None:
        self.site.jobs.filter(id=self.ids[number]).update(environ=environ)

    def data(self, number: int, value: int) -> None:
        job = self.job(number)
        job.data["x"] = value % 1000
        job.save()

    def minutes(self, number: int, minutes: float) -> None:
        self.site.jobs.filter(id=self.ids[number]).update(wall_time_minutes=minutes)

    def kill(self, number: int, recursive: bool) -> None:
        self.job(number).kill(recursive=recursive)

    def delete(self, number: int, _: None) -> None:
        self.site.jobs.filter(id=self.ids.pop(number)).delete()


def outcome(actor: Old | New, operation: tuple[str, int, Any]) -> type[Exception] | None:
    what, number, value = operation
    try:
        getattr(actor, what)(number, value)
    except (BalsamError, KeyError) as error:
        return type(error) if isinstance(error, KeyError) else _kind(error)
    return None


def _kind(error: BalsamError) -> type[Exception]:
    """Which of the errors that scripts tell apart it is."""
    kinds = (IllegalMove, RuntimeError, ValueError, LookupError)
    return next(kind for kind in kinds if isinstance(error, kind))


def seen(site: Site, workflow: str) -> list[Any]:
    """All that is stored of the jobs, with parents by name."""
    jobs = list(site.jobs.filter(workflow=workflow).order_by("name"))
    names = {job.id: job.name for job in jobs}
    return [
        (
            *(job.name, job.state, sorted(names[parent] for parent in job.parents)),
            *(job.environ, job.data, job.wall_time_minutes, job.pending_parents),
            [event.to_state for event in job.events()],
        )
        for job in jobs
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations=st.lists(OPERATIONS, max_size=12))
def test_both_come_out_alike(sites: Sites, operations: list[tuple[str, int, Any]]) -> None:
    workflow = f"w{next(sites.numbers)}"
    Site.use(sites.old.path)
    old, new = Old(workflow), New(sites.new, workflow)
    first: list[tuple[str, int, Any]] = [("add", 0, []), ("add", 1, [0]), ("add", 2, [])]
    for operation in first + operations:
        if operation[0] == "add" and operation[1] in new.ids:
            continue
        assert outcome(old, operation) == outcome(new, operation), operation
        assert seen(sites.old, workflow) == seen(sites.new, workflow), operation
