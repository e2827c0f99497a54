"""MPI start commands reach the hosts of a job by the site's ssh, and leave nothing there."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from balsam.mpi.commands import TABLE, command_line
from balsam.mpi.start import Start
from tests.hosts import Hosts
from tests.integration.conftest import wait_until
from tests.integration.hosts.conftest import installed

PROGRAMS = {"mpirun.mpich": "mpich", "mpirun.openmpi": "openmpi"}
ENVIRON = {"WORDS": "a  b", "CUDA_VISIBLE_DEVICES": "3,2"}


def start(hosts: Hosts, program: str, tell: str, **options: Any) -> subprocess.Popen[Any]:
    """Start two ranks on each of h2 and h3, from h2."""
    job = Start(
        ranks=4,
        ranks_per_node=2,
        threads_per_rank=1,
        flags="",
        environ=ENVIRON,
        gpus_per_rank=1,
        hosts=("h2", "h3"),
        cpus=sorted(os.sched_getaffinity(0))[:2],
        ssh=tuple(hosts.ssh),
    )
    command, path = TABLE[PROGRAMS[program]], installed(program)
    line = command_line(command, path, job, ["/bin/sh", "-c", tell])
    environ = {**os.environ, **ENVIRON}
    return hosts.popen(2, line, env=environ, stdin=subprocess.DEVNULL, **options)


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_rank_has_its_host_cpu_gpu_and_variables(hosts: Hosts, program: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    bound = "$(grep Cpus_allowed_list /proc/self/status | cut -f2)"
    tell = f'echo "$(hostname);{bound};$CUDA_VISIBLE_DEVICES;$WORDS"'
    process = start(hosts, program, tell, stdout=subprocess.PIPE, text=True)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert sorted(output.splitlines()) == [
        f"{host};{cpus[rank]};{'32'[rank]};a  b" for host in ("h2", "h3") for rank in (0, 1)
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_job_that_is_killed_leaves_nothing(hosts: Hosts, tmp_path: Path, program: str) -> None:
    tell = f"touch {tmp_path}/$(hostname).$$; exec sleep 600"
    process = start(hosts, program, tell)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 4)
    assert {file.stem for file in tmp_path.iterdir()} == {"h2", "h3"}
    process.send_signal(signal.SIGTERM)
    process.wait(60)  # MPICH's does not always say that it was killed
    hosts.wait_until_empty()
