"""Transfers of files, as launchers report them."""

from __future__ import annotations

from balsam.client.local import LocalClient
from balsam.model.query import ALL, Query, check_order, parse
from balsam.model.transfer import Direction, Transfer, TransferState
from tests.contract.pilot import Clock, Pilot, add


def moved(job: int, pilot: Pilot, number: int = 1, **fields: object) -> Transfer:
    given: dict[str, object] = {
        "job": job,
        "direction": Direction.IN,
        "number": number,
        "url": f"local:/{number}",
        "launcher_id": pilot.id,
    }
    return Transfer(**(given | fields))  # type: ignore[arg-type]


def query(**conditions: object) -> Query:
    return Query(filters=parse(conditions, "transfers"))


def test_the_newest_word_stays(client: LocalClient, pilot: Pilot) -> None:
    (job,) = add(client, "one")
    total = 2**40
    pilot.report(transfers=[moved(job, pilot, 2), moved(job, pilot, bytes_total=total)])
    done = moved(
        job, pilot, state=TransferState.DONE, bytes_done=total, files=3, attempts=2, ended_at=1.5
    )
    pilot.report(transfers=[done])
    first, second = client.transfers(ALL)
    assert (first.number, second.number) == (1, 2)
    assert first.job_id == client.identity.text(job)
    done.job_id = first.job_id
    assert first == done


def test_what_can_be_asked(client: LocalClient, pilot: Pilot) -> None:
    one, two = [*add(client, "one"), *add(client, "two", workflow="other")]
    out = moved(two, pilot, direction=Direction.OUT, state=TransferState.FAILED, error="full")
    pilot.report(transfers=[moved(one, pilot), out])
    for conditions, expected in (
        ({"workflow": "other"}, [two]),
        ({"state__in": ["failed", "stopped"]}, [two]),
        ({"error__contains": "ul", "direction": "out"}, [two]),
        ({"job__in": [one, two]}, [one, two]),
    ):
        assert [each.job for each in client.transfers(query(**conditions))] == expected
    ordered = Query(order=check_order(("-job_id",), "transfers"), limit=1)
    assert [each.job for each in client.transfers(ordered)] == [two]


def test_they_end_with_their_launcher(client: LocalClient, pilot: Pilot, clock: Clock) -> None:
    (job,) = add(client, "one")
    done = moved(job, pilot, 2, state=TransferState.DONE, ended_at=1.0)
    pilot.report(transfers=[moved(job, pilot, state=TransferState.RUNNING), done])
    clock.now += 5
    client.retire_launcher(pilot.id, "its time was over")
    found = [(each.state, each.ended_at) for each in client.transfers(ALL)]
    assert found == [(TransferState.STOPPED, clock.now), (TransferState.DONE, 1.0)]
    pilot.report(transfers=[moved(job, pilot, bytes_done=7)])  # it is too late for that
    assert client.transfers(ALL)[0].bytes_done == 0


def test_they_go_with_their_job(client: LocalClient, pilot: Pilot) -> None:
    one, two = add(client, "one", "two")
    pilot.report(transfers=[moved(one, pilot), moved(two, pilot)])
    client.delete_jobs(ALL.where(id=one))
    pilot.report(transfers=[moved(one, pilot, bytes_done=7)])
    assert [each.job for each in client.transfers(ALL)] == [two]
