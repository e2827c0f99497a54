"""What can be set, by table, with the defaults. The comments are its documentation."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from balsam.errors import InvalidInput

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


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
    #: Whether launchers move files from and to URLs: always, never, or auto: while no service
    #: does.
    stage_files: Literal["auto", "always", "never"] = "auto"
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
    #: Whether it moves the files of jobs from and to URLs (see also launcher.stage_files).
    move_files: bool = True
    #: It brings files for no further jobs while so many whose files are there wait for a launcher.
    files_ahead: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    #: Node-hours that all batch jobs of this site together may cost; 0: no limit.
    budget_node_hours: NotNegative = 0.0
    #: Requests have as few nodes as end the work that waits within so many minutes, or within so
    #: many after its longest job.
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
    #: Whether all transfers with a host share one ssh connection, where the configuration of ssh
    #: has no ControlPath of its own.
    share_connections: bool = True
    #: The UUID of the Globus endpoint (collection) that shows this site's files, for globus:.
    globus_endpoint: str = ""
    #: The directory here that this endpoint shows as its ``/``.
    globus_root: str = "/"


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
