"""`balsam app`, `dep`, `modify`, `rm`, `kill` and `rerun` through the real executable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Balsam = Callable[..., "subprocess.CompletedProcess[str]"]
JOB = ("job", "--name", "x{i}", "--workflow", "w", "--application", "hello", "--yes")


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(balsam: Balsam, *selectors: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(balsam("ls", "jobs", "--json", *selectors)))
    return found


def states(balsam: Balsam) -> dict[int, str]:
    return {job["id"]: job["state"] for job in jobs(balsam)}


def apps(balsam: Balsam) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(balsam("ls", "apps", "--json")))
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with an app 'hello' and the jobs 1, 2, 3 named x1, x2, x3, to be copied."""
    path = tmp_path_factory.mktemp("template")
    environ = {**os.environ, "BALSAM_HOME": str(path), "BALSAM_DB_PATH": str(path / "site")}
    balsam = str(Path(sys.executable).parent / "balsam")
    for argv in (
        ("init", path / "site"),
        ("app", "--name", "hello", "--executable", "echo hello"),
        (*JOB, "--array", "1-3"),
    ):
        subprocess.run([balsam, *argv], env=environ, check=True, capture_output=True)
    return path / "site"


@pytest.fixture
def three(tmp_path: Path, template: Path, environ: dict[str, str], bare_balsam: Balsam) -> Balsam:
    """Run `balsam` in a site with an app 'hello' and the jobs 1, 2, 3 named x1, x2, x3."""
    environ["BALSAM_DB_PATH"] = str(shutil.copytree(template, tmp_path / "site"))
    return bare_balsam


# app -------------------------------------------------------------------------------------


def test_app(balsam: Balsam) -> None:
    shown = ok(balsam("app", "--name", "say", "--exec", "echo hello", "--desc", "says", "hello"))
    assert "Added app to database" in shown
    (app,) = apps(balsam)
    assert (app["name"], app["executable"], app["description"]) == (
        "say",
        "echo hello",
        "says hello",
    )
    assert balsam("app", "--name", "say", "--exe", "echo").returncode == 1


def test_app_json(balsam: Balsam) -> None:
    app = json.loads(ok(balsam("app", "--name", "say", "--exec", "echo", "--json")))
    assert apps(balsam) == [app]


def test_places_become_absolute(balsam: Balsam, tmp_path: Path) -> None:
    directory = tmp_path / "my app"
    directory.mkdir()
    for name in ("sim", "pre.py", "post.sh", "env.sh", "echo"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o700)
    done = balsam(
        *(
            "app",
            "--name",
            "a",
            "--executable",
            "./sim --x  '{{b}}' sim",
            "--preprocess",
            "pre.py 1",
        ),
        *("--postprocess", "bash post.sh x", "--envscript", "env.sh"),
        cwd=directory,
    )
    ok(done)
    ok(balsam("app", "--name", "b", "--executable", "echo sim", cwd=directory))
    ok(balsam("app", "--name", "c", "--executable", "sim", cwd=directory))
    first, second, third = apps(balsam)
    assert first["executable"] == f"'{directory}/sim' --x  '{{{{b}}}}' sim"
    assert first["preprocess"] == f"{sys.executable} '{directory}/pre.py' 1"
    assert first["postprocess"] == f"bash '{directory}/post.sh' x"
    assert first["envscript"] == f"{directory}/env.sh"
    assert second["executable"] == "echo sim"  # what PATH has comes first
    assert third["executable"] == f"'{directory}/sim'"
    assert done.stderr == ""


def test_missing_program_is_told(balsam: Balsam) -> None:
    done = balsam(
        *("app", "--name", "a", "--executable", "no-such-program -x"),
        *("--preprocess", "none.py", "--envscript", "none.sh"),
    )
    ok(done)
    for word in ("no-such-program", "none.py", "none.sh"):
        assert word in done.stderr
    assert len(apps(balsam)) == 1


