"""From a job to the process that is started for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from balsam.errors import CannotStart
from balsam.launcher.placement import Spot
from balsam.launcher.tasks import FunctionFiles, TaskBuilder
from balsam.lifecycle.environ import launcher_environ
from balsam.model.app import App
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.states import State

IDENTITY = JobIdentity(b"0123456789abcdef")
SITE = Path("/site")


def builder(*, stream: bool = False, hook_seconds: float = 0.0) -> TaskBuilder:
    def mpi(job: Job, argv: list[str], environ: dict[str, str], spot: Spot) -> list[str]:
        return ["mpiexec", "-hosts", ",".join(spot.hosts), *argv]

    files = FunctionFiles(SITE / "run")
    return TaskBuilder(
        SITE, IDENTITY, stream=stream, mpi=mpi, functions=files, hook_seconds=hook_seconds
    )


def job(**fields: Any) -> Job:
    given = {"id": 1, "name": "my job", "workflow": "a/b", "workdir": "/site/data/a/b/my_job_1"}
    return Job(job_id=IDENTITY.text(1), application="app", **(given | fields))


def app(executable: str = "prog -x", **fields: str) -> App:
    return App(name="app", executable=executable, **fields)


def test_the_task_of_a_run() -> None:
    task = builder().run(7, 3, job(args="in '{\"a\": 1}'"), app(), 1)
    assert (task.id, task.lane) == (7, 3)
    assert task.argv == ["prog", "-x", "in", '{"a": 1}']
    assert (task.cwd, task.output) == ("/site/data/a/b/my_job_1", "my job.out")
    assert (task.make_cwd, task.append, task.header, task.envscript) == (True, False, "", "")
    assert task.seconds == 0


def test_a_parameter_never_becomes_syntax() -> None:
    given = {"x": "a b; rm -rf 'c", "n": 3}
    task = builder().run(1, 1, job(parameters=given), app("prog --in={{x}} {{ n }}"), 1)
    assert task.argv == ["prog", "--in=a b; rm -rf 'c", "3"]


@pytest.mark.parametrize("fields", [{"ranks_per_node": 2}, {"num_nodes": 2}])
def test_several_ranks_are_started_by_mpi(fields: dict[str, int]) -> None:
    spot = Spot(hosts=("h1", "h2"), cpus=(), environ={})
    task = builder().run(1, -1, job(**fields), app(), 1, spot)
    assert task.argv == ["mpiexec", "-hosts", "h1,h2", "prog", "-x"]


def test_what_cannot_be_made_is_told() -> None:
    with pytest.raises(CannotStart, match=r"app 'app' does not exist \(any more\)"):
        builder().run(1, 1, job(), None, 1)
    with pytest.raises(CannotStart, match="parameter 'x'"):
        builder().run(1, 1, job(), app("prog {{x}}"), 1)
    with pytest.raises(CannotStart, match="has no executable"):
        builder().run(1, 1, job(), app(""), 1)
    with pytest.raises(CannotStart, match="cannot split"):
        builder().run(1, 1, job(args="'"), app(), 1)
    with pytest.raises(CannotStart, match="preprocess: cannot split"):
        builder().hook(1, 0, job(), app(preprocess="'"), "preprocess", State.READY)


# the environment --------------------------------------------------------------------------


def test_the_environment_is_the_job_s_under_balsam_s_own() -> None:
    """Fault A11: taken as it is."""
    own = {
        "PATH": "/a:/b",
        "BALSAM_JOB_ID": "x",
        "BALSAM_SITE": "x",
        "OMP_NUM_THREADS": "9",
        "E": "",
    }
    parents = {"parents": [2], "parents_any": [3], "parents_failed": [4]}
    environ = builder().run(1, 1, job(environ=own, threads_per_rank=4, **parents), app(), 2).environ
    assert environ == {
        "PATH": "/a:/b",
        "E": "",
        "OMP_NUM_THREADS": "4",
        "BALSAM_JOB_ID": str(IDENTITY.uuid(1)),
        "BALSAM_ATTEMPT": "2",
        "BALSAM_PARENT_IDS": json.dumps([str(IDENTITY.uuid(n)) for n in (2, 4, 3)]),
    }


def test_threads_are_said_only_where_there_are_several() -> None:
    environ = builder().run(1, 1, job(environ={"OMP_NUM_THREADS": "9"}), app(), 1).environ
    assert environ["OMP_NUM_THREADS"] == "9"
    assert "BALSAM_PARENT_IDS" not in environ  # the launcher's own says '[]'


def test_what_the_launcher_says_of_itself() -> None:
    assert launcher_environ("/site", 7, nodes=3, job_mode="serial") == {
        "BALSAM_DB_PATH": "/site",
        "BALSAM_SITE": "/site",
        "BALSAM_LAUNCHER_ID": "7",
        "BALSAM_LAUNCHER_NODES": "3",
        "BALSAM_JOB_MODE": "serial",
        "BALSAM_PARENT_IDS": "[]",
    }


# where it runs ------------------------------------------------------------------------------

FILES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"preprocess": "x"}),
    ({}, {"postprocess": "x"}),
    ({"input_files": "*"}, {}),
    ({"stage_in_url": "/x"}, {}),
    ({"stage_out_url": "/x"}, {}),
]


def test_the_stream_needs_no_directory_of_the_job_s() -> None:
    task = builder(stream=True).run(1, 1, job(), app(), 1)
    assert (task.cwd, task.output) == ("/site/data/a/b", "")


@pytest.mark.parametrize(("fields", "hooks"), FILES)
def test_what_else_uses_the_directory_is_found_there(
    fields: dict[str, Any], hooks: dict[str, str]
) -> None:
    for stream in (False, True):
        task = builder(stream=stream).run(1, 1, job(**fields), app(**hooks), 1)
        assert task.cwd == "/site/data/a/b/my_job_1"
        assert task.append


@pytest.mark.parametrize("stream", [False, True])
def test_a_directory_of_the_user_s_is_not_made(stream: bool) -> None:
    mine = job(user_workdir="/mine", workdir="/mine")
    task = builder(stream=stream).run(1, 1, mine, app(), 1)
    assert (task.cwd, task.make_cwd, task.append) == ("/mine", False, True)
    hook = builder().hook(1, 0, mine, app(preprocess="x"), "preprocess", State.READY)
    assert (hook.cwd, hook.make_cwd) == ("/mine", False)


def test_output_of_a_further_attempt_is_appended() -> None:
    assert builder().run(1, 1, job(), app(), 2).append


# hooks --------------------------------------------------------------------------------------

HOOKS = app(preprocess="pre 'a  b'", postprocess="post", envscript="/env.sh")


@pytest.mark.parametrize(
    ("which", "state", "header", "variable"),
    [
        ("preprocess", State.READY, "# Balsam Preprocessor: pre 'a  b'\n", ""),
        ("postprocess", State.RUN_DONE, "# Balsam Postprocessor: post\n", ""),
        (
            "postprocess",
            State.RUN_ERROR,
            "# Balsam Postprocessor: post\n# Invoked to handle RUN_ERROR\n",
            "BALSAM_JOB_ERROR",
        ),
        (
            "postprocess",
            State.RUN_TIMEOUT,
            "# Balsam Postprocessor: post\n# Invoked to handle RUN_TIMEOUT\n",
            "BALSAM_JOB_TIMEOUT",
        ),
    ],
)
def test_the_task_of_a_hook(which: str, state: State, header: str, variable: str) -> None:
    task = builder(stream=True, hook_seconds=5.0).hook(7, 0, job(attempt=2), HOOKS, which, state)
    assert task.argv == (["pre", "a  b"] if which == "preprocess" else ["post"])
    assert (task.cwd, task.output) == ("/site/data/a/b/my_job_1", f"{which}.log")
    assert (task.header, task.envscript, task.seconds) == (header, "/env.sh", 5.0)
    assert task.environ["BALSAM_ATTEMPT"] == "2"
    told = {"BALSAM_JOB_ERROR", "BALSAM_JOB_TIMEOUT"} & set(task.environ)
    assert told == ({variable} if variable else set())
    if variable:
        assert task.environ[variable] == "TRUE"
