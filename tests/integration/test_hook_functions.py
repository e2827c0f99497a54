"""Functions as hooks of commands, run by a launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from balsam.model.query import ALL
from balsam.model.states import State
from tests.integration.conftest import BIN, Campaign, Run

S = State


@pytest.fixture
def database() -> str:
    """The database has no part in this: one is enough."""
    return "sqlite"


MODULE = """
def refuse(job):
    raise OSError(f"{job.name} is not prepared")

def again(job):
    print("called for", job.state, job.exit_code)
    job.parameters["step"] = "0.1"
    job.state = "RESTART_READY"

def repair(job):
    job.state = "POSTPROCESSED"
"""
PROGRAM = """
import sys
from pathlib import Path
from balsam import dag
from balsam.api import App, Job, Site
from campaign.hooks import again, refuse, repair

Site.use(sys.argv[1])
LIMIT = 2

def prepare(job):
    Path("prepared").touch()
    job.data = {"limit": LIMIT, "same": dag.current_job.name == job.name}

def look(job):
    job.data["seen"] = job.state
    dag.spawn_child(name="child", application="true")

App(
    name="sim", executable="test {{step}} = 0.1 -a -e prepared",
    preprocess=prepare, postprocess=look, error_handler=again,
).save()
App(name="refusing", executable="/bin/true", preprocess=refuse).save()
dag.add_app("repaired", "/bin/false", postprocess=repair)
Job(name="sim", workflow="w", application="sim", parameters={"step": 1}).save()
Job(name="refused", workflow="w", application="refusing").save()
dag.add_job("repaired", "w", "repaired", post_error_handler=True)
"""


def test_functions_prepare_repair_and_look(campaign: Campaign, run: Run, tmp_path: Path) -> None:
    package = tmp_path / "program" / "campaign"
    package.mkdir(parents=True)
    (package / "hooks.py").write_text(MODULE)
    program = package.parent / "fill.py"
    program.write_text(PROGRAM)
    subprocess.run([sys.executable, str(program), str(campaign.site)], check=True, cwd="/")
    run("--idle-seconds", "0.1")
    sim, refused, repaired = 1, 2, 3
    path = (
        "READY PREPROCESSED RUNNING RUN_ERROR RESTART_READY RUNNING RUN_DONE POSTPROCESSED"
        " JOB_FINISHED"
    )
    assert campaign.path(sim) == path, campaign.tell(sim)
    assert campaign.get(sim).data == {"limit": 2, "same": True, "seen": "RUN_DONE"}
    assert campaign.message(sim, S.RESTART_READY) == "by handle_error of sim"
    log = Path(campaign.get(sim).workdir, "handle_error.log").read_text()
    assert log.splitlines()[0] == "# Balsam handle_error: python:campaign.hooks:again"
    assert log.splitlines()[-1] == "called for RUN_ERROR 1"
    assert [job.state for job in campaign.client.jobs(ALL) if job.name == "child"] == [
        S.JOB_FINISHED
    ]
    assert campaign.state(refused) == S.FAILED
    said = campaign.message(refused, S.FAILED)
    assert said.startswith("preprocess: exit code 1: ")
    assert said.endswith("OSError: refused is not prepared")
    assert "hooks.py" in Path(campaign.get(refused).workdir, "preprocess.log").read_text()
    assert campaign.path(repaired) == (
        "PREPROCESSED RUNNING RUN_ERROR POSTPROCESSED JOB_FINISHED"
    ), campaign.tell(repaired)


def test_a_function_from_the_command_line_handles_a_time_out(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    @staticmethod\n    def end(job):\n        job.state = 'FAILED'\n"
    )
    words = [str(BIN / "balsam"), "app", "--name", "long", "--executable", "sleep 1000"]
    hook = ["--timeout-handler", "python:mine:Mine.end"]
    done = subprocess.run(
        [*words, *hook],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "BALSAM_SITE": str(campaign.site)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    job = campaign.job("long")
    run("--time-limit-minutes", 0.1)
    run()
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_TIMEOUT FAILED", campaign.tell(job)
    assert campaign.message(job, S.FAILED) == "by handle_timeout of long"
