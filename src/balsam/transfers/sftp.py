"""Transfers by the system's sftp: of the far side it needs sshd alone.

One process serves many jobs (see `session`). Into a host each file goes aside and is then renamed
(sftp does that in one step, posix-rename@openssh.com). Commands: sftp(1), OpenSSH 9.2.
"""

from __future__ import annotations

import os
import re
from functools import partial
from zlib import crc32

from balsam.errors import TransferError
from balsam.transfers.box import PIECE, REQUESTS, Box, unpack
from balsam.transfers.command import Finished
from balsam.transfers.connections import Connections
from balsam.transfers.files import File, aside_name, failure, files_to_send
from balsam.transfers.mover import Delivery, Fetch, Means
from balsam.transfers.session import Session, SessionEnded
from balsam.transfers.sessions import Sessions
from balsam.transfers.urls import Url, one_directory

_PLAIN = re.compile(r"[^\w./+,:=@%~^-]", re.ASCII)
_OUTSIDE_PATTERN = re.compile(r"[^\w./+,:=@%~^*?\[\]!-]", re.ASCII)
#: Where a file that comes in is until all are there.
_BOX = "fetched"
#: What sftp says of commands that may fail.
_HARMLESS = re.compile(r"mkdir|^Can't ls: ")
#: Directories that one step makes.
_STEP = 20


class Sftp:
    """Moves by sftp; see `Mover`."""

    def __init__(self, means: Means, connections: Connections) -> None:
        options = ["-R", str(REQUESTS), "-B", str(PIECE)]
        self._sessions = Sessions(means, connections, options)

    def fetch(self, order: Fetch) -> list[str]:
        """Fetch; a file whose connection was lost is continued where it has not changed."""
        url, progress = order.url, order.progress
        path = one_directory(url)
        box = Box(order.directory / aside_name(_BOX, f"{crc32(os.fsencode(url.text)):08x}"))
        sources = dict.fromkeys((_escaped(path, _OUTSIDE_PATTERN), _escaped(path, _PLAIN)))
        for source in sources:
            progress.begin()
            try:
                self._sessions.use(url, progress, partial(_load, source, box, order))
                break
            except SessionEnded as error:
                absent = re.search(r'File ".*" not found', error.ended.said)
                if not absent or source == list(sources)[-1]:
                    raise _failure(error.ended, url) from None
        return unpack(box, url, order.directory, progress)

    def deliver(self, order: Delivery) -> list[str]:
        """Send; with the same progress another try goes on behind what was whole."""
        url, progress = order.url, order.progress
        files = files_to_send(order.items, url.text)
        progress.bytes_total = sum(file.size for file in files)
        try:
            self._sessions.use(url, progress, partial(_send, files, order))
        except SessionEnded as error:
            raise _failure(error.ended, url) from None
        return [item.name for item in order.items]

    def close(self) -> None:
        self._sessions.close()


def _load(source: str, box: Box, order: Fetch, session: Session) -> None:
    """Have *session* bring *source* into *box*."""
    progress = order.progress
    listing = session.tell([f"-ls -ln {source}"], progress)
    try:
        box.prepare(listing)
        with progress.measured_by(box.size):
            target = f"{_escaped(str(box.files), _PLAIN)}/"
            get = "reget" if box.is_resumed else "get"
            session.tell([f"{get} -p -R {source} {target}"], progress)
        if box.is_resumed and box.has_changed():
            box.clear()
            _load(source, box, order, session)
    except OSError as error:
        raise failure(error, f"cannot write to {order.directory}") from error


def _send(files: list[File], order: Delivery, session: Session) -> None:
    """Have *session* send *files*, but for those that are there."""
    progress = order.progress
    left = files[progress.files :]
    root = order.url.path.rstrip("/") or "/"
    below = {os.path.dirname(file.name) for file in left}
    below |= {item.name for item in order.items if item.source.is_dir()}
    lines = [f"-mkdir {_escaped(path, _PLAIN)}" for path in _directories(root, below)]
    steps = [(file, _put(file, root, order.mark)) for file in left]
    for first in range(0, len(lines), _STEP):
        session.tell(lines[first : first + _STEP], progress)
    for file, step in steps:
        session.tell(step, progress)
        progress.files += 1
        progress.moved(file.size)


def _put(file: File, root: str, mark: str) -> list[str]:
    """Return the commands that send *file* into the directory *root*."""
    target = f"{root}/{file.name}"
    part = f"{os.path.dirname(target)}/{aside_name(os.path.basename(target), mark)}"
    source, part = _escaped(str(file.source), _PLAIN), _escaped(part, _PLAIN)
    return [f"put -p {source} {part}", f"rename {part} {_escaped(target, _PLAIN)}"]


def _directories(root: str, below: set[str]) -> list[str]:
    """Return the directories to make, each after the one that it is in."""
    found: set[str] = set()
    for path in {os.path.join(root, name) if name else root for name in below | {""}}:
        while path.strip("/.") and path not in found:
            found.add(path)
            path = os.path.dirname(path)
    return sorted(found)


def _escaped(path: str, special: re.Pattern[str]) -> str:
    """Return *path* as sftp reads it, who ends a command at the end of its line."""
    if "\n" in path or "\r" in path:
        raise TransferError(f"sftp cannot move {path!r}, with a line break in its name; use rsync:")
    if path.startswith("-"):
        path = f"./{path}"
    return special.sub(lambda found: f"\\{found[0]}", path)


def _failure(ended: Finished, url: Url) -> TransferError:
    if ended.is_lost_connection:
        return ended.connection_failure(url.text)
    # What cannot be made is there, or the next command says why not.
    lines = [line for line in ended.said.splitlines() if not _HARMLESS.search(line)]
    return TransferError(f"{url.text}: {Finished(ended.code, chr(10).join(lines)).reason}")
