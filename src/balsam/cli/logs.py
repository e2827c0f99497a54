"""`balsam logs`, what a job wrote; `balsam log`, what the launchers wrote."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from balsam.cli.context import open_site
from balsam.cli.selectors import one_job
from balsam.client.interface import Client, Watch
from balsam.errors import NotFound, SiteError
from balsam.model.job import Job
from balsam.model.query import Query
from balsam.model.states import END_STATES
from balsam.model.wire import Attempt, Outcome, Topic

#: Files grow without telling: while following, look this often (seconds).
LOOK = 0.2
BLOCK = 1 << 16


class Source(msgspec.Struct, frozen=True):
    """A range of a file: where an attempt's output is."""

    file: Path
    start: int = 0
    size: int | None = None  #: None: to the end of the file


def add_commands(subparsers: Any) -> None:
    """Add `logs` and `log`."""
    logs = subparsers.add_parser(
        "logs",
        help="print the output of a job",
        description="Print what a job wrote to standard output and standard error.",
        epilog="examples:\n  balsam logs 12 --tail 20\n  balsam logs 12 --follow",
    )
    logs.add_argument("job", metavar="JOB", help="id, UUID, or first hexadecimal digits of it")
    logs.add_argument("--follow", action="store_true", help="go on until the job has ended")
    logs.add_argument("--attempt", type=count, metavar="N", help="of attempt N alone")
    logs.add_argument("--tail", type=count, metavar="N", help="the last N lines")
    logs.set_defaults(run=run_logs)

    log = subparsers.add_parser(
        "log",
        help="print the logs of the launchers",
        description="Print the ends of the launchers' logs, which are in the site's log directory.",
        epilog="example:\n  balsam log --follow",
    )
    log.add_argument("--follow", action="store_true", help="go on until interrupted")
    log.add_argument(
        "--tail", type=count, default=10, metavar="N", help="the last N lines of each (10)"
    )
    log.set_defaults(run=run_log)


def count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no number above 0")
    return int(value)


def tail_offset(file: BinaryIO, start: int, end: int, lines: int) -> int:
    """Return where the last *lines* lines of the range from *start* to *end* begin."""
    position, found = end, 0
    while position > start:
        step = min(BLOCK, position - start)
        position -= step
        file.seek(position)
        block = file.read(step)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            # The newline that ends the last line begins no further one.
            if position + at + 1 < end:
                found += 1
                if found == lines:
                    return position + at + 1
    return start


# a job's output --------------------------------------------------------------------------


def run_logs(args: argparse.Namespace) -> int:
    """Print the output of a job."""
    with open_site(args) as client:
        job = one_job(client, args.job)
        if args.follow:
            with closing(client.watch(Topic.ENDS)) as watch:
                _follow_job(client, watch, job, args.attempt, args.tail)
            return 0
        source = _source(client, job, args.attempt)
        if source is None or not copy(source, 0, args.tail)[1]:
            number = f" of attempt {args.attempt}" if args.attempt else ""
            raise NotFound(
                f"job {job.id} ({job.state}) has no output{number}; `balsam show {job.id}` says why"
            )
    return 0


def _source(client: Client, job: Job, number: int | None) -> Source | None:
    """Return where the output of attempt *number* is, None before it began.

    Without *number*: all of the job's own file, or what its last attempt wrote to a stream.

    Raises
    ------
    NotFound
        The job has had more attempts than *number*, but not this one.
    """
    assert job.id is not None
    own = Path(job.workdir) / f"{job.name}.out"
    attempts = {a.number: a for a in client.attempts([job.id]) if a.outcome is not Outcome.REFUSED}
    last = max(attempts, default=0)
    if number is not None and number < last and number not in attempts:
        raise NotFound(f"job {job.id} has no attempt {number}; it has {sorted(attempts)}")
    attempt = attempts.get(number or last)
    if attempt is None:
        return Source(own) if number is None and own.exists() else None
    file = client.path / attempt.output_file if attempt.output_file else own
    if number is None and file == own:
        return Source(own)
    return Source(file, attempt.output_offset, attempt.output_size)


def copy(source: Source, done: int, tail: int | None = None) -> tuple[int, bool]:
    """Write the range from its *done*-th byte on; return how far it went, and if it is there.

    With *tail* only its last lines, so many.
    """
    try:
        file = open(source.file, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return done, False
    except OSError as error:
        raise SiteError(f"cannot read {source.file}: {error.strerror}") from error
    with file:
        end = os.fstat(file.fileno()).st_size
        if source.size is not None:
            end = min(end, source.start + source.size)
        position = source.start + done
        if tail is not None:
            position = tail_offset(file, position, end, tail)
        file.seek(position)
        while position < end and (block := file.read(min(BLOCK, end - position))):
            sys.stdout.buffer.write(block)
            position += len(block)
    sys.stdout.buffer.flush()
    return position - source.start, True


def _follow_job(
    client: Client, watch: Watch, job: Job, number: int | None, tail: int | None
) -> None:
    """Write the job's output as it grows, until the job (or attempt *number*) has ended."""
    done: dict[tuple[Path, int], int] = {}
    ended = False
    asked = -math.inf
    changed = False
    source: Source | None = None
    while not ended:
        # A change that the watch did not see is noticed within a second.
        if changed or time.monotonic() - asked >= 1:
            asked = time.monotonic()
            watch.clear()
            # The state first: what is written before it is read then is all there is.
            ended = _has_ended(client, job, number)
            source = _source(client, job, number)
        if source is not None:
            key = (source.file, source.start)
            done[key], _ = copy(source, done.get(key, 0), tail if key not in done else None)
        if not ended:
            changed = watch.wait(LOOK)


def _has_ended(client: Client, job: Job, number: int | None) -> bool:
    assert job.id is not None
    found = client.jobs(Query().where(id=job.id), fields=["state"])
    if not found or found[0].state in END_STATES:
        return True
    if number is None:
        return False
    attempts: list[Attempt] = client.attempts([job.id])
    return any(a.number == number and a.outcome is not Outcome.RUNNING for a in attempts)


# the launchers' logs ---------------------------------------------------------------------


def run_log(args: argparse.Namespace) -> int:
    """Print the ends of the launchers' logs."""
    from balsam import config

    directory = config.find_site(args.site) / "log"
    done: dict[Path, int] = {}
    last: Path | None = None
    while True:
        files = sorted(directory.glob("*.log"))
        for file in files:
            begun = done.get(file, 0)
            if file in done and file.stat().st_size == begun:
                continue
            if last != file and len(files) > 1:
                print(f"==> {file.name} <==", flush=True)
            last = file
            done[file], _ = copy(Source(file), begun, None if file in done else args.tail)
        if not args.follow:
            break
        time.sleep(LOOK)
    if not done:
        print(f"no launcher has written a log in {directory} yet")
    return 0
