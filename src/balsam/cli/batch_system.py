"""The batch system of this host, as a site uses it, and what it last said of batch jobs."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from balsam import config
from balsam.cli.context import warn
from balsam.cli.output import duration
from balsam.client.interface import Client
from balsam.config import Settings
from balsam.errors import InvalidInput, NotFound, SchedulerError
from balsam.model.batch_job import BatchJob
from balsam.model.query import Query, parse
from balsam.schedulers.command import Command
from balsam.schedulers.find import find
from balsam.schedulers.scheduler import Run, Scheduler
from balsam.service import record, watch


class BatchSystem(NamedTuple):
    """What it takes to speak with a batch system."""

    settings: Settings
    scheduler: Scheduler
    run: Run

    @property
    def is_a_guess(self) -> bool:
        """Whether it is this machine only because no other was found."""
        return (self.settings.scheduler.name, self.scheduler.name) == ("auto", "local")

    def knows(self, batch_job: BatchJob) -> bool:
        """Tell whether *batch_job* was submitted to this batch system."""
        return record.is_of(batch_job, self.scheduler.name, socket.gethostname())


def batch_system(site: Path) -> BatchSystem:
    """Return the batch system that the settings of the site at *site* name, or that is here."""
    settings = config.load(site)
    run = Command(settings.scheduler.timeout_seconds)
    return BatchSystem(settings, find(settings.scheduler.name, run), run)


def batch_jobs_of(client: Client, words: Iterable[str]) -> list[BatchJob]:
    """Return the batch jobs of these ids, in their order, each once.

    Raises
    ------
    InvalidInput
        A word is no number.
    NotFound
        There is no such batch job.
    """
    ids = list(dict.fromkeys(map(_number, words)))
    rows = client.batch_jobs(Query(filters=parse({"id__in": ids}, "batch_jobs")))
    found = {row.id: row for row in rows}
    for number in ids:
        if number not in found:
            raise NotFound(f"there is no batch job {number} on this site; see `balsam queue ls -a`")
    return [found[number] for number in ids]


def _number(word: str) -> int:
    if not word.isascii() or not word.isdecimal() or len(word) > 18:
        raise InvalidInput(
            f"the id of a batch job is a number, not {word!r}; see `balsam queue ls`"
        )
    return int(word)


def refresh(client: Client) -> None:
    """Bring the record of live batch jobs up to date; where that cannot be done, say why.

    A batch system that is away, or another host's, leaves the record as it is.
    """
    live = record.live(client)
    if not live:
        return
    try:
        system = batch_system(client.path)
    except (SchedulerError, InvalidInput) as error:
        warn(f"{error}; {_age(client, live)}")
        return
    foreign = [each for each in live if not system.knows(each)]
    if foreign:
        warn(f"{_places(foreign)}, not of {system.scheduler.name} here; {_age(client, foreign)}")
    if len(foreign) == len(live):
        return
    try:
        watch.refresh(client, system.scheduler, system.run, system.settings)
    except SchedulerError as error:
        warn(f"{error}; {_age(client, live)}")


def _places(batch_jobs: list[BatchJob]) -> str:
    ids = ", ".join(str(each.id) for each in batch_jobs[:5])
    more = ", …" if len(batch_jobs) > 5 else ""
    where = sorted({f"{each.scheduler} on {each.host}" for each in batch_jobs})
    several = len(batch_jobs) > 1
    return (
        f"batch job{'s' * several} {ids}{more} {'are' if several else 'is'} of {', '.join(where)}"
    )


def _age(client: Client, batch_jobs: list[BatchJob]) -> str:
    """Say from when the record of *batch_jobs* is."""
    seen = [each.seen_at for each in batch_jobs if each.seen_at is not None]
    if not seen:
        return "what follows is what was recorded when they were submitted"
    return f"what follows is {duration(client.now() - max(seen))} old"
