"""`balsam job`, `mkchild` and `make_dummies` through the real executable."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Balsam = Callable[..., "subprocess.CompletedProcess[str]"]
JOB = ("job", "--name", "x", "--workflow", "w", "--application", "hello", "--yes")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with an app 'hello', to be copied."""
    path = tmp_path_factory.mktemp("template")
    environ = {**os.environ, "BALSAM_HOME": str(path), "BALSAM_DB_PATH": str(path / "site")}
    balsam = str(Path(sys.executable).parent / "balsam")
    for argv in (("init", path / "site"), ("app", "--name", "hello", "--exec", "echo hello")):
        subprocess.run([balsam, *argv], env=environ, check=True, capture_output=True)
    return path / "site"


@pytest.fixture
def hello(tmp_path: Path, template: Path, environ: dict[str, str], bare_balsam: Balsam) -> Balsam:
    """Run `balsam` in a site with an app 'hello'."""
    environ["BALSAM_DB_PATH"] = str(shutil.copytree(template, tmp_path / "site"))
    return bare_balsam


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(balsam: Balsam, *selectors: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(balsam("ls", "jobs", "--json", *selectors)))
    return found


def test_defaults(hello: Balsam) -> None:
    shown = ok(hello(*JOB))
    (job,) = jobs(hello)
    assert f"Added job to database: id 1 [x | {job['job_id'][:8]}]" in shown
    assert (job["name"], job["workflow"], job["application"]) == ("x", "w", "hello")
    assert (job["input_files"], job["num_nodes"], job["auto_timeout_retry"]) == ("", 1, True)
    assert job["state"] == "PREPROCESSED"


def test_every_option(hello: Balsam, tmp_path: Path) -> None:
    ok(hello(*JOB))
    options = (
        *("--wall-time-minutes", "30.5", "--num-nodes", "2", "--ranks-per-node", "4"),
        *("--threads-per-rank", "2", "--threads-per-core", "2", "--node-packing-count", "1"),
        *("--cores-per-rank", "1", "--gpus-per-rank", "0.5", "--memory", "4G"),
        *("--mpi-flags", "--bind-to core", "--args", "--a=1 b", "--b 'x  y'"),
        *("--description", "one", "two", "--post_handle_error", "--post-handle-timeout"),
        *("--disable_auto_timeout_retry", "--input-files", "*.out", "*.txt"),
        *("--url-in=local:/in/*", "--url-out", "out", "--stage-out-files=*.out *.dat"),
        *("--env", "PATH=/a:/b", "--env", "A=x=y", "--tag", "k=v", "--param", "n=5"),
        *("--data", '{"a": [1, "{b}"]}', "--priority", "-3", "--max-retries", "2"),
        *("--cpu-affinity", "depth", "--user-workdir", "here"),
        *("--after", "1"),
    )
    ok(hello(*JOB, *options))
    job = jobs(hello)[1]
    expected = {
        "wall_time_minutes": 30.5,
        "num_nodes": 2,
        "ranks_per_node": 4,
        "threads_per_rank": 2,
        "threads_per_core": 2,
        "node_packing_count": 1,
        "cores_per_rank": 1,
        "gpus_per_rank": 0.5,
        "memory_mib": 4096,
        "mpi_flags": "--bind-to core",
        "args": "--a=1 b --b 'x  y'",
        "description": "one two",
        "post_error_handler": True,
        "post_timeout_handler": True,
        "auto_timeout_retry": False,
        "input_files": "*.out *.txt",
        "stage_in_url": "local:/in/*",
        "stage_out_url": str(tmp_path / "out"),
        "stage_out_files": "*.out *.dat",
        "environ": {"PATH": "/a:/b", "A": "x=y"},
        "tags": {"k": "v"},
        "parameters": {"n": 5},
        "data": {"a": [1, "{b}"]},
        "priority": -3,
        "max_retries": 2,
        "cpu_affinity": "depth",
        "user_workdir": str(tmp_path / "here"),
        "parents": [1],
        "state": "AWAITING_PARENTS",
    }
    assert {name: job[name] for name in expected} == expected


def test_spellings_of_0x_scripts(hello: Balsam) -> None:
    ok(
        hello(
            *("job", "--name", "t", "--work", "w", "--app", "hello", "--wall", "5", "--rank", "2"),
            *("--post_handle_e", "--disable", "--desc", "a", "b", "--num-nodes=1", "--args"),
            *("--coschedule-num-nodes", "2", "--url-i=local:/x/*", "--stage=*.out", "--y"),
        )
    )
    (job,) = jobs(hello)
    assert job["wall_time_minutes"] == 5
    assert job["ranks_per_node"] == 2
    assert job["post_error_handler"] is True
    assert job["auto_timeout_retry"] is False
    assert (job["description"], job["args"]) == ("a b", "")


