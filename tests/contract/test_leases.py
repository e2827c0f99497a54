"""Leases: who may run what, in which order, and until when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from balsam.client.local import LocalClient
from balsam.errors import LeaseLost
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import LEASABLE_STATES, STATES, State
from balsam.model.wire import LauncherInfo, Outcome
from tests.contract.pilot import Clock, Pilot, add, brought_to, history, job, request, states

S = State


def ids_of(jobs: list[Job]) -> list[int]:
    return [job.id or 0 for job in jobs]


def test_a_leased_job_is_nobody_elses(client: LocalClient, pilot: Pilot, rival: Pilot) -> None:
    ids = add(client, *"abcde")
    assert ids_of(pilot.lease(2)) == ids[:2]
    assert ids_of(rival.lease(10)) == ids[2:]
    assert pilot.lease() == rival.lease() == []
    held = {job.id: job.launcher_id for job in client.jobs(ALL)}
    assert held == dict.fromkeys(ids[:2], pilot.id) | dict.fromkeys(ids[2:], rival.id)


def test_a_lease_changes_neither_state_nor_history(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "a")
    pilot.lease()
    assert states(client, [id_]) == [S.PREPROCESSED]
    assert history(client, id_) == [("", "PREPROCESSED")]


def test_what_a_leased_job_brings_along(client: LocalClient, pilot: Pilot) -> None:
    client.add_app(App(name="b", executable="x {{p}}", preprocess="y", postprocess="z"))
    parents = add(client, "p", "q")
    pilot.run_all()
    fields = {"args": "1", "tags": {"k": "v"}, "parameters": {"p": 1}, "environ": {"A": "b"}}
    (id_,) = add(client, "c", parents=parents, data={"d": 1}, **fields)
    (other,) = add(client, "d", application="b")
    lease = client.lease(pilot.id, request())
    assert ids_of(lease.jobs) == [id_, other]
    assert sorted(lease.apps) == ["a", "b"]
    assert lease.apps["b"] == next(app for app in client.apps(ALL) if app.name == "b")
    leased, whole = lease.jobs[0], job(client, id_)
    assert leased.data == {}
    needed = (*fields, "parents", "job_id", "workdir", "name", "workflow", "launcher_id", "state")
    for field in (*needed, "attempt", "retries", "max_retries", "num_nodes", "auto_timeout_retry"):
        assert getattr(leased, field) == getattr(whole, field), field
    assert leased.parents == parents


def test_a_lease_has_the_apps_of_its_jobs_alone(client: LocalClient, pilot: Pilot) -> None:
    client.add_app(App(name="b", executable="x"))
    add(client, "c")
    assert list(client.lease(pilot.id, request()).apps) == ["a"]
    assert client.lease(pilot.id, request()).apps == {}


def test_a_job_whose_app_is_gone_is_leased_without(client: LocalClient, pilot: Pilot) -> None:
    """Fault L2: the launcher fails it, with the reason, instead of meeting it for ever."""
    add(client, "c")
    client.delete_apps(ALL)
    lease = client.lease(pilot.id, request())
    assert (len(lease.jobs), lease.apps) == (1, {})


def test_the_order_of_a_lease(client: LocalClient, pilot: Pilot) -> None:
    """Priority, then nodes, then wall time, then age."""
    wanted = [
        (5, 1, 0.0),
        (5, 1, 0.0),
        (0, 4, 1.0),
        (0, 2, 90.0),
        (0, 2, 10.0),
        (0, 1, 60.5),
        (0, 1, 60.0),
        (0, 1, 0.0),
        (-1, 64, 500.0),
    ]
    names = ("priority", "num_nodes", "wall_time_minutes")
    mixed = [*enumerate(wanted)]
    mixed = mixed[::2] + mixed[1::2]
    ids = {}
    for place, values in sorted(mixed, key=lambda item: (item[0] % 3, item[0])):
        ids[place] = add(client, f"j{place}", **dict(zip(names, values, strict=True)))[0]
    expected = [ids[place] for place in range(len(wanted))]
    if ids[0] > ids[1]:
        expected[:2] = expected[1::-1]
    one_by_one = [ids_of(pilot.lease(1))[0] for _ in wanted]
    assert one_by_one == expected
    pilot.report(released=expected)
    assert ids_of(pilot.lease()) == expected


@pytest.mark.parametrize("state", [s for s in STATES if s is not S.CREATED])
def test_what_can_be_leased(client: LocalClient, pilot: Pilot, rival: Pilot, state: State) -> None:
    id_ = brought_to(client, pilot, state)
    client.retire_launcher(pilot.id, "done") if state is not S.RUNNING else None
    leased = ids_of(rival.lease())
    assert (id_ in leased) is (state in LEASABLE_STATES)


# time -------------------------------------------------------------------------------


def test_a_launcher_is_known_while_it_lives(client: LocalClient, clock: Clock) -> None:
    batch_job = client.create_batch_job(BatchJob(name="b")).id
    info = LauncherInfo(
        host="h", pid=5, pid_started="x", owner="me", workflow_filter="w", job_mode="serial",
        nodes=2, cores=3, gpus=4, batch_job_id=batch_job, tags={"k": "v"}, memory_mib=5,
        scheduler_id="17.h",
    )  # fmt: skip
    first = client.register_launcher(info, 60.0)
    second = client.register_launcher(info, 90.0)
    assert first < second
    found = client.launchers()
    assert [launcher.id for launcher in found] == [first, second]
    assert found[0] == LauncherInfo(
        id=first, host="h", pid=5, pid_started="x", owner="me", workflow_filter="w",
        job_mode="serial", nodes=2, cores=3, gpus=4, batch_job_id=batch_job, tags={"k": "v"},
        memory_mib=5, scheduler_id="17.h",
        started_at=clock.now, expires_at=clock.now + 60,
    )  # fmt: skip
    clock.now += 1
    client.retire_launcher(first, "done")
    assert [launcher.id for launcher in client.launchers()] == [second]
    ended = client.launchers(live=False)[0]
    assert (ended.id, ended.ended_at, ended.message) == (first, clock.now, "done")


def test_a_launcher_expires_unless_it_renews(
    client: LocalClient, pilot: Pilot, rival: Pilot, clock: Clock
) -> None:
    clock.now += 59
    assert client.expired_launchers() == []
    assert client.renew(pilot.id, 60.0).expires_at == clock.now + 60
    clock.now += 2
    assert [info.id for info in client.expired_launchers()] == [rival.id]
    client.retire_launcher(rival.id, "died", lost=True)
    assert client.expired_launchers() == []
    clock.now += 60
    assert [info.id for info in client.expired_launchers()] == [pilot.id]


def test_the_jobs_of_a_lost_launcher_go_to_others(
    client: LocalClient, pilot: Pilot, rival: Pilot, clock: Clock
) -> None:
    running, waiting = add(client, "a", "b")
    leased = pilot.lease()
    pilot.start(leased[0])
    clock.now += 5
    assert client.retire_launcher(pilot.id, "launcher 1 died", lost=True) == 2
    assert states(client, [running, waiting]) == [S.RESTART_READY, S.PREPROCESSED]
    assert history(client, running)[-1] == ("RUNNING", "RESTART_READY")
    assert client.events(ALL)[-1].message == "launcher 1 died"
    (attempt,) = client.attempts([running])
    assert (attempt.outcome, attempt.ended_at) == (Outcome.LOST, clock.now)
    assert job(client, running).retries == 0
    again = rival.lease()
    assert sorted(ids_of(again)) == [running, waiting]
    rival.run(*again)
    assert [a.number for a in client.attempts([running])] == [1, 2]
    assert client.state_counts(ALL) == {S.JOB_FINISHED: 2}


def test_a_launcher_that_ends_in_order_gives_back(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    (id_,) = add(client, "a")
    pilot.start(*pilot.lease())
    assert client.retire_launcher(pilot.id, "time is over") == 1
    assert client.attempts([id_])[0].outcome is Outcome.TIMEOUT
    assert ids_of(rival.lease()) == [id_]


def test_a_launcher_retires_once(client: LocalClient, pilot: Pilot, clock: Clock) -> None:
    add(client, "a")
    pilot.lease()
    assert client.retire_launcher(pilot.id, "first") == 1
    clock.now += 1
    assert client.retire_launcher(pilot.id, "second") == 0
    assert client.launchers(live=False)[0].message == "first"


def test_after_its_end_a_launcher_has_no_say(client: LocalClient, pilot: Pilot) -> None:
    add(client, "a")
    client.retire_launcher(pilot.id, "was cut off")
    with pytest.raises(LeaseLost, match="was cut off"):
        pilot.lease()
    with pytest.raises(LeaseLost, match="was cut off"):
        client.renew(pilot.id, 60.0)
    assert client.state_counts(ALL.where(launcher_id__isnull=False)) == {}


def test_a_launcher_that_never_was_has_no_say(client: LocalClient) -> None:
    add(client, "a")
    with pytest.raises(LeaseLost, match="77"):
        client.lease(77, request())
    with pytest.raises(LeaseLost, match="77"):
        client.renew(77, 60.0)


def test_ids_of_launchers_are_not_used_again(client: LocalClient, pilot: Pilot) -> None:
    client.retire_launcher(pilot.id, "")
    assert client.register_launcher(LauncherInfo(host="h", pid=1), 60.0) > pilot.id


def test_a_sign_of_life_brings_kills(client: LocalClient, pilot: Pilot, rival: Pilot) -> None:
    mine = add(client, "a", "b")
    leased = pilot.lease()
    pilot.start(leased[0])
    add(client, "c")
    rival.start(*rival.lease())
    assert client.renew(pilot.id, 60.0).killed == []
    client.kill_jobs(ALL)
    assert sorted(client.renew(pilot.id, 60.0).killed) == mine
    pilot.report(released=mine)
    assert client.renew(pilot.id, 60.0).killed == []


# many at once -----------------------------------------------------------------------


def test_four_processes_share_the_work(client: LocalClient, site: Path) -> None:
    """Each job goes to one of them, whatever their order."""
    ids = add(client, *(f"j{i}" for i in range(400)))
    program = """if True:
        import json, sys
        from pathlib import Path
        from balsam.client.connect import open_client
        from balsam.model.wire import LauncherInfo, LeaseRequest
        client = open_client(Path(sys.argv[1]))
        launcher = client.register_launcher(LauncherInfo(host="h", pid=1), 60.0)
        print(flush=True)
        sys.stdin.readline()
        taken = []
        while jobs := client.lease(launcher, LeaseRequest(limit=7)).jobs:
            taken.append([job.id for job in jobs])
        json.dump(taken, sys.stdout)
    """
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", program, site],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for taker in takers:
        assert taker.stdout is not None
        taker.stdout.readline()
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()
    taken = []
    for taker in takers:
        out, _ = taker.communicate(timeout=60)
        assert taker.returncode == 0
        for batch in json.loads(out):
            assert batch == sorted(batch)
            taken += batch
    assert sorted(taken) == ids


def test_a_lease_that_is_asked_for_again_is_answered_again(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    """Its answer was lost on the way; nobody would ever run these jobs."""
    ids = add(client, "a", "b", "c", "d")
    first = [job.id for job in pilot.lease(limit=2, number=1)]
    assert first == ids[:2]
    again = pilot.lease(limit=2, number=1)
    assert [job.id for job in again] == first
    assert [job.id for job in rival.lease(limit=1, number=1)] == [ids[2]]
    pilot.start(again[0])
    pilot.end(again[0])
    assert [job.id for job in pilot.lease(limit=2, number=1)] == [ids[1]]
    assert [job.id for job in pilot.lease(limit=2, number=2)] == [ids[3]]


def test_a_lease_without_jobs_is_asked_anew(client: LocalClient, pilot: Pilot) -> None:
    assert pilot.lease(number=1) == []
    (id_,) = add(client, "a")
    assert [job.id for job in pilot.lease(number=1)] == [id_]
