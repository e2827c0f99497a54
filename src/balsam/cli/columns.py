"""What `balsam ls` shows of jobs: which columns, and how many rows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balsam import config
from balsam.cli.output import text
from balsam.errors import InvalidInput, UnknownField, nearest
from balsam.model.job import Job
from balsam.model.query import JSON_FIELDS, SYNONYMS, field_names

#: Names that 0.x had for columns.
_OLD_NAMES = {
    "environ_vars": "environ",
    "lock": "launcher_id",
    "queued_launch": "batch_job_id",
    "tick": "updated_at",
    "working_directory": "workdir",
}
STANDARD = ("id", "name", "workflow", "application", "state")


def row_limit(value: str) -> int:
    """Return *value* as a number of rows, 0 or more (an argparse type)."""
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is no number of rows; 0 shows all")
    return int(value)


def limit(given: int | None, site: Path, environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the most rows to show: *given*, BALSAM_LS_LIMIT, the setting; None for all."""
    if given is None:
        value = environ.get("BALSAM_LS_LIMIT")
        if value and not value.isdecimal():
            raise InvalidInput(f"BALSAM_LS_LIMIT is {value!r}; it must be a number, 0 for all")
        given = int(value) if value else config.load(site).ls.limit
    return given or None


def job_columns(site: Path, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the columns to show of jobs: the standard ones and the user's.

    Raises
    ------
    UnknownField
        The user's columns have one that jobs have not.
    """
    value = environ.get("BALSAM_LS_FIELDS")
    wanted = value.split(":") if value else config.load(site).ls.fields
    source = "BALSAM_LS_FIELDS" if value else "the setting ls.fields"
    columns = list(STANDARD)
    for name in filter(None, (word.strip() for word in wanted)):
        column = check_field(name, source)
        if column not in columns:
            columns.append(column)
    return columns


def check_field(name: str, source: str) -> str:
    """Return *name* of a field, or of a key in a JSON field (``data__key``), if there is one."""
    field, *path = name.split("__")
    field = _OLD_NAMES.get(field, SYNONYMS.get(field, field))
    known = field_names("jobs")
    if field not in known or (path and field not in JSON_FIELDS):
        raise UnknownField(f"{source}: jobs have no field {name!r}.{nearest(name, known)}")
    return "__".join([field, *path])


def value_of(job: Job, name: str) -> Any:
    """Return the value of a field, or of a key in a JSON field, of *job*; None: no such key."""
    field, *path = name.split("__")
    value = getattr(job, field)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def cell(job: Job, name: str) -> str:
    """Return the value of a field, or of a key in a JSON field, as text."""
    return text(name, value_of(job, name))