def test_coscheduling_is_said_to_have_no_effect(hello: Balsam) -> None:
    done = hello(*JOB, "--coschedule-num-nodes", "2")
    ok(done)
    assert "--coschedule-num-nodes has no effect" in done.stderr


def test_question(hello: Balsam) -> None:
    ok(hello(*JOB))
    done = hello(*JOB[:-1], stdin="n\n")
    assert done.returncode == 1
    assert '[INFO]: The workflow "w" currently has 1 jobs in the database' in done.stdout
    assert "Confirm adding job to DB [y/n]: " in done.stderr
    assert len(jobs(hello)) == 1
    ok(hello(*JOB[:-1], stdin="y\n" * 9))
    assert len(jobs(hello)) == 2


def test_json_is_what_ls_prints(hello: Balsam) -> None:
    added = json.loads(ok(hello(*JOB, "--array", "0-2", "--json")))
    assert added == jobs(hello)
    assert [job["id"] for job in added] == [1, 2, 3]


def test_dry_run_adds_nothing(hello: Balsam) -> None:
    shown = ok(hello(*JOB[:-1], "--array", "0-9", "--args", "{i}", "--dry-run"))
    assert "Would add 10 jobs; nothing was added." in shown
    assert "echo hello 0" in shown
    planned = json.loads(
        ok(hello(*JOB[:-1], "--array", "8-9", "--args", "{i}", "--dry-run", "--json"))
    )
    assert [job["args"] for job in planned] == ["8", "9"]
    assert jobs(hello) == []


def test_array(hello: Balsam) -> None:
    shown = ok(
        hello(
            *("job", "--array", "0-9:3", "--name", "n{i:03d}", "--workflow", "w{i}"),
            *("--app", "hello", "--args", "--seed {i} '{print $1}'", "--tag", "seed={i}"),
            *("--param", "s={i}", "--data", '{"seed": {i}}', "--env", "SEED={i}", "--yes"),
        )
    )
    assert "Added 4 jobs to database: ids 1-4" in shown
    last = jobs(hello)[-1]
    assert (last["name"], last["workflow"]) == ("n009", "w9")
    assert last["args"] == "--seed 9 '{print $1}'"
    assert (last["tags"], last["parameters"]) == ({"seed": "9"}, {"s": 9})
    assert (last["data"], last["environ"]) == ({"seed": 9}, {"SEED": "9"})


def test_many_batches(hello: Balsam) -> None:
    # More than two transactions' worth.
    shown = ok(hello(*JOB, "--array", "0-50000", "--args", "{i}"))
    assert "Added 50001 jobs to database: ids 1-50001" in shown
    counts = json.loads(ok(hello("ls", "--by-states", "--json")))
    assert counts == {"PREPROCESSED": 50001}
    assert json.loads(ok(hello("show", "50001", "--json")))["args"] == "50000"


@pytest.mark.parametrize("source", ["file", "stdin", "pipe"])
def test_each_line(hello: Balsam, tmp_path: Path, environ: dict[str, str], source: str) -> None:
    text = "alpha\n\nbeta gamma\n"
    argv = (*JOB, "--args", "{i} {line}", "--each-line")
    if source == "stdin":
        ok(hello(*argv, "-", stdin=text))
    elif source == "file":
        (tmp_path / "lines").write_text(text)
        ok(hello(*argv, "lines"))
    else:
        command = 'balsam "$@" <(printf "%s" "$TEXT")'
        done = subprocess.run(
            ["bash", "-c", command, "bash", *argv],
            env={**environ, "TEXT": text},
            capture_output=True,
            text=True,
            timeout=60,
        )
        ok(done)
    assert [job["args"] for job in jobs(hello)] == ["0 alpha", "1 beta gamma"]


def test_standard_input_cannot_hold_jobs_and_the_answer(hello: Balsam) -> None:
    done = hello(*JOB[:-1], "--each-line", "-", stdin="y\n")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert jobs(hello) == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "toml"])
