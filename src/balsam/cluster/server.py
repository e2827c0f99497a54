"""Starting a site's server, and ending it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from balsam import config
from balsam.cluster import address, files, passwords, postmaster, processes, server_info
from balsam.cluster.address import SOCKET_PORT
from balsam.cluster.launch import (
    NotStarted,
    PortTaken,
    free_port,
    last_words,
    launch,
    log_file,
    run_alone,
    why,
)
from balsam.cluster.postmaster import DATA, Postmaster
from balsam.cluster.server_info import ServerInfo
from balsam.errors import ServerError

#: Seconds after which, again and again, the user is told what is waited for.
PROGRESS_SECONDS = 3.0
#: Seconds that orphans of a killed server get at each degree of force.
ORPHAN_SECONDS = 3.0
PAUSE_SECONDS = 0.02
#: How often another port is tried when the one that was free is taken meanwhile.
PORT_TRIALS = 5
Say = Callable[[str], None]


def silent(_text: str) -> None:
    """Tell nobody."""


def ensure(site: Path, say: Say = silent) -> None:
    """See to it that the site's server can be reached; start it if that is ours to do.

    Blocks as long as a server that starts has to recover from a crash.

    Raises
    ------
    ServerElsewhere
        It was last started on another host and does not answer from there.
    ServerError
        It does not run and cannot be started.
    """
    if not address.is_owner(site):
        if not address.answers(*address.endpoint(site)):
            raise ServerError(
                f"the server of {site} does not run, and only {_owner(site)} can start it"
            )
        return
    files.protect_passwords(site, say)
    passwords.read(site)
    found = postmaster.running(site / DATA)
    if found is None and not _answers_elsewhere(site):
        if start(site, say=say):
            say(f"started the database server of {site}")
    elif found is not None and found.status != "ready":
        start(site, say=say)


def _owner(site: Path) -> str:
    try:
        return (site / DATA).owner()
    except (OSError, KeyError):
        return "its owner"


def _answers_elsewhere(site: Path) -> bool:
    info = server_info.read(site)
    return not info.is_here() and info.is_tcp and address.answers(*address.endpoint(site))


def find(site: Path) -> Postmaster | None:
    """Return the site's server if it runs on this host and is ours."""
    return postmaster.running(site / DATA) if address.is_owner(site) else None


def start(site: Path, *, force: bool = False, say: Say = silent) -> bool:
    """Start the site's server and wait until it is ready; tell whether it had to be started.

    Of several that are called at once, one starts it and the others wait.

    Parameters
    ----------
    force
        Start it although it was last started on another host, or although this looks like a
        copy of a running site: the caller knows that no server uses these files.
    say
        Is told, in one line each, what is mended and what is waited for.

    Raises
    ------
    ServerElsewhere
        It was last started on another host and did not end there.
    ServerError
        It cannot be started; why is said.
    StoreFull
        The disk, or the user's quota, is full.
    """
    require_owner(site)
    data = site / DATA
    with _lock(site, say):
        found = postmaster.running(data)
        if found and found.status == "stopping":
            _await_end(site, found.pid, say)
            found = None
        if found:
            try:
                _await_ready(site, found.pid, 0, say)
            except NotStarted as error:
                raise error.reason from error
            _refresh(site)
            return False
        if not force:
            _refuse_doubts(site)
        files.mend(site, say)
        _end_orphans(data, say)
        _start(site, say)
    return True


def require_owner(site: Path) -> None:
    """Raise `ServerError` if the site's server is not ours to rule."""
    if not address.is_owner(site):
        raise ServerError(
            f"the server of {site} belongs to {_owner(site)}: only they start and stop it, and say"
            " who may use it"
        )


def _refuse_doubts(site: Path) -> None:
    """Raise an error if a server may still use these files, or they may be half of a copy."""
    if not postmaster.left_a_file(site / DATA):
        return
    info = server_info.read(site)
    if not info.is_here():
        raise address.elsewhere(site, info)
    if info.inode and info.inode != (site / DATA).stat().st_ino:
        raise ServerError(
            f"{site} looks like a copy of a site whose server ran meanwhile: such files do not fit"
            " together. Stop the server (`balsam server --stop`) and copy again. If they are of"
            " one moment, as of a snapshot, start it with"
            f" `balsam server --connect --force --site {site}`"
        )


