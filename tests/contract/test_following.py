"""What is recorded when the batch system, a Slurm whose answers are made up, does not name one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.query import ALL
from balsam.schedulers.scheduler import Answer
from balsam.schedulers.slurm import SQUEUE_HEADER, Slurm
from balsam.service import watch
from tests.contract.pilot import Clock


class EmptySlurm:
    """Commands of a Slurm that knows of nothing, and has no accounting."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.scancel = Answer(argv=("scancel",), code=0, out="", err="")

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Answer:
        if argv[0] == "scancel":
            self.cancelled += argv[2:]
            return self.scancel
        if argv[0] == "squeue":
            return Answer(argv=tuple(argv), code=0, out=f"{SQUEUE_HEADER}\n", err="")
        said = "Slurm accounting storage is disabled"
        return Answer(argv=tuple(argv), code=1, out="", err=said)


@pytest.fixture
def slurm() -> EmptySlurm:
    return EmptySlurm()


def submitted(client: LocalClient, clock: Clock, **fields: Any) -> BatchJob:
    new = BatchJob(scheduler="slurm", scheduler_id="812", script="qsubmit/a.sh", **fields)
    new.state, new.seen_at = BatchState.QUEUED, clock.now
    return client.create_batch_job(new)


def followed(client: LocalClient, run: EmptySlurm) -> tuple[BatchJob, list[str]]:
    news = watch.refresh(client, Slurm(), run, config.load(client.path))
    (found,) = client.batch_jobs(ALL)
    return found, news


def test_that_another_users_request_is_not_named_says_nothing(
    client: LocalClient, clock: Clock, slurm: EmptySlurm
) -> None:
    """Slurm is asked for our own only."""
    submitted(client, clock, owner="somebody", cancel_reason="by ann")
    clock.now += 86_400
    found, news = followed(client, slurm)
    assert (found.state, news, slurm.cancelled) == (BatchState.QUEUED, [], [])


def test_one_that_is_to_be_cancelled_is_cancelled_before_it_is_called_so(
    client: LocalClient, clock: Clock, slurm: EmptySlurm
) -> None:
    """The batch system may not have heard of it before, and may name it again."""
    submitted(client, clock, cancel_reason="by ann")
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    slurm.scancel = Answer(argv=("scancel",), code=1, out="", err=away)
    found, (news,) = followed(client, slurm)
    assert found.state is BatchState.QUEUED
    assert "Unable to contact slurm controller" in news
    slurm.scancel = Answer(argv=("scancel",), code=0, out="", err="")
    found, _ = followed(client, slurm)
    assert (found.state, found.message) == (BatchState.CANCELLED, "by ann")
    assert slurm.cancelled == ["812", "812"]
