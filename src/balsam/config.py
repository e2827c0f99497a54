"""Where a site is, and its settings.

A site is a directory with `balsam.toml` in it. Settings come from, in rising precedence:
the defaults below, the user's `~/.balsam/settings.toml`, the site's `balsam.toml`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from balsam.errors import AlreadyExists, InvalidInput, SiteError, UnknownField, nearest

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]

SETTINGS_FILE = "balsam.toml"
SUBDIRECTORIES = ("data", "log", "qsubmit", "run")


class LauncherSettings(msgspec.Struct, kw_only=True):
    """How launchers behave."""

    #: Seconds without a sign of life after which a launcher's jobs go to others.
    lease_seconds: Positive = 60.0
    #: Seconds a launcher waits for new work before it ends.
    idle_seconds: NotNegative = 2.0
    #: Seconds between the request to stop (SIGTERM) and SIGKILL.
    grace_seconds: NotNegative = 10.0
    #: Where the output of jobs goes: a file in each job's directory, or few shared files.
    output: Literal["directory", "stream"] = "directory"
    #: Most hooks (preprocess, postprocess) of one launcher at the same time; 0: one a core.
    hooks: Count = 0
    #: Seconds a hook may take; 0: no limit.
    hook_seconds: NotNegative = 0.0
    #: A job whose worker or launcher died so often while it ran becomes FAILED; 0: no limit.
    crash_limit: Count = 5
    #: So many jobs that fail in a row on one of several nodes, whose apps end well on others, set
    #: that node aside; 0: never.
    node_failure_limit: Count = 10


class MpiSettings(msgspec.Struct, kw_only=True):
    """How jobs of several ranks are started."""

    #: Name in the table of MPI start commands, or a program; auto: the profile's, or the one found.
    command: str = "auto"
    #: Further words for every start, before the job's own mpi_flags.
    flags: str = ""


class NodesSettings(msgspec.Struct, kw_only=True):
    """The nodes of a launcher, and how its workers get there."""

    #: What starts the workers: plain (this machine only), ssh, srun, mpiexec, pbsdsh, flux, jsrun,
    #: blaunch, qrsh, aprun; auto: the profile's, or what belongs to the allocation.
    start: str = "auto"
    #: The ssh command, with its options, for workers and for MPI.
    ssh: str = "ssh"
    #: Name of a profile of a machine, or path of a TOML file with one; auto: the one that matches;
    #: none: no profile.
    profile: str = "auto"
    #: Cores to count on each node instead of those found; 0: those found.
    cores: Count = 0
    #: GPUs to count on each node instead of those found; -1: those found.
    gpus: Annotated[int, msgspec.Meta(ge=-1)] = -1
    #: Memory to count on each node instead of what is found, in MiB; 0: what is found.
    memory_mib: Count = 0
    #: Seconds without a sign of life after which a worker is taken for lost, and ends itself.
    silence_seconds: Annotated[float, msgspec.Meta(ge=5)] = 30.0


class DatabaseSettings(msgspec.Struct, kw_only=True):
    """Where the jobs are kept."""

    #: 'sqlite': the file balsam.db in the site; 'postgres': a server that the site manages; or
    #: the URL of a server that is there, postgresql://USER@HOST/NAME.
    url: str = "sqlite"
    #: Where the site's own server listens for other hosts: '*', or addresses of its host with
    #: commas between; '': nowhere, only this host reaches it, by a Unix socket.
    listen: str = ""
    #: Seconds to wait for another writer before giving up.
    busy_seconds: NotNegative = 60.0

    def __post_init__(self) -> None:
        if self.url not in ("sqlite", "postgres") and "://" not in self.url:
            raise InvalidInput(
                f"the database is {self.url!r}; give 'sqlite', 'postgres' or a URL,"
                " postgresql://USER@HOST/NAME"
            )


class LsSettings(msgspec.Struct, kw_only=True):
    """What `balsam ls` shows."""

    #: Most rows shown.
    limit: Count = 5000
    #: Columns shown after the standard ones.
    fields: list[str] = []


class Settings(msgspec.Struct, kw_only=True):
    """All settings, by table."""

    database: DatabaseSettings = msgspec.field(default_factory=DatabaseSettings)
    launcher: LauncherSettings = msgspec.field(default_factory=LauncherSettings)
    nodes: NodesSettings = msgspec.field(default_factory=NodesSettings)
    mpi: MpiSettings = msgspec.field(default_factory=MpiSettings)
    ls: LsSettings = msgspec.field(default_factory=LsSettings)


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


def _read_toml(file: Path) -> dict[str, Any]:
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
    for table, group in tables.items():
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
        flat = _flatten(_read_toml(file), file)
        tables: dict[str, dict[str, Any]] = {}
        for key, value in flat.items():
            table, name = key.split(".")
            tables.setdefault(table, {})[name] = value
            found[key] = Origin(key, value, str(file))
        try:
            msgspec.convert(tables, Settings)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{file}: {error}") from error
    return list(found.values())


def load(site: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in force for *site* (see `explain` for the errors)."""
    tables: dict[str, dict[str, Any]] = {}
    for origin in explain(site, environ):
        table, name = origin.key.split(".")
        tables.setdefault(table, {})[name] = origin.value
    return msgspec.convert(tables, Settings)


def template(values: Mapping[str, Any] | None = None) -> str:
    """Return the text of a new site's settings file: *values*, all others as comments."""
    given = values or {}
    lines = ["# Settings of this Balsam site. `balsam config show` prints those in force.", ""]
    for table, group in msgspec.to_builtins(Settings()).items():
        lines.append(f"[{table}]")
        for name, default in group.items():
            key = f"{table}.{name}"
            mark = "" if key in given else "# "
            value = json.dumps(given.get(key, default), ensure_ascii=False)
            lines.append(f"{mark}{name} = {value}")
        lines.append("")
    return "\n".join(lines)


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
    tables = _read_toml(file)
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
