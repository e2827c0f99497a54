"""All systems of the suite, by name: each a context manager over a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.contract.schedulers.fake_system import FakeSystem
from tests.contract.schedulers.local_system import local_system
from tests.contract.schedulers.sge_system import sge_system
from tests.contract.schedulers.slurm_system import slurm_system
from tests.contract.schedulers.system import System


def fake(name: str) -> Callable[[Path], AbstractContextManager[System]]:
    @contextmanager
    def opened(path: Path) -> Iterator[System]:
        yield FakeSystem(name, path)

    return opened


#: Those that only print: a file of `fakes/` each.
FAKES = {name: fake(name) for name in ("slurm", "sge", "flux", "pbs", "lsf", "cobalt")}
#: Those that run what is submitted to them.
REAL: dict[str, Callable[[Path], AbstractContextManager[System]]] = {
    "local": local_system,
    "real-slurm": slurm_system,
    "real-sge": sge_system,
}