# dep -------------------------------------------------------------------------------------


def test_dep(three: Balsam) -> None:
    short = {job["id"]: job["job_id"][:8] for job in jobs(three)}
    shown = ok(three("dep", "1", "2"))
    assert shown == f"Created link [x1 | {short[1]}] --> [x2 | {short[2]}]\n"
    assert states(three) == {1: "PREPROCESSED", 2: "AWAITING_PARENTS", 3: "PREPROCESSED"}


def test_dep_by_hexadecimal_digits(three: Balsam) -> None:
    first, second, _ = (job["job_id"] for job in jobs(three))
    ok(three("dep", first[:8], second))
    assert jobs(three)[1]["parents"] == [1]


@pytest.mark.parametrize(("kind", "field"), [("fail", "parents_failed"), ("any", "parents_any")])
def test_kinds_of_dependency(three: Balsam, kind: str, field: str) -> None:
    ok(three("dep", "1", "3", "--kind", kind))
    assert jobs(three)[2][field] == [1]


def test_cycle_is_shown_and_refused(three: Balsam) -> None:
    ok(three("dep", "1", "2"))
    ok(three("dep", "2", "3"))
    done = three("dep", "3", "1")
    assert done.returncode == 1
    x1, x2, x3 = (f"{j['name']} [{j['id']} | {j['job_id'][:8]}]" for j in jobs(three))
    assert f"a cycle: {x1} → {x2} → {x3} → {x1}" in done.stderr
    assert jobs(three)[0]["parents"] == []


# modify ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("priority", "-5", -5),
        ("auto_timeout_retry", "False", False),
        ("post_error_handler", "true", True),
        ("gpus_per_rank", "0.5", 0.5),
        ("data", '{"a": {"b": [1]}}', {"a": {"b": [1]}}),
        ("tags", "a=1 b=2", {"a": "1", "b": "2"}),
        ("environ_vars", "PATH=/a:/b:N=1", {"PATH": "/a:/b", "N": "1"}),
        ("args", "--x 'a  b'", "--x 'a  b'"),
        ("name", "42", "42"),
        ("memory_mib", "2G", 2048),
    ],
)
def test_modify_by_type(three: Balsam, field: str, text: str, value: object) -> None:
    assert "Changed 1 job." in ok(three("modify", "2", field, text))
    name = {"environ_vars": "environ"}.get(field, field)
    before, job, after = jobs(three)
    assert job[name] == value
    assert value not in (before[name], after[name])


def test_modify_as_the_documents_say(three: Balsam) -> None:
    ok(three("modify", "jobs", "1", "--attr", "state", "--value", "USER_KILLED"))
    ok(three("modify", "2", "--attr", "priority", "--value", "7"))
    ok(three("modify", jobs(three)[2]["job_id"][:8], "priority", "8", "--type", "jobs"))
    found = jobs(three)
    assert found[0]["state"] == "USER_KILLED"
    assert (found[1]["priority"], found[2]["priority"]) == (7, 8)


def test_modify_many(three: Balsam) -> None:
    assert "Changed 2 jobs." in ok(three("modify", "1", "3", "priority", "4"))
    assert "Changed 2 jobs." in ok(
        three("modify", "--wf", "w", "--filter", "priority=4", "wall_time_minutes", "90")
    )
    assert "Changed 3 jobs." in ok(three("modify", "--all", "workflow", "v/w"))
    found = jobs(three)
    assert [job["wall_time_minutes"] for job in found] == [90, 0, 90]
    assert {job["workflow"] for job in found} == {"v/w"}


def test_state_by_hand(three: Balsam) -> None:
    assert "state: FAILED" in ok(three("modify", "1", "state", "failed"))
    event = json.loads(ok(three("ls", "events", "--id", "1", "--json")))[-1]
    assert (event["to_state"], event["message"]) == (
        "FAILED",
        "User mutated state from command line",
    )
    ok(three("modify", "1", "state", "CREATED"))
    assert states(three)[1] == "PREPROCESSED"
    ok(three("modify", "1", "state", "FAILED"))
    ok(three("modify", "1", "state", "RESTART_READY"))
    assert states(three)[1] == "RESTART_READY"


