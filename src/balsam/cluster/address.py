"""Where clients reach a site's server."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from balsam.cluster import passwords, postmaster, server_info
from balsam.cluster.server_info import ServerInfo
from balsam.config import user_name
from balsam.errors import ServerElsewhere, ServerError
from balsam.model import roles

#: Longest path of a Unix socket on Linux (unix(7): 108 with the final zero).
LONGEST = 107
#: What the socket is called, whatever the TCP port: who is connected finds it after a restart.
SOCKET_PORT = 5432
CONNECT_SECONDS = 5.0


def is_owner(site: Path) -> bool:
    """Tell whether the cluster of the site is ours to start and stop.

    Raises
    ------
    ServerError
        There is none.
    """
    data = site / postmaster.DATA
    try:
        return data.stat().st_uid == os.geteuid()
    except OSError as error:
        raise ServerError(
            f"the database of {site} is not there: {data}: {error.strerror}"
        ) from error


def socket_directory(site: Path) -> str:
    """Return the name by which clients know the directory of the server's socket.

    It is the site's `run`, or a link to that in a directory of ours below /tmp when the path
    is too long for a socket or has a comma, which separates hosts for libpq.
    """
    run = str(site / "run")
    if len(os.fsencode(f"{run}/{socket_name()}")) <= LONGEST and "," not in run:
        return run
    link = short_link(site)
    try:
        if not os.path.islink(link) or os.readlink(link) != run:
            _link(run, link)
    except OSError as error:
        raise ServerError(
            f"the path {site} is too long for a socket, and a link {link} to it cannot be made:"
            f" {error.strerror}"
        ) from error
    return str(link)


def socket_name(port: int = SOCKET_PORT) -> str:
    return f".s.PGSQL.{port}"


def short_link(site: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(site)).hexdigest()[:16]
    return Path(f"/tmp/balsam-{os.geteuid()}") / digest


def _link(run: str, link: Path) -> None:
    link.parent.mkdir(mode=0o700, exist_ok=True)
    found = link.parent.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or stat.S_IMODE(found.st_mode) & 0o022
    ):
        raise ServerError(
            f"{link.parent} should be our directory for links to sites with long paths, but"
            " others can write there; remove it"
        )
    aside = link.with_name(f"{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(run)
    aside.replace(link)


def endpoint(site: Path) -> tuple[str, int]:
    """Return socket directory, or host, and port of the site's server, running or not.

    Raises
    ------
    ServerElsewhere
        It runs on another host and has no TCP port.
    """
    info = server_info.read(site)
    if info.is_here() and (os.access(site / "run", os.X_OK) or not _is_reachable(info)):
        return socket_directory(site), SOCKET_PORT
    if not _is_reachable(info):
        raise elsewhere(site, info)
    return info.host, info.port


def _is_reachable(info: ServerInfo) -> bool:
    """Tell whether the server, on another host, listens for us."""
    return info.is_tcp and not is_loopback(info.host)


def is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def answers(host: str, port: int) -> bool:
    """Tell whether somebody listens at a socket directory or TCP host; blocks some seconds."""
    family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
    try:
        if family == socket.AF_UNIX:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(CONNECT_SECONDS)
                connection.connect(f"{host}/{socket_name(port)}")
        else:
            socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def elsewhere(site: Path, info: ServerInfo) -> ServerElsewhere:
    """Return the error for a server that was last started on another host."""
    if _is_reachable(info):
        fact = f"does not answer at {info.host}:{info.port}"
        advice = f"Start it on {info.node}: `balsam server --connect --site {site}`"
    else:
        fact = "has no TCP port"
        advice = (
            f"Work on {info.node}, or stop it there (`balsam server --stop`) and start it here;"
            " with the setting database.listen it can be reached from other hosts"
        )
    return ServerElsewhere(
        f"the server of {site} was last started on {info.node}, not on"
        f" {socket.gethostname()}, and {fact}. {advice}. Only when it is certain that it runs"
        f" nowhere any more: `balsam server --connect --force --site {site}`; two servers on the"
        " same files would destroy them"
    )


def url(
    site: Path,
    *,
    role: str = roles.OWNER,
    database: str = roles.DATABASE,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Return the SQLAlchemy URL of the database of the site's server, running or not.

    Who may read the site's password file is *role*; others are themselves, with the password
    that libpq finds (`~/.pgpass`, `PGPASSWORD`).

    Raises
    ------
    ServerElsewhere
        The server was started on another host and listens on that host only.
    ServerError
        The site has no cluster, or its files cannot be read.
    """
    host, port = endpoint(site)
    words = {"host": host, "port": str(port)}
    if not os.access(site / passwords.FILE, os.R_OK) and not is_owner(site):
        return f"postgresql+psycopg://{quote(user_name(), safe='')}@/{database}?{urlencode(words)}"
    known = passwords.read(site)
    login = role
    if "PGPASSWORD" in environ:
        # libpq would prefer that one, which is meant for another server.
        login = f"{role}:{quote(known.get(role, ''), safe='')}"
    words["passfile"] = str(site / passwords.FILE)
    return f"postgresql+psycopg://{login}@/{database}?{urlencode(words)}"
