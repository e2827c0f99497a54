"""Jobs of several ranks under each MPI: Open MPI 4 and 5, MPICH 4 and 5."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from balsam.model.query import Query
from balsam.model.states import State
from tests.integration.conftest import Campaign, Launcher, Run, Start, is_running, wait_until
from tests.mpis import NAMES, Mpi, Mpis

S = State
pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

#: Rank 0 gathers what each rank knows and prints it, so that no lines of ranks are mixed up.
RANK = """
import json, os, signal, sys, time
from mpi4py import MPI

def meet(directory, count):
    job = os.environ["BALSAM_JOB_ID"]
    open(os.path.join(directory, f"{job}-{world.rank}"), "w").close()
    while len(os.listdir(directory)) < count:
        time.sleep(0.01)

world = MPI.COMM_WORLD
own = {
    "rank": world.rank,
    "size": world.size,
    "sum": world.allreduce(10 ** world.rank),
    "library": MPI.Get_library_version(),
    "pid": os.getpid(),
    "cpus": sorted(os.sched_getaffinity(0)),
    "cwd": os.getcwd(),
    "environ": {k: v for k, v in os.environ.items() if k.startswith(("BALSAM_", "OMP_", "OWN"))},
}
if "ignore" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "meet" in sys.argv:
    meet(sys.argv[-1], 2 * world.size)
told = world.gather(own)
if world.rank == 0:
    print(json.dumps(told), flush=True)
while "stay" in sys.argv:
    time.sleep(0.05)
"""


@pytest.fixture(scope="session")
def mpis(tmp_path_factory: pytest.TempPathFactory) -> Mpis:
    return Mpis(tmp_path_factory.mktemp("mpis"))


@pytest.fixture(params=NAMES)
def mpi(request: pytest.FixtureRequest, mpis: Mpis) -> Mpi:
    return mpis.get(request.param)


@pytest.fixture
def ranks(mpi: Mpi, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> str:
    """The app 'ranks', in a site that starts ranks with *mpi*."""
    command = "auto" if mpi.name.endswith("wheel") else mpi.kind
    (campaign.site / "balsam.toml").write_text(f'[mpi]\ncommand = "{command}"\n')
    # As after `module load`, or with its environment activated.
    monkeypatch.setenv("PATH", f"{mpi.program.parent}{os.pathsep}{os.environ['PATH']}")
    program = campaign.program("ranks.py", f"#!{mpi.python}\n{RANK}")
    campaign.app("ranks", program)
    return "ranks"


def told(campaign: Campaign, job: int) -> list[dict[str, Any]]:
    """Return what the ranks of a job said."""
    lines = [line for line in campaign.output(job).splitlines() if line.startswith("[{")]
    assert len(lines) == 1, f"{campaign.output(job)}\n{campaign.tell(job)}"
    found: list[dict[str, Any]] = json.loads(lines[0])
    return found


def test_ranks_see_each_other_and_the_job_s_environment(
    mpi: Mpi, ranks: str, campaign: Campaign, run: Run
) -> None:
    own = {"OWN": 'a "b"  c=d', "OWN_EMPTY": "", "OWN_WORD": "äß"}
    job = campaign.job(
        ranks,
        ranks_per_node=2,
        threads_per_rank=2,
        threads_per_core=2,
        environ={**mpi.environ, **own},
    )
    run()
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    found = told(campaign, job)
    assert [(rank["rank"], rank["size"], rank["sum"]) for rank in found] == [(0, 2, 11), (1, 2, 11)]
    record = campaign.get(job)
    for rank in found:
        assert rank["library"].startswith(mpi.library)
        assert rank["cwd"] == record.workdir
        environ = rank["environ"]
        assert {name: environ[name] for name in own} == own
        assert environ["OMP_NUM_THREADS"] == "2"
        assert environ["BALSAM_JOB_ID"] == record.job_id
        assert environ["BALSAM_ATTEMPT"] == "1"
        assert environ["BALSAM_SITE"] == str(campaign.site)
        assert environ["BALSAM_LAUNCHER_ID"] == "1"


def test_two_jobs_run_at_the_same_time_and_do_not_share_cores(
    mpi: Mpi, ranks: str, campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    """Each rank waits for the ranks of the other job."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    jobs = campaign.jobs(
        ranks,
        "one",
        "other",
        args=f"meet {meeting}",
        ranks_per_node=2,
        node_packing_count=2,
        environ=mpi.environ,
    )
    run()
    assert campaign.states() == {"JOB_FINISHED": 2}, campaign.tell(jobs[0])
    here = os.sched_getaffinity(0)
    one, other = ([set(rank["cpus"]) for rank in told(campaign, job)] for job in jobs)
    # Left to themselves, two mpirun bind their ranks to the same first cores.
    free = all(cpus == here for cpus in one + other)
    assert free or not set().union(*one) & set().union(*other)


@pytest.fixture
def holder(campaign: Campaign, tmp_path: Path) -> Iterator[int]:
    """A job beside the others: as long as it runs, it is not the launcher's end that ends them."""
    end = tmp_path / "end"
    campaign.app("holder", f"while [ ! -e {end} ]; do sleep 0.05; done\n")
    yield campaign.job("holder", "holder", node_packing_count=4)
    end.touch()


def start_ranks(
    campaign: Campaign, launcher: Launcher, holder: int, job: int
) -> tuple[list[int], list[int]]:
    """Return the processes of *job*, once all ranks are there: its ranks, and those above them."""
    campaign.wait_for(holder, S.RUNNING)
    campaign.wait_for(job, S.RUNNING)
    campaign.wait_for_output(job, "}]\n")
    pids = [rank["pid"] for rank in told(campaign, job)]
    family = above(pids, launcher.worker().pid)
    assert all(map(is_running, family))
    return pids, family


@pytest.mark.parametrize("manner", ["stay", "ignore stay"])
def test_a_killed_job_leaves_no_process(
    mpi: Mpi, ranks: str, manner: str, campaign: Campaign, holder: int, start: Start
) -> None:
    settings = campaign.site / "balsam.toml"
    settings.write_text(f"[launcher]\ngrace_seconds = 1\n{settings.read_text()}")
    job = campaign.job(
        ranks, args=manner, ranks_per_node=2, node_packing_count=2, environ=mpi.environ
    )
    _, family = start_ranks(campaign, start(), holder, job)
    campaign.client.kill_jobs(Query().where(id=job))
    wait_until(lambda: not any(map(is_running, family)), lambda: campaign.tell(job))
    assert campaign.state(job) == S.USER_KILLED
    assert campaign.state(holder) == S.RUNNING


def test_ranks_whose_start_command_dies_are_ended(
    mpi: Mpi, ranks: str, campaign: Campaign, holder: int, start: Start
) -> None:
    job = campaign.job(
        ranks, args="ignore stay", ranks_per_node=2, node_packing_count=2, environ=mpi.environ
    )
    pids, family = start_ranks(campaign, start(), holder, job)
    start_command = family[0]
    assert start_command not in pids
    psutil.Process(start_command).kill()
    wait_until(lambda: not any(map(is_running, family)), lambda: campaign.tell(job))
    campaign.wait_for(job, S.FAILED)
    assert campaign.state(holder) == S.RUNNING


def above(pids: list[int], worker: int) -> list[int]:
    """Return *pids* and all processes between them and the worker, the start command first."""
    found: list[int] = []
    for pid in pids:
        parents = [process.pid for process in psutil.Process(pid).parents()]
        assert worker in parents
        found += [pid, *parents[: parents.index(worker)]]
    return list(dict.fromkeys(reversed(found)))
