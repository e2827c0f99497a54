"""The adapter `local`: what it asks, and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from balsam.errors import SchedulerAway, SchedulerError, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.local import Local
from balsam.schedulers.scheduler import Answer, Submission

END = '{"end":true}\n'
RUNNING = (
    '{"id":"7","state":"running","reason":"","queue":"debug","nodes":"here","exit_code":null,'
    '"starts_at":null,"started_at":12.5,"ended_at":null}\n'
)
SUBMISSION = Submission(
    name="-x", script="/s/a b", output="/s/o", directory="/s", num_nodes=1, minutes=5
)


def said(out: str, code: int = 0, err: str = "") -> Callable[..., Answer]:
    def run(argv: Sequence[str], stdin: str = "") -> Answer:
        return Answer(argv=tuple(argv), code=code, out=out, err=err)

    return run


def test_it_is_always_here() -> None:
    assert Local().is_here(said("", 1))


def test_what_submit_is_told() -> None:
    asked: list[tuple[str, ...]] = []

    def run(argv: Sequence[str], stdin: str = "") -> Answer:
        asked.append(tuple(argv))
        return Answer(argv=tuple(argv), code=0, out='{"id":"3"}\n' + END, err="")

    submission = Submission(
        name="-x",
        script="/s/a b",
        output="/s/o",
        directory="/s",
        num_nodes=1,
        minutes=5,
        flags=("--minutes=6",),
    )
    assert Local(["local"]).submit(run, submission) == "3"
    (words,) = asked
    assert words[:2] == ("local", "submit")
    assert {"--name=-x", "--script=/s/a b", "--minutes=5", "--queue="} <= set(words)
    assert words[-1] == "--minutes=6"


def test_chatter_comes_before() -> None:
    assert Local().submit(said('Welcome!\n\n{"id":"3"}\n' + END), SUBMISSION) == "3"


def test_a_running_request() -> None:
    status = Local().status(said(RUNNING + END), ["7", "8"])
    assert list(status) == ["7"]
    assert status["7"].state is BatchState.RUNNING
    assert status["7"].started_at == 12.5
    assert status["7"].nodes == "here"


def test_a_request_that_nobody_asked_for() -> None:
    assert Local().status(said(RUNNING + END), ["8"]) == {}


def test_a_word_that_nobody_knows() -> None:
    out = RUNNING.replace('"running"', '"dreaming"') + END
    status = Local().status(said(out), ["7"])["7"]
    assert (status.state, status.word) == (BatchState.UNKNOWN, "dreaming")


def test_nothing_is_asked_about_nothing() -> None:
    def run(argv: Sequence[str], stdin: str = "") -> Answer:
        raise AssertionError(f"asked {argv}")

    assert Local().status(run, []) == Local().history(run, []) == {}
    Local().cancel(run, [])


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("", "is ''"),
        ("chatter\n", "chatter"),
        (RUNNING, "no end"),
        (RUNNING[:-20], '"started_at":12'),
        (RUNNING + "what?\n" + END, "what\\?"),
        ('{"id":"7"}\n' + END, "state"),
        (RUNNING.replace("12.5", '"soon"') + END, "soon"),
    ],
)
def test_what_cannot_be_read(out: str, told: str) -> None:
    with pytest.raises(UnreadableAnswer, match=told):
        Local().status(said(out), ["7"])


def test_no_id_is_an_error() -> None:
    with pytest.raises(UnreadableAnswer, match="0 ids"):
        Local().submit(said(END), SUBMISSION)


@pytest.mark.parametrize(
    ("code", "error"),
    [(3, SchedulerRefused), (75, SchedulerAway), (-9, SchedulerAway), (1, SchedulerError)],
)
def test_what_went_wrong_in_its_words(code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="because") as raised:
        Local().queues(said("", code, "because\n"))
    assert type(raised.value) is error


def test_a_closed_queue_says_why() -> None:
    line = (
        '{"name":"q","is_default":true,"is_open":false,"max_minutes":60.0,"max_queued":null,'
        '"cores":2,"gpus":1,"memory_mib":1024}\n'
    )
    (queue,) = Local().queues(said(line + END))
    assert not queue.is_open
    assert "queues.toml" in queue.comment
    assert (queue.max_nodes, queue.max_minutes, queue.gpus_per_node) == (1, 60.0, 1)
