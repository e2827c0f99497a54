"""Bringing files to a job before it runs, and away after it.

`input_files` are looked for in the parents' directories and linked; `stage_in_url` and
`stage_out_url` are `local:` paths (or bare ones), which are copied. Every copy is written
aside and renamed, so that nothing half-made ever has its final name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from balsam.errors import CannotStart
from balsam.model.app import split_words
from balsam.model.job import Job


def needs_stage_in(job: Job) -> bool:
    return bool(job.input_files or job.stage_in_url)


def needs_stage_out(job: Job) -> bool:
    return bool(job.stage_out_url and job.stage_out_files)


def stage_in(job: Job, parents: list[Job]) -> str:
    """Put the job's input files into its directory; return what was brought, for the event.

    Raises
    ------
    CannotStart
        A file is missing or cannot be copied; the message names it.
    """
    workdir = Path(job.workdir)
    try:
        if not job.user_workdir:
            workdir.mkdir(parents=True, exist_ok=True)
        copied = _copy_in(job.stage_in_url, workdir) if job.stage_in_url else []
        linked = _link_inputs(job, parents, workdir) if job.input_files else []
    except OSError as error:
        raise CannotStart(f"staging in failed: {error}") from error
    notes = [f"copied {' '.join(copied)}"] if copied else []
    notes += [f"linked {' '.join(linked)}"] if linked else []
    return _readable("; ".join(notes))


def _link_inputs(job: Job, parents: list[Job], workdir: Path) -> list[str]:
    linked: list[str] = []
    for parent in parents:
        for pattern in split_words(job.input_files):
            for found in sorted(glob(pattern, root_dir=parent.workdir)):
                source = Path(parent.workdir, found)
                target = workdir / source.name
                if target.is_symlink() and target.resolve() == source.resolve():
                    continue  # linked by an earlier try
                if target.exists() or target.is_symlink():
                    target = workdir / f"{source.name}_{parent.job_id[:8]}"
                    if target.is_symlink():
                        continue
                target.symlink_to(source)
                linked.append(target.name)
    return linked


def _local_path(url: str) -> str:
    scheme, separator, path = url.partition(":")
    if not separator or "/" in scheme:
        return os.path.expanduser(url)
    if scheme != "local":
        raise CannotStart(
            f"cannot move files by {scheme!r} ({url}); this Balsam knows local paths: local:/PATH"
        )
    return os.path.expanduser(path)


def _copy_in(url: str, workdir: Path) -> list[str]:
    pattern = _local_path(url)
    sources = sorted(glob(pattern))
    if not sources:
        raise CannotStart(f"nothing matches stage_in_url {url}")
    for source in sources:
        _copy(Path(source), workdir / Path(source).name)
    return [Path(source).name for source in sources]


def stage_out(job: Job) -> str:
    """Copy the job's results to `stage_out_url`; return what was copied, for the event.

    Raises
    ------
    CannotStart
        The target cannot be written, or a pattern matches nothing.
    """
    target = Path(_local_path(job.stage_out_url))
    try:
        target.mkdir(parents=True, exist_ok=True)
        names = list(_matches(job))
        for name in names:
            _copy(Path(job.workdir, name), target / Path(name).name)
    except OSError as error:
        raise CannotStart(f"staging out to {target} failed: {error}") from error
    return _readable(f"copied {' '.join(names)} to {target}")


def _matches(job: Job) -> Iterator[str]:
    for pattern in split_words(job.stage_out_files):
        found = sorted(glob(pattern, root_dir=job.workdir))
        if not found:
            raise CannotStart(f"stage_out_files: nothing in {job.workdir} matches {pattern!r}")
        yield from found


def _readable(names: str) -> str:
    """Return *names* of files as text for an event: those that are no UTF-8 with '?' in them."""
    return names.encode(errors="replace").decode()


def _copy(source: Path, target: Path) -> None:
    """Copy a file or directory aside, then give it its name."""
    aside = target.with_name(f".{target.name}.part")
    if source.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside, symlinks=True)
        if target.is_dir():
            shutil.rmtree(target)
    else:
        shutil.copy2(source, aside)
    aside.replace(target)
