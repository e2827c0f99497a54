"""The process that runs one request of the batch system `local` to its end.

It is the parent of all that the script starts and leaves, ends them at the end of the time or when
it is told to (SIGTERM), writes down how the request ended, and starts those that wait.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from balsam.errors import SchedulerError
from balsam.model.batch_job import BatchState
from balsam.schedulers.local_dispatch import bury, mark, own_requests, start_next
from balsam.schedulers.local_limits import Limits, read_limits
from balsam.schedulers.local_processes import (
    KILL_SECONDS,
    MARK,
    adopt_orphans,
    await_children,
    reap,
    start_script,
)
from balsam.schedulers.local_requests import Request, Requests

#: Longest that the kernel is asked to wait at once, in seconds.
_DAY = 86400.0
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM}


class End(msgspec.Struct, frozen=True):
    """How a request ended."""

    state: BatchState
    reason: str = ""
    exit_code: int | None = None


def keep(requests: Requests, number: int, held: int) -> None:
    """Run a request that was given to us, to its end.

    Parameters
    ----------
    held
        The descriptor that says that its keeper lives.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    os.set_inheritable(held, False)  # it ends with us, not with what we start
    adopt_orphans()
    with requests.lock():
        request = requests.get(number)
        if request is None or request.keeper != os.getpid() or request.ended_at is not None:
            # Whoever started us died before that was written down.
            os.close(held)
            start_next(requests, read_limits(requests.directory))
            return
    end = _run(requests, request)
    with requests.lock():
        # Nobody starts another keeper below us meanwhile: those that there are we know.
        await_children(lambda: _keepers(requests), KILL_SECONDS, kill=True)
        request = requests.get(number) or request
        request.exit_code = end.exit_code
        requests.end(request, end.state, end.reason, time.time())
        bury(requests)
        start_next(requests, read_limits(requests.directory))


def _keepers(requests: Requests) -> set[int]:
    """Return the keepers of other requests: one that the script submitted may be our child."""
    return {each.keeper for each in own_requests(requests)} - {0}


def _run(requests: Requests, request: Request) -> End:
    environ = {
        **request.variables,
        MARK.encode(): os.fsencode(mark(requests, request.id)),
    }
    try:
        os.chdir(request.directory)
        script = start_script(request.script, request.output, environ)
    except OSError as error:
        what = error.filename or request.script
        return End(BatchState.FAILED, f"it could not be started: {what}: {error.strerror}")
    return _watch(requests, request, script)


def _watch(requests: Requests, request: Request, script: int) -> End:
    """Wait for the script's end; end it when its time is over, or we are told to."""
    deadline = time.monotonic() + request.minutes * 60
    ended: dict[int, int] = {}
    state, reason = BatchState.FINISHED, ""
    while script not in ended and not reason:
        remaining = deadline - time.monotonic()
        told = signal.sigtimedwait(_SIGNALS, min(remaining, _DAY)) if remaining > 0 else None
        if told is not None and told.si_signo == signal.SIGTERM:
            state, reason = _who_ended(requests, request.id)
        elif told is None and time.monotonic() >= deadline:
            state, reason = BatchState.TIMEOUT, f"ended after its {request.minutes:g} minutes"
        ended |= reap()
    if reason and script not in ended:
        ended |= _end_gently(requests, script)
    code = os.waitstatus_to_exitcode(ended[script]) if script in ended else None
    if state is BatchState.FINISHED and code:
        state, reason = BatchState.FAILED, _failure(code)
    return End(state, reason, code)


def _who_ended(requests: Requests, number: int) -> tuple[BatchState, str]:
    request = requests.get(number)
    if request is not None and request.is_cancelled:
        return BatchState.CANCELLED, "cancelled while it ran"
    return BatchState.FAILED, "this machine ended it (SIGTERM to the process that ran it)"


def _failure(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _end_gently(requests: Requests, script: int) -> dict[int, int]:
    """Tell the script's process group to end, and give all that it started its grace."""
    try:
        os.killpg(script, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        limits = read_limits(requests.directory)
    except SchedulerError:
        limits = Limits()
    ended = await_children(lambda: _keepers(requests), limits.grace_seconds, kill=False)
    return ended | await_children(lambda: _keepers(requests), KILL_SECONDS, kill=True)


def main() -> int:
    directory, number, held = sys.argv[1:]
    try:
        keep(Requests(Path(directory)), int(number), int(held))
    except SchedulerError as error:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{when} request {number}: {error}", file=sys.stderr)  # the log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
