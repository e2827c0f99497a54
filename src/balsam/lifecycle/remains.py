"""What stays in a site though nothing needs it any more, and its removal.

All of it is older than a time that the caller gives: what is younger may belong to a job that is
just being made, or to a launcher that just ends.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from balsam.client.interface import Client
from balsam.functions.calls import DIRECTORY
from balsam.lifecycle.recover import journal_path, launcher_directory
from balsam.model.app import App
from balsam.model.query import Query, parse
from balsam.model.states import END_STATES

#: Files that are compared with the jobs at a time.
BATCH = 50_000
#: Files on their way, under the names of `transfers.files.aside_name` (or a directory of them).
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
_VERSION = re.compile(r".+@[0-9a-f]{8}")


def unused_arguments(client: Client, before: float) -> Iterator[Path]:
    """Yield the files of arguments that were not written or used since *before*, and no job has."""
    old = _old_files(client.path / DIRECTORY, before)
    while batch := list(islice(old, BATCH)):
        names = {str(file.relative_to(client.path)): file for file in batch}
        for kind in ("F", "G"):
            having = Query().where(payload__startswith=f"{kind}{DIRECTORY}/")
            for job in client.iterate_jobs(having, ["payload"]):
                names.pop(job.payload[1:], None)
        yield from names.values()


def _old_files(directory: Path, before: float) -> Iterator[Path]:
    for place, _, names in os.walk(directory):
        for name in names:
            file = Path(place, name)
            if _is_old(file, before):
                yield file


def _is_old(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime < before
    except FileNotFoundError:  # it is gone already
        return False


def left_by_launchers(client: Client, before: float) -> Iterator[Path]:
    """Yield directories and journals of launchers that ended before *before*.

    A launcher that ended has told the database all, or another one has told it in its place.
    """
    for info in client.launchers(live=False, kind=None):
        if info.ended_at is not None and info.ended_at < before:
            found = (launcher_directory(client.path, info.id), journal_path(client.path, info.id))
            yield from (path for path in found if _is_old(path, before))


def parts_of_transfers(client: Client, before: float) -> Iterator[Path]:
    """Yield what transfers into directories of jobs that have ended left half done."""
    ended = Query().where(state__in=list(END_STATES), stage_in_url__ne="")
    for job in client.iterate_jobs(ended, ["workdir"]):
        try:
            names = os.listdir(job.workdir)
        except OSError:  # it was never made, or is on another machine
            continue
        for name in filter(_PART.fullmatch, names):
            path = Path(job.workdir, name)
            if _is_old(path, before):
                yield path


def versions(client: Client) -> list[App]:
    """Return the apps that are further versions of functions: ``name@version``."""
    found = client.apps(Query(filters=parse({"name__contains": "@"}, "apps")))
    return [a for a in found if "run" in a.function.hooks and _VERSION.fullmatch(a.name)]


def size_of(path: Path) -> int:
    """Return how many bytes *path*, a file or directory, has; what is gone has none."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(size_of(each) for each in path.iterdir())
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def remove(path: Path, before: float) -> int:
    """Remove *path*, unless it was used since *before*; return how many bytes that are.

    It is moved aside and looked at again: whoever uses it at the same time has either set its time,
    and it comes back, or does not find it, and writes it anew.

    Raises
    ------
    OSError
        It cannot be removed.
    """
    doomed = path.with_name(f".{path.name[:200]}.removed")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return 0
    if not _is_old(doomed, before):
        doomed.rename(path)
        return 0
    size = size_of(doomed)
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()
    return size
