"""The start commands of the MPIs of this machine, as `balsam.mpi` writes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from balsam.mpi.commands import TABLE, command_line
from balsam.mpi.find import Found, find_all
from balsam.mpi.start import Start
from tests.integration.conftest import BIN

#: Ranks that have started wait for the others: only together they can end.
RANK = """
rank=${PMI_RANK:-$OMPI_COMM_WORLD_RANK}
touch rank$rank
while [ $(ls | wc -l) -lt $COUNT ]; do sleep 0.02; done
cpus=$(while read name list; do [ "$name" = Cpus_allowed_list: ] && echo $list; done \
  </proc/self/status)
echo "$rank;$cpus;$CUDA_VISIBLE_DEVICES;$WORDS"
"""


def mpis() -> list[Found]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return [each for each in find_all(path) if each.command.name in ("openmpi", "mpich", "intel")]


class Rank(NamedTuple):
    number: str
    cpus: str
    gpus: str
    words: str


def started(mpi: Found, folder: Any, name: str = "job", **fields: Any) -> subprocess.Popen[str]:
    """Start two ranks, each of which waits for the other."""
    environ = {"COUNT": "2", "WORDS": "a  b", "CUDA_VISIBLE_DEVICES": "3,2"}
    given = {"ranks": 2, "ranks_per_node": 2, "threads_per_rank": 1, "flags": ""} | fields
    start = Start(environ=environ, gpus_per_rank=1, **given)
    line = command_line(TABLE[mpi.command.name], mpi.program, start, ["/bin/sh", "-c", RANK])
    directory = folder / name
    directory.mkdir()
    return subprocess.Popen(
        line,
        cwd=directory,
        env={**os.environ, **environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ranks_of(process: subprocess.Popen[str]) -> list[Rank]:
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    return sorted(Rank(*line.split(";")) for line in output.splitlines())


@pytest.fixture(params=mpis(), ids=lambda found: f"{found.command.name}-{found.version}")
def mpi(request: pytest.FixtureRequest) -> Found:
    """Each MPI start command of this machine."""
    found: Found = request.param
    return found


def test_there_is_one() -> None:
    if not mpis() and not os.environ.get("CI"):
        pytest.skip("no mpiexec is in PATH (`pip install mpich` brings one)")
    assert mpis()


def ours(count: int) -> Sequence[int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < count:
        pytest.skip(f"needs {count} CPUs")
    return cpus[:count]


def test_ranks_get_their_own_cpus_and_gpus(mpi: Found, tmp_path: Any) -> None:
    first, second = map(str, ours(2))
    ranks = ranks_of(started(mpi, tmp_path, cpus=ours(2)))
    assert ranks == [Rank("0", first, "3", "a  b"), Rank("1", second, "2", "a  b")]


def test_ranks_are_bound_to_none_when_they_are_granted_none(mpi: Found, tmp_path: Any) -> None:
    with open("/proc/self/status") as status:
        (all_cpus,) = [x.split()[1] for x in status if x.startswith("Cpus_allowed_list")]
    assert [rank.cpus for rank in ranks_of(started(mpi, tmp_path))] == [all_cpus] * 2


def test_jobs_at_the_same_time_stay_on_their_own_cpus(mpi: Found, tmp_path: Any) -> None:
    """Fault: each mpirun binds its first rank to the first core."""
    first, second = ours(2)
    host = os.uname().nodename
    jobs = [
        started(mpi, tmp_path, str(cpu), cpus=[cpu], hosts=(host,), in_allocation=True)
        for cpu in (first, second)
    ]
    seen = [{rank.cpus for rank in ranks_of(job)} for job in jobs]
    assert seen == [{str(first)}, {str(second)}]
