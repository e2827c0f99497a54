"""Transfers by the system's rsync, which moves only what differs and goes on with a part.

It is to be on both sides. File names never pass a shell (--protect-args). Exit codes and format:
rsync(1), version 3.2.7.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from balsam.config import TransferSettings
from balsam.errors import TransferBroken, TransferError
from balsam.transfers import command
from balsam.transfers.command import Finished
from balsam.transfers.files import Item, failure, files_of
from balsam.transfers.progress import Progress
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


def fetch(
    url: Url,
    directory: Path,
    progress: Progress,
    settings: TransferSettings,
    environ: Mapping[str, str],
) -> list[str]:
    """Load what *url* names into *directory*; return the names of what came.

    Raises
    ------
    TransferError
        Nothing matches, or it cannot be moved.
    TransferBroken
        Another try may help; what came is kept.
    """
    source = _address(url, one_directory(url))
    words = [*_words(url, settings), "--", source, f"{directory}/"]
    heard = _run(url, words, progress, settings, environ)
    names = sorted({name.partition("/")[0] for name in heard if name.strip("./")})
    return names if url.has_pattern else [os.path.basename(url.path.rstrip("/"))]


def deliver(
    items: list[Item],
    url: Url,
    progress: Progress,
    settings: TransferSettings,
    environ: Mapping[str, str],
) -> list[str]:
    """Send *items* into the directory *url*, which is made; return the names there.

    Raises
    ------
    TransferError
        The far side does not take them.
    TransferBroken
        Another try may help.
    """
    try:
        progress.bytes_total = sum(file.size for file in files_of(items))
    except OSError as error:
        raise failure(error, f"cannot send files to {url.text}") from error
    path = url.path.rstrip("/") or "/"
    words = _words(url, settings)
    if not url.module:
        words.append(f"--rsync-path=mkdir -p -- {shlex.quote(path)} && rsync")
    by_root: dict[Path, list[str]] = {}
    for item in items:
        if item.name != item.source.name:  # it keeps its directories
            root = Path(str(item.source).removesuffix(f"/{item.name}"))
            by_root.setdefault(root, []).append(item.name)
    alone = [str(item.source) for item in items if item.name == item.source.name]
    groups = [("--relative", str(root), names) for root, names in by_root.items()]
    groups += [("--no-relative", "/", alone)] if alone else []
    for option, root_path, names in groups:
        listed = b"".join(b"./" + os.fsencode(name.lstrip("/")) + b"\0" for name in names)
        how = [option, "--files-from=-", "--from0", "--", f"{root_path.rstrip('/')}/"]
        _run(url, [*words, *how, _address(url, f"{path}/")], progress, settings, environ, listed)
    progress.bytes_done = progress.bytes_total
    return [item.name for item in items]


def _words(url: Url, settings: TransferSettings) -> list[str]:
    seconds = int(settings.timeout_seconds)
    words = ["rsync", *_OPTIONS, f"--timeout={seconds}"]
    if url.module:
        return [*words, f"--contimeout={seconds}"]
    ssh = [*command.ssh_words(settings.ssh), *command.ssh_options(settings.timeout_seconds)]
    return [*words, "-e", shlex.join([*ssh, "-p", str(url.port)] if url.port else ssh)]


def _address(url: Url, path: str) -> str:
    if url.module:
        return f"rsync://{url.host}{f':{url.port}' if url.port else ''}/{path}"
    return f"{url.host}:{path}"


def _run(
    url: Url,
    words: list[str],
    progress: Progress,
    settings: TransferSettings,
    environ: Mapping[str, str],
    stdin: bytes = b"",
) -> list[str]:
    """Run rsync; return the names that it told."""
    names: list[str] = []

    def hear(line: str) -> None:
        if line.startswith("> "):
            names.append(line[2:])
            progress.files += not line.endswith("/")
        elif found := _BYTES.match(line):
            progress.bytes_done = int(re.sub(r"\D", "", found[1]))

    ended = command.run(words, progress, environ, hear, stdin)
    if ended.code != 0:
        raise _failure(url, ended)
    return names


def _failure(url: Url, ended: Finished) -> TransferError:
    # rsync ends with a line of its own, of which only the code says something.
    lines = [line for line in ended.said.splitlines() if not line.startswith("rsync error:")]
    told = Finished(ended.code, "\n".join(lines) or ended.said)
    if (ended.code not in _PASSING and ended.code > 0) or _FOR_GOOD.search(ended.said):
        return TransferError(f"{url.text}: {told.reason}")
    if ended.code in (12, 255):
        return told.connection_failure(url.text)
    return TransferBroken(f"{url.text}: {told.reason}")
