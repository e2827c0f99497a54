"""Copies on this machine, and on file systems that it has."""

from __future__ import annotations

import os
import shutil
from glob import escape, glob, has_magic
from pathlib import Path

from balsam.errors import TransferError
from balsam.transfers.files import File, Item, aside, failure, files_of, name_items
from balsam.transfers.mover import Delivery, Fetch
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url

#: Bytes between two looks whether to go on.
_PIECE = 8 * 2**20


class Local:
    """Copies; see `Mover`."""

    def fetch(self, order: Fetch) -> list[str]:
        order.progress.begin()
        items = _matches(order.url)
        return copy_all(items, order.directory, order.mark, order.progress)

    def deliver(self, order: Delivery) -> list[str]:
        order.progress.begin()
        return copy_all(order.items, Path(order.url.path), order.mark, order.progress)

    def close(self) -> None: ...


def _matches(url: Url) -> list[Item]:
    path = url.path.rstrip("/") or "/"
    if os.path.lexists(path) or not has_magic(path):
        root, found = os.path.split(path)
        if not os.path.lexists(path):
            raise TransferError(f"nothing matches {url.text}: there is no {path}")
        return name_items(Path(root), [found])
    fixed = []
    for part in path.split("/"):
        if has_magic(part):
            break
        fixed.append(part)
    root = "/".join(fixed) or ("/" if path.startswith("/") else ".")
    pattern = os.path.join(escape(root), path[len("/".join(fixed)) :].lstrip("/"))
    found_here = sorted(
        match
        for match in glob(pattern, recursive=True)
        if not ("**" in pattern and os.path.isdir(match))
    )
    if not found_here:
        raise TransferError(f"nothing matches {url.text}")
    return name_items(Path(root), [os.path.relpath(match, root) for match in found_here])


def copy_all(items: list[Item], directory: Path, mark: str, progress: Progress) -> list[str]:
    """Copy *items* into *directory*, which is made; return their names there.

    Raises
    ------
    TransferError
        They cannot be copied.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = list(files_of(items))
        progress.bytes_total = sum(file.size for file in files)
        for item in items:
            if item.source.is_dir():
                for path, _, _ in os.walk(item.source):
                    below = directory / item.name / os.path.relpath(path, item.source)
                    below.mkdir(parents=True, exist_ok=True)
        for file in files:
            _copy(file, directory / file.name, mark, progress)
            progress.files += 1
    except OSError as error:
        raise failure(error, f"cannot copy to {directory}") from error
    return [item.name for item in items]


def _copy(file: File, target: Path, mark: str, progress: Progress) -> None:
    """Copy a file aside, then give it its name."""
    part = aside(target, mark)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.source.open("rb") as source, part.open("wb") as copy:
            left = file.size
            while left:
                piece = os.sendfile(copy.fileno(), source.fileno(), None, min(left, _PIECE))
                if not piece:
                    raise TransferError(f"{file.source} became shorter while it was copied")
                left -= piece
                progress.moved(piece)
        shutil.copystat(file.source, part)
        part.replace(target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise failure(error, f"cannot copy {file.source} to {target}") from error
        raise
