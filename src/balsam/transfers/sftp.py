"""Transfers by the system's sftp: of the far side it needs sshd alone.

One process moves many files. Into a host each file goes aside and is then renamed (sftp
does that in one step, posix-rename@openssh.com). Format of the commands: sftp(1), OpenSSH 9.2.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from zlib import crc32

from balsam.config import TransferSettings
from balsam.errors import TransferError
from balsam.transfers import command, local
from balsam.transfers.command import Finished
from balsam.transfers.files import File, Item, aside_name, failure, files_of
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url, one_directory

_PLAIN = re.compile(r"[^\w./+,:=@%~^-]", re.ASCII)
_OUTSIDE_PATTERN = re.compile(r"[^\w./+,:=@%~^*?\[\]!-]", re.ASCII)
#: Where a file that comes in is until all are there.
_BOX = "fetched"
#: What one process sends at most, about; a larger file has one to itself.
_MOST_FILES, _MOST_BYTES = 200, 2**30


def fetch(
    url: Url,
    directory: Path,
    progress: Progress,
    settings: TransferSettings,
    environ: Mapping[str, str],
) -> list[str]:
    """Load what *url* names into *directory*; return the names there.

    Raises
    ------
    TransferError
        Nothing matches, or it cannot be moved.
    TransferBroken
        Another try may help. It begins anew: parts that sftp has left can have holes, for it
        asks for many pieces at a time.
    """
    path = one_directory(url)
    pattern, literal = _escaped(path, _OUTSIDE_PATTERN), _escaped(path, _PLAIN)
    box = directory / aside_name(_BOX, f"{crc32(os.fsencode(url.text)):08x}")
    try:
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir()
    except OSError as error:
        raise failure(error, f"cannot write to {directory}") from error
    for source in dict.fromkeys((pattern, literal)):
        line = f"get -p -R {source} {_escaped(str(box), _PLAIN)}/"
        ended = _run(url, [line], progress, settings, environ, _deaf)
        if not re.search(r'File ".*" not found', ended.said):
            break
    _check(ended, url)
    return _unpack(url, box, directory, progress)


def _unpack(url: Url, box: Path, directory: Path, progress: Progress) -> list[str]:
    """Move what is whole to where it belongs."""
    try:
        names = sorted(os.listdir(box))
        if not names:
            raise TransferError(f"nothing matches {url.text}")
        found = list(files_of(Item(box / name, name) for name in names))
        progress.files, progress.bytes_done = len(found), sum(file.size for file in found)
        for name in names:
            if (box / name).is_dir() and (directory / name).is_dir():
                here = Url("", "local", str(directory))
                local.deliver([Item(box / name, name)], here, "sftp", Progress())
            else:
                (box / name).replace(directory / name)
        shutil.rmtree(box)
    except OSError as error:
        raise failure(error, f"cannot write to {directory}") from error
    return names


def deliver(
    items: list[Item],
    url: Url,
    mark: str,
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
        Another try may help; with the same *progress* it goes on behind what was whole.
    """
    try:
        files = list(files_of(items))
    except OSError as error:
        raise failure(error, f"cannot send files to {url.text}") from error
    progress.bytes_total = sum(file.size for file in files)
    left = files[progress.files :]
    root = url.path.rstrip("/") or "/"
    below = {os.path.dirname(file.name) for file in left}
    below |= {item.name for item in items if item.source.is_dir()}
    lines = [f"-mkdir {_escaped(path, _PLAIN)}" for path in _directories(root, below)]
    for batch in _batches(left):
        for file in batch:
            target = f"{root}/{file.name}"
            part = f"{os.path.dirname(target)}/{aside_name(os.path.basename(target), mark)}"
            source, part = _escaped(str(file.source), _PLAIN), _escaped(part, _PLAIN)
            lines += [f"put -p {source} {part}", f"rename {part} {_escaped(target, _PLAIN)}"]
        _send(url, lines, batch, progress, settings, environ)
        lines = []
    if lines:
        _check(_run(url, lines, progress, settings, environ, _deaf), url)
    return [item.name for item in items]


def _batches(files: list[File]) -> Iterator[list[File]]:
    """Yield the files that one process sends: what is whole when it fails is not sent again."""
    batch: list[File] = []
    for file in files:
        if batch and (len(batch) == _MOST_FILES or sum(f.size for f in batch) > _MOST_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _send(
    url: Url,
    lines: list[str],
    batch: list[File],
    progress: Progress,
    settings: TransferSettings,
    environ: Mapping[str, str],
) -> None:
    """Have sftp carry out *lines*, which send *batch*."""
    pending = iter(batch)
    renamed = False

    def hear(line: str) -> None:
        """Count a file when the command after its rename has begun."""
        nonlocal renamed
        if line.startswith("sftp> ") and renamed:
            progress.files += 1
            progress.bytes_done += next(pending).size
        renamed = line.startswith("sftp> rename ")

    _check(_run(url, [*lines, "pwd"], progress, settings, environ, hear), url)


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


def _run(
    url: Url,
    lines: list[str],
    progress: Progress,
    settings: TransferSettings,
    environ: Mapping[str, str],
    hear: Callable[[str], None],
) -> Finished:
    ssh, *options = command.ssh_words(settings.ssh)
    argv = ["sftp", *options, *command.ssh_options(settings.timeout_seconds), "-b", "-"]
    argv += ["-S", ssh] if ssh != "ssh" else []
    argv += ["-P", str(url.port)] if url.port else []
    text = os.fsencode("\n".join([*lines, ""]))
    return command.run([*argv, url.host], progress, environ, hear, text)


def _deaf(_line: str) -> None: ...


def _check(ended: Finished, url: Url) -> None:
    if ended.code == 0:
        return
    # ended by a signal, SIGPIPE say, its ssh is gone
    if (
        ended.code == 255
        or ended.code < 0
        or re.search(r"Connection (closed|reset)|Broken pipe", ended.said)
    ):
        raise ended.connection_failure(url.text)
    # What cannot be made is there, or the next command says why not.
    lines = [line for line in ended.said.splitlines() if "mkdir" not in line]
    raise TransferError(f"{url.text}: {Finished(ended.code, chr(10).join(lines)).reason}")
