"""Transfers by the system's rsync, which moves only what differs and goes on with a part.

It is to be on both sides. File names never pass a shell (--protect-args). Each job's files have a
process of their own: what one rsync brings all goes to one directory, and its exit code is for all
of it; the connection they share. Exit codes and format: rsync(1), version 3.2.7.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from balsam.errors import TransferBroken, TransferError
from balsam.transfers import command
from balsam.transfers.command import Finished
from balsam.transfers.connections import Connections
from balsam.transfers.files import Item, files_to_send
from balsam.transfers.mover import Delivery, Fetch, Means
from balsam.transfers.urls import Url, one_directory

_PARTIAL = ".balsam-partial"
_OPTIONS = (
    *("--recursive", "--copy-links", "--perms", "--times", "--protect-args", "--no-motd"),
    *(f"--partial-dir={_PARTIAL}", "--info=progress2", "--out-format=> %n"),
)
#: Exit codes of lost connections, time-outs, signals and files that vanished meanwhile.
_PASSING = frozenset((5, 10, 12, 20, 24, 30, 35, 255))
_FOR_GOOD = re.compile(
    r"No space left|quota exceeded|not found|^mkdir: |@ERROR", re.IGNORECASE | re.MULTILINE
)
_BYTES = re.compile(r"\s*([\d,.]+)\s+(\d+)%")


class Rsync:
    """Moves by rsync; see `Mover`."""

    def __init__(self, means: Means, connections: Connections) -> None:
        self._means, self._connections = means, connections

    def fetch(self, order: Fetch) -> list[str]:
        url = order.url
        order.progress.begin()
        words = ["--", _address(url, one_directory(url)), f"{order.directory}/"]
        names = {name.partition("/")[0] for name in self._run(order, words) if name.strip("./")}
        return sorted(names) if url.has_pattern else [os.path.basename(url.path.rstrip("/"))]

    def deliver(self, order: Delivery) -> list[str]:
        url, progress = order.url, order.progress
        progress.begin()
        files = files_to_send(order.items, url.text)
        progress.bytes_total = sum(file.size for file in files)
        path = url.path.rstrip("/") or "/"
        make = [] if url.module else [f"--rsync-path=mkdir -p -- {shlex.quote(path)} && rsync"]
        for option, root, names in _groups(order.items):
            listed = b"".join(b"./" + os.fsencode(name.lstrip("/")) + b"\0" for name in names)
            how = [option, "--files-from=-", "--from0", "--", f"{root.rstrip('/')}/"]
            self._run(order, [*make, *how, _address(url, f"{path}/")], listed)
        progress.bytes_done = progress.bytes_total
        return [item.name for item in order.items]

    def close(self) -> None: ...

    def _run(self, order: Fetch | Delivery, words: list[str], stdin: bytes = b"") -> list[str]:
        """Run rsync; return the names that it told."""
        url, settings = order.url, self._means.settings
        seconds = int(settings.timeout_seconds)
        argv = ["rsync", *_OPTIONS, f"--timeout={seconds}"]
        if url.module:
            return self._hear(order, [*argv, f"--contimeout={seconds}", *words], stdin)
        connection = self._connections.to(url)
        ssh = [*command.ssh_words(settings.ssh), *connection.join(order.progress)]
        ssh += ["-p", str(url.port)] if url.port else []
        try:
            return self._hear(order, [*argv, "-e", shlex.join(ssh), *words], stdin)
        except TransferBroken:
            connection.is_well()  # else the next try must find another
            raise
        finally:
            connection.leave()

    def _hear(self, order: Fetch | Delivery, argv: list[str], stdin: bytes) -> list[str]:
        names: list[str] = []
        progress = order.progress

        def hear(line: str) -> None:
            if line.startswith("> "):
                names.append(line[2:])
                progress.files += not line.endswith("/")
            elif found := _BYTES.match(line):
                progress.bytes_done = int(re.sub(r"\D", "", found[1]))

        ended = command.run(argv, progress, self._means.environ, hear, stdin)
        if ended.code != 0:
            raise _failure(order.url, ended)
        return names


def _groups(items: list[Item]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield what one rsync sends: an option, the directory in which names are, the names."""
    by_root: dict[Path, list[str]] = {}
    for item in items:
        if item.name != item.source.name:  # it keeps its directories
            root = Path(str(item.source).removesuffix(f"/{item.name}"))
            by_root.setdefault(root, []).append(item.name)
    for root, names in by_root.items():
        yield "--relative", str(root), names
    alone = [str(item.source) for item in items if item.name == item.source.name]
    if alone:
        yield "--no-relative", "/", alone


def _address(url: Url, path: str) -> str:
    if url.module:
        return f"rsync://{url.host}{f':{url.port}' if url.port else ''}/{path}"
    return f"{url.host}:{path}"


def _failure(url: Url, ended: Finished) -> TransferError:
    # rsync ends with a line of its own, of which only the code says something.
    lines = [line for line in ended.said.splitlines() if not line.startswith("rsync error:")]
    told = Finished(ended.code, "\n".join(lines) or ended.said)
    if (ended.code not in _PASSING and ended.code > 0) or _FOR_GOOD.search(ended.said):
        return TransferError(f"{url.text}: {told.reason}")
    if ended.code in (12, 255):
        return told.connection_failure(url.text)
    return TransferBroken(f"{url.text}: {told.reason}")
