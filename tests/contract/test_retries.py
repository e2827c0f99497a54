"""Retries in the database: charged and counted once, with growth and delay; the crash limit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from balsam.client.local import LocalClient
from balsam.errors import InvalidInput
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.retry import Rule, parse_rules
from balsam.model.states import State
from balsam.model.wire import Aftermath, Attempt, Lease, Move, Outcome, Report
from tests.contract.pilot import Clock, Pilot, add, everything, job, request, states

S = State
FAILURE = (S.RUNNING, S.RUN_ERROR, S.RESTART_READY)


def failure(pilot: Pilot, leased: Job, *to: State, **aftermath: Any) -> Report:
    """The report of a run that failed, with what its last move changes; the job is given back."""
    moves = pilot.path(leased, *(to or FAILURE))
    if aftermath:
        moves[-1] = msgspec.structs.replace(moves[-1], aftermath=Aftermath(**aftermath))
    return Report(moves=moves, released=[leased.id or 0])


def fail(pilot: Pilot, leased: Job, *to: State, **aftermath: Any) -> None:
    assert pilot.client.report(pilot.id, failure(pilot, leased, *to, **aftermath)) == []


def lease(pilot: Pilot, limit: int = 1000, **fields: Any) -> Lease:
    return pilot.client.lease(pilot.id, request(limit, **fields))


# what a retry changes -----------------------------------------------------------------------


def test_a_retry_brings_its_growth(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "x", memory_mib=100, wall_time_minutes=2.0)
    fail(pilot, pilot.lease()[0], memory_mib=200, wall_time_minutes=3.5)
    found = job(client, id_)
    assert (found.memory_mib, found.wall_time_minutes, found.retries) == (200, 3.5, 1)
    assert found.retry_at is None
    (again,) = pilot.lease()
    assert (again.memory_mib, again.wall_time_minutes) == (200, 3.5)


@pytest.mark.parametrize(("memory", "minutes"), [(150, 3.0), (900, 0.0), (0, 9.0)])
def test_what_a_user_gave_meanwhile_stays_when_it_is_more(
    client: LocalClient, pilot: Pilot, memory: int, minutes: float
) -> None:
    (id_,) = add(client, "x", memory_mib=100, wall_time_minutes=2.0)
    (leased,) = pilot.lease()
    client.update_jobs(ALL, {"memory_mib": memory, "wall_time_minutes": minutes})
    fail(pilot, leased, memory_mib=200, wall_time_minutes=3.5)
    found = job(client, id_)
    assert (found.memory_mib, found.wall_time_minutes) == (max(memory, 200), max(minutes, 3.5))


def test_a_report_that_comes_again_changes_nothing_more(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    add(client, "x", memory_mib=100)
    (leased,) = pilot.lease()
    report = failure(pilot, leased, memory_mib=200, retry_at=clock.now + 10, crashed=True)
    assert client.report(pilot.id, report) == []
    before = everything(client)
    assert client.report(pilot.id, report) == []
    assert everything(client) == before
    clock.now += 20
    pilot.lease()
    client.report(pilot.id, report)
    (found,) = client.jobs(ALL)
    assert (found.retry_at, found.retries, found.crashes) == (None, 1, 1)


def test_a_refused_move_changes_nothing(
    client: LocalClient, pilot: Pilot, rival: Pilot, clock: Clock
) -> None:
    (id_,) = add(client, "x", memory_mib=100)
    (leased,) = pilot.lease()
    before = job(client, id_)
    report = failure(rival, leased, memory_mib=200, retry_at=clock.now + 10, crashed=True)
    (refusal,) = client.report(rival.id, msgspec.structs.replace(report, released=[]))
    assert refusal.job == id_
    assert job(client, id_) == before


def test_a_retry_of_an_old_journal_is_charged(client: LocalClient, pilot: Pilot) -> None:
    """Moves had no aftermath; where they changed nothing, they are still written so."""
    (id_,) = add(client, "x")
    (leased,) = pilot.lease()
    texts = [
        f'{{"job":{id_},"attempt":{move.attempt},"from_state":"{move.from_state}",'
        f'"to_state":"{move.to_state}","time":{move.time},"message":""}}'
        for move in pilot.path(leased, *FAILURE)
    ]
    moves = [msgspec.json.decode(text, type=Move) for text in texts]
    assert b"aftermath" not in msgspec.json.encode(moves)
    assert pilot.report(moves=moves) == []
    assert job(client, id_).retries == 1


def test_time_outs_and_losses_are_counted_and_not_charged(
    client: LocalClient, pilot: Pilot
) -> None:
    (id_,) = add(client, "x")
    for _ in range(2):
        fail(pilot, pilot.lease()[0], S.RUNNING, S.RUN_TIMEOUT, S.RESTART_READY)
    fail(pilot, pilot.lease()[0], S.RUNNING, S.RESTART_READY, crashed=True)
    fail(pilot, pilot.lease()[0], S.RUNNING, S.RESTART_READY)
    found = job(client, id_)
    assert (found.timeouts, found.crashes, found.retries, found.attempt) == (2, 1, 0, 4)


# delays ---------------------------------------------------------------------------------------


def test_a_job_is_not_leased_before_its_time(
    client: LocalClient, pilot: Pilot, rival: Pilot, clock: Clock
) -> None:
    first, second, other = add(client, "first", "second", "other")
    jobs = {one.id: one for one in pilot.lease()}
    fail(pilot, jobs[first], retry_at=clock.now + 10)
    fail(pilot, jobs[second], retry_at=clock.now + 30)
    assert pilot.report(released=[other]) == []
    assert job(client, first).retry_at == clock.now + 10
    answer = lease(rival)
    assert [one.id for one in answer.jobs] == [other]
    assert answer.next_in == 10
    clock.now += 9
    assert (lease(rival).jobs, lease(rival).next_in) == ([], 1)
    clock.now += 1
    answer = lease(rival)
    assert [one.id for one in answer.jobs] == [first]
    assert answer.jobs[0].retry_at is None
    assert answer.next_in == 20
    assert job(client, first).retry_at is None
    clock.now += 1000
    answer = lease(rival)
    assert [one.id for one in answer.jobs] == [second]
    assert answer.next_in is None


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, 10),
        ({"workflow_filter": "else"}, None),
        ({"owner": "nobody"}, None),
        ({"memory_mib": 99}, None),
        ({"minutes_left": 1.0}, None),
        ({"serial": False}, None),
        ({"limit": 0}, None),
    ],
)
def test_only_a_job_that_it_could_take_is_announced(
    client: LocalClient, pilot: Pilot, clock: Clock, fields: dict[str, Any], wanted: float | None
) -> None:
    add(client, "x", memory_mib=100, wall_time_minutes=2.0)
    fail(pilot, pilot.lease()[0], retry_at=clock.now + 10)
    assert lease(pilot, **fields).next_in == wanted


def test_a_job_that_waits_is_not_among_what_is_left_now(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    add(client, "x")
    fail(pilot, pilot.lease()[0], retry_at=clock.now + 10)
    outlook = client.outlook(pilot.id, request())
    assert (outlook.leasable, outlook.unfit, outlook.delayed) == (0, 0, 1)
    assert client.outlook(pilot.id, request(workflow_filter="else")).delayed == 0


def test_those_whose_time_has_come_go_in_their_order(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    low, high, new = add(client, "low")[0], add(client, "high", priority=2)[0], 0
    for leased in pilot.lease():
        fail(pilot, leased, retry_at=clock.now + leased.priority + 1)
    (new,) = add(client, "new", priority=1)
    clock.now += 5
    assert [one.id for one in pilot.lease()] == [high, new, low]


@pytest.mark.parametrize("way", ["modify", "rerun", "restart"])
def test_what_a_user_starts_again_does_not_wait(
    client: LocalClient, pilot: Pilot, clock: Clock, way: str
) -> None:
    (id_,) = add(client, "x")
    fail(pilot, pilot.lease()[0], retry_at=clock.now + 10)
    match way:
        case "modify":
            client.move_jobs(ALL, S.CREATED)
        case "rerun":
            client.kill_jobs(ALL)
            assert pilot.lease() == []
            client.rerun_jobs(ALL)
        case "restart":
            client.move_jobs(ALL, S.FAILED)
            client.move_jobs(ALL, S.RESTART_READY)
    assert job(client, id_).retry_at is None
    assert [one.id for one in pilot.lease()] == [id_]


def test_a_job_that_waits_for_its_retry_can_be_found(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    waits, _ = add(client, "waits", "other")
    fail(pilot, pilot.lease(1)[0], retry_at=clock.now + 10)
    assert [one.id for one in client.jobs(ALL.where(retry_at__isnull=False))] == [waits]
    assert [one.id for one in client.jobs(ALL.where(retry_at__gt=clock.now))] == [waits]


# the crash limit ------------------------------------------------------------------------------


def start(pilot: Pilot, leased: Job, pid: int = 77) -> None:
    attempt = msgspec.structs.replace(pilot.attempt(leased, Outcome.RUNNING), pid=pid)
    assert pilot.report(moves=pilot.path(leased, S.RUNNING), attempts=[attempt]) == []


def lose(client: LocalClient, clock: Clock, limit: int, **pids: int) -> Pilot:
    """A launcher leases all there is, starts the jobs of *pids* (by name), and dies."""
    pilot = Pilot(client, clock)
    for leased in pilot.lease():
        if leased.name in pids:
            start(pilot, leased, pids[leased.name])
    client.retire_launcher(pilot.id, f"launcher {pilot.id} died", lost=True, crash_limit=limit)
    return pilot


def test_a_job_whose_launcher_dies_too_often_fails(client: LocalClient, clock: Clock) -> None:
    (id_,) = add(client, "x", retry=parse_rules("any: max=9"), max_retries=9)
    (child,) = add(client, "child", parents_failed=[id_])
    for crashes in (1, 2):
        lose(client, clock, 3, x=1)
        found = job(client, id_)
        assert (found.state, found.crashes, found.retries) == (S.RESTART_READY, crashes, 0)
    last = lose(client, clock, 3, x=1)
    assert (job(client, id_).state, job(client, id_).crashes) == (S.FAILED, 3)
    assert job(client, id_).launcher_id is None
    event = client.events(Query(filters=parse({"to_state": "FAILED"}, "events")))[0]
    assert event.message == (
        "its node or launcher died 3 times while it ran; see its attempts and"
        f" launcher.crash_limit (launcher {last.id} died)"
    )
    assert job(client, child).state is S.PREPROCESSED
    assert [attempt.outcome for attempt in client.attempts([id_])] == [Outcome.LOST] * 3


def test_without_a_limit_losses_are_only_counted(client: LocalClient, clock: Clock) -> None:
    (id_,) = add(client, "x")
    for _ in range(7):
        lose(client, clock, 0, x=1)
    assert (job(client, id_).state, job(client, id_).crashes) == (S.RESTART_READY, 7)


@pytest.mark.parametrize(
    ("pids", "counted"),
    [
        ({"a": 1, "b": 1, "c": 0}, "ab"),
        ({"a": 0, "b": 1, "c": 0}, "b"),
        ({"a": 0, "b": 0}, "ab"),
        ({}, ""),
    ],
)
def test_those_that_ran_are_suspected_and_without_one_all_that_were_sent(
    client: LocalClient, clock: Clock, pids: dict[str, int], counted: str
) -> None:
    """Of what was sent to a worker and not heard of, the attempt has no pid."""
    add(client, "a", "b", "c")
    lose(client, clock, 1, **pids)
    found = client.jobs(ALL)
    assert "".join(one.name for one in found if one.crashes) == counted
    assert "".join(one.name for one in found if one.state is S.FAILED) == counted


def test_a_launcher_that_ends_in_order_is_no_loss(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "x")
    start(pilot, pilot.lease()[0])
    client.retire_launcher(pilot.id, "time is over", crash_limit=1)
    assert (job(client, id_).state, job(client, id_).crashes) == (S.RESTART_READY, 0)


def test_a_launcher_is_lost_once(client: LocalClient, clock: Clock) -> None:
    (id_,) = add(client, "x")
    pilot = lose(client, clock, 5, x=1)
    client.retire_launcher(pilot.id, "again", lost=True, crash_limit=1)
    assert (job(client, id_).state, job(client, id_).crashes) == (S.RESTART_READY, 1)


def test_run_again_from_the_beginning_all_counts_are_none_and_what_grew_stays(
    client: LocalClient, pilot: Pilot
) -> None:
    (id_,) = add(client, "x", memory_mib=10, retry=parse_rules("any"))
    fail(pilot, pilot.lease()[0], memory_mib=20)
    fail(pilot, pilot.lease()[0], S.RUNNING, S.RUN_TIMEOUT, S.RESTART_READY)
    fail(pilot, pilot.lease()[0], S.RUNNING, S.RESTART_READY, crashed=True)
    fail(pilot, pilot.lease()[0], S.RUNNING, S.RUN_ERROR, S.FAILED)
    found = job(client, id_)
    assert (found.retries, found.timeouts, found.crashes) == (1, 1, 1)
    assert client.rerun_jobs(ALL) == 1
    found = job(client, id_)
    assert (found.retries, found.timeouts, found.crashes, found.retry_at) == (0, 0, 0, None)
    assert (found.memory_mib, found.attempt, found.retry) == (20, 4, parse_rules("any"))
    assert states(client, [id_]) == [S.PREPROCESSED]


# rules in the database ------------------------------------------------------------------------


RULES = parse_rules("exit=137,1-9: memory*2, max=3; signal=SEGV: delay=0.5; timeout: never")


@pytest.mark.parametrize(
    "given", [RULES, [str(rule) for rule in RULES], [msgspec.to_builtins(rule) for rule in RULES]]
)
def test_rules_are_kept_however_they_are_given(
    client: LocalClient, pilot: Pilot, given: list[Any]
) -> None:
    (id_,) = add(client, "x", retry=given)
    assert job(client, id_).retry == RULES
    client.update_jobs(ALL, {"retry": []})
    assert job(client, id_).retry == []
    client.update_jobs(ALL, {"retry": given})
    client.update_apps(ALL, {"retry": given})
    answer = lease(pilot)
    assert answer.jobs[0].retry == answer.apps["a"].retry == RULES


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"retry": []}, "b"),
        ({"retry": ""}, "b"),
        ({"retry__ne": []}, "ac"),
        ({"retry": "any: max=2"}, "a"),
        ({"retry": ["exit=137: memory*2", "any"]}, "c"),
        ({"retry__in": ["any: max=2", []]}, "ab"),
        ({"retry__contains": "137"}, "c"),
    ],
)
def test_jobs_are_found_by_their_rules(
    client: LocalClient, condition: dict[str, Any], found: str
) -> None:
    for name, rules in (("a", "any: max=2"), ("b", ""), ("c", "exit=137: memory*2; any")):
        add(client, name, retry=parse_rules(rules))
    assert "".join(one.name for one in client.jobs(ALL.where(**condition))) == found


@pytest.mark.parametrize("bad", [["exit=x"], [{"on": "any", "max": 0}], [Rule(on="exit")], [3]])
def test_bad_rules_are_refused_and_nothing_changes(client: LocalClient, bad: list[Any]) -> None:
    add(client, "x")
    before = everything(client)
    with pytest.raises(InvalidInput, match=r"job 'y': retry"):
        add(client, "y", retry=bad)
    with pytest.raises(InvalidInput, match="retry"):
        client.add_app(App(name="b", executable="/bin/true", retry=bad))
    for update in (client.update_jobs, client.update_apps):
        with pytest.raises(InvalidInput, match="retry"):
            update(ALL, {"retry": bad})
    assert everything(client) == before


@pytest.mark.parametrize("field", ["retry_at", "timeouts", "crashes"])
def test_the_counts_are_balsams_own(client: LocalClient, field: str) -> None:
    add(client, "x")
    with pytest.raises(InvalidInput, match="cannot be changed"):
        client.update_jobs(ALL, {field: 1})


def test_an_attempt_says_the_signal_by_its_name() -> None:
    attempt = Attempt(job=1, number=1, launcher_id=1)
    names = {None: None, 0: None, 137: None, -9: "SIGKILL", -15: "SIGTERM"}
    for code, name in names.items():
        attempt.exit_code = code
        assert attempt.signal == name
