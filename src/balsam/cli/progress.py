"""`balsam progress`, how far jobs are; `balsam wait`, until they have ended."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec

from balsam.cli import output
from balsam.cli.context import open_site
from balsam.cli.selectors import add_selectors, query
from balsam.client.interface import Client
from balsam.errors import NotFound
from balsam.model.query import Query, parse
from balsam.model.states import END_STATES, STATES, State
from balsam.model.wire import Topic

#: The rate is that of the last minute, or of so many of the site's last events.
RATE_SECONDS = 60.0
RATE_EVENTS = 10_000
#: The moves that tell of the rate: a run began, a job ended by itself.
TURNS = (State.RUNNING, State.JOB_FINISHED, State.FAILED)
#: Between two looks at the database, at least this long (seconds), and at most a second.
LOOK = 0.25
#: As timeout(1).
TIMED_OUT = 124


class Progress(msgspec.Struct, kw_only=True):
    """How far the selected jobs are. The six counts after `total` add up to it."""

    total: int
    done: int
    running: int
    failed: int
    killed: int
    waiting: int  #: for their parents
    runnable: int  #: anything else that a launcher can go on with
    rate_per_second: float | None  #: jobs that ended by themselves, of late; None: none did
    seconds_left: float | None  #: None: not known
    by_state: dict[str, int]

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.killed


def add_commands(subparsers: Any) -> None:
    """Add `progress` and `wait`."""
    progress = subparsers.add_parser(
        "progress",
        help="how far the jobs are",
        description="Show how many jobs are done, running, failed and waiting, the rate of"
        " the last minute and the time left. On a terminal the line lives until all have ended.",
        epilog="examples:\n  balsam progress --wf alloys\n  balsam progress --json",
    )
    add_selectors(progress)
    how = progress.add_mutually_exclusive_group()
    how.add_argument("--follow", action="store_true", help="go on until all have ended")
    how.add_argument("--once", action="store_true", help="print once, also on a terminal")
    progress.add_argument(
        "--json", action="store_true", help="print JSON (with --follow: one object a line)"
    )
    progress.set_defaults(run=run_progress)

    wait = subparsers.add_parser(
        "wait",
        help="wait until jobs have ended",
        description="Wait until the selected jobs (all, without a selection) have ended.",
        epilog="Exit code: 0 all finished, 1 some did not end well, 124 the time was over.\n\n"
        "example:\n  balsam wait --wf alloys --timeout 3600 && echo done",
    )
    add_selectors(wait)
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="give up after S seconds")
    wait.set_defaults(run=run_wait)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{value!r} is no number of seconds")
    return seconds


# progress --------------------------------------------------------------------------------


def measure(client: Client, selected: Query, now: float) -> Progress:
    """Count the selected jobs and estimate the time left, at *now* (epoch)."""
    counts = client.state_counts(selected)
    total = sum(counts.values())
    done, failed, killed, running = (
        counts.get(state, 0)
        for state in (State.JOB_FINISHED, State.FAILED, State.USER_KILLED, State.RUNNING)
    )
    waiting = counts.get(State.CREATED, 0) + counts.get(State.AWAITING_PARENTS, 0)
    left = total - done - failed - killed
    rate = _rate(client, selected, now)
    seconds_left = 0.0 if not left else left / rate if rate else None
    return Progress(
        total=total,
        done=done,
        running=running,
        failed=failed,
        killed=killed,
        waiting=waiting,
        runnable=left - running - waiting,
        rate_per_second=None if rate is None else round(rate, 3),
        seconds_left=None if seconds_left is None else round(seconds_left, 1),
        by_state={str(state): counts[state] for state in STATES if state in counts},
    )


def _rate(client: Client, selected: Query, now: float) -> float | None:
    """Return how many of the selected jobs ended a second of late, or None when none did.

    Looks at the site's last events by id, so that it costs the same on any campaign.
    """
    newest = client.events(Query(order=("-id",), limit=1))
    if not newest:
        return None
    late: dict[str, float] = {"id__gt": newest[0].id - RATE_EVENTS}
    first = client.events(Query(filters=parse(late, "events"), limit=1))
    since = max(now - RATE_SECONDS, first[0].time if first else 0.0)
    late["time__gte"] = since
    started: dict[int, float] = {}
    ended: set[int] = set()
    for event in client.events(Query(filters=parse({**late, "to_state__in": TURNS}, "events"))):
        if event.to_state == State.RUNNING:
            started.setdefault(event.job, event.time)
        elif event.from_state not in (State.CREATED, State.AWAITING_PARENTS):
            ended.add(event.job)
    if selected.filters:
        ended &= set(_selected(client, selected, sorted(ended)))
    if not ended:
        return None
    if ended <= started.keys():
        # Nothing ran before: the work began later than the minute did.
        since = min(started[job] for job in ended)
    return len(ended) / max(now - since, 0.5)


def _selected(client: Client, selected: Query, ids: list[int]) -> Iterator[int]:
    for start in range(0, len(ids), 5000):
        chunk = selected.where(id__in=ids[start : start + 5000])
        yield from (job.id for job in client.jobs(chunk, fields=["id"]) if job.id is not None)


def run_progress(args: argparse.Namespace) -> int:
    """Show how far the jobs are."""
    follow = args.follow or (sys.stdout.isatty() and not args.once and not args.json)
    with open_site(args) as client:
        selected = query(args, client)
        if not follow:
            progress = measure(client, selected, time.time())
            if args.json:
                output.print_json(msgspec.to_builtins(progress))
            else:
                print(line(progress))
        elif args.json:
            for progress in _follow(client, selected):
                print(msgspec.json.encode(progress).decode(), flush=True)
        elif sys.stdout.isatty():
            _live(client, selected)
        else:
            for progress in _follow(client, selected):
                print(line(progress), flush=True)
    return 0


def _follow(client: Client, selected: Query, *, every: bool = False) -> Iterator[Progress]:
    """Yield the progress whenever it changed (or *every* second), last when all have ended."""
    with closing(client.watch(Topic.ENDS)) as watch:
        shown: Progress | None = None
        while True:
            watch.clear()
            began = time.monotonic()
            progress = measure(client, selected, time.time())
            if every or shown is None or progress.by_state != shown.by_state:
                shown = progress
                yield progress
            if progress.ended == progress.total:
                return
            # Large campaigns take long to count: leave the database four fifths of the time.
            pause = max(LOOK, 4 * (time.monotonic() - began))
            if watch.wait(1.0):
                time.sleep(pause)


def line(progress: Progress) -> str:
    """Return *progress* as one line of text."""
    p = progress
    percent = 100 * p.ended / p.total if p.total else 100.0
    parts = [f"{p.ended}/{p.total} ended ({percent:.1f}%): {p.done} done, {p.failed} failed"]
    if p.killed:
        parts.append(f"{p.killed} killed")
    parts += [f"{p.running} running", f"{p.runnable} runnable", f"{p.waiting} waiting"]
    parts += _speed(p)
    return ", ".join(parts)


def _speed(progress: Progress) -> list[str]:
    parts = []
    if progress.rate_per_second:
        parts.append(f"{progress.rate_per_second:.3g} jobs/s")
    if progress.seconds_left:
        parts.append(f"{duration(progress.seconds_left)} left")
    return parts


def duration(seconds: float) -> str:
    """Return *seconds* as ``1d 02:03:04`` or ``02:03:04``."""
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock


def _live(client: Client, selected: Query) -> None:
    """Draw a bar that lives until all the jobs have ended."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
    ) as bar:
        task = bar.add_task("", total=None, words="")
        for p in _follow(client, selected, every=True):
            words = [f"[green]{p.done} done", f"[cyan]{p.running} running"]
            words += [f"[red]{p.failed} failed"] if p.failed else ["[dim]0 failed"]
            words += [f"[yellow]{p.killed} killed"] if p.killed else []
            words += [f"[dim]{p.waiting + p.runnable} waiting", *_speed(p)]
            bar.update(task, total=p.total, completed=p.ended, words="[/] ".join(words))


