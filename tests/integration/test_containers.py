"""Jobs in real containers (podman), and what other runtimes are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from balsam.model.app import App, Container
from balsam.model.query import Query
from balsam.model.states import State
from tests import containers
from tests.integration.conftest import Campaign, Run, Start, is_running, wait_until

S = State
#: Its image is a directory.
ROOTFS = ["--rootfs"]


@pytest.fixture
def database() -> str:
    """The database has no part in this: one is enough."""
    return "sqlite"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    containers.require()
    directory = tmp_path_factory.mktemp("image") / "root"
    containers.make_image(directory)
    return directory


@pytest.fixture
def podman(image: Path) -> Iterator[dict[str, str]]:
    """The environment for launchers that use it."""
    folder = Path(tempfile.mkdtemp(prefix="podman"))  # with a long path, it waits for 20 s
    yield containers.environ(folder)
    shutil.rmtree(folder)


def add(campaign: Campaign, executable: str, container: Container, **fields: object) -> None:
    campaign.client.add_app(
        App(name="app", executable=executable, container=container, **fields)  # type: ignore[arg-type]
    )


SCRIPT = """/bin/bash -c '
echo -n "$(</dev/stdin)"; [[ -e /etc/in-the-image ]] && echo inside "$PWD" "$1" "$GIVEN" "$OWN"
echo "$BALSAM_JOB_ID" > result; id -u' name {{x}}"""


def test_a_program_runs_in_its_image_with_its_directory_and_variables(
    campaign: Campaign, run: Run, image: Path, podman: dict[str, str]
) -> None:
    """No value becomes syntax on the way."""
    hook = campaign.program("post", "[ ! -e /etc/in-the-image ] && cat result")
    one = Container(image=str(image), runtime="podman", options=ROOTFS)
    add(campaign, SCRIPT, one, environ={"GIVEN": "a  'b", "OWN": "app"}, postprocess=hook)
    job = campaign.job("app", parameters={"x": "$(id); 'x\"  y"}, environ={"OWN": "its"})
    run(env=podman)
    found = campaign.get(job)
    assert found.state == S.JOB_FINISHED, campaign.tell(job)
    assert campaign.output(job) == f"inside {found.workdir} $(id); 'x\"  y a  'b its\n0\n"
    log = Path(found.workdir, "postprocess.log").read_text().splitlines()
    assert log[1:] == [found.job_id]
    assert _containers(podman) == ""


def _containers(environ: dict[str, str]) -> str:
    words = ["podman", "ps", "--all", "--quiet"]
    found = subprocess.run(words, env={"PATH": "/usr/bin:/bin:/usr/sbin", **environ}, stdout=-1)
    return found.stdout.decode()


def test_the_exit_code_is_the_program_s(
    campaign: Campaign, run: Run, image: Path, podman: dict[str, str]
) -> None:
    one = Container(image=str(image), runtime="podman", options=ROOTFS)
    add(campaign, "/bin/sh -c 'echo oh; exit 7'", one)
    job = campaign.job("app")
    run(env=podman)
    assert campaign.get(job).exit_code == 7
    assert campaign.message(job, S.RUN_ERROR) == "exit code 7: oh"


@pytest.mark.parametrize("trap", ["", "trap : TERM; "], ids=["it heeds", "it ignores"])
def test_a_killed_job_s_container_ends(
    campaign: Campaign, start: Start, image: Path, podman: dict[str, str], trap: str
) -> None:
    """Its processes are no children of the worker's: what is asked for first, is forced then."""
    one = Container(image=str(image), runtime="podman", options=ROOTFS)
    add(campaign, f"/bin/bash -c '{trap}echo here; while :; do sleep 1000; done'", one)
    job = campaign.job("app")
    launcher = start(env=podman)
    job_id = campaign.get(job).job_id
    sleeper = wait_until(
        lambda: next((p for p in psutil.process_iter() if _is_of(p, job_id)), None),
        lambda: campaign.tell(job),
    )
    campaign.client.kill_jobs(Query().where(id=job))
    launcher.wait()
    wait_until(lambda: not is_running(sleeper.pid))
    assert campaign.state(job) == S.USER_KILLED
    wait_until(lambda: _containers(podman) == "")


def _is_of(process: psutil.Process, job_id: str) -> bool:
    """Tell whether a process in a container is the job's own sleep."""
    try:
        return process.name() == "sleep" and process.environ().get("BALSAM_JOB_ID") == job_id
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_each_rank_has_a_container_of_its_own(
    campaign: Campaign, run: Run, image: Path, podman: dict[str, str]
) -> None:
    """The MPI start command is outside, and what it tells its ranks goes in."""
    if not shutil.which("mpirun.mpich"):
        if os.environ.get("CI"):
            pytest.fail("mpich is missing (Debian: apt-get install mpich)")
        pytest.skip("mpich is missing (Debian: apt-get install mpich)")
    (campaign.site / "balsam.toml").write_text('[mpi]\ncommand = "mpich"\n')
    one = Container(image=str(image), runtime="podman", options=ROOTFS)
    add(campaign, "/bin/sh -c '[ -e /etc/in-the-image ] && echo rank $PMI_RANK'", one)
    job = campaign.job("app", ranks_per_node=2)
    run(env=podman)
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    assert sorted(campaign.output(job).splitlines()) == ["rank 0", "rank 1"]


# what is not there ----------------------------------------------------------------------------


def test_a_missing_image_and_a_missing_runtime_are_named_with_the_node(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    campaign.program("apptainer", "echo never")
    path = f"{tmp_path}/scripts:/usr/bin:/bin"
    for name, runtime in (("image", "apptainer"), ("runtime", "singularity")):
        one = Container(image="/no/image.sif", runtime=runtime)
        campaign.client.add_app(App(name=name, executable="/bin/true", container=one))
    image, runtime_job = campaign.job("image"), campaign.job("runtime")
    run(env={"PATH": path})
    host = campaign.attempts(image)[0].node
    said = campaign.message(image, S.RUN_ERROR)
    assert f"there is no container image /no/image.sif (on {host})" in said
    said = campaign.message(runtime_job, S.RUN_ERROR)
    assert "there is no program for containers (singularity) in PATH, for /no/image.sif" in said
    assert campaign.state(image) == campaign.state(runtime_job) == S.FAILED


def test_apptainer_is_told_the_same_and_found_among_modules(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    """By a program of its name that tells its arguments: apptainer itself is in no package."""
    told = 'printf "%s\\n" "$@"; env | grep "^APPTAINERENV_" | sort'
    campaign.program("apptainer", told)
    script = tmp_path / "env.sh"
    script.write_text(f'PATH="{tmp_path}/scripts:$PATH"\n')
    (tmp_path / "image.sif").touch()
    one = Container(image=str(tmp_path / "image.sif"), binds=["/etc:/host-etc:ro"], options=["-e"])
    add(campaign, "/opt/prog 'a b'", one, envscript=str(script), environ={"X": "1"})
    job = campaign.job("app")
    run(env={"PATH": "/usr/bin:/bin"})
    workdir = campaign.get(job).workdir
    words = campaign.output(job).splitlines()
    site = f"{campaign.site}:{campaign.site}"
    assert words[:3] == ["exec", "--pwd", workdir], words
    assert words[3:8] == ["--bind", site, "--bind", "/etc:/host-etc:ro", "-e"]
    assert words[8:11] == [str(tmp_path / "image.sif"), "/opt/prog", "a b"]
    assert {"APPTAINERENV_X=1", f"APPTAINERENV_BALSAM_JOB_ID={campaign.get(job).job_id}"} <= {
        *words[11:]
    }
