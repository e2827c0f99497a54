"""Which requests may start on this machine, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsam.errors import SchedulerError, SchedulerRefused
from balsam.model.batch_job import BatchState
from balsam.schedulers.local_limits import Limits, LocalQueue, expected_starts, read_limits
from balsam.schedulers.local_requests import Request

TWO = Limits(
    max_running=2,
    queue=(LocalQueue(name="a", max_running=1, max_minutes=60), LocalQueue(name="b", max_queued=2)),
)


def request(number: int, queue: str = "a", running_since: float | None = None) -> Request:
    return Request(
        id=number,
        name=f"r{number}",
        script="",
        output="",
        directory="",
        minutes=10,
        queue=queue,
        environ={},
        host="here",
        boot="now",
        submitted_at=0.0,
        state=BatchState.QUEUED if running_since is None else BatchState.RUNNING,
        started_at=running_since,
    )


def test_one_at_a_time_in_order() -> None:
    live = [request(1, "local"), request(2, "local")]
    reasons = Limits().hindrances(live)
    assert reasons == {1: "", 2: "this machine is busy with request 1"}


def test_a_full_queue_lets_others_pass() -> None:
    live = [request(1, "a", running_since=0.0), request(2, "a"), request(3, "b"), request(4, "b")]
    assert TWO.hindrances(live) == {
        2: "queue 'a' runs 1 at a time",
        3: "",
        4: "this machine is busy with request 1, 3",
    }


def test_a_queue_that_was_closed_or_removed_meanwhile() -> None:
    limits = Limits(queue=(LocalQueue(name="a", is_open=False),))
    reasons = limits.hindrances([request(1, "a"), request(2, "b")])
    assert reasons == {1: "queue 'a' is closed", 2: "there is no queue 'b' any more"}


def test_a_machine_that_runs_none() -> None:
    limits = Limits(max_running=0)
    assert "max_running" in limits.hindrances([request(1, "local")])[1]
    assert expected_starts([request(1, "local")], limits, 0.0) == {}


def test_when_they_start() -> None:
    live = [request(1, "local", running_since=100.0), request(2, "local"), request(3, "local")]
    assert expected_starts(live, Limits(), now=200.0) == {2: 700.0, 3: 1300.0}


def test_one_that_is_late_starts_now() -> None:
    live = [request(1, "local", running_since=0.0), request(2, "local")]
    assert expected_starts(live, Limits(), now=5000.0) == {2: 5000.0}


def test_nobody_foretells_a_queue_with_its_own_limit() -> None:
    live = [request(1, "a", running_since=0.0), request(2, "a"), request(3, "b")]
    assert expected_starts(live, TWO, now=0.0) == {3: 0.0}


@pytest.mark.parametrize(
    ("queue", "nodes", "minutes", "told"),
    [
        ("a", 2, 5, "this machine is 1 node, and 2 are asked for"),
        ("a", 0, 5, "1 node, and 0"),
        ("a", 1, 61, "queue 'a' gives at most 60 minutes, and 61 are asked for"),
        ("a", 1, 0, "more than 0"),
        ("a", 1, float("nan"), "more than 0"),
        ("b", 1, float("inf"), "more than 0"),
        ("b", 1, 5, "queue 'b' takes at most 2 requests, and has 2"),
    ],
)
def test_what_is_refused(queue: str, nodes: int, minutes: float, told: str) -> None:
    live = [request(1, "b"), request(2, "b", running_since=0.0), request(3, "a")]
    with pytest.raises(SchedulerRefused, match=told):
        TWO.check(TWO.named(queue), nodes, minutes, live)


def test_a_closed_queue_refuses() -> None:
    limits = Limits(queue=(LocalQueue(name="a", is_open=False),))
    with pytest.raises(SchedulerRefused, match="queue 'a' is closed"):
        limits.check(limits.named("a"), 1, 5, [])


def test_a_queue_that_there_is_not() -> None:
    limits = Limits(queue=(LocalQueue(name="debug"),))
    with pytest.raises(SchedulerRefused, match="Did you mean 'debug'"):
        limits.named("debgu")
    assert limits.named("").name == "debug"


def test_without_a_file_there_is_one_queue(tmp_path: Path) -> None:
    assert read_limits(tmp_path).names == ["local"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[queue]]\nname = 3\n", r"`str`.*queue\[0\]\.name"),
        ("[[queue]]\nname = 'a'\nmax_minute = 3\n", "max_minute"),
        ("[[queue]]\nname = 'a'\n[[queue]]\nname = 'a'\n", "same name"),
        ("queue = []\n", "length"),
        ("max_running = -1\n", "max_running"),
        ("[[queue\n", "line 1"),
    ],
)
def test_a_file_that_says_what_it_may_not(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "queues.toml").write_text(text)
    with pytest.raises(SchedulerError, match=told) as raised:
        read_limits(tmp_path)
    assert str(tmp_path / "queues.toml") in str(raised.value)
