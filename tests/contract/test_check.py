"""What must not be in a database is found, named and, where that is safe, put right."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from balsam.client import maintenance
from balsam.client.connect import silent
from balsam.client.local import LocalClient
from balsam.model.graph import Kind
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import Outcome
from balsam.store import check
from balsam.store.schema import (
    attempts,
    counters,
    dependencies,
    events,
    jobs,
    launchers,
    transfers,
)
from tests.contract.contents import fill_with_everything
from tests.contract.pilot import Clock, Pilot, add, history, job, states
from tests.contract.upkeep import damage

Work = Callable[[sa.Connection], Any]


def found(client: LocalClient) -> list[str]:
    return [finding.name for finding in client._store.read(check.findings)]


def mended(site: Path) -> maintenance.Check:
    return maintenance.check(site, mend=True, say=silent)


# sound ---------------------------------------------------------------------------------


def test_a_campaign_is_sound_at_every_step(client: LocalClient, clock: Clock) -> None:
    assert found(client) == []
    fill_with_everything(client, clock)
    assert found(client) == []
    pilot = Pilot(client, clock)
    leased = pilot.lease(4)
    assert found(client) == []
    pilot.start(*leased[:3])
    assert found(client) == []
    client.kill_jobs(ALL.where(id=leased[0].id))
    assert found(client) == []
    pilot.end(*leased[1:2], outcome=Outcome.TIMEOUT)
    assert found(client) == []
    client.retire_launcher(pilot.id, "died", lost=True)
    assert found(client) == []
    pilot.end(*leased[:3])
    assert found(client) == []
    client.rerun_jobs(ALL)
    assert found(client) == []
    client.delete_jobs(ALL)
    assert found(client) == []


def test_dependencies_are_sound(client: LocalClient, pilot: Pilot) -> None:
    good, bad = add(client, "good"), add(client, "bad", priority=-1)
    for kind in ("parents", "parents_failed", "parents_any"):
        add(client, f"{kind} good", **{kind: good})
        add(client, f"{kind} bad", **{kind: bad})
    both = add(client, "both", parents=good, parents_any=bad)
    assert found(client) == []
    pilot.run_all(limit=1)
    assert found(client) == []
    pilot.run_all(outcome=Outcome.ERROR, limit=1)
    assert found(client) == []
    client.rerun_jobs(ALL.where(id__in=bad))
    client.add_dependency(bad[0], add(client, "late")[0], Kind.FAIL)
    assert found(client) == []
    client.kill_jobs(ALL.where(id__in=[*bad, *both]))
    assert found(client) == []


# damages that are found -------------------------------------------------------------------


class Damage(NamedTuple):
    """Statements that spoil the site of `spoilt`, and what is found then."""

    statements: Callable[[], list[sa.Executable]]
    findings: list[str]
    #: Ids that are named, of the first finding.
    first: list[int]
    mended: bool


def of(job_id: int) -> sa.ColumnElement[bool]:
    return jobs.c.id == job_id


def event(job_id: int, old: str, new: str) -> sa.Executable:
    return events.insert().values(time=1.0, job=job_id, from_state=old, to_state=new)


#: Jobs: 1 runs, 2 is leased, 3 has ended, 4 waits for 1, 5 is free, 6 was killed as it ran.
DAMAGES: dict[str, Damage] = {
    "no events": Damage(
        lambda: [sa.delete(events).where(events.c.job == 5)], ["no history"], [5], False
    ),
    "another state": Damage(
        lambda: [sa.update(jobs).where(of(5)).values(state="READY")], ["state"], [5], False
    ),
    "a lost event": Damage(
        lambda: [
            sa.delete(events).where(events.c.job == 3, events.c.to_state == "RUNNING"),
        ],
        ["history"],
        [3],
        False,
    ),
    "an event too many": Damage(
        lambda: [event(5, "RUNNING", "RUNNING")],
        ["state", "history", "illegal move"],
        [5],
        False,
    ),
    "an illegal move": Damage(
        lambda: [
            event(5, "PREPROCESSED", "JOB_FINISHED"),
            sa.update(jobs).where(of(5)).values(state="JOB_FINISHED"),
        ],
        ["illegal move"],
        [5],
        False,
    ),
    "a first event of another kind": Damage(
        lambda: [sa.update(events).where(events.c.job == 5).values(to_state="RUNNING")],
        ["state", "illegal move"],
        [5],
        False,
    ),
    "leased after its end": Damage(
        lambda: [sa.update(jobs).where(of(3)).values(launcher_id=1)],
        ["lease after the end"],
        [3],
        True,
    ),
    "killed and leased by the ended": Damage(
        lambda: [sa.update(jobs).where(of(6)).values(launcher_id=2)],
        ["lease after the end", "open attempt"],
        [6],
        True,
    ),
    "leased by the ended": Damage(
        lambda: [sa.update(jobs).where(of(2)).values(launcher_id=2)],
        ["lease of the ended"],
        [2],
        True,
    ),
    "leased by nobody known": Damage(
        lambda: [sa.update(jobs).where(of(2)).values(launcher_id=99)],
        ["lease of the ended"],
        [2],
        True,
    ),
    "the launcher ended, its jobs did not come back": Damage(
        lambda: [sa.update(launchers).where(launchers.c.id == 1).values(ended_at=5.0)],
        ["lease of the ended", "lease after the end", "open attempt"],
        [1, 2],
        True,
    ),
    "running without a lease": Damage(
        lambda: [sa.update(jobs).where(of(1)).values(launcher_id=None)],
        ["running free", "open attempt"],
        [1],
        True,
    ),
    "running without an attempt": Damage(
        lambda: [sa.update(attempts).where(attempts.c.job == 1).values(ended_at=9.0)],
        ["running unseen"],
        [1],
        False,
    ),
    "an attempt left open": Damage(
        lambda: [sa.update(attempts).where(attempts.c.job == 3).values(ended_at=None)],
        ["open attempt"],
        [3],
        True,
    ),
    "attempts not counted": Damage(
        lambda: [
            sa.update(attempts).where(attempts.c.job == 3).values(number=7),
        ],
        ["attempt number", "attempt record"],
        [3],
        True,
    ),
    "an attempt lost": Damage(
        lambda: [sa.delete(attempts).where(attempts.c.job == 3)], ["attempt record"], [3], False
    ),
    "too many parents": Damage(
        lambda: [sa.update(jobs).where(of(4)).values(pending_parents=2)], ["parents"], [4], True
    ),
    "too few parents": Damage(
        lambda: [sa.update(jobs).where(of(4)).values(pending_parents=0)], ["parents"], [4], True
    ),
    "a parent that ended unheard": Damage(
        lambda: [sa.update(dependencies).where(dependencies.c.child == 4).values(parent=3)],
        ["parents", "release"],
        [4],
        True,
    ),
    "a parent that failed unheard": Damage(
        lambda: [
            sa.update(dependencies).where(dependencies.c.child == 4).values(parent=3, kind="fail")
        ],
        ["parents", "release"],
        [4],
        True,
    ),
    "no parent at all": Damage(
        lambda: [sa.delete(dependencies).where(dependencies.c.child == 4)],
        ["parents", "release"],
        [4],
        True,
    ),
    "left where it was created": Damage(
        lambda: [
            event(5, "PREPROCESSED", "CREATED"),
            sa.update(jobs).where(of(5)).values(state="CREATED"),
        ],
        ["created"],
        [5],
        True,
    ),
    "events of no job": Damage(lambda: [event(77, "", "READY")], ["orphan event"], [77], False),
    "attempts of no job": Damage(
        lambda: [
            attempts.insert().values(
                job=77, number=1, launcher_id=1, started_at=1.0, ended_at=2.0, outcome="done"
            )
        ],
        ["orphan attempt"],
        [77],
        False,
    ),
    "transfers of no job": Damage(
        lambda: [
            transfers.insert().values(job=77, direction="in", number=1, url="x", launcher_id=1)
        ],
        ["orphan transfer"],
        [77],
        False,
    ),
    "numbers that are taken": Damage(
        lambda: [sa.update(counters).values(value=2)], ["job numbers"], [6], True
    ),
    "no numbers": Damage(lambda: [sa.delete(counters)], ["job numbers"], [6], True),
}


@pytest.fixture
def spoilt(client: LocalClient, clock: Clock) -> LocalClient:
    """A sound site (see `DAMAGES`): launcher 1 works on it, launcher 2 has ended."""
    one, two = Pilot(client, clock), Pilot(client, clock)
    client.retire_launcher(two.id, "")
    add(client, "runs", "held", "done")
    leased = one.lease()
    one.start(*leased[:1])
    one.run(leased[2])
    add(client, "waits", parents=[1])
    add(client, "free", priority=-1)
    add(client, "killed")
    one.start(*one.lease(1))
    client.kill_jobs(ALL.where(id=6))
    assert states(client, range(1, 7)) == [
        State.RUNNING,
        State.PREPROCESSED,
        State.JOB_FINISHED,
        State.AWAITING_PARENTS,
        State.PREPROCESSED,
        State.USER_KILLED,
    ]
    assert found(client) == []
    return client


@pytest.mark.parametrize("damaged", DAMAGES)
def test_damages_are_found_and_mended(spoilt: LocalClient, site: Path, damaged: str) -> None:
    case = DAMAGES[damaged]
    damage(spoilt, *case.statements())
    findings = spoilt._store.read(check.findings)
    assert [finding.name for finding in findings] == case.findings
    assert findings[0].first == case.first
    assert all(finding.count >= 1 for finding in findings)
    result = mended(site)
    assert result.is_sound is case.mended
    if case.mended:
        assert found(spoilt) == []
        assert result.repaired == result.findings
    else:
        assert result.findings[0].repair == ""
        assert found(spoilt)


def test_a_check_changes_nothing(spoilt: LocalClient, site: Path) -> None:
    damage(spoilt, *DAMAGES["no parent at all"].statements())
    before = spoilt.events(ALL)
    for _ in range(2):
        result = maintenance.check(site, mend=False, say=silent)
        assert not result.is_sound
        assert result.repaired == []
    assert spoilt.events(ALL) == before


def test_what_is_given_back_runs_again(spoilt: LocalClient, clock: Clock, site: Path) -> None:
    damage(spoilt, sa.update(launchers).where(launchers.c.id == 1).values(ended_at=5.0))
    mended(site)
    assert history(spoilt, 1)[-1] == (State.RUNNING, State.RESTART_READY)
    assert spoilt.events(ALL)[-1].message == "its launcher has ended: given back by balsam db check"
    (attempt,) = spoilt.attempts([1])
    assert (attempt.outcome, attempt.ended_at) == (Outcome.LOST, 5.0)
    assert sorted(Pilot(spoilt, clock).run_all()) == [1, 2, 5]
    assert found(spoilt) == []


def test_what_waited_for_nothing_goes_on(spoilt: LocalClient, site: Path) -> None:
    damage(spoilt, *DAMAGES["no parent at all"].statements())
    mended(site)
    assert history(spoilt, 4)[-2:] == [
        (State.AWAITING_PARENTS, State.CREATED),
        (State.CREATED, State.PREPROCESSED),
    ]


def test_what_waited_in_vain_ends_with_all_below(spoilt: LocalClient, site: Path) -> None:
    below = add(spoilt, "below", parents=[4])
    damage(spoilt, *DAMAGES["a parent that failed unheard"].statements())
    mended(site)
    assert states(spoilt, [4]) == [State.JOB_FINISHED]  # not needed: its parent did not fail
    assert states(spoilt, below) == [State.PREPROCESSED]
    assert found(spoilt) == []


def test_a_job_that_waits_still_is_counted_anew(spoilt: LocalClient, site: Path) -> None:
    damage(spoilt, sa.update(jobs).where(of(4)).values(pending_parents=9))
    mended(site)
    waiting = job(spoilt, 4)
    assert (waiting.state, waiting.pending_parents) == (State.AWAITING_PARENTS, 1)


def test_new_jobs_get_free_numbers_again(spoilt: LocalClient, site: Path) -> None:
    damage(spoilt, sa.delete(counters))
    mended(site)
    assert add(spoilt, "new") == [7]


def test_only_the_first_are_named(client: LocalClient) -> None:
    ids = add(client, *(f"j{i}" for i in range(30)))
    damage(client, sa.delete(events))
    (finding,) = client._store.read(check.findings)
    assert (finding.count, finding.first) == (30, ids[: check.FIRST])


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_ids_that_are_taken(client: LocalClient, site: Path) -> None:
    """As after rows were brought in by other means."""
    damage(client, sa.text("INSERT INTO apps (id, name, executable) VALUES (2, 'b', 'x')"))
    (finding,) = client._store.read(check.findings)
    assert finding.name == "row numbers"
    assert "apps" in finding.what
    assert mended(site).is_sound
    assert (
        client._store.write(
            lambda c: c.scalar(
                sa.text("INSERT INTO apps (name, executable) VALUES ('c', 'x') RETURNING id")
            )
        )
        == 3
    )


def test_every_question_can_be_answered_with_yes() -> None:
    """No finding that no test has brought about."""
    named = {name for case in DAMAGES.values() for name in case.findings}
    assert set(check.QUESTIONS) - named == {"orphan parent", "orphan child"}


@pytest.mark.parametrize("database", ["sqlite"])
def test_dependencies_of_no_job(spoilt: LocalClient) -> None:
    """Only a file that was changed without its foreign keys can have them."""
    file = spoilt._store.engine.url.database
    assert file is not None
    connection = sqlite3.connect(file)
    connection.execute("INSERT INTO dependencies VALUES (77, 5, 'ok'), (5, 78, 'ok')")
    connection.commit()
    connection.close()
    assert found(spoilt) == ["orphan parent", "orphan child"]
    result = maintenance.check(Path(file).parent, mend=False, say=silent)
    assert len(result.damages) == 2
    assert "dependencies" in result.damages[0]
