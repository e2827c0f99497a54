"""Where a site is, and its settings.

A site is a directory with `balsam.toml` in it. Settings come from, in rising precedence:
the defaults (`balsam.settings`), the user's `~/.balsam/settings.toml`, the site's `balsam.toml`.
"""

from __future__ import annotations

import getpass
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from balsam.errors import InvalidInput, SiteError, UnknownField, nearest
from balsam.settings import (
    DatabaseSettings,
    LauncherSettings,
    NodesSettings,
    QueuePolicy,
    SchedulerSettings,
    ServiceSettings,
    Settings,
    TransferSettings,
)

#: What can be set is to be had from here, too.
__all__ = [
    "DatabaseSettings",
    "LauncherSettings",
    "NodesSettings",
    "QueuePolicy",
    "SchedulerSettings",
    "ServiceSettings",
    "Settings",
    "TransferSettings",
]

SETTINGS_FILE = "balsam.toml"


class Origin(msgspec.Struct, frozen=True):
    """One setting, its value and where it came from."""

    key: str
    value: Any
    source: str


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's Balsam directory: `BALSAM_HOME`, else `~/.balsam`."""
    return Path(environ.get("BALSAM_HOME") or Path.home() / ".balsam")


def user_name() -> str:
    """Return the name of the user, or the number of one without a name (in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def user_settings_file(environ: Mapping[str, str] = os.environ) -> Path:
    return home(environ) / "settings.toml"


def read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read the settings {file}: {error}") from error


def known_keys() -> dict[str, Any]:
    """Return every setting, `table.name`, with its default."""
    tables = msgspec.to_builtins(Settings())
    return {f"{table}.{name}": v for table, group in tables.items() for name, v in group.items()}


def _flatten(tables: dict[str, Any], file: Path) -> dict[str, Any]:
    known = known_keys()
    flat: dict[str, Any] = {}
    queues = tables.get("queues", {})
    for table, group in [*tables.items(), *_queue_tables(queues, file, known)]:
        if table == "queues":
            continue
        if not isinstance(group, dict):
            hint = nearest(table, list(known))
            raise UnknownField(f"{file}: {table!r} stands outside a table.{hint}")
        for name, value in group.items():
            key = f"{table}.{name}"
            if key not in known:
                hint = nearest(key, list(known))
                raise UnknownField(f"{file}: there is no setting {key!r}.{hint}")
            flat[key] = value
    return flat


def _queue_tables(queues: Any, file: Path, known: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the tables ``queues.NAME``, and add what each may hold to *known*."""
    if not isinstance(queues, dict):
        raise UnknownField(f"{file}: 'queues' stands outside a table; write [queues.NAME]")
    defaults = msgspec.to_builtins(QueuePolicy())
    for queue in queues:
        known.update({f"queues.{queue}.{name}": value for name, value in defaults.items()})
    # A table without anything in it says that the queue is to be used.
    empty = {"use": True}
    return [(f"queues.{q}", empty if group == {} else group) for q, group in queues.items()]


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of settings that are given by their whole keys."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        table, name = key.rsplit(".", 1)
        if table.startswith("queues."):
            _, _, queue = table.partition(".")
            tables.setdefault("queues", {}).setdefault(queue, {})[name] = value
        else:
            tables.setdefault(table, {})[name] = value
    return tables


def explain(site: Path | None, environ: Mapping[str, str] = os.environ) -> list[Origin]:
    """Return each setting with its value and the file (or 'default') that gave it.

    Raises
    ------
    UnknownField
        A file has a setting that does not exist; the nearest name is given.
    InvalidInput
        A file cannot be read, or a value has not the setting's type.
    """
    found = {key: Origin(key, value, "default") for key, value in known_keys().items()}
    files = [user_settings_file(environ)] + ([site / SETTINGS_FILE] if site else [])
    for file in files:
        flat = _flatten(read_toml(file), file)
        found.update({key: Origin(key, value, str(file)) for key, value in flat.items()})
        try:
            msgspec.convert(_nested(flat), Settings)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{file}: {_complaint(flat) or error}") from error
    return list(found.values())


def _complaint(flat: Mapping[str, Any]) -> str:
    """Return which setting cannot have its value, and what it takes; '' when each can."""
    for key, value in flat.items():
        try:
            msgspec.convert(_nested({key: value}), Settings)
        except msgspec.ValidationError as error:
            takes = str(error).split(" - at `$")[0].replace("`", "")
            return f"the setting {key} cannot be {value!r}: {takes[:1].lower()}{takes[1:]}"
    return ""


def load(site: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in force for *site* (see `explain` for the errors)."""
    flat = {origin.key: origin.value for origin in explain(site, environ)}
    return msgspec.convert(_nested(flat), Settings)


def is_site(path: Path) -> bool:
    """Tell whether there is a site at *path*; one that may not be looked into is none."""
    return os.path.isfile(path / SETTINGS_FILE)


def known_sites(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the sites that this user made or used, as far as they still exist.

    One site, reached by different paths (symbolic links), is there once.
    """
    try:
        paths = json.loads((home(environ) / "sites.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return list(dict.fromkeys(Path(path).resolve() for path in paths if is_site(Path(path))))


def remember_site(path: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Add *path* to the user's known sites."""
    sites = known_sites(environ)
    path = path.resolve()
    if path in sites:
        return
    directory = home(environ)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = directory / f"sites.json.{os.getpid()}"
    aside.write_text(json.dumps([str(p) for p in [*sites, path]], indent=1))
    aside.replace(directory / "sites.json")


def find_site(
    explicit: str | None = None,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Path:
    """Return the site to use: *explicit*, `BALSAM_SITE`, `BALSAM_DB_PATH`, or the nearest
    parent of *directory* (default: the working directory) that is one.

    *explicit* may be a path or a unique part of a known site's path.

    Raises
    ------
    SiteError
        There is none, or more than one matches.
    """
    for name, value in (
        ("--site", explicit),
        ("BALSAM_SITE", environ.get("BALSAM_SITE")),
        ("BALSAM_DB_PATH", environ.get("BALSAM_DB_PATH")),
    ):
        if value:
            path = Path(value).expanduser().resolve()
            return path if is_site(path) else _known_site(value, name, environ)
    start = (directory or Path.cwd()).resolve()
    for path in (start, *start.parents):
        if is_site(path):
            return path
    raise SiteError(
        f"no Balsam site at {start} or above it; make one with `balsam init PATH`, activate one"
        " with `source balsamactivate PATH`, or name one with --site"
    )


def _known_site(value: str, name: str, environ: Mapping[str, str]) -> Path:
    matches = [path for path in known_sites(environ) if value in str(path)]
    exact = [path for path in matches if path.name == value]
    if len(exact) == 1:
        return exact[0]
    if len(matches) == 1:
        return matches[0]
    if matches:
        found = ", ".join(map(str, matches))
        raise SiteError(f"{name} {value!r} matches several known sites: {found}; give the path")
    raise SiteError(
        f"{name} {value!r} is no Balsam site, nor part of a known one; make it with"
        f" `balsam init {value}`"
    )
