"""What the verbs wrote, run by a real launcher."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Balsam = Callable[..., "subprocess.CompletedProcess[str]"]

SHOW = """\
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "PATH": os.environ["PATH"], "N": os.environ.get("N")}))
"""


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(balsam: Balsam) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(balsam("ls", "jobs", "--json")))
    return found


def test_arguments_and_environment_arrive_whole(balsam: Balsam, tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    ok(balsam("app", "--name", "show", "--executable", "show.py --beta={{beta}}"))
    ok(
        balsam(
            *("job", "--array", "3-4", "--name", "s{i}", "--workflow", "w", "--app", "show"),
            *("--args", """'{"a":  {i}}' "{print $1}" plain""", "--param", "beta=0.{i}"),
            *("--env", "PATH=/a:/b", "--env", "N={i}", "--yes"),
        )
    )
    ok(balsam("launcher", "--consume-all"))
    for job, i in zip(jobs(balsam), ("3", "4"), strict=True):
        assert job["state"] == "JOB_FINISHED"
        output = json.loads(Path(job["workdir"], f"s{i}.out").read_text())
        assert output == {
            "argv": [f"--beta=0.{i}", f'{{"a":  {i}}}', "{print $1}", "plain"],
            "PATH": "/a:/b",
            "N": i,
        }


def test_children_made_inside_a_job(balsam: Balsam) -> None:
    here = str(Path(sys.executable).parent / "balsam")
    ok(balsam("app", "--name", "leaf", "--executable", "echo leaf"))
    ok(balsam("app", "--name", "split", "--executable", f"{here} mkchild --array 0-2"))
    ok(
        balsam(
            *("job", "--name", "root", "--workflow", "w", "--app", "split", "--yes"),
            *("--args", "--name child{i} --application leaf --args {i} --tag n={i}"),
        )
    )
    ok(balsam("launcher", "--consume-all"))
    root, *children = jobs(balsam)
    assert root["state"] == "JOB_FINISHED"
    assert [child["name"] for child in children] == ["child0", "child1", "child2"]
    assert all(child["parents"] == [root["id"]] for child in children)
    assert all(child["state"] == "JOB_FINISHED" for child in children)
    assert Path(children[2]["workdir"], "child2.out").read_text() == "leaf 2\n"


def test_failed_jobs_run_again_after_the_cause_is_gone(balsam: Balsam, tmp_path: Path) -> None:
    ok(balsam("app", "--name", "cat", "--executable", "cat"))
    ok(
        balsam(
            *("job", "--name", "c", "--workflow", "w", "--app", "cat", "--yes"),
            *("--args", str(tmp_path / "late")),
        )
    )
    ok(balsam("launcher", "--consume-all"))
    assert jobs(balsam)[0]["state"] == "FAILED"
    (tmp_path / "late").write_text("here")
    assert ok(balsam("rerun", "--state", "FAILED")) == "1 job will run again.\n"
    ok(balsam("launcher", "--consume-all"))
    (job,) = jobs(balsam)
    assert (job["state"], job["attempt"]) == ("JOB_FINISHED", 2)
    assert Path(job["workdir"], "c.out").read_text().endswith("here")


def test_the_node_options_of_0x_scripts_are_taken(balsam: Balsam) -> None:
    first = ("launcher", "--consume-all", "--job-mode=serial", "--idle-seconds=0")
    done = balsam(*first, "--limit-nodes=1", "--offset-nodes=0")
    assert done.returncode == 0, done.stderr
    refused = balsam(*first, "--offset-nodes=2")
    assert refused.returncode == 2
    assert "--offset-nodes is 2" in refused.stderr


def test_names_that_the_launchers_locale_lacks_are_run(balsam: Balsam) -> None:
    """One such job used to end every worker, and with them the launcher."""
    assert balsam("app", "--name", "say", "--exec", "echo").returncode == 0
    job = ("job", "--name", "caf\u00e9\u2192", "--workflow", "w", "--app", "say", "--yes")
    assert balsam(*job, "--args", "\u2192").returncode == 0
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = balsam("launcher", "--consume-all", "--idle-seconds=0", env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert balsam("show", 1, "--field", "state").stdout == "JOB_FINISHED\n"
    assert balsam("logs", 1).stdout == "\u2192\n"
