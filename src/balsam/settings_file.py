"""Writing a site: its directories, and its settings file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from balsam.config import SETTINGS_FILE, Settings, is_site, read_toml
from balsam.errors import AlreadyExists, SiteError

SUBDIRECTORIES = ("data", "log", "qsubmit", "run")
#: What a new settings file says of queues.
QUEUES = """\
## What the service may do with a queue; a table for each that it is to use.
## [queues.NAME]
## max_queued = 5
## max_nodes = 0
## max_minutes = 0.0
"""


def template(values: Mapping[str, Any] | None = None) -> str:
    """Return the text of a new site's settings file: *values*, all others as comments."""
    given = values or {}
    lines = ["# Settings of this Balsam site. `balsam config show` prints those in force.", ""]
    for table, group in msgspec.to_builtins(Settings()).items():
        if table == "queues":
            continue
        lines.append(f"[{table}]")
        for name, default in group.items():
            key = f"{table}.{name}"
            mark = "" if key in given else "# "
            value = json.dumps(given.get(key, default), ensure_ascii=False)
            lines.append(f"{mark}{name} = {value}")
        lines.append("")
    return "\n".join([*lines, QUEUES])


def with_setting(site: Path, key: str, value: Any) -> str:
    """Return the text of the site's settings file with *key* set, and all else as it is.

    Raises
    ------
    SiteError
        It is written in a way that we do not change.
    InvalidInput
        It cannot be read.
    """
    file = site / SETTINGS_FILE
    tables = read_toml(file)
    table, name = key.split(".")
    line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
    text = _with_line(file.read_text(), table, name, line)
    tables.setdefault(table, {})[name] = value
    try:
        same = tomllib.loads(text) == tables
    except ValueError:
        same = False
    if not same:
        raise SiteError(f"cannot change {file} by itself: write {line} into its table [{table}]")
    return text


def _with_line(text: str, table: str, name: str, line: str) -> str:
    """Return TOML *text* with *line* where *table* has, or had in a comment, *name*."""
    lines = text.splitlines()
    heads = [i for i, each in enumerate(lines) if each.lstrip().startswith("[")]
    own = [i for i in heads if re.match(rf"\s*\[\s*{table}\s*\]", lines[i])]
    if not own:
        return f"{text.rstrip()}\n\n[{table}]\n{line}\n".lstrip()
    end = next((i for i in heads if i > own[0]), len(lines))
    part = range(own[0] + 1, end)
    there = [i for i in part if re.match(rf"\s*[\"']?{name}[\"']?\s*=", lines[i])]
    if there:
        comment = re.search(r"=\s*(?:\"[^\"]*\"|'[^']*'|[^#\"']*)(\s+#.*)$", lines[there[0]])
        lines[there[0]] = line + (comment[1] if comment else "")
    else:
        hints = [i for i in part if re.match(rf"\s*#\s*{name}\s*=", lines[i])]
        lines.insert((hints or own)[0] + 1, line)
    return "\n".join(lines) + "\n"


def change_setting(site: Path, key: str, value: Any) -> None:
    """Set *key* in the site's settings file, at once and for good; comments stay.

    The file becomes its owner's alone when it has the URL of a database, and so maybe a password.

    Raises
    ------
    SiteError, InvalidInput
        The file cannot be changed; it is as it was.
    """
    text = with_setting(site, key, value)
    file = (site / SETTINGS_FILE).resolve()
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    mode = 0o600 if "://" in str(value) else file.stat().st_mode & 0o777
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as written:
            written.write(text)
            os.fchmod(written.fileno(), mode)
            written.flush()
            os.fsync(written.fileno())
        aside.replace(file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SiteError(f"cannot change {file}: {error.strerror}") from error


def create_site_directory(path: Path, values: Mapping[str, Any] | None = None) -> None:
    """Make the directories of a new site, and its settings file with *values*.

    The file is its owner's alone when it has the URL of a database, and so maybe a password.

    Raises
    ------
    AlreadyExists
        There is a site already.
    SiteError
        The path cannot be used.
    """
    mode = 0o600 if "://" in (values or {}).get("database.url", "") else 0o666
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever makes this file makes the site: of two at once, one.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(path / SETTINGS_FILE, flags, mode), "w") as file:
            file.write(template(values))
    except FileExistsError as error:
        if is_site(path):
            raise AlreadyExists(f"there is a Balsam site at {path} already") from error
        raise SiteError(f"cannot make a site at {path}: it is not a directory") from error
    except OSError as error:
        raise SiteError(f"cannot make a site at {path}: {error.strerror}") from error
    try:
        for name in SUBDIRECTORIES:
            (path / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        (path / SETTINGS_FILE).unlink()
        reason = f"{error.filename}: {error.strerror}"
        raise SiteError(f"cannot make a site at {path}: {reason}") from error
