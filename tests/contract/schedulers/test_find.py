"""Which batch system is here, where several have commands of the same names."""

from __future__ import annotations

from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", FAKES)
def test_where_there_are_no_commands_it_is_this_machine(tmp_path: Path, name: str) -> None:
    run = Command(COMMAND_SECONDS, {"PATH": str(tmp_path)})
    assert not named(name).is_here(run)
    assert find("auto", run).name == "local"
