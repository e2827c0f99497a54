"""The commands of the batch system `local`: ``python -m balsam.schedulers.local_queue VERB …``.

Each writes one JSON object a line, and ``{"end":true}`` after the last. They end with 0; or with
`REFUSED`, `AWAY` or, for other errors, 1, and say why in one line on standard error.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from balsam import config
from balsam.errors import SchedulerAway, SchedulerError, SchedulerRefused
from balsam.model.batch_job import BatchState
from balsam.schedulers.local_dispatch import bury, own_requests, start_next
from balsam.schedulers.local_limits import Limits, expected_starts, read_limits
from balsam.schedulers.local_processes import interpreter
from balsam.schedulers.local_requests import Request, Requests, boot

#: Exit codes.
REFUSED, AWAY = 3, 75

Lines = Iterable[dict[str, Any]]


def submit(requests: Requests, args: argparse.Namespace) -> Lines:
    """Take a request, and start it if this machine is free."""
    _check_files(args)
    with requests.lock():
        bury(requests)
        limits = read_limits(requests.directory)
        queue = limits.named(args.queue)
        limits.check(queue, args.nodes, args.minutes, own_requests(requests))
        request = Request(
            id=requests.next_id(),
            name=args.name,
            script=args.script,
            output=args.output,
            directory=args.directory,
            minutes=args.minutes,
            queue=queue.name,
            environ={n.decode("latin-1"): v.decode("latin-1") for n, v in os.environb.items()},
            host=socket.gethostname(),
            boot=boot(),
            submitted_at=time.time(),
        )
        requests.write(request)
        start_next(requests, limits)
    return [{"id": str(request.id)}]


def _check_files(args: argparse.Namespace) -> None:
    """Raise `SchedulerRefused` for what could not be started."""
    for path in (args.script, args.output, args.directory):
        if not Path(path).is_absolute():
            raise SchedulerRefused(f"{path!r} is no absolute path")
        if "\0" in path or path.encode(errors="replace").decode() != path:
            raise SchedulerRefused(f"{path!r} is not a file name in UTF-8")
    if not Path(args.directory).is_dir():
        raise SchedulerRefused(f"there is no directory {args.directory}")
    try:
        if not interpreter(args.script):
            raise SchedulerRefused(f"the first line of {args.script} does not begin with #!")
    except OSError as error:
        raise SchedulerRefused(f"cannot read {args.script}: {error.strerror}") from error


def status(requests: Requests, args: argparse.Namespace) -> Lines:
    """Tell of requests of these ids that are known."""
    limits = _look_after(requests)
    with requests.lock():
        live = own_requests(requests)
        found = [requests.get(number) for number in args.ids]
    reasons = limits.hindrances(live)
    starts = expected_starts(live, limits, time.time())
    return [_status(each, reasons.get(each.id, ""), starts.get(each.id)) for each in found if each]


def history(requests: Requests, args: argparse.Namespace) -> Lines:
    """Tell of those of these ids that are over."""
    return [each for each in status(requests, args) if each["ended_at"] is not None]


def find(requests: Requests, args: argparse.Namespace) -> Lines:
    """Tell the ids of the requests of this name, the newest first."""
    with requests.lock():
        live = [each for each in requests.live() if each.name == args.name]
        ended = [each for each in requests.ended() if each.name == args.name]
    return [{"id": str(each.id)} for each in [*reversed(live), *ended]]


def _look_after(requests: Requests) -> Limits:
    """Do what is due: see what died, start what may run."""
    with requests.lock():
        bury(requests)
        limits = read_limits(requests.directory)
        start_next(requests, limits)
    return limits


def _status(request: Request, hindrance: str, starts_at: float | None) -> dict[str, Any]:
    word: str = request.state
    reason = request.reason
    if request.is_waiting:
        reason = hindrance if request.is_ours else f"waits for its machine, {request.host}"
    elif request.ended_at is None and request.is_cancelled:
        word, reason = BatchState.ENDING, "it was cancelled, and has some time to end"
    return {
        "id": str(request.id),
        "state": word,
        "reason": reason,
        "queue": request.queue,
        "nodes": request.host if request.started_at is not None else "",
        "exit_code": request.exit_code,
        "starts_at": starts_at,
        "started_at": request.started_at,
        "ended_at": request.ended_at,
    }


def cancel(requests: Requests, args: argparse.Namespace) -> Lines:
    """Take requests back, or have their keepers end them; those that are over stay as they are."""
    with requests.lock():
        bury(requests)
        for number in args.ids:
            request = requests.get(number)
            if request is None or request.ended_at is not None or request.is_cancelled:
                continue
            request.is_cancelled = True
            if request.is_waiting:
                why = "cancelled before it started"
                requests.end(request, BatchState.CANCELLED, why, time.time())
            else:
                _tell_keeper(requests, request)
        start_next(requests, read_limits(requests.directory))
    return []


def _tell_keeper(requests: Requests, request: Request) -> None:
    """Have a request ended by its keeper, which lives: we have the lock."""
    try:
        words = Path(f"/proc/{request.keeper}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    if os.fsencode(requests.directory) not in words:
        raise SchedulerRefused(
            f"request {request.id} runs on {request.host} where its processes cannot be seen from"
            " here; cancel it there"
        )
    requests.write(request)
    os.kill(request.keeper, signal.SIGTERM)


def queues(requests: Requests, args: argparse.Namespace) -> Lines:
    """Tell of the queues and of this machine."""
    limits = read_limits(requests.directory)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return [
        {
            "name": queue.name,
            "is_default": queue is limits.queue[0],
            "is_open": queue.is_open,
            "max_minutes": queue.max_minutes,
            "max_queued": queue.max_queued,
            "cores": len(os.sched_getaffinity(0)),
            "gpus": _gpus() if limits.gpus is None else limits.gpus,
            "memory_mib": memory >> 20,
        }
        for queue in limits.queue
    ]


def _gpus() -> int:
    return len([name for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name)])


def windows(requests: Requests, args: argparse.Namespace) -> Lines:
    """Tell in which queues a request would start at once."""
    limits = _look_after(requests)
    with requests.lock():
        live = own_requests(requests)
    running = [each for each in live if not each.is_waiting]
    return [
        {"queue": queue.name, "minutes": queue.max_minutes}
        for queue in limits.queue
        if not limits.hindrance(queue.name, running)
    ]


class _Parser(argparse.ArgumentParser):
    """Says in one line what it cannot take."""

    def error(self, message: str) -> NoReturn:
        raise SchedulerRefused(" ".join(message.split()))


def _parser() -> _Parser:
    parser = _Parser(prog="local_queue")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(run: Callable[[Requests, argparse.Namespace], Lines]) -> argparse.ArgumentParser:
        added = verbs.add_parser(run.__name__, help=run.__doc__)
        added.set_defaults(run=run)
        return added

    submitting = verb(submit)
    for name in ("name", "script", "output", "directory"):
        submitting.add_argument(f"--{name}", required=True)
    submitting.add_argument("--nodes", type=int, default=1)
    submitting.add_argument("--minutes", type=float, required=True)
    submitting.add_argument("--queue", default="")
    for run in (status, history, cancel):
        verb(run).add_argument("ids", nargs="*", type=_number)
    verb(find).add_argument("--name", required=True)
    verb(queues)
    verb(windows)
    return parser


def _number(text: str) -> int:
    """Return the number of an id; 0, which nobody has, for one that we did not give."""
    return int(text) if text.isdecimal() and text.isascii() else 0


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = _parser().parse_args(argv)
        for line in args.run(Requests(config.home().absolute() / "local"), args):
            print(msgspec.json.encode(line).decode())
        print('{"end":true}', flush=True)
    except SchedulerError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return {SchedulerRefused: REFUSED, SchedulerAway: AWAY}.get(type(error), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
