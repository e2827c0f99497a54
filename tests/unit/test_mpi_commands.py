"""The words that start parallel programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from balsam.errors import CannotStart, InvalidInput
from balsam.mpi import commands
from balsam.mpi.commands import TABLE, Start, command_line, find


def start(**fields: Any) -> Start:
    given: dict[str, Any] = {
        "ranks": 6,
        "ranks_per_node": 3,
        "threads_per_rank": 2,
        "flags": "",
        "environ": {},
    }
    return Start(**(given | fields))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpich", ["-n", "6", "-ppn", "3"]),
        ("srun", ["-n", "6", "--ntasks-per-node=3", "--cpus-per-task=2", "--exact"]),
    ],
)
def test_the_words_of_a_start(name: str, words: list[str]) -> None:
    line = command_line(TABLE[name], "/bin/it", start(environ={"A": "b"}), ["prog", "a  b"])
    assert line == ["/bin/it", *words, "prog", "a  b"]


def test_open_mpi_is_told_what_to_forward() -> None:
    """Fault L6: it starts remote ranks without the environment unless each name is given."""
    line = command_line(TABLE["openmpi"], "mpirun", start(environ={"A": "b c", "D": ""}), ["prog"])
    assert line[:6] == ["mpirun", "-n", "6", "--map-by", "ppr:3:node", "--oversubscribe"]
    assert line[-5:] == ["-x", "A", "-x", "D", "prog"]
    assert ("--allow-run-as-root" in line) is (os.geteuid() == 0)


def test_the_user_s_flags_come_last_before_the_program() -> None:
    line = command_line(TABLE["mpich"], "m", start(flags="-l  -wdir '/a b'"), ["prog"])
    assert line[5:] == ["-l", "-wdir", "/a b", "prog"]
    with pytest.raises(InvalidInput, match="cannot split"):
        command_line(TABLE["mpich"], "m", start(flags="'"), ["prog"])


# which one there is -----------------------------------------------------------------------


def program(directory: Path, name: str, version: str = "") -> str:
    """Put a program there that tells a *version*, as the real ones do."""
    directory.mkdir(exist_ok=True)
    file = directory / name
    file.write_text(f"#!/bin/sh\necho '{version}'\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("HYDRA build details:\n    Version:                                 4.0.2", "mpich"),
        ("mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/", "openmpi"),
        ("mpirun (Open MPI) 5.0.3", "openmpi"),
        ("prterun (PRRTE) 3.0.5", "openmpi"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11", "mpich"),
    ],
)
def test_the_kind_is_asked_of_the_program(tmp_path: Path, version: str, kind: str) -> None:
    path = program(tmp_path, "mpiexec", version)
    command, found = find("auto", str(tmp_path))
    assert (command.name, found) == (kind, path)


def test_a_named_command_is_found_by_its_names(tmp_path: Path) -> None:
    program(tmp_path, "mpiexec")
    special = program(tmp_path, "mpiexec.hydra")
    assert find("mpich", str(tmp_path)) == (TABLE["mpich"], special)
    with pytest.raises(CannotStart, match="'srun': none of srun is in PATH"):
        find("srun", str(tmp_path))


def test_there_may_be_none(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="neither mpiexec nor mpirun is in PATH"):
        find("auto", str(tmp_path))


def test_a_name_that_is_not_in_the_table_is_refused() -> None:
    for check in (commands.check_name, find):
        with pytest.raises(InvalidInput, match=r"no MPI command 'opnmpi'.*Did you mean 'openmpi'"):
            check("opnmpi")
    for name in ("auto", *TABLE):
        commands.check_name(name)
