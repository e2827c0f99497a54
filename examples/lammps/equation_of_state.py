"""The equation of state of the Lennard-Jones fluid of Kolafa and Nezbeda.

Fluid Phase Equilibria 100, 1 (1994): hard spheres of a diameter that depends on the temperature,
plus a term that makes the second virial coefficient right, plus a polynomial fitted to
simulations. In units of the potential, for the full potential (simulations with a cutoff need
long-range corrections: `pair_modify tail yes`). Of the usual equations it is the closest to
simulations of the dense liquid, above all in the energy.
"""

from __future__ import annotations

from math import exp, log, pi

#: Of the diameter of the hard spheres: coefficients of powers of the temperature, and of its log.
_DIAMETER = {-1.0: 0.011117524, -0.5: -0.076383859, 0.0: 1.080142248, 0.5: 0.000693129}
_DIAMETER_LOG = -0.063920968
#: Of what the second virial coefficient has above that of the hard spheres.
_VIRIAL = {
    -3.5: -0.58544978,
    -3.0: 0.43102052,
    -2.5: 0.87361369,
    -2.0: -4.13749995,
    -1.5: 2.90616279,
    -1.0: -7.02181962,
    0.0: 0.02459877,
}
#: How fast the virial term is damped with the density.
_GAMMA = 1.92907278
#: Of the free energy per atom: for each power of the temperature, of density^2, density^3, …
_POLYNOMIAL = {
    0.0: (2.01546797, -28.17881636, 28.28313847, -10.42402873),
    -0.5: (-19.58371655, 75.62340289, -120.70586598, 93.92740328, -27.37737354),
    -1.0: (29.34470520, -112.35356937, 170.64908980, -123.06669187, 34.42288969),
    -2.0: (-13.37031968, 65.38059570, -115.09233113, 88.91973082, -25.62099890),
}


def second_virial_coefficient(temperature: float) -> float:
    """Return B_2, the limit of (P / (rho T) - 1) / rho at density 0."""
    return 2 * pi / 3 * _diameter(temperature) ** 3 + _sum(_VIRIAL, temperature)


def pressure(temperature: float, density: float) -> float:
    """Return the pressure."""
    virial = _sum(_VIRIAL, temperature) * exp(-_GAMMA * density**2)
    compressibility = _hard_spheres(temperature, density)
    compressibility += density * (1 - 2 * _GAMMA * density**2) * virial
    fitted = sum(
        power * value * temperature**of_temperature * density**power
        for of_temperature, values in _POLYNOMIAL.items()
        for power, value in enumerate(values, start=2)
    )
    return density * (temperature * compressibility + fitted)


def energy(temperature: float, density: float) -> float:
    """Return the potential energy per atom: the derivative of A / T with respect to 1 / T."""
    widening = _slope(_DIAMETER, temperature) - _DIAMETER_LOG * temperature
    excess = _hard_spheres(temperature, density) - 1
    fitted = sum(
        (1 - of_temperature) * value * temperature**of_temperature * density**power
        for of_temperature, values in _POLYNOMIAL.items()
        for power, value in enumerate(values, start=2)
    )
    virial = density * exp(-_GAMMA * density**2) * _slope(_VIRIAL, temperature)
    return 3 * excess * widening / _diameter(temperature) + virial + fitted


def _diameter(temperature: float) -> float:
    return _sum(_DIAMETER, temperature) + _DIAMETER_LOG * log(temperature)


def _hard_spheres(temperature: float, density: float) -> float:
    """Return P / (rho T) of hard spheres, by Kolafa's improvement of Carnahan and Starling's."""
    filled = pi / 6 * density * _diameter(temperature) ** 3
    return (1 + filled + filled**2 - 2 / 3 * filled**3 * (1 + filled)) / (1 - filled) ** 3


def _sum(coefficients: dict[float, float], temperature: float) -> float:
    return sum(value * temperature**power for power, value in coefficients.items())


def _slope(coefficients: dict[float, float], temperature: float) -> float:
    """Return the derivative of `_sum` with respect to 1 / T."""
    return -sum(value * power * temperature ** (power + 1) for power, value in coefficients.items())
