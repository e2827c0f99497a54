"""The LAMMPS example: its README as written, and its numbers against runs without Balsam."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from math import pi
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from tests.acceptance.conftest import clean_environ, runner
from tests.mpis import missing

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "lammps"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: The campaign of the README, made smaller: what is changed in its commands.
SMALLER = {
    "fill.py --site melt": "fill.py --site melt --temperatures 1,2 --seeds 1"
    " --settle 1000 --steps 3000",
    "balsam logs --site melt 26": "balsam logs --site melt 7",
    "-var seed 1\n": "-var seed 1 -var settle 1000 -var steps 3000\n",
}
#: One line of thermodynamic output: step, temperature, energy, pressure.
THERMO = re.compile(r"^ +(\d+)((?: +-?\d+(?:\.\d+)?){3}) *$", re.MULTILINE)
DENSITY, CUTOFF = 0.8442, 3.0

pytestmark = pytest.mark.slow


class Example(NamedTuple):
    """The example, run to its end."""

    directory: Path  #: where the commands were given
    environ: dict[str, str]
    output: str

    def jobs(self) -> list[dict[str, Any]]:
        listed = runner(self.environ, self.directory)("ls", "--site", "melt", "--json")
        assert listed.returncode == 0, listed.stderr
        found: list[dict[str, Any]] = json.loads(listed.stdout)
        return found

    def job(self, name: str) -> dict[str, Any]:
        (found,) = (job for job in self.jobs() if job["name"] == name)
        return found

    def thermo(self, run: str) -> list[tuple[str, str]]:
        """Return what the job of *run* wrote, as text."""
        return thermo(Path(self.job(f"melt_{run}")["workdir"], f"{run}.log"))


def thermo(log: Path) -> list[tuple[str, str]]:
    rows = THERMO.findall(log.read_text())
    # From step 0 to 1000 and on to 4000, each tenth step; step 1000 ends one run and begins one.
    assert [int(step) for step, _ in rows] == [*range(0, 1001, 10), *range(1000, 4001, 10)]
    return rows


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    for program in ("lmp", "mpirun.openmpi"):
        if shutil.which(program) is None:
            missing(f"{program} is not in PATH (`apt-get install lammps` brings it)")
    directory = tmp_path_factory.mktemp("lammps")
    (directory / "examples").symlink_to(ROOT / "examples")
    commands = "".join(BLOCK.findall((EXAMPLE / "README.md").read_text()))
    for written, smaller in SMALLER.items():
        assert written in commands
        commands = commands.replace(written, smaller)
    environ = {
        **clean_environ(directory / "home"),
        # Whoever runs the tests, on however few cores: the README's own mpirun must start.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    done = subprocess.run(
        ["bash", "-c", f"set -eu -o pipefail\n{commands}"],
        cwd=directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return Example(directory, environ, done.stdout)


def test_every_command_of_the_readme_works(example: Example) -> None:
    assert "7 jobs in " in example.output
    assert re.search(r"JOB_FINISHED +7\n", example.output)
    assert "libmpi.so.40" in example.output
    assert example.output.splitlines()[-1] == "same"
    # Of the two points, one has a pressure above 2.
    assert "reduce_T2.00" in example.output
    assert "reduce_T1.00" not in example.output


@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_alone_gives_the_same_numbers(example: Example, ranks: int, tmp_path: Path) -> None:
    start = ["mpirun.openmpi", "-n", str(ranks)] if ranks > 1 else []
    words = [*start, "lmp", "-in", str(EXAMPLE / "in.melt"), "-log", "alone.log"]
    for variable in ("temperature 2.00", "density 0.8442", "seed 1", "settle 1000", "steps 3000"):
        words += ["-var", *variable.split()]
    subprocess.run(words, env=example.environ, cwd=tmp_path, check=True, capture_output=True)
    assert example.thermo(f"T2.00_r{ranks}_s1") == thermo(tmp_path / "alone.log")


def test_the_ranks_of_a_job_shared_one_simulation(example: Example) -> None:
    for ranks in (1, 2):
        run = f"T1.00_r{ranks}_s1"
        job = example.job(f"melt_{run}")
        text = Path(job["workdir"], f"{run}.log").read_text()
        assert job["ranks_per_node"] == ranks
        assert f"  1 by 1 by {ranks} MPI processor grid" in text
        assert text.count("Created 500 atoms") == 1


def test_the_first_energy_is_that_of_the_crystal(example: Example) -> None:
    for temperature, ranks in product(("1.00", "2.00"), (1, 2)):
        step, numbers = example.thermo(f"T{temperature}_r{ranks}_s1")[0]
        found_temperature, energy, _ = map(float, numbers.split())
        assert step == "0"
        assert found_temperature == pytest.approx(2 * float(temperature), rel=1e-11)
        expected = crystal_energy(DENSITY, CUTOFF) + energy_beyond(DENSITY, CUTOFF)
        assert energy == pytest.approx(expected, rel=1e-11)


def test_rank_counts_agree_and_the_points_are_their_averages(example: Example) -> None:
    for temperature in ("1.00", "2.00"):
        point = example.job(f"reduce_T{temperature}")["data"]
        assert point["disagreements"] == []
        assert (point["runs"], point["ranks"]) == (2, [1, 2])
        runs = [example.thermo(f"T{temperature}_r{ranks}_s1") for ranks in (1, 2)]
        assert runs[0][:20] != runs[0][-20:]
        for column, name in ((1, "energy"), (2, "pressure")):
            means = [mean(rows, column) for rows in runs]
            assert means[0] != means[1]  # two trajectories, once round-off has grown
            assert point[name] == pytest.approx(sum(means) / 2, rel=1e-9)
            assert 0 < point[f"{name}_error"] < 0.1


def test_the_plot_has_all_points_on_the_curve(example: Example) -> None:
    job = example.job("plot")
    assert job["data"]["off"] == []
    picture = ElementTree.parse(Path(job["workdir"], "equation_of_state.svg"))
    titles = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}title")]
    points = [example.job(f"reduce_T{t}")["data"] for t in ("1.00", "2.00")]
    assert titles == [
        f"T = {point['temperature']:g}: {point[name]:.4f} ± {point[f'{name}_error']:.4f}"
        for name in ("pressure", "energy")
        for point in points
    ]


def test_ranks_of_another_mpi_are_noticed(example: Example) -> None:
    """Started by MPICH, each rank of a program with Open MPI takes itself for the only one."""
    if shutil.which("mpirun.mpich") is None:
        missing("mpirun.mpich is not in PATH (`apt-get install mpich` brings it)")
    balsam = runner(example.environ, example.directory)
    assert balsam("init", "wrong").returncode == 0
    (example.directory / "wrong" / "balsam.toml").write_text('[mpi]\ncommand = "mpich"\n')
    few = ["--temperatures", "1", "--seeds", "1", "--settle", "200", "--steps", "200"]
    fill = [sys.executable, str(EXAMPLE / "fill.py"), "--site", "wrong", *few]
    subprocess.run(fill, env=example.environ, cwd=example.directory, check=True)
    assert balsam("launcher", "--site", "wrong", "--consume-all").returncode == 0
    states = json.loads(balsam("ls", "--site", "wrong", "--by-states", "--json").stdout)
    assert states == {"JOB_FINISHED": 2, "FAILED": 2}
    told = balsam("logs", "--site", "wrong", "3").stdout
    assert "seed 1: the log is of 1 ranks, not 2; is the site's mpi.command" in told


def mean(rows: Sequence[tuple[str, str]], column: int) -> float:
    """Return the mean over the production steps, those after the second step 1000."""
    production = [float(numbers.split()[column]) for _, numbers in rows[102:]]
    assert len(production) == 300
    return sum(production) / len(production)


def crystal_energy(density: float, cutoff: float) -> float:
    """Return the energy per atom of a perfect fcc crystal: half the sum over all neighbours."""
    edge = (4 / density) ** (1 / 3)
    reach = range(-9, 10)
    total = 0.0
    for x, y, z in product(reach, repeat=3):
        # In units of half the edge, fcc sites are those with an even sum of coordinates.
        if (x + y + z) % 2 == 0 and (x, y, z) != (0, 0, 0):
            square = (x * x + y * y + z * z) * (edge / 2) ** 2
            if square < cutoff**2:
                total += 4 * (square**-6 - square**-3)
    return total / 2


def energy_beyond(density: float, cutoff: float) -> float:
    """Return what atoms beyond the cutoff add if they are spread evenly (`pair_modify tail`)."""
    return 8 * pi / 3 * density * (cutoff**-9 / 3 - cutoff**-3)


def test_the_crystal_is_that_of_lammps_s_own_benchmark() -> None:
    """Its logs (bench/log.*.lj.*, cutoff 2.5) begin with E_pair = -6.7733681."""
    assert crystal_energy(DENSITY, 2.5) == pytest.approx(-6.7733681, abs=5e-8)