def test_killed_job_stays_killed(three: Balsam) -> None:
    ok(three("kill", "1", "--yes"))
    done = three("modify", "--wf", "w", "state", "CREATED")
    assert done.returncode == 1
    assert "Cannot mutate state of a killed job" in done.stderr
    assert states(three) == {1: "USER_KILLED", 2: "PREPROCESSED", 3: "PREPROCESSED"}


def test_modify_app(three: Balsam, tmp_path: Path) -> None:
    (tmp_path / "sim").write_text("")
    ok(three("modify", "hello", "executable", "./sim -x", "--type", "apps"))
    ok(three("modify", "apps", "1", "description", "a word"))
    ok(three("modify", "--type", "apps", "hel", "--attr", "name", "--value", "hi"))
    (app,) = apps(three)
    assert app["executable"] == f"{tmp_path}/sim -x"
    assert (app["name"], app["description"]) == ("hi", "a word")


def test_app_keeps_a_command_and_its_name_alone(three: Balsam) -> None:
    ok(three("app", "--name", "other", "--exec", "echo"))
    before = apps(three)
    assert three("modify", "hello", "executable", "", "--type", "apps").returncode == 2
    assert three("modify", "hello", "name", "other", "--type", "apps").returncode == 1
    assert apps(three) == before


# rm --------------------------------------------------------------------------------------


def test_rm_jobs(three: Balsam) -> None:
    assert "Would remove 1 job" in ok(three("rm", "jobs", "--id", "2", "--dry-run"))
    assert len(jobs(three)) == 3
    assert ok(three("rm", "job", "--id", "2", "--force")) == "Deleted. 1 job removed.\n"
    done = three("rm", "jobs", "--name", "X", stdin="y\n")
    assert done.stderr == "PERMANENTLY remove 2 jobs? [y/n]: "
    assert ok(done) == "Deleted. 2 jobs removed.\n"
    assert jobs(three) == []
    assert ok(three("rm", "jobs", "--all", "--yes")) == "Deleted. 0 jobs removed.\n"


def test_rm_of_one_workflow(three: Balsam) -> None:
    ok(three("modify", "1", "workflow", "ww"))
    ok(three("rm", "jobs", "--name", "x", "--wf-filter", "w", "--force"))
    assert list(states(three)) == [1]
    assert three("rm", "jobs", "--wf-filter", "w", "--force").returncode == 1
    ok(three("rm", "jobs", "--wf-filter", "ww", "--force"))
    assert jobs(three) == []


def test_rm_by_selection(three: Balsam) -> None:
    ok(three("kill", "3", "--yes"))
    assert ok(three("rm", "jobs", "--state", "USER_KILLED", "--yes")).startswith("Deleted. 1 ")
    assert list(states(three)) == [1, 2]


def test_rm_releases_children(three: Balsam) -> None:
    ok(three("dep", "1", "2"))
    ok(three("rm", "jobs", "--id", "1", "--yes"))
    assert states(three) == {2: "PREPROCESSED", 3: "PREPROCESSED"}


def test_rm_apps(three: Balsam) -> None:
    for name in ("hi", "hallo", "side"):
        ok(three("app", "--name", name, "--exec", "echo"))
    assert ok(three("rm", "apps", "--name", "H", "--force")) == "Deleted. 3 apps removed.\n"
    ok(three("app", "--name", "more", "--exec", "echo"))
    assert ok(three("rm", "app", "--id", "more", "--force")) == "Deleted. 1 app removed.\n"
    shown = ok(three("rm", "apps", "--all", "--dry-run"))
    assert "side" in shown
    ok(three("rm", "apps", "--all", "--force"))
    assert apps(three) == []


