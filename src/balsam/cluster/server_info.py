"""`server-info` in the site: where its server is, for clients on any host and for scripts of 0.x.

JSON with at least `host` and `port` while a server runs. Keys of others are kept.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from balsam.cluster.processes import pid_space
from balsam.errors import ServerError, StoreFull

FILE = "server-info"


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the server that was started last."""

    #: Directory of its Unix socket, or host of its TCP port; '' when it was stopped.
    host: str = ""
    port: int = 0
    #: Name of the host where it was started; '' when it was stopped.
    node: str = ""
    #: Where its pid counts (see `processes.pid_space`).
    pid_space: str = ""
    pid: int = 0
    #: Seconds since the epoch.
    started_at: float = 0.0
    #: Inode of the data directory: a copy has another one.
    inode: int = 0
    #: The TCP port it had, to be had again.
    last_port: int = 0

    @property
    def is_tcp(self) -> bool:
        return bool(self.host) and not self.host.startswith("/")

    def is_here(self) -> bool:
        """Tell whether the server was started where we would see its process, or nowhere."""
        if not self.node or self.pid_space == pid_space():
            return True
        same_boot = self.pid_space.partition("/")[0] == pid_space().partition("/")[0]
        return self.node == socket.gethostname() and not same_boot


def _read(site: Path) -> dict[str, Any]:
    try:
        found = json.loads((site / FILE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ServerError(f"cannot read {site / FILE}: {error}") from error
    if not isinstance(found, dict):
        raise ServerError(f"{site / FILE} is no JSON object; remove it if no server runs")
    return found


def read(site: Path) -> ServerInfo:
    """Return what the file says.

    Raises
    ------
    ServerError
        It cannot be read.
    """
    try:
        return msgspec.convert(_read(site), ServerInfo, strict=False)
    except msgspec.ValidationError as error:
        raise ServerError(
            f"{site / FILE} is damaged ({error}); remove it if no server of the site runs"
        ) from error


def write(site: Path, info: ServerInfo) -> None:
    """Write *info*, and leave out what is unknown; keys of others stay.

    Raises
    ------
    ServerError
        It cannot be written.
    StoreFull
        The disk, or the user's quota, is full.
    """
    ours = msgspec.structs.asdict(info)
    kept = {key: value for key, value in _read(site).items() if key not in ours}
    known = {key: value for key, value in ours.items() if value}
    aside = site / f"{FILE}.{os.getpid()}"
    try:
        aside.write_text(json.dumps({**known, **kept}, indent=1) + "\n")
        aside.replace(site / FILE)
    except OSError as error:
        aside.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"cannot write {site / FILE}: the disk or your quota is full; make room and try"
                " again"
            ) from error
        raise ServerError(f"cannot write {site / FILE}: {error.strerror}") from error
