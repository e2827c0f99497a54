"""What functions and their calls can ask for, by keyword."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from balsam.client.new_jobs import PARENT_FIELDS, record_of
from balsam.errors import InvalidInput, UnknownField, nearest
from balsam.model.job import EDITABLE, Job, check_job

#: Fields of jobs that a call cannot set: they say what is called.
_OF_THE_CALL = ("application", "args", "parameters", "payload")
JOB_FIELDS = tuple(name for name in EDITABLE if name not in _OF_THE_CALL)
#: Fields of apps that a decorator can set.
APP_FIELDS = (
    "description",
    "preprocess",
    "postprocess",
    "error_handler",
    "timeout_handler",
    "envscript",
    "modules",
    "conda",
    "environ",
    "retry",
    "signal",
)


def check_names(names: Iterable[str], known: Iterable[str], what: str, mark: str = "") -> None:
    """Raise `UnknownField` unless all *names* are *known*; *mark* goes before them in the text."""
    known = list(known)
    for name in names:
        if name not in known:
            hint = nearest(mark + name, [mark + each for each in known])
            raise UnknownField(f"{what} takes no {mark + name!r}.{hint}")


def split_options(keywords: dict[str, Any], what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments among *keywords*, and the options: those that begin with '_'.

    Raises
    ------
    UnknownField
        There is no such option.
    """
    options = {name[1:]: value for name, value in keywords.items() if name[:1] == "_"}
    if not options:
        return keywords, options
    check_names(options, JOB_FIELDS, f"the job of {what}", "_")
    return {name: value for name, value in keywords.items() if name[:1] != "_"}, options


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of jobs from *layers*, the later over the earlier ones; tags add up."""
    fields: dict[str, Any] = {}
    tags: dict[str, Any] = {}
    for layer in layers:
        fields.update(layer)
        tags.update(layer.get("tags") or {})
    return {**fields, "tags": tags} if tags else fields


def job_record(fields: Mapping[str, Any]) -> Job:
    """Return the record of a new job with *fields*, checked; parents are integer ids.

    Raises
    ------
    InvalidInput
        It could never be stored or run.
    """
    record = record_of(fields)
    try:
        check_job(record)
    except InvalidInput as error:
        raise type(error)(f"job {record.name!r}: {error}") from error
    return record


__all__ = ["APP_FIELDS", "JOB_FIELDS", "PARENT_FIELDS", "check_names", "job_record", "merged"]