# kill ------------------------------------------------------------------------------------


def test_killjob(three: Balsam) -> None:
    short = jobs(three)[0]["job_id"][:8]
    done = three("killjob", "--id", short, stdin="y\n")
    assert done.stderr == f"Really kill job [x1 | {short}]? [y/n]: "
    assert ok(done) == "Killed 1 job.\n"
    assert states(three) == {1: "USER_KILLED", 2: "PREPROCESSED", 3: "PREPROCESSED"}
    assert "Killed 0 jobs" in ok(three("killjob", "--id", short, "--yes"))


def test_kill_many(three: Balsam) -> None:
    assert ok(three("kill", "1", "3", "--yes")) == "Killed 2 jobs.\n"
    assert ok(three("kill", "--wf", "w", "--yes")) == "Killed 1 job.\n"


def test_kill_with_descendants(three: Balsam) -> None:
    ok(three("dep", "1", "2", "--kind", "any"))
    ok(three("dep", "2", "3", "--kind", "any"))
    assert ok(three("kill", "1", "--recursive", "--yes")) == "Killed 3 jobs.\n"
    assert set(states(three).values()) == {"USER_KILLED"}


def test_children_of_a_killed_job_do_not_wait_for_ever(three: Balsam) -> None:
    ok(three("dep", "1", "2"))
    ok(three("dep", "1", "3", "--kind", "any"))
    ok(three("kill", "1", "--yes"))
    assert states(three) == {1: "USER_KILLED", 2: "FAILED", 3: "PREPROCESSED"}


# rerun -----------------------------------------------------------------------------------


def test_rerun(three: Balsam) -> None:
    ok(three("modify", "1", "2", "state", "FAILED"))
    ok(three("kill", "3", "--yes"))
    shown = ok(three("rerun", "--state", "FAILED", "--wf", "w", "--dry-run"))
    assert "Would run 2 jobs again" in shown
    planned = json.loads(ok(three("rerun", "--all", "--dry-run", "--json")))
    assert [job["id"] for job in planned] == [1, 2, 3]
    assert states(three)[1] == "FAILED"
    assert ok(three("rerun", "--state", "FAILED", "--wf", "w")) == "2 jobs will run again.\n"
    assert json.loads(ok(three("rerun", "--all", "--json"))) == {"rerun": 1}
    assert set(states(three).values()) == {"PREPROCESSED"}
    assert "0 jobs will run again" in ok(three("rerun", "1"))


# the tutorials of 0.x ---------------------------------------------------------------------

TUTORIAL = """
set -e
balsam init mydb
source balsamactivate mydb
balsam app --name say-hello --executable "echo hello,"
balsam app --name sh --exec "sh -c" --desc "a shell"
balsam job --name hi --workflow test --application say-hello --args "world" --yes
balsam job --name hi2 --work test --app say-hello --args "world 'a  b'" --url-in=local:/x/* \\
    --stage-out-files="*.out *.txt" --wall-time-minutes 3 --num-nodes 1 --ranks-per-node 1 --yes
yes | balsam job --name hi3 --workflow other --app say-hello --args $EMPTY --post_handle_error
balsam dep 1 2
balsam ls --hist > /dev/null
balsam modify 1 wall_time_minutes 5
balsam modify say-hello description "a word" --type apps
yes | balsam killjob --id 2 --recursive
balsam rm jobs --name hi2 --force
yes | balsam rm apps --name sh
balsam ls jobs --wf test
source balsamdeactivate
"""


def test_tutorial(tmp_path: Path, bare_balsam: Balsam, environ: dict[str, str]) -> None:
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-c", TUTORIAL],
        env={**os.environ, **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = jobs(bare_balsam, "--site", str(tmp_path / "mydb"))
    assert [(job["name"], job["args"]) for job in found] == [("hi", "world"), ("hi3", "")]
    assert done.stdout.splitlines()[-1].split()[0] == "1"
