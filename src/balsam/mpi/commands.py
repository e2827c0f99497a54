"""One table of MPI start commands.

Sources: mpirun(1) of Open MPI 4.1 and 5.0, mpiexec of MPICH 4 (Hydra), srun(1) of Slurm 22.05.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import NamedTuple

from balsam.errors import CannotStart, InvalidInput, nearest
from balsam.model.app import split_words


class Start(NamedTuple):
    """What one start of a parallel program needs to be told."""

    ranks: int
    ranks_per_node: int
    threads_per_rank: int
    flags: str  #: the user's own words
    environ: Mapping[str, str]  #: to be forwarded to every rank


class MpiCommand(NamedTuple):
    """One way to start MPI programs."""

    name: str
    programs: tuple[str, ...]  #: the first of these in PATH is used
    words: Callable[[Start], list[str]]


def _openmpi(start: Start) -> list[str]:
    words = [
        "-n",
        str(start.ranks),
        "--map-by",
        f"ppr:{start.ranks_per_node}:node",
        "--oversubscribe",
    ]
    if os.geteuid() == 0:
        words.append("--allow-run-as-root")
    for name in start.environ:
        words += ["-x", name]
    return words


def _mpich(start: Start) -> list[str]:
    return ["-n", str(start.ranks), "-ppn", str(start.ranks_per_node)]


def _srun(start: Start) -> list[str]:
    return [
        "-n",
        str(start.ranks),
        f"--ntasks-per-node={start.ranks_per_node}",
        f"--cpus-per-task={start.threads_per_rank}",
        "--exact",
    ]


TABLE: dict[str, MpiCommand] = {
    command.name: command
    for command in (
        MpiCommand("openmpi", ("mpirun.openmpi", "mpirun", "mpiexec"), _openmpi),
        MpiCommand("mpich", ("mpirun.mpich", "mpiexec.hydra", "mpiexec", "mpirun"), _mpich),
        MpiCommand("srun", ("srun",), _srun),
    )
}


def check_name(name: str) -> None:
    """Raise `InvalidInput` unless *name* is 'auto' or in the table."""
    if name != "auto" and name not in TABLE:
        known = ["auto", *TABLE]
        raise InvalidInput(
            f"there is no MPI command {name!r}; known are {', '.join(known)}.{nearest(name, known)}"
        )


def find(name: str, path: str | None = None) -> tuple[MpiCommand, str]:
    """Return the start command *name* ('auto': the one of this machine) and its program.

    Raises
    ------
    InvalidInput
        There is no such command in the table.
    CannotStart
        None of its programs is in PATH.
    """
    check_name(name)
    if name != "auto":
        command = TABLE[name]
        for word in command.programs:
            program = shutil.which(word, path=path)
            if program:
                return command, program
        raise CannotStart(f"MPI command {name!r}: none of {', '.join(command.programs)} is in PATH")
    for word in ("mpiexec", "mpirun"):
        program = shutil.which(word, path=path)
        if program:
            return TABLE[_kind_of(program)], program
    raise CannotStart(
        "the job needs an MPI start command, and neither mpiexec nor mpirun is in PATH"
    )


def _kind_of(program: str) -> str:
    """Ask an `mpiexec` which MPI it belongs to."""
    answer = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    text = answer.stdout + answer.stderr
    return (
        "openmpi" if "Open MPI" in text or "OpenRTE" in text or "prte" in text.lower() else "mpich"
    )


def command_line(command: MpiCommand, program: str, start: Start, argv: list[str]) -> list[str]:
    """Return the words that start *argv* as *start* says."""
    return [program, *command.words(start), *split_words(start.flags), *argv]
