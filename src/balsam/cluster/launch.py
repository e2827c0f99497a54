"""Launching the server's first process, and why it ended when it did."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
from pathlib import Path

from balsam.cluster import files, postmaster, programs
from balsam.errors import BalsamError, ServerError, StoreFull

LOG = "server.log"
#: Bytes of log beyond which a start begins a new one, keeping the last.
LOG_BYTES = 16 * 2**20
#: Run in the background by a shell that ends at once: the server is nobody's child, so that no
#: program that happens to start it has to wait for its end.
_DETACH = '"$@" </dev/null >&2 & echo $!'
_LINE = re.compile(r"\b(?:LOG|WARNING|ERROR|FATAL|PANIC|HINT|DETAIL):\s+(.*)")
_FATAL = re.compile(r"\b(?:FATAL|PANIC|postgres: .*):\s+(.*)")
_FULL = ("No space left on device", "Disk quota exceeded")
_TAKEN = ("Address already in use", "could not create any TCP/IP sockets")


class NotStarted(Exception):
    """The server ended before it was ready, for *reason*."""

    def __init__(self, reason: BalsamError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class PortTaken(NotStarted):
    """Somebody else has its port."""


def log_file(site: Path) -> Path:
    return site / "log" / LOG


def launch(site: Path, listen: str, port: int) -> int:
    """Start the server's first process; return its pid. It is not ready yet.

    Everything of the site is named relative to the server's working directory, the data
    directory: a site keeps its server when it is renamed, and no path is too long or too odd.
    With an absolute path a server whose site was renamed would go on writing its control file
    to the old place, into whatever cluster is there by then.

    Raises
    ------
    ServerError
        It cannot be started.
    StoreFull
        The disk, or the user's quota, is full.
    """
    data = site / postmaster.DATA
    found = programs.find(files.version(site))
    words = [
        *programs.wrapper(),
        found.path("postgres"),
        *("-D", "/proc/self/cwd"),
        *("-c", f"listen_addresses={listen}"),
        *("-c", f"port={port}"),
        *("-c", "unix_socket_directories=../run"),
    ]
    environment = programs.environment()
    stale = postmaster.recorded(data)
    if stale:
        # The number may be another process's by now; PostgreSQL would believe it to be a server.
        # Its grandparent's it ignores, and still looks for the old server's shared memory.
        environment["PG_GRANDPARENT_PID"] = str(stale.pid)
    try:
        _turn_log(log_file(site))
        with open(log_file(site), "ab") as log:
            done = subprocess.run(
                ["/bin/sh", "-c", _DETACH, "sh", *words],
                cwd=data,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError) as error:
        raise _cannot(site, str(error)) from error
    return int(done.stdout)


def run_alone(site: Path, statements: list[str]) -> None:
    """Run *statements* on the files of a server that does not run.

    Raises
    ------
    ServerError
        One of them failed.
    """
    found = programs.find(files.version(site))
    words = [
        *programs.wrapper(),
        *(found.path("postgres"), "--single", "-D", "/proc/self/cwd"),
        *("-c", "exit_on_error=on", "postgres"),
    ]
    done = subprocess.run(
        words,
        cwd=site / postmaster.DATA,
        env=programs.environment(),
        input="".join(f"{statement}\n" for statement in statements),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = _FATAL.findall(done.stderr) or [done.stderr]
        raise _cannot(site, lines[-1], done.stderr)


def _turn_log(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def last_words(site: Path) -> str:
    """Return the last message of the server's log."""
    found = _LINE.findall(_log_from(site, 0))
    return found[-1] if found else "nothing in its log yet"


def _log_from(site: Path, position: int) -> str:
    """Return the log from *position* on, but no more than its last 64 KiB."""
    try:
        with open(log_file(site), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(position if position <= size else 0, size - 65536))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def why(site: Path, position: int) -> NotStarted:
    """Return the reason why the server ended, by its log from *position* on."""
    text = _log_from(site, position)
    if any(words in text for words in _TAKEN):
        return PortTaken(ServerError(f"the server of {site} found no free port; see its log"))
    found = _FATAL.findall(text)
    return NotStarted(_cannot(site, found[-1] if found else "its log has no reason", text))


def _cannot(site: Path, reason: str, log: str = "") -> BalsamError:
    if any(words in reason + log for words in _FULL) or files.is_full(site / postmaster.DATA):
        return StoreFull(
            f"cannot start the server of {site}: the disk or your quota is full; make room and try"
            " again"
        )
    return ServerError(f"cannot start the server of {site}: {reason}; its log: {log_file(site)}")


def free_port(listen: str, wanted: int) -> int:
    """Return *wanted*, or another port when that is 0 or taken at one of the addresses.

    Raises
    ------
    ServerError
        There is no such address on this host.
    """
    hosts = [host.strip() for host in listen.split(",")]
    addresses = [("", socket.AF_INET)] if "*" in hosts else _resolve(hosts)
    if wanted and _is_free(addresses, wanted):
        return wanted
    while True:
        with socket.socket(addresses[0][1], socket.SOCK_STREAM) as trial:
            try:
                trial.bind((addresses[0][0], 0))
            except OSError as error:
                raise ServerError(
                    f"the setting database.listen is {listen!r}: {error.strerror}; give an"
                    " address of this host, or '*'"
                ) from error
            port: int = trial.getsockname()[1]
        if _is_free(addresses[1:], port):
            return port


def _resolve(hosts: list[str]) -> list[tuple[str, socket.AddressFamily]]:
    found = []
    for host in hosts:
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ServerError(
                f"the setting database.listen names {host!r}: {error.strerror}; give an address"
                " of this host, or '*'"
            ) from error
        found += [(str(answer[4][0]), answer[0]) for answer in answers]
    return list(dict.fromkeys(found))


def _is_free(addresses: list[tuple[str, socket.AddressFamily]], port: int) -> bool:
    for host, family in addresses:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            # As PostgreSQL does: what a server that just ended left in TIME_WAIT is no hindrance.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
    return True
