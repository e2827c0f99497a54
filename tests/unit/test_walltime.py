"""The end of an allocation, from its environment."""

from __future__ import annotations

import pytest

from balsam.errors import InvalidInput
from balsam.nodes.walltime import end_of_allocation

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("environ", "end"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, None),
        ({"SLURM_JOB_END_TIME": ""}, None),
        ({"SLURM_JOB_END_TIME": "1700003600"}, NOW + 3600),
        ({"COBALT_ENDTIME": "1700000060.5"}, NOW + 60.5),
        ({"SLURM_JOB_END_TIME": "1700003600", "COBALT_ENDTIME": "1700000060"}, NOW + 60),
        ({"SLURM_JOB_END_TIME": "1700003600", "COBALT_ENDTIME": "1600000000"}, NOW + 3600),
        ({"SLURM_JOB_END_TIME": "0"}, None),
        ({"SLURM_JOB_END_TIME": "1699999999"}, None),
    ],
)
def test_when_it_ends(environ: dict[str, str], end: float | None) -> None:
    assert end_of_allocation(environ, NOW) == end


@pytest.mark.parametrize("value", ["soon", "nan", "inf", "2031-05-04T03:02:01"])
def test_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"SLURM_JOB_END_TIME is .*--time-limit-minutes"):
        end_of_allocation({"SLURM_JOB_END_TIME": value}, NOW)
