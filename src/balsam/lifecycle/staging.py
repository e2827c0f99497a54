"""What a job's files need: which are linked, and what is moved to and from which URLs.

`stager` says when; `balsam.transfers` how.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from glob import glob
from pathlib import Path

from balsam.config import TransferSettings
from balsam.errors import TransferError
from balsam.lifecycle.inputs import link_inputs, listed
from balsam.model.app import split_words
from balsam.model.job import Job
from balsam.model.transfer import Direction, Transfer, TransferState
from balsam.transfers.files import Item, failure, name_items
from balsam.transfers.mover import Delivery, Fetch
from balsam.transfers.movers import Movers
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url, parse_urls

#: Longest pause between two tries, in seconds.
LONGEST_PAUSE = 300.0


def needs_stage_in(job: Job) -> bool:
    return bool(job.input_files or job.stage_in_url)


def needs_stage_out(job: Job) -> bool:
    return bool(job.stage_out_url and job.stage_out_files)


def urls_of(job: Job, *, inward: bool) -> list[Url]:
    """Return where files come from or go to. Raises `InvalidInput`."""
    values = {
        "job_id": job.job_id,
        "id": str(job.id),
        "name": job.name,
        "workflow": job.workflow,
    }
    return parse_urls(job.stage_in_url if inward else job.stage_out_url, values)


class Staging:
    """The moving of one job's files, one way.

    Parameters
    ----------
    urls
        As `urls_of` returns them.
    now
        Gives the time for the records.
    """

    def __init__(
        self,
        job: Job,
        urls: list[Url],
        launcher_id: int,
        now: Callable[[], float],
        *,
        inward: bool,
    ) -> None:
        self.job, self.inward, self.urls = job, inward, urls
        self.machines = frozenset(url.machine for url in urls if url.machine)
        self.stopped = False
        self._now = now
        self._progress = Progress()
        direction = Direction.IN if inward else Direction.OUT
        #: What is told of each of the URLs; only the thread in `run` changes them.
        self.transfers = [
            Transfer(
                job=job.id or 0,
                direction=direction,
                number=number,
                url=listed([url.text]),
                launcher_id=launcher_id,
            )
            for number, url in enumerate(urls, 1)
        ]

    def stop(self) -> None:
        """Have `run` end soon."""
        self.stopped = True
        self._progress.stop()

    def look(self) -> None:
        """Bring the record of what moves now up to date."""
        for transfer in self.transfers:
            if transfer.state is TransferState.RUNNING:
                self._progress.look()
                self._count(transfer)
                transfer.error = self._progress.trouble or transfer.error

    def run(self, parents: list[Job], movers: Movers, settings: TransferSettings) -> str:
        """Move and link; return what, for the event.

        Raises
        ------
        BalsamError
            It cannot be done; the message names the file.
        Stopped
            It was to end.
        """
        if self.inward:
            return self._stage_in(parents, movers, settings)
        return self._stage_out(movers, settings)

    def _stage_in(self, parents: list[Job], movers: Movers, settings: TransferSettings) -> str:
        workdir = Path(self.job.workdir)
        if not self.job.user_workdir:
            try:
                workdir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise failure(error, f"cannot make {workdir}") from error
        copied: list[str] = []
        for url, transfer in zip(self.urls, self.transfers, strict=True):
            move = partial(movers.fetch, Fetch(url, workdir, self._mark, self._progress))
            names = self._insist(transfer, settings, move)
            if twice := set(names) & set(copied):
                raise TransferError(
                    f"stage_in_url: several files are {listed(sorted(twice))}; one took the"
                    " place of the other: take them from directories of other names"
                )
            copied += names
        notes = [f"copied {listed(copied)}"] if copied else []
        notes += [link_inputs(self.job, parents)] if self.job.input_files else []
        return "; ".join(filter(None, notes))

    def _stage_out(self, movers: Movers, settings: TransferSettings) -> str:
        items = results(self.job)
        for url, transfer in zip(self.urls, self.transfers, strict=True):
            move = partial(movers.deliver, Delivery(url, items, self._mark, self._progress))
            self._insist(transfer, settings, move)
        targets = listed(url.path if url.scheme == "local" else url.text for url in self.urls)
        return f"copied {listed(item.name for item in items)} to {targets}"

    @property
    def _mark(self) -> str:
        return self.job.job_id[:8]

    def _insist(
        self, transfer: Transfer, settings: TransferSettings, move: Callable[[], list[str]]
    ) -> list[str]:
        """Have *move* move, again with growing pauses when that can help."""
        transfer.started_at, pause = self._now(), settings.back_off_seconds
        try:
            while True:
                transfer.attempts += 1
                transfer.state = TransferState.RUNNING
                try:
                    names = move()
                except TransferError as error:
                    self._progress.check()  # it broke off because it was to end
                    transfer.error = listed([str(error)])
                    if not error.retryable or transfer.attempts >= settings.attempts:
                        raise
                    transfer.state = TransferState.WAITING
                    self._progress.wait(pause)
                    pause = min(LONGEST_PAUSE, 2 * pause)
                else:
                    transfer.state, transfer.error = TransferState.DONE, ""
                    return names
        except TransferError:
            transfer.state = TransferState.FAILED
            raise
        finally:
            if transfer.state in (TransferState.RUNNING, TransferState.WAITING):
                transfer.state = TransferState.STOPPED
            self._count(transfer)
            transfer.ended_at = self._now()
            self._progress.begin()

    def _count(self, transfer: Transfer) -> None:
        transfer.files, transfer.bytes_done = self._progress.files, self._progress.bytes_done
        transfer.bytes_total = self._progress.bytes_total


def results(job: Job) -> list[Item]:
    """Return what `stage_out_files` matches in the job's directory.

    Raises
    ------
    TransferError
        A pattern matches nothing.
    """
    found: list[str] = []
    for pattern in split_words(job.stage_out_files):
        matches = sorted(glob(pattern, root_dir=job.workdir, recursive=True))
        if "**" in pattern:
            matches = [each for each in matches if not os.path.isdir(Path(job.workdir, each))]
        if not matches:
            raise TransferError(
                f"stage_out_files: nothing in {job.workdir} matches {pattern!r};"
                " the rest was not copied, either"
            )
        found += matches
    return name_items(Path(job.workdir), found)
