"""The journal, and what the next launcher makes of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam.client.connect import create_site, open_client
from balsam.client.interface import Client
from balsam.errors import StoreFull
from balsam.lifecycle import journal as journals
from balsam.lifecycle.journal import Journal, JournalDamaged, Sent, replay
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import Attempt, LauncherInfo, LeaseRequest, Move, Outcome, Report

S = State
LAUNCHER = 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "launcher_1.journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close(remove=False)


def sent(*jobs: int, attempt: int = 1, state: State = S.PREPROCESSED) -> list[Sent]:
    return [Sent(job, attempt, state, 100.0 + job, "node") for job in jobs]


def started(job: int, number: int = 1, state: State = S.PREPROCESSED) -> Report:
    """The report of a start."""
    attempt = Attempt(job=job, number=number, launcher_id=LAUNCHER, node="node", started_at=200.0)
    return Report(moves=[Move(job, number, state, S.RUNNING, 200.0)], attempts=[attempt])


def ended(job: int, number: int = 1, *, well: bool = True) -> Report:
    """The report of an end: a good one, or a failure that is tried again."""
    path = (S.RUN_DONE, S.JOB_FINISHED) if well else (S.RUN_ERROR, S.RESTART_READY)
    attempt = Attempt(
        job=job,
        number=number,
        launcher_id=LAUNCHER,
        node="node",
        started_at=200.0,
        ended_at=300.0,
        exit_code=0 if well else 1,
        outcome=Outcome.DONE if well else Outcome.ERROR,
    )
    moves = [
        Move(job, number, S.RUNNING, path[0], 300.0),
        Move(job, number, path[0], path[1], 300.0),
    ]
    return Report(moves=moves, attempts=[attempt])


def summary(report: Report) -> tuple[list[tuple[int, str]], list[tuple[int, int, str]]]:
    moves = [(move.job, str(move.to_state)) for move in report.moves]
    attempts = [(a.job, a.number, str(a.outcome)) for a in report.attempts]
    return moves, sorted(attempts)


# reading --------------------------------------------------------------------------------


def test_what_was_reported_comes_back_in_order(path: Path, journal: Journal) -> None:
    journal.sent(sent(1, 2))
    journal.done(started(1))
    journal.done(started(2))
    journal.done(ended(1))
    moves, attempts = summary(replay(path, LAUNCHER))
    assert moves == [(1, "RUNNING"), (2, "RUNNING"), (1, "RUN_DONE"), (1, "JOB_FINISHED")]
    assert attempts == [(1, 1, "done"), (2, 1, "running")]  # of each the newest word


def test_what_was_sent_and_never_heard_of_may_have_run(path: Path, journal: Journal) -> None:
    journal.sent(sent(1, 2, 3))
    journal.done(started(1))
    journal.back([2])
    report = replay(path, LAUNCHER)
    assert summary(report) == (
        [(1, "RUNNING"), (3, "RUNNING")],
        [(1, 1, "running"), (3, 1, "running")],
    )
    unknown = next(attempt for attempt in report.attempts if attempt.job == 3)
    assert (unknown.launcher_id, unknown.node, unknown.started_at) == (LAUNCHER, "node", 103.0)
    assert "whether it started is not known" in unknown.message
    assert (report.moves[1].attempt, report.moves[1].from_state) == (1, S.PREPROCESSED)


def test_what_was_given_back_and_sent_again_is_open_again(path: Path, journal: Journal) -> None:
    journal.sent(sent(1))
    journal.back([1])
    journal.sent(sent(1))
    assert summary(replay(path, LAUNCHER)) == ([(1, "RUNNING")], [(1, 1, "running")])


def test_a_retry_may_be_sent_before_the_failure_is_written(path: Path, journal: Journal) -> None:
    """Both happen in one turn of the loop: the second attempt is not forgotten for the first."""
    journal.sent(sent(1))
    journal.done(started(1))
    journal.sent(sent(1, attempt=2, state=S.RESTART_READY))
    journal.done(ended(1, well=False))
    expected = (
        [(1, "RUNNING"), (1, "RUN_ERROR"), (1, "RESTART_READY"), (1, "RUNNING")],
        [(1, 1, "error"), (1, 2, "running")],
    )
    assert summary(replay(path, LAUNCHER)) == expected
    journal.shorten(Report(moves=[], attempts=[], released=[]), [])
    assert summary(replay(path, LAUNCHER)) == ([(1, "RUNNING")], [(1, 2, "running")])


def test_a_line_torn_at_the_end_was_never_told_to_anybody(path: Path, journal: Journal) -> None:
    journal.sent(sent(1))
    whole = path.stat().st_size
    journal.sent(sent(2, 3))
    for size in range(whole, path.stat().st_size - 1):
        os.truncate(path, size)
        assert summary(replay(path, LAUNCHER)) == ([(1, "RUNNING")], [(1, 1, "running")])
        path.write_bytes(path.read_bytes() + b"x" * 3)
        assert summary(replay(path, LAUNCHER)) == ([(1, "RUNNING")], [(1, 1, "running")])


@pytest.mark.parametrize("text", [b'{"sent":[[1,', b"\0\0\0", b'{"sent":[["x",1]]}', b"[]"])
def test_a_line_torn_in_the_middle_is_an_error(path: Path, journal: Journal, text: bytes) -> None:
    journal.sent(sent(1))
    path.write_bytes(path.read_bytes() + text + b"\n")
    journal.sent(sent(2))
    with pytest.raises(JournalDamaged, match=r"launcher_1\.journal, line 2 cannot be read: "):
        replay(path, LAUNCHER)


def test_there_may_be_nothing(path: Path, tmp_path: Path) -> None:
    path.touch()
    assert summary(replay(path, LAUNCHER)) == ([], [])
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "other.journal", LAUNCHER)


# writing --------------------------------------------------------------------------------


def test_a_short_journal_tells_the_same(path: Path, journal: Journal) -> None:
    """What is open and what the database has not confirmed is kept; the rest is not."""
    for job in range(1, 200):
        journal.sent(sent(job))
        journal.done(started(job))
        journal.done(ended(job))
    journal.sent(sent(201, 202))
    unconfirmed = ended(199)
    size = path.stat().st_size
    journal.shorten(unconfirmed, unconfirmed.attempts)
    assert path.stat().st_size < size / 50
    journal.done(started(202))
    moves, attempts = summary(replay(path, LAUNCHER))
    assert moves == [(199, "RUN_DONE"), (199, "JOB_FINISHED"), (202, "RUNNING"), (201, "RUNNING")]
    assert attempts == [(199, 1, "done"), (201, 1, "running"), (202, 1, "running")]
    assert not path.with_suffix(".new").exists()


def test_a_journal_says_when_it_is_long(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LARGEST_BYTES", 500)
    while not journal.is_long:
        journal.sent(sent(1))
    journal.shorten(Report(moves=[], attempts=[], released=[]), [])
    assert not journal.is_long


def test_a_full_disk_leaves_no_half_a_line(path: Path, journal: Journal) -> None:
    """What is written when there is room again can be read."""
    journal.sent(sent(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(StoreFull, match=r"cannot write the journal .*launcher_1\.journal"):
            journal.sent(sent(2, 3, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.sent(sent(5))
    assert [job for job, _ in summary(replay(path, LAUNCHER))[0]] == [1, 5]


def test_only_its_owner_reads_it(path: Path, journal: Journal) -> None:
    journal.shorten(Report(moves=[], attempts=[], released=[]), [])
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_journal_that_is_done_with_is_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.close(remove=True)
    assert not (tmp_path / "j").exists()


# with a database --------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    create_site(tmp_path / "site")
    client = open_client(tmp_path / "site")
    client.add_app(App(name="a", executable="/bin/true"))
    yield client
    client.close()


def state_of(client: Client) -> tuple[object, ...]:
    return client.jobs(ALL), client.events(ALL), client.attempts([1, 2, 3, 4])


def test_a_replay_brings_what_the_database_has_not_heard_and_no_more(
    client: Client, path: Path, journal: Journal
) -> None:
    names = ("known", "heard in part", "never heard", "not begun")
    client.create_jobs([Job(name=n, workflow="w", application="a") for n in names])
    id_ = client.register_launcher(LauncherInfo(host="node", pid=1), 60.0)
    assert id_ == LAUNCHER
    client.lease(id_, LeaseRequest(limit=4))
    journal.sent(sent(1, 2, 3))
    for report in (started(1), ended(1), started(2)):
        journal.done(report)
        assert client.report(id_, report) == []
    journal.done(ended(2))  # and then it died
    assert client.report(id_, replay(path, id_)) == []
    states = [str(job.state) for job in client.jobs(ALL)]
    assert states == ["JOB_FINISHED", "JOB_FINISHED", "RUNNING", "PREPROCESSED"]
    once = state_of(client)
    assert client.report(id_, replay(path, id_)) == []
    assert state_of(client) == once

    client.retire_launcher(id_, "died", lost=True)
    states = [str(job.state) for job in client.jobs(ALL)]
    assert states == ["JOB_FINISHED", "JOB_FINISHED", "RESTART_READY", "PREPROCESSED"]
    outcomes = [attempt.outcome for attempt in client.attempts([1, 2, 3, 4])]
    assert outcomes == [Outcome.DONE, Outcome.DONE, Outcome.LOST]
    ends = [event.job for event in client.events(ALL) if event.to_state == "JOB_FINISHED"]
    assert sorted(ends) == [1, 2]


def test_a_replay_after_the_launcher_was_retired_changes_nothing(
    client: Client, path: Path, journal: Journal
) -> None:
    """Two launchers take over from the same dead one: the second one comes too late."""
    client.create_jobs([Job(name=n, workflow="w", application="a") for n in "ab"])
    id_ = client.register_launcher(LauncherInfo(host="node", pid=1), 60.0)
    client.lease(id_, LeaseRequest(limit=2))
    journal.sent(sent(1, 2))
    journal.done(started(1))
    journal.done(ended(1))
    report = replay(path, id_)
    client.report(id_, report)
    client.retire_launcher(id_, "died", lost=True)
    before = state_of(client)
    client.report(id_, report)
    assert client.retire_launcher(id_, "died", lost=True) == 0
    assert state_of(client) == before
