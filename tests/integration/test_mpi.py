"""Jobs of several ranks, by the MPI start command of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsam.errors import InvalidInput
from balsam.model.query import Query
from balsam.model.states import State
from tests.integration.conftest import Campaign, Run, Start, is_running, wait_until

S = State
#: Each rank tells of itself and waits for the others.
RANK = """#
rank=${PMI_RANK:-$OMPI_COMM_WORLD_RANK}
size=${PMI_SIZE:-$OMPI_COMM_WORLD_SIZE}
touch rank$rank
while [ $(ls rank* | wc -l) -lt $size ]; do sleep 0.02; done
echo "rank $rank of $size $BALSAM_ATTEMPT $OMP_NUM_THREADS $OWN $$"
"""


@pytest.mark.usefixtures("mpi")
def test_the_ranks_of_a_job_run_together(campaign: Campaign, run: Run) -> None:
    campaign.app("ranks", RANK)
    job = campaign.job(
        "ranks",
        ranks_per_node=2,
        threads_per_rank=2,
        threads_per_core=2,
        environ={"OWN": "own"},
    )
    run()
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    lines = sorted(line.rsplit(" ", 1)[0] for line in campaign.output(job).splitlines())
    assert lines == ["rank 0 of 2 1 2 own", "rank 1 of 2 1 2 own"]
    (attempt,) = campaign.attempts(job)
    assert attempt.exit_code == 0


@pytest.mark.usefixtures("mpi")
def test_a_rank_that_fails_fails_the_job(campaign: Campaign, run: Run) -> None:
    campaign.app("fail", f"{RANK} [ $rank = 0 ] || {{ echo oops; exit 3; }}")
    job = campaign.job("fail", ranks_per_node=2)
    run()
    assert campaign.state(job) == S.FAILED
    assert "oops" in campaign.message(job, S.RUN_ERROR)


@pytest.mark.usefixtures("mpi")
def test_the_user_s_flags_stand_before_the_program(campaign: Campaign, run: Run) -> None:
    campaign.app("pwd", "/bin/pwd")
    job = campaign.job("pwd", ranks_per_node=2, mpi_flags="-wdir /usr")
    run()
    assert campaign.output(job) == "/usr\n/usr\n"


@pytest.mark.usefixtures("mpi")
def test_all_ranks_end_when_the_job_is_killed(campaign: Campaign, start: Start) -> None:
    campaign.app("long", f"{RANK} trap '' TERM; while :; do sleep 0.05; done")
    job = campaign.job("long", ranks_per_node=2)
    launcher = start()
    file = Path(campaign.get(job).workdir, "job.out")
    wait_until(lambda: file.exists() and file.read_text().count("rank") == 2)
    pids = [int(line.rsplit(" ", 1)[1]) for line in file.read_text().splitlines()]
    assert all(map(is_running, pids))
    campaign.client.kill_jobs(Query().where(id=job))
    wait_until(lambda: not any(map(is_running, pids)), lambda: campaign.tell(job))
    launcher.wait()
    assert campaign.state(job) == S.USER_KILLED


def test_without_mpi_the_job_fails_and_others_run(campaign: Campaign, run: Run) -> None:
    """Fault L1."""
    job = campaign.job("true", ranks_per_node=2)
    good = campaign.job("true", "good")
    run(env={"PATH": "/no/such/directory"})
    assert "neither mpiexec nor mpirun is in PATH" in campaign.message(job, S.FAILED)
    assert campaign.state(good) == S.JOB_FINISHED


def test_flags_that_cannot_be_split_are_refused_before_the_job_runs(campaign: Campaign) -> None:
    job = campaign.job("true", ranks_per_node=2)
    with pytest.raises(InvalidInput, match="mpi_flags: cannot split"):
        campaign.client.update_jobs(Query().where(id=job), {"mpi_flags": "-x 'a"})
    assert campaign.get(job).mpi_flags == ""


def test_a_start_command_that_is_not_known_is_told_before_anything_runs(
    campaign: Campaign, start: Start
) -> None:
    (campaign.site / "balsam.toml").write_text('[mpi]\ncommand = "mpish"\n')
    campaign.job("true")
    launcher = start()
    wait_until(lambda: launcher.process.poll() is not None)
    assert launcher.process.returncode == 2
    (line,) = launcher.output.splitlines()
    assert "there is no MPI command 'mpish'" in line
    assert "Did you mean 'mpich'?" in line
    assert campaign.states() == {"PREPROCESSED": 1}
    assert campaign.client.launchers(live=False) == []
