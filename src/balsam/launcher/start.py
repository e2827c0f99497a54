"""Putting a launcher together and running it."""

from __future__ import annotations

import gc
import os
import shlex
import sys
import time
from functools import cache, partial

import msgspec

from balsam import config
from balsam.client.interface import Client
from balsam.config import Settings
from balsam.errors import CannotStart, InvalidInput
from balsam.launcher.drive import Driver
from balsam.launcher.options import Options
from balsam.launcher.placement import Spot
from balsam.launcher.plan import Planner
from balsam.launcher.tasks import FunctionFiles, MpiStart, TaskBuilder
from balsam.launcher.team import Team, find_team
from balsam.lifecycle.environ import launcher_environ
from balsam.lifecycle.recover import launcher_directory, launcher_marks, process_start
from balsam.lifecycle.stager import Stager, parents_of
from balsam.model.job import Job
from balsam.model.wire import LauncherInfo, LeaseRequest
from balsam.mpi.commands import MpiCommand, command_line
from balsam.mpi.find import check_name, find
from balsam.mpi.start import Start
from balsam.nodes.discover import scheduler_id
from balsam.nodes.hardware import this_node
from balsam.nodes.walltime import end_of_allocation
from balsam.transfers.movers import Movers


class LauncherRequest(msgspec.Struct, kw_only=True):
    """What the user asks of one launcher."""

    workflow_filter: str = ""
    owner: str = ""  #: '' for the jobs of any user
    tags: dict[str, str] = {}  #: only jobs that have all these
    batch_job_id: int | None = None  #: the batch job that started it
    job_mode: str = "auto"  #: auto and mpi: all jobs; serial: only those of one rank
    time_limit_minutes: float = 0.0  #: 0: to the end of the allocation, if that is known
    nodes: str = ""  #: hosts, or a file with hosts; '' for those of the allocation
    limit_nodes: int = 0  #: use so many of them; 0: all
    offset_nodes: int = 0  #: without the first ones
    gpus_per_node: int | None = None  #: None: those found
    persistent: bool = False
    idle_seconds: float | None = None  #: None: the setting
    output: str | None = None  #: 'directory' or 'stream'; None: the setting


def mpi_command(settings: Settings, team: Team) -> str:
    """Return the name of the MPI start command: the setting, or what the profile knows.

    Raises
    ------
    InvalidInput
        There is no such command.
    """
    name = settings.mpi.command
    if name == "auto" and team.profile is not None:
        name = team.profile.mpi
    check_name(name)
    return name


def mpi_start(settings: Settings, team: Team, forward: dict[str, str]) -> MpiStart:
    """Return what puts the site's MPI start command before a job's words.

    Parameters
    ----------
    forward
        Variables that every rank must have beside those of its job.

    Raises
    ------
    InvalidInput
        There is no such command.
    """
    machine, name = team.profile, mpi_command(settings, team)
    flags = f"{machine.mpi_flags if machine else ''} {settings.mpi.flags}"
    affinity = machine.cpu_affinity if machine else ""
    ssh = tuple(shlex.split(settings.nodes.ssh))

    @cache
    def found() -> tuple[MpiCommand, str]:
        return find(name)

    def start(job: Job, argv: list[str], environ: dict[str, str], spot: Spot) -> list[str]:
        command, program = found()
        how = Start(
            ranks=job.num_nodes * job.ranks_per_node,
            ranks_per_node=job.ranks_per_node,
            threads_per_rank=job.threads_per_rank,
            flags=f"{flags} {job.mpi_flags}",
            environ=forward | environ | spot.environ,
            threads_per_core=job.threads_per_core,
            cpu_affinity=job.cpu_affinity or affinity,
            gpus_per_rank=job.gpus_per_rank,
            hosts=spot.hosts if len(team.hosts) > 1 else (),
            cpus=spot.cpus,
            ssh=ssh,
            in_allocation=team.is_batch,
        )
        try:
            return command_line(command, program, how, argv)
        except InvalidInput as error:
            raise CannotStart(f"mpi_flags: {error}") from error

    return start


def _seconds(request: LauncherRequest, now: float) -> float | None:
    """Return how long the launcher has; None: nobody knows. *now* is this machine's time."""
    if request.time_limit_minutes:
        return request.time_limit_minutes * 60
    end = end_of_allocation(os.environ, now)
    return None if end is None else end - now


