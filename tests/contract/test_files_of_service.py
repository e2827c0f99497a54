"""Jobs whose files are to be moved stand apart: who is given them, and what that reads."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from balsam.client.local import LocalClient
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LauncherKind, LeaseRequest
from balsam.store import schema
from tests.contract.pilot import Clock, Pilot, add, brought_to, job, request

S = State
IN: dict[str, Any] = {"stage_in_url": "/a"}
OUT: dict[str, Any] = {"stage_out_url": "/b", "stage_out_files": "*"}
BOTH: dict[str, Any] = {"stage_in": 5, "stage_out": 5}


def serve(client: LocalClient, seconds: float = 60.0, user: str = "") -> int:
    """Register a service that moves files."""
    owner = user or job(client, add(client, "of us")[0]).owner
    info = LauncherInfo(host="h", pid=1, nodes=0, cores=0, jobs_of=owner, kind=LauncherKind.SERVICE)
    return client.register_launcher(info, seconds)


def of_service(client: LocalClient, launcher: int, **fields: Any) -> list[int]:
    given = {"limit": 0, "leave_files": False, **BOTH, **fields}
    return [each.id or 0 for each in client.lease(launcher, LeaseRequest(**given)).jobs]


def test_they_come_beside_the_others_results_first(client: LocalClient, pilot: Pilot) -> None:
    done = brought_to(client, pilot, S.POSTPROCESSED)
    client.update_jobs(ALL.where(id=done), OUT)
    low, *_ = add(client, "low", "lowest", **IN)
    (high,) = add(client, "high", **IN, priority=1)
    others = [*add(client, "other"), *add(client, "linked", input_files="x")]
    assert {each.id for each in pilot.lease()} == set(others)
    pilot.report(released=others)
    found = {each.id for each in pilot.lease(limit=1, stage_in=2, stage_out=2)}
    assert len(found & set(others)) == 1
    assert found - set(others) == {done, low, high}


def test_a_live_service_is_left_what_it_moves(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    ids = add(client, "one", **IN, num_nodes=200) + add(client, "two", **IN)
    mover = serve(client)
    owner = job(client, ids[0]).owner
    lease = client.lease(pilot.id, request(owner=owner, **BOTH))
    assert lease.has_mover
    assert not set(ids) & {each.id for each in lease.jobs}
    assert not set(ids) & {each.id for each in pilot.lease(**BOTH)}  # of any user: ours, too
    clock.now += 61
    client.renew(pilot.id, 60)
    late = client.lease(pilot.id, request(owner=owner, **BOTH))
    assert not late.has_mover
    assert [each.id for each in late.jobs] == ids[1:]  # the other needs more nodes
    client.renew(mover, 60)
    assert of_service(client, mover) == ids[:1]  # whatever it needs to run


def test_it_goes_as_far_ahead_as_it_may(client: LocalClient) -> None:
    ids = add(client, "a", "b", "c", **IN)
    mover = serve(client)
    assert of_service(client, mover, staged_ahead=2) == ids[:2]
    assert of_service(client, mover, staged_ahead=2) == []
    assert of_service(client, mover, staged_ahead=3) == ids[2:]


def test_the_batch_job_that_ran_a_job_stays(client: LocalClient, pilot: Pilot) -> None:
    id_ = brought_to(client, pilot, S.POSTPROCESSED)
    with client._store.engine.begin() as connection:
        connection.execute(sa.update(schema.jobs).values(batch_job_id=5))
    client.update_jobs(ALL.where(id=id_), OUT)
    assert of_service(client, serve(client)) == [id_]
    assert job(client, id_).batch_job_id == 5


def test_pilots_alone_are_launchers_unless_asked(client: LocalClient, pilot: Pilot) -> None:
    mover = serve(client)
    assert [each.id for each in client.launchers()] == [pilot.id]
    assert [each.id for each in client.launchers(kind=LauncherKind.SERVICE)] == [mover]
    assert {each.id for each in client.launchers(kind=None)} == {pilot.id, mover}


def test_they_are_counted_apart(client: LocalClient) -> None:
    add(client, "other")
    first, *_ = add(client, "a", "b", **IN)
    for limit in (None, 1000):
        counted = {each.to_stage: each.count for each in client.waiting(limit)}
        assert counted == {False: 1, True: 2}
    assert of_service(client, serve(client), stage_in=1) == [first]
    held = [each for each in client.waiting(1000) if each.to_stage and each.launcher_id]
    assert [each.count for each in held] == [1]


def test_no_lease_reads_over_them(client: LocalClient, pilot: Pilot) -> None:
    """Neither those of nodes, nor those of who moves files: each is a range of an index."""
    add(client, *map(str, range(3000)), **IN)
    add(client, "other")
    engine = client._store.engine
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE jobs")
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, text: str, values: Any, *_: Any) -> None:
        if "chosen" in text:
            seen.append((text, values))

    sa.event.listen(engine, "before_cursor_execute", note)
    pilot.lease(limit=10, stage_in=10)
    sa.event.remove(engine, "before_cursor_execute", note)
    word = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    plans = []
    with engine.connect() as connection:
        for text, values in seen:
            rows = connection.exec_driver_sql(f"{word} {text}", values)
            plans.append("\n".join(str(row[-1]) for row in rows))
    queue, inputs = plans
    assert "ix_jobs_queue" in queue, queue
    assert "ix_jobs_to_stage" in inputs, inputs
    for plan in (queue, inputs):
        assert "Seq Scan" not in plan
        assert "TEMP B-TREE" not in plan
    assert "state=?" in inputs or "(state = 'READY'" in inputs, inputs
