"""From what `ApplicationDefinition.submit` is given to the fields of a job."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from balsam.client.apps import App
from balsam.client.jobs import Job
from balsam.errors import InvalidInput, nearest
from balsam.functions.calls import Writer


def job_fields(
    app: App,
    workdir: Any,
    launch_params: Mapping[str, str],
    urls: Mapping[str, str],
    slots: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the fields of a job that its directory, start and files are; make the directory.

    Raises
    ------
    InvalidInput
        One of them cannot be taken.
    """
    place = PurePosixPath(os.fspath(workdir))
    if place.is_absolute() or ".." in place.parts or not place.parts:
        raise InvalidInput(
            f"workdir {str(workdir)!r} is not relative to the site's data directory; give a name,"
            " or names joined by '/'"
        )
    directory = app.site.path / "data" / place
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"workdir {directory} cannot be made: {error.strerror}") from error
    flags = {name: value for name, value in launch_params.items() if name != "cpu_affinity"}
    return {
        "application": app.name,
        "name": place.name,
        "workflow": str(place.parent) if len(place.parts) > 1 else app.name,
        "user_workdir": str(directory),
        "cpu_affinity": launch_params.get("cpu_affinity", ""),
        "mpi_flags": shlex.join(word for flag in flags.items() for word in map(str, flag)),
        **_staging(app, urls, slots),
    }


def _staging(
    app: App, urls: Mapping[str, str], slots: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return the fields that move the files of the slots of *urls*."""
    for slot in urls:
        if slot not in slots:
            raise InvalidInput(f"{app.name} has no transfer {slot!r}.{nearest(slot, list(slots))}")
    for slot, fields in slots.items():
        if fields.get("required", True) and slot not in urls:
            raise InvalidInput(f"{app.name} needs a URL for its transfer {slot!r}")
    inward = [slot for slot in urls if slots[slot]["direction"] == "in"]
    outward = [slot for slot in urls if slots[slot]["direction"] == "out"]
    for slot in inward:
        wanted, name = str(slots[slot]["local_path"]), PurePosixPath(urls[slot]).name
        if wanted.rstrip("/") not in (".", name):
            raise InvalidInput(
                f"transfer {slot!r} of {app.name} is to be {wanted!r} here, and its URL ends in"
                f" {name!r}: files keep their names; give them the same"
            )
    targets = {urls[slot] for slot in outward}
    if len(targets) > 1:
        raise InvalidInput(
            f"the transfers {', '.join(outward)} of {app.name} go to different places; a job's"
            " results go to one directory: give them the same URL"
        )
    files = [str(slots[slot]["local_path"]) for slot in outward]
    return {
        "stage_in_url": " ".join(map(_quoted, (urls[slot] for slot in inward))),
        "stage_out_url": next(iter(targets), ""),
        "stage_out_files": shlex.join(files) if any(map(_has_blank, files)) else " ".join(files),
    }


def _has_blank(path: str) -> bool:
    return len(path.split()) != 1


def _quoted(url: str) -> str:
    return f'"{url}"' if _has_blank(url) else url


def give_parameters(app: App, job: Job, given: Mapping[str, Any]) -> list[int]:
    """Let *job* have the values *given*; return the jobs whose results are among them.

    Raises
    ------
    InvalidInput
        A parameter is missing, or not known.
    """
    check_parameters(app, given)
    if "run" not in app.function.hooks:
        job.parameters = dict(given)
        return []
    names = list(given)
    writer = Writer(app.site.path, app.name, lambda position: names[position])
    written = writer.one((), given)
    if written.payload[:1] == "J":
        job.parameters = dict(given)
    else:
        job.payload = written.payload
    return [future.number for future in written.futures]


def check_parameters(app: App, given: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` unless *given* are the parameters of *app*."""
    known = list(app.parameters)
    for name in given:
        if name not in known:
            raise InvalidInput(f"{app.name} has no parameter {name!r}.{nearest(name, known)}")
    missing = [n for n, p in app.parameters.items() if p.required and n not in given]
    if missing:
        raise InvalidInput(f"{app.name} needs the parameter {missing[0]!r}: {missing[0]}=…")
