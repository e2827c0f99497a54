"""Who runs next on this machine, and what became of those whose keeper died.

There is no daemon: each command, and each keeper at its end, looks after all requests. A keeper
is the process that runs one request (`local_keeper.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from balsam.errors import SchedulerAway
from balsam.model.batch_job import BatchState
from balsam.schedulers.local_limits import Limits
from balsam.schedulers.local_processes import MARK, kill_marked
from balsam.schedulers.local_requests import Request, Requests, boot


def own_requests(requests: Requests) -> list[Request]:
    """Return those of this machine that wait or run, the oldest first."""
    return [each for each in requests.live() if each.is_ours]


def mark(requests: Requests, number: int) -> str:
    """Return what all processes of a request have in their environment."""
    return f"{requests.directory}/{number}"


def bury(requests: Requests) -> None:
    """End the requests whose keeper died, and all that it left. The lock is held."""
    for request in own_requests(requests):
        if request.is_waiting or requests.is_kept(request.id):
            continue
        if request.boot != boot():
            state, reason = BatchState.FAILED, "the machine was restarted while it ran"
        else:
            kill_marked(mark(requests, request.id))
            state, reason = BatchState.FAILED, "the process that ran it was killed"
        if request.is_cancelled:
            state, reason = BatchState.CANCELLED, "cancelled while it ran"
        requests.end(request, state, reason, time.time())


def start_next(requests: Requests, limits: Limits) -> None:
    """Start the requests that may run now. The lock is held."""
    live = own_requests(requests)
    reasons = limits.hindrances(live)
    for request in live:
        if reasons.get(request.id) == "":
            _start(requests, request)


def _start(requests: Requests, request: Request) -> None:
    """Start the keeper of a request.

    It waits for our lock before it looks at its request, and goes away when that is not its own:
    when we die before we could write its number down, the request waits as before.
    """
    held = requests.hold(request.id)
    if held is None:  # the keeper of one that died on the way, which goes away by itself
        return
    # A keeper that was told to end before it listens would be killed by that.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        keeper = _open_keeper(requests, request.id, held)
    except OSError as error:
        raise SchedulerAway(f"cannot start request {request.id}: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(held)
    request.keeper, request.state = keeper.pid, BatchState.RUNNING
    request.started_at, request.boot = time.time(), boot()
    try:
        requests.write(request)
    except SchedulerAway:
        keeper.kill()
        keeper.wait()
        raise
    keeper.returncode = 0  # nobody waits for it here: no warning when we end before it


def _open_keeper(requests: Requests, number: int, held: int) -> subprocess.Popen[bytes]:
    with open(os.open(requests.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as log:
        return subprocess.Popen(
            _command(requests, number, held),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[held],
            # What is started from within a request is not of that request.
            env={name: value for name, value in os.environ.items() if name != MARK},
            cwd="/",
        )


def _command(requests: Requests, number: int, held: int) -> list[str]:
    module = "balsam.schedulers.local_keeper"
    return [sys.executable, "-P", "-m", module, str(requests.directory), str(number), str(held)]
