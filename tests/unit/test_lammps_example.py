"""The analysis in the LAMMPS example: logs, averages, agreement, the equation of state."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from math import exp, isclose, pi, sqrt
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "lammps"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lammps_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


melt = load("melt")
equation_of_state = load("equation_of_state")


# logs ------------------------------------------------------------------------------------

LOG = """LAMMPS (29 Sep 2021 - Update 2)
thermo_style    custom step temp pe press
  1 by 2 by 2 MPI processor grid
Step Temp PotEng Press
       0            2 -7.22538067802 -5.31242876861
WARNING: Dangerous builds (src/somewhere.cpp:12)
      10 1.50742572431 -6.51335778996 -1.75316616122
Loop time of 0.5 on 4 procs for 10 steps with 500 atoms
   Step          Temp          PotEng         Press
        10   1.50742572431 -6.51335778996 -1.75316616122
Loop time of 0.5 on 4 procs for 10 steps with 500 atoms
Total wall time: 0:00:01
"""


def test_a_log_is_read_with_its_two_runs(tmp_path: Path) -> None:
    file = tmp_path / "T1.00_r4_s1.log"
    file.write_text(LOG)
    run = melt.read_log(file)
    assert run.ranks == 4
    assert [row["Step"] for row in run.settling] == [0, 10]
    assert run.settling[0]["PotEng"] == -7.22538067802
    assert run.production == [{**run.settling[1]}]


@pytest.mark.parametrize("lines", [5, 8, 10])
def test_a_log_that_ends_early_is_refused(tmp_path: Path, lines: int) -> None:
    file = tmp_path / "T1.00_r4_s1.log"
    file.write_text("\n".join(LOG.splitlines()[:lines]))
    with pytest.raises(ValueError, match=r"r4_s1\.log: the simulation did not get to its end"):
        melt.read_log(file)


# averages --------------------------------------------------------------------------------


def test_the_error_of_a_correlated_series_covers_the_truth() -> None:
    """x' = a x + noise: the mean is 0, its error sqrt((1 + a) / (1 - a)) times the naive one."""
    random, memory, length = Random(1), 0.9, 4000
    deviations = []
    for _ in range(60):
        x, values = 0.0, []
        for _ in range(length):
            x = memory * x + random.gauss(0, sqrt(1 - memory**2))
            values.append(x)
        mean = melt.block_mean(values)
        deviations.append(mean.value / mean.error)
    spread = sqrt(sum(d * d for d in deviations) / len(deviations))
    assert 0.8 < spread < 1.5  # a naive error would give sqrt(19) = 4.4


def test_means_are_put_together_by_their_errors() -> None:
    together = melt.combined([melt.Mean(1.0, 0.3), melt.Mean(2.0, 0.4)])
    assert isclose(together.value, 1.5)
    assert isclose(together.error, 0.25)
    assert isclose(melt.apart(melt.Mean(1.0, 0.3), melt.Mean(2.0, 0.4)), 2.0)


def test_values_that_make_no_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="9 values make no 10 blocks"):
        melt.block_mean([0.0] * 9)


# agreement -------------------------------------------------------------------------------


def run_of(
    ranks: int, *, seed: int = 1, opening: float = 0.0, shift: float = 0.0, noise: int = 0
) -> object:
    """Return a made-up run whose first steps are off by *opening*, its averages by *shift*."""
    first, later = Random(seed), Random(f"{seed} {ranks} {noise}")
    settling = [
        {"Step": step, "Press": first.gauss(2, 1) + opening, "PotEng": -6.0}
        for step in range(0, 2001, 10)
    ]
    production = [
        {"Step": step, "Press": later.gauss(2, 1) + shift, "PotEng": later.gauss(-6, 0.1)}
        for step in range(2000, 8001, 10)
    ]
    return melt.Run(ranks, settling, production)


def test_runs_that_agree_are_left_alone() -> None:
    runs = {(r, s): run_of(r, seed=s) for r in (1, 2) for s in (1, 2)}
    assert melt.disagreements(runs) == []


def test_each_disagreement_is_told() -> None:
    (told,) = melt.disagreements({(1, 1): run_of(1), (2, 1): run_of(2, opening=1e-6)})
    assert told.startswith("seed 1: with 1 and 2 ranks the first 200 steps differ by ")
    (told,) = melt.disagreements({(1, 1): run_of(1), (2, 1): run_of(2, shift=0.6)})
    assert told.startswith("Press with 1 and 2 ranks: ")
    (told,) = melt.disagreements({(1, 1): run_of(1), (2, 1): run_of(1, noise=1)})
    assert told.startswith("seed 1: the log is of 1 ranks, not 2")


def test_round_off_is_no_disagreement_and_later_steps_do_not_count() -> None:
    late = run_of(2, opening=1e-11)
    late.settling[-1]["Press"] += 1.0  # type: ignore[attr-defined]
    assert melt.disagreements({(1, 1): run_of(1), (2, 1): late}) == []


# the equation of state -------------------------------------------------------------------


def exact_second_virial_coefficient(temperature: float) -> float:
    """B_2 = -2 pi times the integral of (exp(-u(r) / T) - 1) r^2, by Simpson's rule in r."""
    last, parts = 40.0, 40_000
    total = 0.0
    for n in range(1, parts + 1):
        r = last * n / parts
        inverse = r**-6
        mayer = exp(-4 * (inverse**2 - inverse) / temperature) - 1 if r > 0.3 else -1.0
        total += (4 if n % 2 else 2) * mayer * r * r
    tail = -2 * pi * 4 / temperature / (3 * last**3)
    return -2 * pi * total * last / parts / 3 + tail


@pytest.mark.parametrize("temperature", [0.85, 1.3, 2.0, 4.0])
def test_the_second_virial_coefficient_is_the_exact_one(temperature: float) -> None:
    found = equation_of_state.second_virial_coefficient(temperature)
    assert isclose(found, exact_second_virial_coefficient(temperature), abs_tol=0.01)
    dilute = equation_of_state.pressure(temperature, 1e-6)
    assert isclose((dilute / 1e-6 / temperature - 1) / 1e-6, found, rel_tol=1e-4)


@pytest.mark.parametrize("temperature", [0.85, 1.2, 2.0])
@pytest.mark.parametrize("density", [0.3, 0.82, 0.9])
def test_pressure_and_energy_are_of_one_free_energy(temperature: float, density: float) -> None:
    """(dU/drho)_T = (P - T (dP/dT)_rho) / rho^2."""
    pressure, energy = equation_of_state.pressure, equation_of_state.energy
    step = 1e-4
    slope = pressure(temperature + step, density) - pressure(temperature - step, density)
    expected = (pressure(temperature, density) - temperature * slope / (2 * step)) / density**2
    found = energy(temperature, density + step) - energy(temperature, density - step)
    assert isclose(found / (2 * step), expected, rel_tol=1e-5, abs_tol=1e-5)


def test_it_boils_where_the_fluid_does() -> None:
    """Below the critical temperature, 1.32, pressure falls somewhere when density grows."""

    def falls(temperature: float) -> bool:
        pressures = [equation_of_state.pressure(temperature, n / 100) for n in range(1, 60)]
        return any(b < a for a, b in pairwise(pressures))

    assert falls(1.25)
    assert not falls(1.40)