def test_from_file(hello: Balsam, tmp_path: Path, kind: str) -> None:
    rows = [
        {"name": "a", "size": 8, "num_nodes": 2, "tag:k": "v"},
        {"name": "b", "size": 16, "num_nodes": 1, "tag:k": "w"},
    ]
    lines = {
        "csv": ["name,size,num_nodes,tag:k", "a,8,2,v", "b,16,1,w"],
        "jsonl": [json.dumps(row) for row in rows],
        "json": [json.dumps(rows, indent=1)],
        "toml": [
            line
            for row in rows
            for line in ("[[job]]", *(f'"{k}" = {json.dumps(v)}' for k, v in row.items()))
        ],
    }
    (tmp_path / f"runs.{kind}").write_text("\n".join(lines[kind]))
    ok(
        hello(
            *("job", "--from-file", f"runs.{kind}", "--workflow", "w", "--app", "hello"),
            *("--args", "--size {size}", "--data", '{"size": {size}}', "--yes"),
        )
    )
    first, second = jobs(hello)
    assert (first["name"], first["args"], first["num_nodes"]) == ("a", "--size 8", 2)
    assert (second["name"], second["data"], second["tags"]) == ("b", {"size": 16}, {"k": "w"})


def test_records_on_standard_input(hello: Balsam) -> None:
    ok(hello(*JOB, "--from-file", "-", "--args", "{x}", stdin='{"x": 1}\n{"x": "b"}\n'))
    assert [job["args"] for job in jobs(hello)] == ["1", "b"]


def test_misspelt_template_is_told(hello: Balsam) -> None:
    done = hello("job", *("--name", "x{j}"), *JOB[3:], "--array", "0-1")
    ok(done)
    assert "name 'x{j}': {j} is no template here (there are i)." in done.stderr


