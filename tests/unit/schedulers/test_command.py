"""Running commands of batch systems."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from balsam.errors import SchedulerAway
from balsam.schedulers.command import Command


@pytest.fixture
def program(tmp_path: Path) -> Path:
    def write(text: str) -> Path:
        file = tmp_path / "squeue"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return file

    return write(
        'echo "$# $1|$LC_ALL|$SLURM_TIME_FORMAT|$SQUEUE_FORMAT|$SQUEUE_STATES|$KEPT"\n'
        "cat\nprintf 'bad \\377\\n' >&2\nexit 3"
    )


def test_it_says_all_that_the_command_said(program: Path) -> None:
    environ = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "de_DE.UTF-8",
        "SLURM_TIME_FORMAT": "relative",
        "SQUEUE_FORMAT": "%i",
        "SQUEUE_STATES": "all",
        "KEPT": "yes",
    }
    answer = Command(30, environ)(["squeue", "a b; c"], stdin="in\n")
    assert answer.code == 3
    assert answer.out == "1 a b; c|C|%s|||yes\nin\n"
    assert answer.err == "bad �\n"
    assert answer.complaint == "bad �"
    assert answer.argv == ("squeue", "a b; c")


def test_a_command_that_says_nothing_has_its_code_told(program: Path) -> None:
    program.write_text("#!/bin/sh\nexit 4\n")
    answer = Command(30, {"PATH": str(program.parent)})(["squeue"])
    assert answer.complaint == "it ended with exit code 4 and said nothing"


def test_what_is_no_program_is_away(program: Path) -> None:
    run = Command(30, {"PATH": str(program.parent)})
    with pytest.raises(SchedulerAway, match=r"there is no program 'qstat' in PATH"):
        run(["qstat"])
    program.write_text("#!/nonexistent/shell\n")
    with pytest.raises(SchedulerAway, match=r"cannot run .*squeue: No such file"):
        run(["squeue"])


def test_what_takes_too_long_is_away_and_ends_with_all_it_started(program: Path) -> None:
    pid = program.parent / "pid"
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! >{pid}\nwait\n")
    run = Command(1, {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"})
    with pytest.raises(SchedulerAway, match=r"'squeue --me' did not end within 1 s"):
        run(["squeue", "--me"])
    child = int(pid.read_text())
    if psutil.pid_exists(child):
        _, left = psutil.wait_procs([psutil.Process(child)], timeout=10)
        assert all(each.status() == psutil.STATUS_ZOMBIE for each in left)
