"""One table of MPI start commands.

Sources: mpirun(1) of Open MPI 4.1 and 5.0; mpiexec of MPICH 4.0 and 5.0 (Hydra) and of Intel MPI
2021; srun(1) of Slurm 22.05; jsrun(1) of IBM JSM 10.4 and OLCF's guide to Summit; aprun(1) of
ALPS 6; ALCF's guides to mpiexec of PALS on Polaris and Aurora; flux-run(1) of flux-core 0.60. Run
against: Open MPI 4.1.4 and 5.0.11, MPICH 4.0.2 and 5.0.2, srun 22.05. The others are as
documented.

Several MPI jobs may share a node: none of them binds its ranks to what it takes for the first
cores, but to the CPUs that it was granted, or to none.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

from balsam.model.app import split_words
from balsam.mpi.start import DEVICES, Start, for_each_rank


class MpiCommand(NamedTuple):
    """One way to start MPI programs."""

    name: str
    programs: tuple[str, ...]  #: the first of these in PATH that belongs to it is used
    words: Callable[[Start], list[str]]
    local_rank: str  #: in a rank: its number on its node, as arithmetic of the shell
    #: Variables for the start command itself; None: without it.
    environ: Callable[[Start], Mapping[str, str | None]] = lambda start: {}
    binds: bool = True  #: it can bind each rank to CPUs that we name
    #: It gives ranks the GPUs it chooses itself, unless they are set anew in each rank.
    resets_devices: bool = False


def _openmpi(start: Start) -> list[str]:
    words = ["-n", str(start.ranks), "--map-by", f"ppr:{start.ranks_per_node}:node"]
    words += ["--oversubscribe", "--bind-to", "none"]
    hosts = start.hosts or (("localhost",) if start.in_allocation else ())
    if hosts:
        words += ["--host", ",".join(f"{host}:{start.ranks_per_node}" for host in hosts)]
    if os.geteuid() == 0:
        words.append("--allow-run-as-root")
    for name in start.environ:
        words += ["-x", name]
    return words


def _openmpi_environ(start: Start) -> Mapping[str, str | None]:
    """Return what Open MPI 4 and 5 each take of it: they have other options for their daemons."""
    if len(start.hosts) < 2:
        return {}
    if start.in_allocation:
        # Hosts in our order: Open MPI 4 confuses them when it runs on another than Slurm's first.
        return {**_SRUN_ENVIRON, "OMPI_MCA_ras": "^slurm"}
    agent = shlex.join(start.ssh)
    return {"OMPI_MCA_plm_rsh_agent": agent, "PRTE_MCA_plm_ssh_agent": agent}


#: For MPIs that start their daemons by srun: beside other steps, with all that the job has.
_SRUN_ENVIRON: dict[str, str | None] = {
    "SLURM_MEM_PER_CPU": None,
    "SLURM_MEM_PER_GPU": None,
    "SLURM_MEM_PER_NODE": "0",
    "SLURM_OVERLAP": "1",
}


def _hydra(start: Start) -> list[str]:
    words = ["-n", str(start.ranks), "-ppn", str(start.ranks_per_node), "-genvall"]
    if len(start.hosts) < 2:
        # Else it would ask the batch system, and could start on another node of the allocation.
        return [*words, "-launcher", "fork", "-hosts", *(start.hosts or ("localhost",))]
    words += ["-hosts", ",".join(start.hosts)]
    if not start.in_allocation:
        words += ["-launcher", "ssh", "-launcher-exec", shutil.which(start.ssh[0]) or start.ssh[0]]
    return words


def _hydra_environ(start: Start) -> Mapping[str, str | None]:
    if len(start.hosts) < 2:
        return {}
    if start.in_allocation:
        return _SRUN_ENVIRON
    # Hydra splits this at spaces, whatever quotes there are.
    options = " ".join(start.ssh[1:])
    return {"HYDRA_LAUNCHER_EXTRA_ARGS": options} if options else {}


def _mpich(start: Start) -> list[str]:
    bound = ",".join(text.replace(",", "+") for text in start.cpu_lists())
    return [*_hydra(start), "-bind-to", f"user:{bound}" if bound else "none"]


def _intel(start: Start) -> list[str]:
    masks = [mask.removeprefix("0x") for mask in start.masks()]
    pin = ["I_MPI_PIN_DOMAIN", f"[{','.join(masks)}]"] if masks else ["I_MPI_PIN", "0"]
    return [*_hydra(start), "-genv", *pin]


def _srun(start: Start) -> list[str]:
    # Not --exact, nor what implies it (--cpus-per-task): Slurm would choose the cores, and those
    # that we granted need not be among them. Steps overlap, since it is we who keep them apart.
    masks = ",".join(start.masks())
    return [
        f"--nodes={start.nodes}",
        f"--ntasks={start.ranks}",
        f"--ntasks-per-node={start.ranks_per_node}",
        *([f"--nodelist={','.join(start.hosts)}"] if start.hosts else []),
        *("--overlap", "--mem=0", "--export=ALL", "--kill-on-bad-exit=1"),
        f"--cpu-bind=mask_cpu:{masks}" if masks else "--cpu-bind=none",
    ]


def _jsrun(start: Start) -> list[str]:
    # It chooses hosts, cores and GPUs itself, for all its steps in the allocation.
    share, ranks = start.gpus_per_rank, start.ranks_per_node
    most = int(1 / share) if 0 < share < 1 else 1
    together = max(n for n in range(1, most + 1) if ranks % n == 0)
    cores = start.cores_per_rank
    words = ["--nrs", str(start.ranks // together), "--rs_per_host", str(ranks // together)]
    words += ["--tasks_per_rs", str(together), "--cpu_per_rs", str(together * cores)]
    words += ["--gpu_per_rs", str(-(-share * together // 1)).partition(".")[0]]
    words += ["--bind", "none" if start.cpu_affinity == "none" else f"packed:{cores}"]
    for name in start.environ:
        if name not in DEVICES:
            words += ["-E", name]
    return words


def _aprun(start: Start) -> list[str]:
    words = ["-n", str(start.ranks), "-N", str(start.ranks_per_node)]
    words += ["-d", str(start.threads_per_rank), "-j", str(start.threads_per_core)]
    words += ["-cc", ":".join(start.cpu_lists()) or "none"]
    if start.hosts:
        numbers = [host.removeprefix("nid").lstrip("0") or "0" for host in start.hosts]
        words += ["-L", ",".join(numbers)]
    return words


def _pals(start: Start) -> list[str]:
    words = ["-n", str(start.ranks), "--ppn", str(start.ranks_per_node), "--envall"]
    if start.hosts:
        words += ["--hosts", ",".join(start.hosts)]
    bound = ":".join(start.cpu_lists())
    return [*words, "--cpu-bind", f"list:{bound}" if bound else "none"]


def _flux(start: Start) -> list[str]:
    bound = ";".join(start.cpu_lists())
    return [
        "run",
        *(f"--ntasks={start.ranks}", f"--nodes={start.nodes}"),
        f"--cores-per-task={start.cores_per_rank}",
        *([f"--requires=host:{','.join(start.hosts)}"] if start.hosts else []),
        *("-o", f"cpu-affinity=map:{bound}" if bound else "cpu-affinity=off"),
        *("-o", "gpu-affinity=off"),
    ]


TABLE: dict[str, MpiCommand] = {
    command.name: command
    for command in (
        MpiCommand(
            "openmpi",
            ("mpiexec", "mpirun", "mpirun.openmpi"),
            _openmpi,
            "OMPI_COMM_WORLD_LOCAL_RANK",
            _openmpi_environ,
            binds=False,
        ),
        MpiCommand(
            "mpich",
            ("mpiexec", "mpirun", "mpiexec.hydra", "mpirun.mpich"),
            _mpich,
            "MPI_LOCALRANKID",
            _hydra_environ,
        ),
        MpiCommand(
            "intel", ("mpiexec", "mpiexec.hydra"), _intel, "MPI_LOCALRANKID", _hydra_environ
        ),
        MpiCommand("srun", ("srun",), _srun, "SLURM_LOCALID", resets_devices=True),
        MpiCommand("jsrun", ("jsrun",), _jsrun, "JSM_NAMESPACE_LOCAL_RANK"),
        MpiCommand("aprun", ("aprun",), _aprun, "ALPS_APP_PE % {ranks_per_node}"),
        MpiCommand("pals", ("mpiexec",), _pals, "PALS_LOCAL_RANKID"),
        MpiCommand("flux", ("flux",), _flux, "FLUX_TASK_LOCAL_ID"),
    )
}


def command_line(command: MpiCommand, program: str, start: Start, argv: list[str]) -> list[str]:
    """Return the words that start *argv* as *start* says.

    Raises
    ------
    InvalidInput
        Its flags cannot be split into words.
    """
    given: list[str] = []
    for name, value in command.environ(start).items():
        given += ["-u", name] if value is None else [f"{name}={value}"]
    each: list[str] = []
    if command.name != "jsrun":
        local_rank = command.local_rank.format(ranks_per_node=start.ranks_per_node)
        each = for_each_rank(start, local_rank, bind=not command.binds, show=command.resets_devices)
    return [
        *(["/usr/bin/env", *given] if given else []),
        program,
        *command.words(start),
        *split_words(start.flags),
        *each,
        *argv,
    ]
