"""Where a site is, and its settings.

A site is a directory with `balsam.toml` in it. Settings come from, in rising precedence:
the defaults below, the user's `~/.balsam/settings.toml`, the site's `balsam.toml`.
"""

from __future__ import annotations

import getpass
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from balsam.errors import InvalidInput, SiteError, UnknownField, nearest

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]

SETTINGS_FILE = "balsam.toml"


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


class SchedulerSettings(msgspec.Struct, kw_only=True):
    """The batch system, and what every request to it has."""

    #: slurm, pbs, lsf, flux, cobalt, sge, local (this machine), or one of another package; auto:
    #: the one that is here.
    name: str = "auto"
    #: Project that pays when a request says none; '': the batch system's default.
    project: str = ""
    #: Queue when a request says none; '': the batch system's default.
    queue: str = ""
    #: Further words for every request, before its own.
    flags: str = ""
    #: Seconds that a command of the batch system may take.
    timeout_seconds: Positive = 60.0


class QueuePolicy(msgspec.Struct, kw_only=True):
    """How the service uses one queue, within the limits that the batch system tells."""

    #: Whether the service submits to it at all.
    use: bool = True
    #: Most requests of this site in it at a time, waiting or running.
    max_queued: Annotated[int, msgspec.Meta(ge=1)] = 5
    #: Fewest nodes of a request.
    min_nodes: Annotated[int, msgspec.Meta(ge=1)] = 1
    #: Most nodes of a request; 0: what the batch system allows.
    max_nodes: Count = 0
    #: Shortest request.
    min_minutes: NotNegative = 0.0
    #: Longest request; 0: what the batch system allows.
    max_minutes: NotNegative = 0.0
    #: Project that pays; '': `scheduler.project`.
    project: str = ""
    #: Further words for its requests, after `scheduler.flags`.
    flags: str = ""

    def __post_init__(self) -> None:
        for unit in ("nodes", "minutes"):
            least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if most and least > most:
                raise ValueError(f"min_{unit} is {least:g}, more than max_{unit}, {most:g}")


class ServiceSettings(msgspec.Struct, kw_only=True):
    """How the service asks for nodes and watches them."""

    #: Whether it asks for nodes by itself.
    elastic: bool = True
    #: Node-hours that all batch jobs of this site together may cost; 0: no limit.
    budget_node_hours: NotNegative = 0.0
    #: Requests have as few nodes as end the work that waits within so many minutes.
    target_minutes: Positive = 60.0
    #: Minutes that a job is taken to need when neither it nor earlier runs tell.
    job_minutes: Positive = 10.0
    #: Launchers of the service end after so many minutes without work.
    idle_minutes: NotNegative = 2.0
    #: Whether requests are made smaller to fit nodes that are free now.
    backfill: bool = True
    #: After so many failures in a row a queue is paused for a while.
    failure_limit: Annotated[int, msgspec.Meta(ge=1)] = 3
    #: Seconds between two looks at the batch system.
    poll_seconds: Annotated[float, msgspec.Meta(ge=0.2)] = 20.0
    #: Seconds without a sign of life after which another service may take over.
    lease_seconds: Annotated[float, msgspec.Meta(ge=5)] = 120.0
    #: A batch job that the batch system does not know for so many minutes is taken for lost.
    missing_minutes: Positive = 10.0


class TransferSettings(msgspec.Struct, kw_only=True):
    """How files are moved to and from other machines."""

    #: Most transfers of one launcher at the same time.
    total: Annotated[int, msgspec.Meta(ge=1)] = 8
    #: Most of them with one host.
    per_host: Annotated[int, msgspec.Meta(ge=1)] = 4
    #: Tries before a transfer, and its job, has failed; what cannot get better is tried once.
    attempts: Annotated[int, msgspec.Meta(ge=1)] = 5
    #: Seconds before the second try; they double with each further one.
    back_off_seconds: NotNegative = 2.0
    #: Seconds without a byte after which a connection is taken for lost.
    timeout_seconds: Annotated[float, msgspec.Meta(ge=1)] = 60.0
    #: The ssh command for scp:, sftp: and rsync:, with options that sftp has, too (-F, -i, -o).
    ssh: str = "ssh"


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
    scheduler: SchedulerSettings = msgspec.field(default_factory=SchedulerSettings)
    service: ServiceSettings = msgspec.field(default_factory=ServiceSettings)
    transfers: TransferSettings = msgspec.field(default_factory=TransferSettings)
    ls: LsSettings = msgspec.field(default_factory=LsSettings)
    #: What the service may do with each queue, ``[queues.NAME]``; without any it uses
    #: `scheduler.queue`, else the batch system's default queue.
    queues: dict[str, QueuePolicy] = {}


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
            raise InvalidInput(f"{file}: {error}") from error
    return list(found.values())


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
