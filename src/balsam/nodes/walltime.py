"""When the allocation that this process runs in ends, as far as its environment tells.

Slurm sets SLURM_JOB_END_TIME (sbatch(1), since 22.05) and Cobalt COBALT_ENDTIME (qsub(1), 1.0 at
ALCF), both in seconds since the epoch. PBS, LSF, Flux and Grid Engine say nothing about
the end to a job: they would have to be asked by a command.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from balsam.errors import InvalidInput

_VARIABLES = ("SLURM_JOB_END_TIME", "COBALT_ENDTIME")


def end_of_allocation(environ: Mapping[str, str], now: float) -> float | None:
    """Return when the allocation ends, in seconds since the epoch; None when it is not said.

    Parameters
    ----------
    now
        An end before this time is no end: the allocation was prolonged since, or the environment
        is that of an earlier one.

    Raises
    ------
    InvalidInput
        A variable says something that is no time.
    """
    ends = [_seconds(name, environ[name]) for name in _VARIABLES if environ.get(name)]
    return min((end for end in ends if end > now), default=None)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InvalidInput(
            f"{name} is {value!r}; it should be the end of the allocation in seconds since 1970:"
            f" unset it, and give --time-limit-minutes"
        )
    return seconds
