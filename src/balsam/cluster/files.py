"""The files of a cluster: made once, mended before a start."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from balsam.cluster import passwords, programs
from balsam.cluster.postmaster import DATA, PID_FILE
from balsam.errors import AlreadyExists, ServerError, StoreFull
from balsam.model.roles import ADMINISTRATOR

#: Below the settings that initdb writes; a later line wins, so users add theirs at the end.
CONFIGURATION = """
# Balsam's settings for one campaign's database. Add your own below them.
# Host, port and sockets are given at each start.
listen_addresses = ''
unix_socket_directories = '../run'
max_connections = 256                   # 100 launchers with two each, and people
superuser_reserved_connections = 8      # `balsam server` gets in when all others are taken
password_encryption = 'scram-sha-256'
shared_buffers = 256MB
work_mem = 16MB
maintenance_work_mem = 128MB
fsync = on                              # what was said to be done survives a power failure
synchronous_commit = on
full_page_writes = on
wal_compression = on
max_wal_size = 2GB
checkpoint_timeout = 15min
autovacuum_naptime = 20s                # the queue of jobs changes all the time
autovacuum_vacuum_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
tcp_keepalives_idle = 60                # nodes that are gone give their connections back
tcp_keepalives_interval = 10
tcp_keepalives_count = 6
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u %a '
log_checkpoints = off
log_lock_waits = on
"""
ACCESS = """\
# Written by Balsam: whoever connects, from wherever, has a password.
local all all scram-sha-256
host  all all all scram-sha-256
"""
Say = Callable[[str], None]


def create(site: Path, *, sync: bool = True) -> None:
    """Make a cluster in the site, and its password file; nothing is started.

    Parameters
    ----------
    sync
        Wait until it is on the disk. Only what is thrown away soon can do without.

    Raises
    ------
    AlreadyExists
        There is one.
    ServerError
        It cannot be made. What was made of it is removed.
    StoreFull
        The disk, or the user's quota, is full.
    """
    data = site / DATA
    if data.exists():
        raise AlreadyExists(f"there is a database at {data} already")
    found = programs.find()
    secret = passwords.new_passwords()
    try:
        _initialize(found, site, secret[ADMINISTRATOR], sync)
        with open(data / "postgresql.conf", "a") as file:
            file.write(CONFIGURATION)
        (data / "pg_hba.conf").write_text(ACCESS)
        passwords.write(site, secret)
    except OSError as error:
        remove(site)
        raise ServerError(f"cannot make a database in {site}: {error}") from error
    except BaseException:
        remove(site)
        raise


def _initialize(found: programs.Programs, site: Path, password: str, sync: bool) -> None:
    words = [
        *programs.wrapper(),
        found.path("initdb"),
        f"--pgdata={DATA}",
        f"--username={ADMINISTRATOR}",
        "--pwfile=/dev/stdin",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        # By bytes, as SQLite orders and compares; and there is no other locale everywhere.
        "--locale=C",
        "--data-checksums",
        *([] if sync else ["--no-sync"]),
    ]
    code, told = _run_to_its_end(words, site, f"{password}\n")
    if code:
        lines = [line for line in told.splitlines() if "error:" in line or "FATAL" in line]
        reason = " ".join(lines) or told
        if is_full(site / "run") or "No space left" in reason:
            raise StoreFull(f"cannot make a database in {site}: the disk or your quota is full")
        raise ServerError(f"cannot make a database in {site}: {reason}")


def _run_to_its_end(words: list[str], directory: Path, given: str) -> tuple[int, str]:
    """Run a program; return its exit code and standard error. An interrupt ends all it started."""
    with subprocess.Popen(
        words,
        cwd=directory,
        env=programs.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            told = process.communicate(given)[1]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, told


def remove(site: Path) -> None:
    """Remove a cluster that does not run, with its password file."""
    shutil.rmtree(site / DATA, ignore_errors=True)
    (site / passwords.FILE).unlink(missing_ok=True)


def version(site: Path) -> int:
    """Return the major version of PostgreSQL that made the cluster.

    Raises
    ------
    ServerError
        There is no cluster, or a damaged one.
    """
    file = site / DATA / "PG_VERSION"
    try:
        return int(file.read_text().partition(".")[0])
    except (OSError, ValueError) as error:
        raise ServerError(
            f"{site / DATA} is no PostgreSQL database, or a damaged one ({file}: {error});"
            " put it back from a backup"
        ) from error


def mend(site: Path, say: Say) -> None:
    """Put right what keeps a server from starting and is safe to change.

    Raises
    ------
    ServerError
        The files are somebody else's, or cannot be changed.
    """
    data = site / DATA
    try:
        mode = stat.S_IMODE(data.stat().st_mode)
        if mode not in (0o700, 0o750):
            data.chmod(0o700)
            say(f"{data} had the permissions {mode:o}; set to 700, without which no server starts")
        for name in ("run", "log"):
            (site / name).mkdir(mode=0o700, exist_ok=True)
        # Of a server that was killed, or of the site that this is a copy of: no server of this
        # directory runs, and the numbers in them may be of other processes now.
        for file in (site / "run").glob(".s.PGSQL.*"):
            file.unlink()
        pid_file = data / PID_FILE
        if pid_file.exists() and not pid_file.read_text().strip():
            pid_file.unlink()  # the disk was full when it was written
    except OSError as error:
        raise ServerError(f"cannot start a server in {data}: {error}") from error


def protect_passwords(site: Path, say: Say) -> None:
    """Take the password file from others' eyes: libpq does not use one that they can read."""
    file = site / passwords.FILE
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            file.chmod(0o600)
            say(f"{file} had the permissions {mode:o}; set to 600, for it has passwords")
    except FileNotFoundError:
        pass  # told by whoever needs a password
    except OSError as error:
        raise ServerError(f"cannot protect {file}: {error.strerror}") from error


def is_full(directory: Path) -> bool:
    """Tell whether nothing can be written below *directory* for want of room."""
    probe = directory / f"room.{os.getpid()}"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(65536))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    finally:
        probe.unlink(missing_ok=True)
    return False
