"""Files of parents, linked into the directory of their child."""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path

from balsam.errors import TransferError
from balsam.model.app import split_words
from balsam.model.job import Job
from balsam.transfers.files import failure

#: Most names that an event tells.
_MOST_NAMES = 40


def link_inputs(job: Job, parents: list[Job]) -> str:
    """Link what `input_files` matches in the directories of *parents*; return what, for the event.

    What has a name that is taken gets one with the parent's 8 digits behind.

    Raises
    ------
    TransferError
        A name without wildcards is in no parent's directory, or a link cannot be made.
    """
    workdir = Path(job.workdir)
    linked: list[str] = []
    missing: list[str] = []
    for pattern in split_words(job.input_files):
        sources = [(parent, source) for parent in parents for source in _found(pattern, parent)]
        if not sources:
            missing.append(pattern)
        for parent, source in sources:
            try:
                linked += _link(source, workdir, parent.job_id[:8])
            except OSError as error:
                raise failure(error, f"cannot link {source} into {workdir}") from error
    if missing:
        _refuse(missing, parents)
    notes = [f"linked {listed(linked)}"] if linked else []
    notes += [f"no parent has {listed(missing)}"] if missing else []
    return "; ".join(notes)


def _found(pattern: str, parent: Job) -> list[Path]:
    """Return what *pattern* matches in a parent's directory; with ``**`` the files alone."""
    found = sorted(glob(pattern, root_dir=parent.workdir, recursive=True))
    sources = [Path(parent.workdir, match) for match in found if match.strip("./")]
    if "**" in pattern:
        return [source for source in sources if not source.is_dir()]
    return sources


def _refuse(missing: list[str], parents: list[Job]) -> None:
    """Raise `TransferError` for what a job surely needs and will not find."""
    started = [parent for parent in parents if parent.attempt]
    away = [parent for parent in started if not os.path.isdir(parent.workdir)]
    named = [pattern for pattern in missing if not has_magic(pattern)]
    if named or (away and len(away) == len(started)):
        where = "no parent's directory has"
        if away:
            where = f"{away[0].workdir}, the directory of job {away[0].id}, is away; {where}"
        raise TransferError(f"input_files: {where} {listed(named or missing)}")


def _link(source: Path, workdir: Path, short: str) -> list[str]:
    """Link *source* under the first free name; [] when an earlier try, or the file, is there."""
    names = [source.name, f"{source.name}_{short}"]
    names += [f"{source.name}_{short}_{count}" for count in range(2, 1000)]
    for name in names:
        target = workdir / name
        if not os.path.lexists(target):
            target.symlink_to(source)
            return [name]
        if target.exists() and target.samefile(source):
            return []
    raise TransferError(f"there are too many files {source.name!r}; give input_files more exactly")


def listed(names: Iterable[str]) -> str:
    """Return *names* in one line, of many the first; those that are no UTF-8 with '?' in them."""
    all_names = list(names)
    text = " ".join(all_names[:_MOST_NAMES])
    if len(all_names) > _MOST_NAMES:
        text = f"{text} and {len(all_names) - _MOST_NAMES} more"
    return text.encode(errors="replace").decode()
