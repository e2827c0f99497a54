"""The statements of the hot paths read by index: their cost does not grow with the campaign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from balsam.client.connect import create_site
from balsam.client.local import LocalClient
from balsam.config import Settings
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL, Query
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LeaseRequest, Move, Report


class Plans:
    """A client whose statements are explained by SQLite."""

    def __init__(self, path: Path) -> None:
        create_site(path)
        self.client = LocalClient(path, Settings())
        self.engine: sa.Engine = self.client._store.engine
        self.seen: list[tuple[str, Any]] = []
        sa.event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(
        self, _connection: Any, _cursor: Any, statement: str, values: Any, _ctx: Any, many: bool
    ) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            self.seen.append((statement, values[0] if many else values))

    def of(self, table: str = "jobs") -> list[str]:
        """Return the steps on *table* of all statements since the last call."""
        seen, self.seen = self.seen, []
        steps: list[str] = []
        with self.engine.connect() as connection:
            for statement, values in seen:
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                steps += [row[3] for row in rows if f" {table}" in row[3] or "TEMP" in row[3]]
        self.seen.clear()
        return steps


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[Plans]:
    plans = Plans(tmp_path / "site")
    plans.client.add_app(App(name="a", executable="/bin/true"))
    jobs = [Job(name=f"j{i}", workflow="w", application="a") for i in range(50)]
    plans.client.create_jobs(jobs)
    plans.of()
    yield plans
    plans.client.close()


def register(plans: Plans) -> int:
    launcher = plans.client.register_launcher(LauncherInfo(host="h", pid=1), 60)
    plans.of()
    return launcher


def test_a_lease_reads_the_queue_in_order_and_sorts_nothing(plans: Plans) -> None:
    launcher = register(plans)
    request = LeaseRequest(
        limit=5,
        memory_mib=1000,
        owner="somebody",
        workflow_filter="w",
        minutes_left=5.0,
        too_long=[("a", 2), ("b", 1)],
    )
    plans.client.lease(launcher, request)
    assert plans.of() == [
        # what waits for its retry, and whose time has come, is a range of its own index,
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH jobs USING COVERING INDEX ix_jobs_retry_at (retry_at>? AND retry_at<?)",
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)",
        "SCAN jobs USING INDEX ix_jobs_queue",
        # and so is the next of these.
        "SEARCH jobs USING INDEX ix_jobs_retry_at (retry_at>?)",
    ]


def test_a_report_reads_only_its_jobs(plans: Plans) -> None:
    launcher = register(plans)
    leased = plans.client.lease(launcher, LeaseRequest(limit=5, memory_mib=1000)).jobs
    plans.of()
    moves = [Move(j.id or 0, 1, State.PREPROCESSED, State.RUNNING, 1.0) for j in leased]
    assert plans.client.report(launcher, Report(moves=moves)) == []
    steps = plans.of()
    assert steps
    assert not [step for step in steps if not step.startswith("SEARCH jobs")]


def test_a_renewal_reads_only_the_jobs_it_holds(plans: Plans) -> None:
    launcher = register(plans)
    plans.client.renew(launcher, 60)
    assert all("ix_jobs_launcher_id" in step for step in plans.of())


@pytest.mark.parametrize(
    ("call", "index"),
    [
        (lambda c: c.state_counts(ALL), "ix_jobs_state_id"),
        (lambda c: c.workflow_counts(ALL), "ix_jobs_workflow_state"),
        (lambda c: c.jobs(Query(limit=5).where(state="FAILED")), "ix_jobs_state_id"),
    ],
)
def test_counts_and_lists_read_an_index(plans: Plans, call: Any, index: str) -> None:
    call(plans.client)
    steps = plans.of()
    assert steps
    assert all(index in step for step in steps), steps


def test_children_and_parents_are_found_by_an_index(plans: Plans) -> None:
    """Fault A7."""
    child = plans.client.create_jobs([Job(name="c", workflow="w", application="a", parents=[1])])
    for query in (ALL.where(parents=1), ALL.where(children=child[0])):
        plans.of()
        assert len(plans.client.jobs(query, ["name"])) == 1
        assert plans.of("jobs") == ["SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"]
        plans.client.jobs(query, ["name"])
        (step,) = plans.of("dependencies")
        assert step.startswith("SEARCH dependencies USING")


def test_parents_cost_no_statement_each(plans: Plans) -> None:
    """Fault A2."""
    statements: list[str] = []
    sa.event.listen(plans.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))

    def cost(call: Any) -> int:
        statements.clear()
        call()
        return len(statements)

    def child(parents: int) -> None:
        given = Job(name="c", workflow="w", application="a", parents=[*range(1, parents + 1)])
        plans.client.create_jobs([given])

    assert cost(lambda: child(10)) == cost(lambda: child(40)) > 0
    (last,) = plans.client.create_jobs([Job(name="last", workflow="w", application="a")])
    depend = plans.client.add_dependency
    depend(2, last)  # which makes it wait
    assert len({cost(lambda p=parent: depend(p, last)) for parent in range(3, 51)}) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.kill_jobs(ALL.where(id=1)),
        lambda c: c.rerun_jobs(ALL.where(id=2)),
        lambda c: c.delete_jobs(ALL.where(id=1)),
        lambda c: c.add_dependency(3, 4),
    ],
    ids=["kill", "rerun", "delete", "depend"],
)
def test_a_job_and_its_children_are_found_without_reading_all_who_wait(
    plans: Plans, call: Any
) -> None:
    shared: dict[str, Any] = {"workflow": "w", "application": "a", "parents_any": [1, 2]}
    plans.client.create_jobs([Job(name=f"c{i}", **shared) for i in range(50)])
    plans.client.kill_jobs(ALL.where(id=2))
    plans.of()
    call(plans.client)
    steps = [step for step in plans.of() if "json_each" not in step]
    assert steps
    assert not [step for step in steps if "id=?" not in step and "ORDER BY" not in step], steps
