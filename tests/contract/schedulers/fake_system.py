"""A system whose commands are fakes."""

from __future__ import annotations

import os
import shlex
import sys
from importlib import import_module
from pathlib import Path

from balsam.schedulers.find import named
from tests.contract.schedulers import world
from tests.contract.schedulers.system import Fate, Fault

ROOT = Path(__file__).parents[3]
_PROGRAM = """#!/bin/sh
PYTHONPATH={root} exec {python} -S -c '
import sys
from tests.contract.schedulers.world import main
sys.exit(main(*sys.argv[1:4], sys.argv[4:]))' {module} {world} {command} "$@"
"""


class FakeSystem:
    """The fake `fakes/NAME.py`, with its commands and its world in *path*.

    A fake may have REFUSAL (what it says of the queue 'nope') and SHORT, as `System` has them.
    """

    def __init__(self, name: str, path: Path) -> None:
        module = import_module(f"tests.contract.schedulers.fakes.{name}")
        self.name = name
        self.scheduler = named(name)
        self.num_nodes = 2
        self.cores_per_node = world.CORES
        self.patience = 10.0
        self.queue = world.QUEUES[0].name
        self.max_minutes = world.QUEUES[0].max_minutes
        self.refusal: str = module.REFUSAL
        self.short: tuple[str, ...] = ()
        #: Seconds to which its times are exact.
        self.precision: float = getattr(module, "PRECISION", 1.0)
        #: Whether its queues tell how many cores a node has.
        self.tells_cores: bool = getattr(module, "TELLS_CORES", True)
        self._number = getattr(module, "number", number)
        self._world = path / "world.json"
        commands = path / "bin"
        commands.mkdir(parents=True)
        for command in module.COMMANDS:
            words = {"python": sys.executable, "module": module.__name__, "command": command}
            words |= {"root": str(ROOT), "world": str(self._world)}
            file = commands / command
            file.write_text(_PROGRAM.format_map({k: shlex.quote(v) for k, v in words.items()}))
            file.chmod(0o755)
        #: Only its own commands: what is on this machine is not seen.
        self.environ = {**os.environ, "PATH": str(commands)}

    def fill(self) -> None:
        with world.opened(self._world) as state:
            state.is_full = True

    def clear(self) -> None:
        self._world.unlink(missing_ok=True)

    def start(self, scheduler_id: str) -> None:
        with world.opened(self._world) as state:
            state.start(self._number(scheduler_id))

    def end(self, scheduler_id: str, script: str, fate: Fate) -> None:
        """Write, too, what the script would have written."""
        with world.opened(self._world) as state:
            state.end(self._number(scheduler_id), fate)
            request = state.get(self._number(scheduler_id))
        if request and request.output:
            Path(request.output).write_text(f"in {request.directory}\n")

    def fault(self, fault: Fault | None, only_submission: bool = False) -> None:
        with world.opened(self._world) as state:
            state.fault, state.only_submission = fault or "", only_submission

    def forget(self, scheduler_id: str) -> None:
        with world.opened(self._world) as state:
            state.forget(self._number(scheduler_id))


def number(scheduler_id: str) -> int:
    """Return the world's number of an id: its digits. Fakes with other ids have a `number`."""
    return int(
        "".join(character for character in scheduler_id.split(".")[0] if character.isdigit())
    )
