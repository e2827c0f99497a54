"""Which batch system is here, where several have commands of the same names."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsam.errors import SchedulerAway
from balsam.schedulers.command import Command
from balsam.schedulers.find import find, known, named
from tests.contract.schedulers.desk import COMMAND_SECONDS
from tests.contract.schedulers.system import Faulty, System
from tests.contract.schedulers.systems import FAKES


def test_the_one_that_is_here_is_found(system: System) -> None:
    assert find("auto", Command(COMMAND_SECONDS, system.environ)).name == system.name


@pytest.mark.parametrize("name", known())
def test_only_the_one_that_is_here_says_so(faulty: Faulty, name: str) -> None:
    run = Command(COMMAND_SECONDS, faulty.environ)
    assert named(name).is_here(run) == (name in (faulty.name, "local"))


@pytest.mark.parametrize("command", ["sbatch", "flux", "bsub", "qstat"])
def test_what_does_not_answer_is_no_reason_to_take_another(tmp_path: Path, command: str) -> None:
    """Else a busy login node would be taken for a laptop, and run the jobs itself."""
    for name in (command, "bjobs", "lsid") if command == "bsub" else (command,):
        (tmp_path / name).write_text("#!/bin/sh\nexec /bin/sleep 1000\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(SchedulerAway, match=r"did not end within 0\.2 s.*scheduler\.name"):
        find("auto", Command(0.2, {"PATH": str(tmp_path)}))


@pytest.mark.parametrize("name", FAKES)
def test_where_there_are_no_commands_it_is_this_machine(tmp_path: Path, name: str) -> None:
    run = Command(COMMAND_SECONDS, {"PATH": str(tmp_path)})
    assert not named(name).is_here(run)
    assert find("auto", run).name == "local"
