"""Which MPI start commands are on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from balsam.errors import CannotStart, InvalidInput, nearest
from balsam.mpi.commands import TABLE, MpiCommand

#: How long a start command may take to tell its version.
VERSION_SECONDS = 30.0
#: Start commands of batch systems, and the variable that tells of their allocation: outside of
#: one they would ask for nodes of their own, and wait for them.
_OF_ALLOCATION = {
    "srun": ("SLURM_JOB_ID",),
    "jsrun": ("LSB_JOBID",),
    "aprun": ("COBALT_JOBID", "PBS_JOBID"),
    "flux": ("FLUX_URI", "FLUX_JOB_ID"),
}
#: What tells which MPI a program belongs to, in what it says of its version.
_SIGNS = {
    "Open MPI": "openmpi",
    "OpenRTE": "openmpi",
    "PRRTE": "openmpi",
    "prterun": "openmpi",
    "Intel(R) MPI": "intel",
    "HYDRA": "mpich",
    "PALS": "pals",
}


class Found(NamedTuple):
    """One MPI start command of this machine."""

    command: MpiCommand
    program: str
    version: str  #: as it tells it; '' when it tells none


def check_name(name: str) -> None:
    """Raise `InvalidInput` unless *name* is 'auto', in the table, or a program."""
    if name in ("auto", *TABLE) or shutil.which(os.path.expanduser(name)):
        return
    known = ["auto", *TABLE]
    raise InvalidInput(
        f"there is no MPI command {name!r}; known are {', '.join(known)}, or give the path of a"
        f" program.{nearest(name, known)}"
    )


def find(
    name: str, path: str | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[MpiCommand, str]:
    """Return the start command *name* ('auto': the one of this machine) and its program.

    *name* can be a program, too, or its path.

    'auto' takes the first `mpiexec` or `mpirun` in *path*, since the user's environment leads to
    that of the MPI that programs were built with; else the batch system's own.

    Raises
    ------
    InvalidInput
        There is no such command in the table.
    CannotStart
        None of its programs is in PATH, or which MPI it belongs to cannot be told.
    """
    check_name(name)
    if name in TABLE:
        return TABLE[name], _program_of(TABLE[name], path)
    if name != "auto":
        named = shutil.which(os.path.expanduser(name), path=path) or name
        return TABLE[_kind_of(named)], named
    for word in ("mpiexec", "mpirun"):
        program = shutil.which(word, path=path)
        if program:
            return TABLE[_kind_of(program)], program
    for word, variables in _OF_ALLOCATION.items():
        program = shutil.which(word, path=path)
        if program and any(environ.get(variable) for variable in variables):
            return TABLE[word], program
    raise CannotStart(
        "the job needs an MPI start command, and neither mpiexec nor mpirun is in PATH"
    )


def _program_of(command: MpiCommand, path: str | None) -> str:
    """Return the first program that says it is of *command*, else the first that says nothing.

    First by the order of directories in *path*: what the user loaded goes before the system's.
    """
    unknown, others = "", ""
    for directory in (path or os.environ.get("PATH", os.defpath)).split(os.pathsep):
        for word in command.programs:
            program = shutil.which(word, path=directory) if directory else None
            if program is None:
                continue
            # Names such as srun are one's own; of an mpiexec, many have one of theirs.
            kind = command.name if word == command.name else _kind(program, _version_text(program))
            if kind == command.name:
                return program
            if kind:
                others += f"; {program} is of {kind}"
            else:
                unknown = unknown or program
    if unknown:
        return unknown
    programs = ", ".join(command.programs)
    raise CannotStart(f"MPI command {command.name!r}: none of {programs} is in PATH{others}")


def find_all(path: str | None = None) -> list[Found]:
    """Return all start commands in *path*, each program once; what `find` takes comes first."""
    found: list[Found] = []
    seen: set[str] = set()
    words = dict.fromkeys(["mpiexec", "mpirun"])
    words |= dict.fromkeys(word for command in TABLE.values() for word in command.programs)
    for word in words:
        program = shutil.which(word, path=path)
        if not program or os.path.realpath(program) in seen:
            continue
        seen.add(os.path.realpath(program))
        text = _version_text(program)
        kind = word if word in TABLE else _kind(program, text)
        if kind:
            found.append(Found(TABLE[kind], program, _version(text)))
    return found


def _kind_of(program: str) -> str:
    """Ask an `mpiexec` which MPI it belongs to."""
    text = _version_text(program)
    kind = _kind(program, text)
    if not kind:
        said = " ".join(text.split())[:80]
        known = ", ".join(TABLE)
        raise CannotStart(
            f"cannot tell to which MPI {program} belongs (its --version says {said!r}); set"
            f" mpi.command to one of {known}"
        )
    return kind


def _kind(program: str, text: str) -> str:
    for sign, kind in _SIGNS.items():
        if sign in text:
            return kind
    # That of PALS says only 'mpiexec version 1.2'; it is in /opt/cray/pals.
    return "pals" if "/pals/" in os.path.realpath(program) else ""


def _version_text(program: str) -> str:
    try:
        answer = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr


def _version(text: str) -> str:
    """Return the first word that is a version in *text*."""
    for word in text.replace(",", " ").split():
        number = word.lstrip("v")
        if number[:1].isdigit() and "." in number:
            return number
    return ""
