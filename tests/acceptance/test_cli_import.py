"""`balsam import`: a WfCommons workflow becomes a campaign, and runs to its end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.acceptance.conftest import Balsam, Result
from tests.unit.wfformat.documents import MONTAGE, diamond, encoded


def ok(done: Result) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_montage_runs_to_its_end_in_order(balsam: Balsam, site: Path) -> None:
    told = json.loads(ok(balsam("import", MONTAGE, "--dry-run", "--json")))
    assert (told["jobs"], told["dependencies"], told["added"]) == (58, 114, False)
    assert json.loads(ok(balsam("ls", "jobs", "--json"))) == []
    assert json.loads(ok(balsam("ls", "apps", "--json"))) == []

    scale = ("--scale-time", "1e-5", "--scale-size", "1e-4")
    told = json.loads(ok(balsam("import", MONTAGE, "--workflow", "sky/m17", *scale, "--json")))
    assert (told["workflow"], told["added"], told["ids"]) == ("sky/m17", True, [[1, 58]])
    ok(balsam("launcher", "--consume-all"))

    jobs = json.loads(ok(balsam("ls", "jobs", "--json")))
    assert {job["state"] for job in jobs} == {"JOB_FINISHED"}
    assert {job["attempt"] for job in jobs} == {1}
    # A task fails unless all that it reads is there, whole: they ran in their order.
    sizes = {
        file["id"]: round(file["sizeInBytes"] * 1e-4)
        for file in json.loads(MONTAGE.read_text())["workflow"]["specification"]["files"]
    }
    files = site / "data" / "sky" / "m17" / "files"
    assert {path.name: path.stat().st_size for path in files.iterdir()} == sizes

    again = balsam("import", MONTAGE, "--workflow", "sky/m17")
    assert again.returncode == 1
    assert "workflow 'sky/m17' has 58 jobs already; choose another name" in again.stderr


def test_commands_run_where_their_files_are(balsam: Balsam, tmp_path: Path) -> None:
    document = diamond()
    for name, arguments in {
        "split": ["in", "s"],
        "left": ["s a"],
        "right": ["s", "b"],
        "join": ["-t . a b"],
    }.items():
        program = "cp" if name != "join" else "mv"
        runs = document["workflow"]["execution"]["tasks"]
        runs[:] = [run for run in runs if run["id"] != f"{name}_1"]
        command = {"program": program, "arguments": arguments}
        runs.append({"id": f"{name}_1", "runtimeInSeconds": 0.1, "command": command})
    directory = tmp_path / "with blank"
    (directory / "sub").mkdir(parents=True)
    document["workflow"]["execution"]["tasks"][-1]["command"]["arguments"] = ["-t sub", "a b"]
    file = directory / "diamond.json"
    file.write_bytes(encoded(document))

    told = balsam("import", file, "--commands")
    assert "1 of the files that no task writes are not in" in told.stderr
    assert "Added 4 jobs to database: ids 1-4" in ok(told)
    (directory / "in").write_text("hello")
    ok(balsam("launcher", "--consume-all"))
    jobs = json.loads(ok(balsam("ls", "jobs", "--json")))
    assert {job["state"] for job in jobs} == {"JOB_FINISHED"}
    assert (directory / "sub" / "a").read_text() == "hello"
    assert (directory / "sub" / "b").read_text() == "hello"


def test_a_bad_file_leaves_nothing(balsam: Balsam, tmp_path: Path) -> None:
    document = diamond()
    document["workflow"]["specification"]["tasks"][0]["parents"].append("nobody")
    bad = tmp_path / "bad.json"
    bad.write_bytes(encoded(document))
    done = balsam("import", bad)
    assert done.returncode == 2
    path = "$.workflow.specification.tasks[0].parents[2]"
    assert f"{bad}: {path}: there is no task 'nobody'." in done.stderr
    assert "Traceback" not in done.stderr

    ok(balsam("app", "--name", "diamond.join", "--exec", "true"))
    done = balsam("import", "-", stdin=encoded(diamond()).decode())
    assert done.returncode == 1
    assert "app 'diamond.join' is there already and runs something else" in done.stderr
    assert json.loads(ok(balsam("ls", "jobs", "--json"))) == []
    assert [app["name"] for app in json.loads(ok(balsam("ls", "apps", "--json")))] == [
        "diamond.join"
    ]


def test_what_finds_no_space_leaves_nothing(
    balsam: Balsam, site: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    tasks = [{"name": f"t{n}", "id": f"t{n}", "parents": [], "children": []} for n in range(12000)]
    document = {
        "name": "w",
        "schemaVersion": "1.6",
        "workflow": {"specification": {"tasks": tasks}},
    }
    file = tmp_path / "many.json"
    file.write_text(json.dumps(document))
    # Room for the app, and not for the jobs.
    script = 'ulimit -f 1000 && exec balsam import "$0" --site "$1"'
    done = subprocess.run(
        ["bash", "-c", script, file, site], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "full" in done.stderr
    assert json.loads(ok(balsam("ls", "jobs", "--json"))) == []
    assert json.loads(ok(balsam("ls", "apps", "--json"))) == []


def test_wrong_uses_are_told(balsam: Balsam, tmp_path: Path) -> None:
    for argv, told in (
        (("nowhere.json",), "nowhere.json: cannot be read: No such file or directory"),
        ((MONTAGE, "--scale-time", "-1"), "a factor is a number from 0, not '-1'"),
        ((MONTAGE, "--directory", tmp_path), "--directory is for --commands"),
        ((MONTAGE, "--commands", "--directory", "no"), "there is no such directory"),
        ((MONTAGE, "--workflow", "../x"), "workflow '../x' is not a relative path"),
    ):
        done = balsam("import", *argv)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1 or "usage" in done.stderr
