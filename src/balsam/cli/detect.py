"""`balsam site detect`: what this machine, and this allocation, offer."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from balsam import config, settings_file
from balsam.cli.context import site_or_none
from balsam.cli.output import print_json, table
from balsam.errors import BalsamError, SchedulerAway
from balsam.model.resources import NodeResources
from balsam.nodes.discover import Allocation
from balsam.nodes.profile import Profile
from balsam.schedulers.command import Command
from balsam.schedulers.find import find as find_scheduler
from balsam.schedulers.scheduler import Queue, Run, Scheduler

T = TypeVar("T")


class Mpi(msgspec.Struct, frozen=True):
    """One MPI start command that is there."""

    name: str
    program: str
    version: str
    used: bool


class Detected(msgspec.Struct, frozen=True):
    """All that was found; what could not be told is None, with the reason among the problems."""

    allocation: Allocation | None
    profile: Profile | None
    workers: str | None  #: what would start them
    mpi: list[Mpi]
    node: NodeResources | None
    scheduler: str | None  #: the batch system
    queues: list[Queue]
    scheduler_trouble: str  #: why it does not tell its queues now, '' when it does
    problems: list[str]


def add_commands(subparsers: Any) -> None:
    """Add `site`, with `detect`."""
    site = subparsers.add_parser(
        "site",
        help="find out what a machine offers",
        description="Find out what this machine offers to a site's launchers.",
        epilog="example:\n  balsam site detect",
    )
    verbs = site.add_subparsers(title="verbs", metavar="VERB", required=True)
    detect = verbs.add_parser(
        "detect",
        help="show hosts, cores, GPUs, MPI, the profile and the batch system that are here",
        description="Show what a launcher would find if it started here: the hosts of the"
        " allocation, what starts workers on them, the MPI start commands, the hardware of this"
        " host, and the profile of the machine; and the batch system with its queues. Settings"
        " count as they are.",
        epilog="example:\n  balsam site detect --save\n\n"
        "On a login node it shows the login node: ask in an allocation, too.",
    )
    detect.add_argument("--json", action="store_true", help="print JSON")
    detect.add_argument(
        "--save",
        action="store_true",
        help="write the profile, the MPI start command and the batch system, and in an allocation"
        " what starts workers, into the site's balsam.toml",
    )
    detect.set_defaults(run=run_detect)


def run_detect(args: argparse.Namespace) -> int:
    """Print what there is, and save it when asked to; 1 when something could not be told."""
    site = config.find_site(args.site) if args.save else site_or_none(args)
    settings = config.load(site)
    found = detect(settings)
    saved = _save(site, settings, _worth_saving(found)) if args.save and site else {}
    if args.json:
        print_json({**msgspec.to_builtins(found), "saved": saved})
    else:
        print(table(("", "found"), _rows(found)))
        for problem in found.problems:
            print(f"problem: {problem}")
        for key, value in saved.items():
            print(f"set {key} = {value!r} in {site}/{config.SETTINGS_FILE}")
        if args.save and not saved:
            print(f"nothing to change in {site}/{config.SETTINGS_FILE}")
    return 1 if found.problems else 0


def detect(settings: config.Settings) -> Detected:
    """Find out what a launcher with *settings* would use here."""
    from balsam.launcher.starters import choose as choose_starter
    from balsam.mpi.find import find as find_mpi
    from balsam.mpi.find import find_all
    from balsam.nodes import profile as profiles
    from balsam.nodes.discover import discover
    from balsam.nodes.hardware import this_node

    problems: list[str] = []

    def tell(find: Callable[[], T]) -> T | None:
        try:
            return find()
        except BalsamError as error:
            problems.append(str(error))
            return None

    nodes, host = settings.nodes, socket.gethostname()
    profile = tell(lambda: profiles.choose(nodes.profile, os.environ, host))
    apart = profile.batch_host_apart if profile else False
    allocation = tell(lambda: discover(os.environ, batch_host_apart=apart))
    start = nodes.start if nodes.start != "auto" or not profile else profile.start
    starter = allocation and tell(
        lambda: choose_starter(start, allocation.source, allocation.hosts)
    )
    there = find_all()
    wanted = settings.mpi.command
    if wanted == "auto" and profile:
        wanted = profile.mpi
    used = tell(lambda: find_mpi(wanted)[1]) if there or wanted != "auto" else None
    node = tell(
        lambda: this_node(
            cores=nodes.cores, gpus=nodes.gpus, memory_mib=nodes.memory_mib, profile=profile
        )
    )
    run = Command(settings.scheduler.timeout_seconds)
    scheduler = tell(lambda: find_scheduler(settings.scheduler.name, run))
    queues, trouble = (scheduler and tell(lambda: _queues(scheduler, run))) or ([], "")
    return Detected(
        allocation=allocation,
        profile=profile,
        workers=" ".join(filter(None, (starter.name, starter.program))) if starter else None,
        mpi=[
            Mpi(each.command.name, each.program, each.version, each.program == used)
            for each in there
        ],
        node=node,
        scheduler=scheduler.name if scheduler else None,
        queues=queues,
        scheduler_trouble=trouble,
        problems=problems,
    )


def _queues(scheduler: Scheduler, run: Run) -> tuple[list[Queue], str]:
    """Return the queues of a batch system, and why it does not tell them now."""
    try:
        return scheduler.queues(run), ""
    except SchedulerAway as error:  # that it is there was found out; the user made no mistake
        return [], str(error)


def _rows(found: Detected) -> list[tuple[str, str]]:
    from balsam.nodes.hostlist import compress

    rows = []
    if found.allocation:
        count = len(found.allocation.hosts)
        where = f"{count} host{'s' * (count > 1)}: {compress(found.allocation.hosts)}"
        rows.append(("allocation", f"{found.allocation.source}, {where}"))
    rows.append(("workers", found.workers or "?"))
    profile = found.profile
    rows.append(("profile", f"{profile.name}: {profile.description}" if profile else "none fits"))
    for mpi in found.mpi:
        mark = " (used)" if mpi.used else ""
        rows.append(("MPI", f"{mpi.name} {mpi.version or '?'}, {mpi.program}{mark}"))
    if not found.mpi:
        rows.append(("MPI", "none in PATH"))
    if found.node:
        rows += _hardware_rows(found.node)
    away = f" (it does not answer: {found.scheduler_trouble})" if found.scheduler_trouble else ""
    rows.append(("batch system", f"{found.scheduler or '?'}{away}"))
    return rows + [(f"queue {each.name}", _queue_words(each)) for each in found.queues]


def _queue_words(queue: Queue) -> str:
    parts = ["the default"] if queue.is_default else []
    if not queue.is_open:
        parts.append(f"not open ({queue.comment})" if queue.comment else "not open")
    if queue.max_nodes is not None:
        parts.append(f"up to {queue.max_nodes} node{'s' if queue.max_nodes != 1 else ''}")
    if queue.max_minutes is not None:
        parts.append(f"up to {queue.max_minutes:g} minutes")
    return ", ".join(parts) or "no limits are told"


def _hardware_rows(node: NodeResources) -> list[tuple[str, str]]:
    from balsam.model.cpus import cpu_text

    bound = "" if node.core_cpus else " (jobs are not bound to any)"
    rows = [
        ("host", node.host),
        ("cores", f"{node.cores}, with {node.threads} hardware threads{bound}"),
        ("memory", f"{node.memory_mib} MiB"),
        ("GPUs", f"{len(node.gpus)} {node.gpu_vendor}".strip()),
    ]
    for i, device in enumerate(node.gpus):
        cores = node.gpu_cores[i] if node.gpu_cores else ()
        near = cpu_text(sorted(cpu for core in cores for cpu in node.core_cpus[core]))
        rows.append((f"GPU {device}", f"nearest CPUs {near}" if near else "nearest CPUs not known"))
    return rows


def _worth_saving(found: Detected) -> dict[str, str]:
    """Return the settings that hold for all launchers of the site on this machine."""
    values: dict[str, str] = {}
    if found.profile:
        values["nodes.profile"] = found.profile.name
    if used := [mpi.name for mpi in found.mpi if mpi.used]:
        values["mpi.command"] = used[0]
    if found.scheduler and found.scheduler != "local":  # which is what is left when none is found
        values["scheduler.name"] = found.scheduler
    # Outside of an allocation workers are on this host only, which says nothing of others.
    if found.allocation and found.allocation.is_batch and found.workers:
        values["nodes.start"] = found.workers.partition(" ")[0]
    return values


def _save(site: Path, settings: config.Settings, values: dict[str, str]) -> dict[str, str]:
    """Write those of *values* that are not in force yet; return them."""
    tables = msgspec.to_builtins(settings)
    saved = {}
    for key, value in values.items():
        group, name = key.split(".")
        if tables[group][name] == "auto" and tables[group][name] != value:
            settings_file.change_setting(site, key, value)
            saved[key] = value
    return saved
