"""MPI start commands in an allocation of a real Slurm, from a step on its second host."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import BIN
from tests.slurm import Slurm, cluster

#: What a worker does: it starts jobs, on both hosts and on its own, some at the same time.
WORKER = """
import json, os, subprocess, sys
from balsam.mpi.commands import TABLE, command_line
from balsam.mpi.find import find_all
from balsam.mpi.start import Start
from balsam.nodes.discover import discover

allocation = discover()
own = os.uname().nodename
hosts = (own, *(host for host in allocation.hosts if host != own))
TELL = "echo $(hostname) ${%s} $CUDA_VISIBLE_DEVICES; sleep 1"

def start(found, hosts):
    environ = {"CUDA_VISIBLE_DEVICES": "1,0"}
    job = Start(ranks=2 * len(hosts), ranks_per_node=2, threads_per_rank=1, flags="", hosts=hosts,
                environ=environ, gpus_per_rank=1, in_allocation=allocation.is_batch)
    tell = ["/bin/sh", "-c", TELL % found.command.local_rank]
    line = command_line(TABLE[found.command.name], found.program, job, tell)
    return subprocess.Popen(line, env={**os.environ, **environ}, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

told = {"allocation": [allocation.source, *allocation.hosts], "own": own, "jobs": []}
for found in find_all():
    if found.command.name in ("srun", "mpich", "openmpi"):
        jobs = [start(found, each) for each in (hosts, hosts, (own,), hosts[1:])[:4 if
                found.command.name == "srun" else 3]]
        for job in jobs:
            output = job.communicate(timeout=60)[0]
            # Of a Slurm that binds nothing, which srun tells where it is asked not to bind.
            lines = [line for line in output.splitlines() if "support for cpu binding" not in line]
            told["jobs"].append([found.program, job.returncode, sorted(lines)])
json.dump(told, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Two hosts of two CPUs and GPUs (which are devices only)."""
    with cluster(2, cpus=2, gpus=2) as found:
        yield found


def test_jobs_start_where_they_should_and_do_not_wait_for_each_other(
    slurm: Slurm, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    told = tmp_path / "told.json"
    step = "srun --overlap -N1 -n1 -r1 --mem=0 --cpu-bind=none --mpi=none --input=none"
    batch = [
        *("sbatch", "--wait", "-N2", "--exclusive", "--gres=gpu:2"),
        *("--chdir", tmp_path, "-o", tmp_path / "output", "--wrap"),
        f"PATH={BIN}:$PATH {step} {sys.executable} worker.py {told}",
    ]
    slurm.run(*batch)
    assert told.exists(), (tmp_path / "output").read_text()
    seen = json.loads(told.read_text())
    assert seen["allocation"] == ["slurm", "h1", "h2"]
    assert seen["own"] == "h2"
    here, there = ["h2 0 1", "h2 1 0"], ["h1 0 1", "h1 1 0"]
    expected = {3: [[*there, *here], [*there, *here], here]}
    expected[4] = [*expected[3], there]
    programs = list(dict.fromkeys(job[0] for job in seen["jobs"]))
    assert any(program.endswith("srun") for program in programs)
    for program in programs:
        jobs = [job[1:] for job in seen["jobs"] if job[0] == program]
        assert jobs == [[0, ranks] for ranks in expected[len(jobs)]], program