def test_a_misspelt_column_is_refused(hello: Balsam, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("name,state,nmu_nodes\na,FAILED,8\n")
    words = (*JOB[:1], *JOB[3:], "--from-file", "runs.csv")
    done = hello(*words)
    assert done.returncode == 2
    assert "runs.csv: column 'nmu_nodes' is no field" in done.stderr
    assert "Did you mean 'num_nodes'?" in done.stderr
    assert jobs(hello) == []
    done = hello(*words, "--ignore-unknown-columns")
    ok(done)
    assert "no template uses the columns 'state', 'nmu_nodes'" in done.stderr
    (tmp_path / "runs.csv").write_text("name,parm:x\na,8\n")
    assert "Did you mean 'param:x'?" in hello(*words).stderr


def test_nothing_half_done_when_a_late_line_is_bad(hello: Balsam, tmp_path: Path) -> None:
    with open(tmp_path / "runs.csv", "w") as file:
        file.write("priority\n")
        file.writelines(f"{n}\n" for n in range(45_000))
        file.write("high\n")
    done = hello(*JOB, "--from-file", "runs.csv")
    assert done.returncode == 2
    assert "line 45002" in done.stderr
    assert jobs(hello) == []


def test_dependencies(hello: Balsam) -> None:
    ok(hello(*JOB, "--array", "1-3"))
    ok(hello("kill", "3", "--yes"))
    ok(hello(*JOB, "--after", "1", "--after", "2"))
    ok(hello(*JOB, "--after-any", "3"))
    ok(hello(*JOB, "--after-failed", "3", "--after", "1"))
    found = {job["id"]: job for job in jobs(hello)}
    assert found[4]["parents"] == [1, 2]
    assert found[4]["state"] == "AWAITING_PARENTS"
    assert found[5]["parents_any"] == [3]
    assert found[5]["state"] == "PREPROCESSED"
    assert (found[6]["parents_failed"], found[6]["parents"]) == ([3], [1])


def test_parents_by_their_uuid(hello: Balsam) -> None:
    first = json.loads(ok(hello(*JOB, "--json")))[0]
    ok(hello(*JOB, "--after", first["job_id"]))
    assert jobs(hello)[1]["parents"] == [1]


def test_missing_parameter_is_told(balsam: Balsam) -> None:
    ok(balsam("app", "--name", "hello", "--executable", "echo {{beta}}"))
    done = balsam(*JOB)
    assert done.returncode == 2
    assert "parameter 'beta' of app 'hello' has no value; give --param beta=" in done.stderr
    done = balsam(*JOB, "--array", "0-1", "--param", "beta={i}")
    assert "hello" in ok(done)
    assert done.stderr == ""


def test_parameters_of_another_app_are_refused_with_their_line(
    balsam: Balsam, tmp_path: Path
) -> None:
    ok(balsam("app", "--name", "hello", "--executable", "echo {{beta}}"))
    ok(balsam("app", "--name", "other", "--executable", "echo {{gamma}}", "--preprocess", "true"))
    rows: list[dict[str, Any]] = [
        {"application": "hello", "parameters": {"beta": 1}},
        {"application": "other"},
        {"application": "hello", "parameters": {"bete": 1}},
    ]
    file = tmp_path / "runs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    done = balsam(*JOB[:5], "--from-file", "runs.jsonl", "--yes")
    assert done.returncode == 2, done.stdout
    said = (
        "runs.jsonl, line 3: app 'hello' has no parameter 'bete'; it has beta. Did you mean 'beta'?"
    )
    assert said in done.stderr
    assert jobs(balsam) == []
    ok(balsam(*JOB, "--param", "beta=1"))
    ok(balsam("mkchild", "--app", "other", env={"BALSAM_JOB_ID": "1"}))
    assert [job["parameters"] for job in jobs(balsam)] == [{"beta": 1}, {}]


def test_help_has_an_example(hello: Balsam) -> None:
    for verb in ("job", "mkchild", "app", "dep", "modify", "rm", "kill", "rerun", "make_dummies"):
        shown = ok(hello(verb, "--help"))
        assert f"balsam {verb}" in shown[shown.index("example") :]


# mkchild ---------------------------------------------------------------------------------


def test_child_is_like_the_current_job(hello: Balsam) -> None:
    ok(hello(*JOB))
    ok(
        hello(
            *(*JOB, "--after", "1", "--num-nodes", "2", "--tag", "a=1", "--tag", "b=1"),
            *("--data", '{"x": 1}', "--args", "{i}", "--wall-time-minutes", "9"),
        )
    )
    current = jobs(hello)[1]
    # no --yes: inside a job nobody answers
    shown = ok(
        hello(
            *("mkchild", "--name", "child", "--wall-minutes", "20", "--tag", "b=2"),
            env={"BALSAM_JOB_ID": current["job_id"]},
        )
    )
    assert "Added job to database: id 3" in shown
    child = jobs(hello)[2]
    assert (child["name"], child["workflow"], child["application"]) == ("child", "w", "hello")
    assert (child["num_nodes"], child["args"], child["data"]) == (2, "{i}", {"x": 1})
    assert (child["wall_time_minutes"], child["tags"]) == (20, {"a": "1", "b": "2"})
    assert child["parents"] == [1, 2]
    assert child["state"] == "AWAITING_PARENTS"


def test_children_by_the_dozen(hello: Balsam) -> None:
    ok(hello(*JOB))
    ok(hello("mkchild", "--array", "0-11", "--args", "{i}", env={"BALSAM_JOB_ID": "1"}))
    children = jobs(hello)[1:]
    assert [job["args"] for job in children] == [str(i) for i in range(12)]
    assert all(job["parents"] == [1] for job in children)


def test_child_with_hooks_of_its_own(hello: Balsam) -> None:
    ok(hello(*JOB))
    for _ in range(2):
        ok(hello("mkchild", "--preprocessor", "/bin/true x", env={"BALSAM_JOB_ID": "1"}))
    apps = json.loads(ok(hello("ls", "apps", "--json")))
    assert len(apps) == 2
    assert apps[1]["executable"] == "echo hello"
    assert apps[1]["preprocess"] == "/bin/true x"
    assert [job["application"] for job in jobs(hello)] == ["hello", *[apps[1]["name"]] * 2]


def test_refused_child_leaves_no_app(hello: Balsam) -> None:
    ok(hello(*JOB))
    done = hello(
        "mkchild", "--preprocessor", "/bin/true", "--num-nodes", "0", env={"BALSAM_JOB_ID": "1"}
    )
    assert done.returncode == 2
    assert len(json.loads(ok(hello("ls", "apps", "--json")))) == 1


# make_dummies ----------------------------------------------------------------------------


def test_dummies(balsam: Balsam) -> None:
    assert "Added 3 dummy jobs" in ok(balsam("make_dummies", "3"))
    ok(balsam("make_dummies", "2"))
    found = jobs(balsam)
    assert len(found) == 5
    assert {job["application"] for job in found} == {"dummy"}
    assert {job["workflow"] for job in found} == {"dummy"}
    assert {job["args"] for job in found} == {"hello"}
    assert {job["node_packing_count"] for job in found} == {64}
    (app,) = json.loads(ok(balsam("ls", "apps", "--json")))
    assert (app["name"], app["executable"]) == ("dummy", "echo")


def test_interrupted_insert_is_taken_back(
    hello: Balsam, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Ctrl-C in the middle of a large array leaves none of its jobs."""
    ok(hello(*JOB))
    balsam = Path(sys.executable).parent / "balsam"
    process = subprocess.Popen([balsam, *JOB, "--array", "0-999999"], env=environ)
    with closing(sqlite3.connect(tmp_path / "site" / "balsam.db")) as database:
        while database.execute("select max(id) from jobs").fetchone()[0] == 1:
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert len(jobs(hello)) == 1