def _end_orphans(data: Path, say: Say) -> None:
    """End what a server that was killed has left; it would change the files under a new one."""
    for number in (None, signal.SIGQUIT, signal.SIGKILL):
        left = processes.servers_in(data)
        if left and number:
            say(f"ending processes of the server that was killed: {', '.join(map(str, left))}")
        for pid in left if number else ():
            _signal(pid, number or 0)
        deadline = time.monotonic() + ORPHAN_SECONDS
        while left and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
            left = processes.servers_in(data)
        if not left:
            return
    raise ServerError(f"processes of a server that was killed do not end: {left}; see `ps -l`")


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _start(site: Path, say: Say) -> None:
    listen = config.load(site).database.listen
    wanted = server_info.read(site).last_port
    for trial in range(PORT_TRIALS):
        port = free_port(listen, wanted if trial == 0 else 0) if listen else SOCKET_PORT
        if wanted and listen and trial == 0 and port != wanted:
            say(f"port {wanted} is taken; the server listens at {port} now")
        seen = log_file(site).stat().st_size if log_file(site).exists() else 0
        # Before it starts: whatever becomes of us, other hosts know where it may run.
        _record(site, 0, listen, port)
        try:
            pid = launch(site, listen, port)
            _await_ready(site, pid, seen, say)
        except PortTaken as error:
            if trial + 1 == PORT_TRIALS:
                raise ServerError(str(error)) from error
            continue
        except NotStarted as error:
            found = postmaster.running(site / DATA)
            if found is None:
                raise error.reason from error
            pid, port = found.pid, found.port  # somebody else's start, by hand, was faster
        break
    if port != SOCKET_PORT:
        (site / "run" / address.socket_name()).symlink_to(address.socket_name(port))
    _record(site, pid, listen, port)


def _record(site: Path, pid: int, listen: str, port: int) -> None:
    everywhere = {"", "*", "0.0.0.0", "::"}
    first = listen.split(",")[0].strip()
    name = socket.gethostname()
    server_info.write(
        site,
        ServerInfo(
            host=(name if first in everywhere else first)
            if listen
            else address.socket_directory(site),
            port=port,
            node=name,
            pid_space=processes.pid_space(),
            pid=pid,
            started_at=time.time(),
            inode=(site / DATA).stat().st_ino,
            last_port=port if listen else 0,
        ),
    )


def _refresh(site: Path) -> None:
    """Name the socket of a server that runs where it is now: the site may have been moved."""
    info = server_info.read(site)
    here = address.socket_directory(site)
    if info.host.startswith("/") and info.host != here:
        server_info.write(site, msgspec.structs.replace(info, host=here))


def _await_ready(site: Path, pid: int, seen: int, say: Say) -> None:
    """Wait until the server is ready.

    Raises
    ------
    NotStarted
        It ended before; why is found in its log from position *seen* on.
    """
    started = told = time.monotonic()
    while True:
        found = postmaster.recorded(site / DATA)
        if found and found.pid == pid and found.status == "ready":
            return
        if not processes.is_running(pid):
            raise why(site, seen)
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            say(f"the server still starts, after {told - started:.0f} s: {last_words(site)}")
        time.sleep(PAUSE_SECONDS)


def stop(site: Path, *, say: Say = silent) -> bool:
    """End the site's server and its connections; tell whether one ran.

    What was committed is kept; transactions under way are undone. Blocks until it has ended.

    Raises
    ------
    ServerElsewhere
        It runs on another host.
    ServerError
        It is not ours.
    """
    require_owner(site)
    with _lock(site, say):
        found = postmaster.running(site / DATA)
        if found is None:
            info = server_info.read(site)
            if not info.is_here() and postmaster.left_a_file(site / DATA):
                raise address.elsewhere(site, info)
            return False
        _signal(found.pid, signal.SIGINT)  # "fast": ends the connections
        _await_end(site, found.pid, say)
        info = server_info.read(site)
        server_info.write(site, ServerInfo(last_port=info.last_port))
        (site / "run" / address.socket_name()).unlink(missing_ok=True)
        address.short_link(site).unlink(missing_ok=True)
    return True


def discard(site: Path) -> None:
    """Kill a server whose files are worth nothing, however far it came with its start."""
    left = processes.at_home_in(site / DATA)
    while left:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)
        left = processes.at_home_in(site / DATA)
    address.short_link(site).unlink(missing_ok=True)


def renew_passwords(site: Path, statements: Callable[[dict[str, str]], list[str]]) -> None:
    """Give the cluster's own roles new passwords, while no server runs.

    Parameters
    ----------
    statements
        Returns the SQL that gives roles their passwords.

    Raises
    ------
    ServerError
        It runs, is not ours, or cannot do it.
    """
    require_owner(site)
    with _lock(site, silent):
        if postmaster.left_a_file(site / DATA):
            raise ServerError(f"the server of {site} did not end properly; start and stop it first")
        new = passwords.new_passwords()
        run_alone(site, statements(new))
        passwords.write(site, new)


def _await_end(site: Path, pid: int, say: Say) -> None:
    started = told = time.monotonic()
    while processes.is_running(pid):
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            say(f"the server still stops, after {told - started:.0f} s: {last_words(site)}")
        time.sleep(PAUSE_SECONDS)


@contextmanager
def _lock(site: Path, say: Say) -> Iterator[None]:
    """Hold the right to start and stop the site's server."""
    file = site / "run" / "server.lock"
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServerError(f"cannot write {file}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command starts or stops the server; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # A file system without locks: PostgreSQL's own pid file still lets one server start.
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise ServerError(f"cannot lock {file}: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)