def run_launcher(client: Client, request: LauncherRequest) -> str:
    """Run a launcher on its nodes until it ends; return why it ended.

    Raises
    ------
    LeaseLost
        It gave no sign of life for too long, and others took over its jobs.
    BalsamError
        The database cannot be used.
    """
    settings = config.load(client.path)
    pilot = settings.launcher
    team = find_team(
        settings.nodes,
        nodes=request.nodes,
        limit=request.limit_nodes,
        offset=request.offset_nodes,
        gpus=request.gpus_per_node,
    )
    mpi_command(settings, team)
    started = client.now()
    node = this_node(
        cores=team.settings.cores,
        gpus=team.settings.gpus,
        memory_mib=team.settings.memory_mib,
        profile=team.profile,
    )
    seconds = _seconds(request, time.time())
    info = LauncherInfo(
        host=node.host,
        pid=os.getpid(),
        pid_started=process_start(os.getpid()),
        owner=config.user_name(),
        workflow_filter=request.workflow_filter,
        job_mode=request.job_mode,
        nodes=len(team.hosts),
        cores=node.cores * len(team.hosts),
        gpus=len(node.gpus) * len(team.hosts),
        memory_mib=node.memory_mib,
        tags=request.tags,
        jobs_of=request.owner,
        ends_at=started + seconds if seconds else None,
        batch_job_id=request.batch_job_id,
        scheduler_id=scheduler_id(os.environ),
    )
    launcher_id = client.register_launcher(info, pilot.lease_seconds)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    options = Options(
        launcher_id=launcher_id,
        site=str(client.path),
        lease=LeaseRequest(
            limit=0,
            workflow_filter=request.workflow_filter,
            owner=request.owner,
            tags=request.tags,
            parallel=request.job_mode != "serial",
        ),
        idle_seconds=pilot.idle_seconds if request.idle_seconds is None else request.idle_seconds,
        persistent=request.persistent,
        grace_seconds=min(pilot.grace_seconds, seconds / 4) if seconds else pilot.grace_seconds,
        ends_at=started + seconds if seconds else None,
        hooks=pilot.hooks or node.cores,
        stage_files=pilot.stage_files,
        crash_limit=pilot.crash_limit,
        node_failure_limit=pilot.node_failure_limit,
    )
    job_mode = "serial" if request.job_mode == "serial" else "mpi"
    environ = launcher_environ(
        str(client.path), launcher_id, nodes=len(team.hosts), job_mode=job_mode
    )
    builder = TaskBuilder(
        client.path,
        client.identity,
        stream=(request.output or pilot.output) == "stream",
        mpi=mpi_start(settings, team, environ),
        functions=FunctionFiles(launcher_directory(client.path, launcher_id) / "functions"),
        hook_seconds=pilot.hook_seconds,
    )
    planner = Planner(options, builder)
    nodes = f"{len(team.hosts)} nodes by {team.starter.name}, here " if team.hosts[1:] else ""
    say(
        f"Starting Balsam launcher [{os.getpid()}]: launcher {launcher_id} with {nodes}{node.cores}"
        f" cores, {len(node.gpus)} GPUs, {node.memory_mib} MiB on {node.host}"
    )
    marks = launcher_marks(client.path, launcher_id)
    movers = Movers(settings.transfers, marks)
    parents = partial(parents_of, client)
    stager = Stager(movers, settings.transfers, launcher_id, parents, client.now)
    driver = Driver(client, planner, team, environ, pilot.lease_seconds, say, stager)
    # What is there stays; jobs come and go without cycles: looking for some costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    reason = driver.run()
    say(
        f"Launcher {launcher_id} ended: {reason}. {planner.started_count} runs started,"
        f" {planner.ended_count} jobs ended, {client.now() - started:.1f} s"
    )
    if planner.failed_count:
        say(f"{planner.failed_count} of these jobs failed; `balsam why --state FAILED` says why")
    left = client.outlook(launcher_id, options.lease)
    if left.unfit:
        say(f"{left.unfit} jobs need more than this launcher has; they wait for a larger one")
    if left.too_long:
        say(f"{left.too_long} jobs need more time than was left; they wait for a longer launcher")
    if left.to_stage:
        say(f"{left.to_stage} jobs wait for their files to be moved; see `balsam why --all`")
    if left.delayed:
        say(f"{left.delayed} jobs wait for their retry (retry_at); a later launcher runs them")
    return reason
