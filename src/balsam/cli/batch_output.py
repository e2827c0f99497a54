"""What a batch job wrote: its script's output, and the logs of its launchers."""

from __future__ import annotations

import time
from pathlib import Path

from balsam.cli import output
from balsam.cli.batch_system import refresh
from balsam.cli.logs import LOOK, Source, copy
from balsam.client.interface import Client
from balsam.errors import NotFound
from balsam.model.batch_job import BatchJob
from balsam.model.query import Query
from balsam.model.states import STATES
from balsam.model.wire import LauncherInfo
from balsam.service import record

#: Lines of its output that are shown with a batch job.
LINES = 10
#: Seconds between two looks at the record while following.
RECORD = 1.0


def launchers_of(client: Client, batch_job: BatchJob) -> list[LauncherInfo]:
    """Return the launchers that were started in *batch_job*, oldest first."""
    return [each for each in client.launchers(live=False) if each.batch_job_id == batch_job.id]


def show(client: Client, batch_job: BatchJob) -> None:
    """Print *batch_job*, its launchers, its jobs and the end of its output."""
    _print_record(client.path, batch_job)
    for launcher in launchers_of(client, batch_job):
        print(f"Launcher {launcher.id}: {_launcher_words(launcher)}")
    counts = client.state_counts(Query().where(batch_job_id=batch_job.id))
    if counts:
        found = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
        print(f"Jobs that it ran last: {found}")
    _print_tail(client.path, batch_job)


def print_fields(site: Path, batch_job: BatchJob) -> None:
    """Print all fields of *batch_job*, and the end of its output."""
    _print_record(site, batch_job)
    _print_tail(site, batch_job)


def _print_record(site: Path, batch_job: BatchJob) -> None:
    fields = output.batch_job_record(batch_job)
    for name in ("script", "output_file"):
        if fields[name]:
            fields[name] = str(site / fields[name])
    output.print_fields(f"Batch job {batch_job.id}", fields)


def _launcher_words(launcher: LauncherInfo) -> str:
    since = output.timestamp(launcher.started_at)
    end = f", ended {output.timestamp(launcher.ended_at)}" if launcher.ended_at else ""
    why = f": {launcher.message}" if launcher.message else ""
    nodes = f"{launcher.nodes} node{'s' if launcher.nodes != 1 else ''}"
    return f"on {launcher.host}, {nodes}, since {since}{end}{why}"


def _print_tail(site: Path, batch_job: BatchJob) -> None:
    """Print the last lines of what the script of *batch_job* wrote, if there are any."""
    if not batch_job.output_file:
        return
    file = site / batch_job.output_file
    if file.is_file() and file.stat().st_size:
        print(f"==> the end of {file} <==", flush=True)
        copy(Source(file), 0, LINES)


def print_all(client: Client, batch_job: BatchJob, tail: int | None) -> None:
    """Print the output of *batch_job* and the logs of its launchers.

    Raises
    ------
    NotFound
        There is nothing yet.
    """
    files = _Files(tail)
    files.look(client, batch_job)
    if not files.print_new():
        said = f": {batch_job.message}" if batch_job.message else ""
        raise NotFound(
            f"batch job {batch_job.id} ({batch_job.state}{said}) has written nothing;"
            f" `balsam queue show {batch_job.id}` tells what is known of it"
        )


def follow(client: Client, batch_job: BatchJob, tail: int | None) -> None:
    """Print what *batch_job* writes as it grows, until it has ended."""
    from balsam import config

    period = config.load(client.path).service.poll_seconds
    files = _Files(tail)
    heard = time.monotonic()
    while True:
        # What its launcher says outranks the batch system, but its end is the latter's to tell.
        if time.monotonic() - heard > (RECORD if files.are_complete else period):
            refresh(client)
            heard = time.monotonic()
        # The state first: what is written before it is read then is all there is.
        batch_job = record.batch_job(client, batch_job.id or 0)
        files.look(client, batch_job)
        files.print_new()
        if not batch_job.is_live:
            said = f": {batch_job.message}" if batch_job.message else ""
            print(f"==> batch job {batch_job.id} has ended, {batch_job.state}{said} <==")
            return
        asked = time.monotonic()
        while time.monotonic() - asked < RECORD:
            time.sleep(LOOK)
            files.print_new()


class _Files:
    """The files that a batch job and its launchers write, and how far they were printed."""

    def __init__(self, tail: int | None) -> None:
        self._tail = tail
        self._files: list[Path] = []
        self._done: dict[Path, int] = {}
        self._last: Path | None = None
        self.are_complete = False  #: all launchers have ended

    def look(self, client: Client, batch_job: BatchJob) -> None:
        """See which files there are."""
        self._files = [client.path / batch_job.output_file] if batch_job.output_file else []
        launchers = launchers_of(client, batch_job)
        self._files += [client.path / "log" / f"launcher_{each.id}.log" for each in launchers]
        self.are_complete = bool(launchers) and all(each.ended_at for each in launchers)

    def print_new(self) -> bool:
        """Print what was written since the last time; tell whether there is anything at all."""
        for file in self._files:
            begun = self._done.get(file, 0)
            if not file.is_file() or file.stat().st_size <= begun:
                continue
            if self._last != file:
                print(f"==> {file.name} <==", flush=True)
                self._last = file
            self._done[file], _ = copy(Source(file), begun, None if begun else self._tail)
        return bool(self._done)
