"""Where what comes is until all is there; an sftp that was cut off leaves its part there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from balsam.errors import TransferError
from balsam.transfers.files import Item, failure, files_of
from balsam.transfers.local import copy_all
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url

#: sftp asks for so many pieces of so many bytes at a time, ...
REQUESTS, PIECE = 64, 2**15
#: ... which come in order: but in its end, twice that to be sure, a part has no holes.
_WINDOW = 2 * REQUESTS * PIECE
#: Seconds by which clocks of two hosts may differ.
_SKEW = 60.0
#: What `ls -ln` says of a file, with its size.
_FILE = re.compile(r"-\S+\s+\S+\s+\S+\s+\S+\s+(\d+)\s")


class Box:
    """A directory of one URL's; *path* is its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files = path / "files"
        self._listing = path / "listing"
        self.is_resumed = False

    def prepare(self, listing: list[str]) -> None:
        """Have it ready for what *listing* names: empty, or with parts that are to be continued.

        Raises
        ------
        OSError
            It cannot be written to.
        """
        found = [_FILE.match(line) for line in listing]
        sizes = [int(match[1]) for match in found if match]
        text = "\n".join(listing)
        self.is_resumed = self._known() == text
        if self.is_resumed:
            for file in self.files.iterdir():
                _cut(file)
            return
        self.clear()
        self.files.mkdir(parents=True)
        if listing and len(sizes) == len(listing) and max(sizes) > _WINDOW:
            self._listing.write_text(text, errors="surrogateescape")

    def has_changed(self) -> bool:
        """Tell whether a file there may have changed between the tries, by its time.

        `ls` tells times by the minute; sftp gives a whole file the time of the one there.
        """
        begun = self._listing.stat().st_mtime - _SKEW
        return any(file.stat().st_mtime > begun for file in self.files.iterdir())

    def size(self) -> int:
        """Return the bytes that are there."""
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self.files))
        except OSError:
            return 0  # it is made, or emptied, now

    def clear(self) -> None:
        """Remove it."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _known(self) -> str | None:
        """Return the listing that is kept with parts."""
        try:
            return self._listing.read_text(errors="surrogateescape")
        except OSError:
            return None


def unpack(box: Box, url: Url, directory: Path, progress: Progress) -> list[str]:
    """Move all that is in *box* to *directory*; return the names there.

    Raises
    ------
    TransferError
        Nothing is in it, or it cannot be moved.
    """
    try:
        names = sorted(os.listdir(box.files))
        if not names:
            raise TransferError(f"nothing matches {url.text}")
        found = list(files_of(Item(box.files / name, name) for name in names))
        progress.files, progress.bytes_done = len(found), sum(file.size for file in found)
        for name in names:
            if (box.files / name).is_dir() and (directory / name).is_dir():
                copy_all([Item(box.files / name, name)], directory, "box", Progress())
            else:
                (box.files / name).replace(directory / name)
        box.clear()
    except OSError as error:
        raise failure(error, f"cannot write to {directory}") from error
    return names


def _cut(file: Path) -> None:
    """Cut off the end that may have holes."""
    file.chmod(file.stat().st_mode | 0o200)
    os.truncate(file, max(0, file.stat().st_size - _WINDOW))
