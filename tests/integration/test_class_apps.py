"""Apps as classes: registered by a user's program, run by a launcher."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from balsam.api import Job, Site
from balsam.model.states import State
from tests.integration.conftest import Campaign, Run

S = State
HEAD = """
import sys
from balsam.api import ApplicationDefinition, Job, Site
Site.use(sys.argv[1])
"""


@pytest.fixture
def database() -> str:
    """The database has no part in this: one is enough."""
    return "sqlite"


@pytest.fixture
def program(campaign: Campaign, tmp_path: Path) -> Any:
    """Run a user's program; return what it printed."""

    def program(text: str) -> str:
        file = tmp_path / "program.py"
        file.write_text(HEAD + text)
        words = [sys.executable, str(file), str(campaign.site)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return program


def job_at(campaign: Campaign, workdir: str) -> Job:
    with Site(campaign.site) as site:
        return site.jobs.get(user_workdir=f"{campaign.site}/data/{workdir}")


SIM = '''
from pathlib import Path

LIMIT = 2  # the module's own

class Sim(ApplicationDefinition):
    """Simulates."""
    site = sys.argv[1]
    environment_variables = {"GREETING": "hello"}
    command_template = "echo $GREETING {{ x }} $FROM; test -e repaired"
    cleanup_files = ["*.tmp"]

    def shell_preamble(self):
        return ["export FROM=preamble"]

    def preprocess(self):
        Path("a.tmp").touch()
        self.job.data = {"limit": LIMIT}
        self.job.parameters["x"] += " changed"
        self.job.state = "PREPROCESSED"

    def handle_error(self):
        Path("repaired").touch()
        self.job.data["code"] = self.job.exit_code
        self.job.state = "RESTART_READY"

    def postprocess(self):
        self.job.data["seen"] = self.job.state
        self.job.state = "POSTPROCESSED"

parent = Sim.submit(workdir="group/one", x="$(id)", tags={"k": "v"}, wall_time_min=3)
Sim.submit(workdir="two", x="two", parent_ids=[parent.id])
'''


def test_a_command_with_hooks_in_python(campaign: Campaign, program: Any, run: Run) -> None:
    program(SIM)
    run("--idle-seconds", "1")
    one, two = job_at(campaign, "group/one"), job_at(campaign, "two")
    assert one.id is not None
    path = (
        "READY PREPROCESSED RUNNING RUN_ERROR RESTART_READY RUNNING RUN_DONE POSTPROCESSED"
        " JOB_FINISHED"
    )
    assert campaign.path(one.id) == path, campaign.tell(one.id)
    assert one.data == {"limit": 2, "code": 1, "seen": "RUN_DONE"}
    assert (one.name, one.workflow, one.tags, one.wall_time_minutes) == (
        *("one", "group", {"k": "v"}),
        3,
    )
    said = Path(one.workdir, "one.out").read_text()
    assert said == "hello $(id) changed preamble\n" * 2
    assert not Path(one.workdir, "a.tmp").exists()
    assert (two.state, two.parents) == (S.JOB_FINISHED, [one.id])
    assert campaign.message(one.id, S.RESTART_READY) == "by handle_error of Sim"


RUN = """
import balsam

class Norm(ApplicationDefinition):
    def run(self, vector, power=2):
        print("job", self.job.id)
        return sum(x**power for x in vector) ** (1 / power)

    def preprocess(self):
        raise OSError("no preparation")

class Plain(Norm):
    def preprocess(self):
        print("prepared")

jobs = [Plain.submit("plain", vector=[3.0, 4.0]), Plain.submit("set", vector={3, 4, 5}, power=3)]
Norm.submit("broken", vector=[])
later = [Plain.submit("bulk", vector=[5], save=False)]
print(*(job.id for job in jobs), *Job.objects.bulk_create(later))
"""


def test_a_method_run_and_an_exception_in_a_hook(
    campaign: Campaign, program: Any, run: Run
) -> None:
    numbers = [int(word) for word in program(RUN).split()]
    run()
    results = [campaign.attempts(number)[-1].result for number in numbers]
    assert results[0] == "J5.0", campaign.tell(numbers[0])
    assert results[1] == "J6.000000000000001" or results[1].startswith(("J5.99", "J6.0"))
    assert results[2] == "J5.0"
    broken = job_at(campaign, "broken")
    assert broken.id is not None
    assert broken.state == S.FAILED
    said = campaign.message(broken.id, S.FAILED)
    assert said.startswith("preprocess: exit code 1: ")
    assert said.endswith("OSError: no preparation")


def test_a_class_that_is_synchronized_again_is_the_same_app(
    campaign: Campaign, program: Any, run: Run
) -> None:
    text = """
class Old(ApplicationDefinition):
    command_template = "echo {{ x }}"

Old.submit("before", x=1)

class New(ApplicationDefinition):
    command_template = "echo new {{ x }} {{ y }}"
    parameters = {"y": {"required": False, "default": "other"}}

New.sync(rename_from="Old")
Loaded = ApplicationDefinition.load_by_name("New")
Loaded.submit("after", x="a b")
for wrong in ({}, {"x": 1, "z": 2}):
    try:
        Loaded.submit("wrong", **wrong)
    except ValueError as error:
        print(error)
"""
    assert program(text).splitlines() == [
        "New needs the parameter 'x': x=…",
        "New has no parameter 'z'.",
    ]
    run()
    after = job_at(campaign, "after")
    assert Path(after.workdir, "after.out").read_text() == "new a b other\n"
    before = job_at(campaign, "before")  # of an app that is not there any more
    assert before.state == S.FAILED