# wait ------------------------------------------------------------------------------------


def run_wait(args: argparse.Namespace) -> int:
    """Wait until jobs have ended, and tell whether they ended well."""
    until = None if args.timeout is None else time.monotonic() + args.timeout
    with open_site(args) as client, closing(client.watch(Topic.ENDS)) as watch:
        selected = query(args, client)
        while True:
            watch.clear()
            began = time.monotonic()
            counts = client.state_counts(selected)
            total = sum(counts.values())
            if not total:
                raise NotFound("no job matches the selection: there is nothing to wait for")
            left = total - sum(counts.get(state, 0) for state in END_STATES)
            if not left:
                break
            now = time.monotonic()
            if until is not None and now >= until:
                print(
                    f"balsam: the time is over: {left} of {total} jobs have not ended",
                    file=sys.stderr,
                )
                return TIMED_OUT
            watch.wait(1.0 if until is None else min(1.0, until - now))
            time.sleep(
                min(1.0, 4 * (now - began))
            )  # leaves a database that takes long to count alone
    bad = [f"{counts[s]} {s}" for s in (State.FAILED, State.USER_KILLED) if s in counts]
    if bad:
        number = total - counts.get(State.JOB_FINISHED, 0)
        print(
            f"balsam: {number} of {total} jobs did not end well: {', '.join(bad)}", file=sys.stderr
        )
        return 1
    print(f"{total} jobs finished")
    return 0
