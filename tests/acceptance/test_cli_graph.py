"""`balsam graph` and `balsam ls --tree` through the real executable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.acceptance.conftest import Balsam, Result, clean_environ, runner


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balsam]:
    """A site with jobs 1 prepare → 2-301 sim → 302 collect, and 303 alarm if 2 fails; read it."""
    folder = tmp_path_factory.mktemp("graphs")
    environ = clean_environ(folder / "home")
    environ["BALSAM_DB_PATH"] = str(folder / "site")
    balsam = runner(environ, folder)
    balsam("init", folder / "site")
    balsam("app", "--name", "say", "--executable", "echo")
    job = ("job", "--application", "say", "--yes", "--workflow")
    balsam(*job, "w", "--name", "prepare")
    balsam(*job, "w", "--name", "sim{i}", "--array", "0-299", "--after", "1")
    sims = [word for i in range(2, 302) for word in ("--after", str(i))]
    balsam(*job, "w", "--name", "collect", *sims)
    done = balsam(*job, "v", "--name", 'a "larm"', "--after-failed", "2")
    assert done.returncode == 0, done.stderr
    yield balsam
    shutil.rmtree(folder)


def ok(done: Result) -> str:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_tree_counts_what_is_too_many(graphs: Balsam) -> None:
    out = ok(graphs("ls", "--tree", "--width", "2")).splitlines()
    assert out[0] == "1 prepare [w] PREPROCESSED"
    assert out[2:5] == [
        "|   |   302 collect [w] AWAITING_PARENTS",
        '|   |   303 a "larm" [v] AWAITING_PARENTS (if it fails)',
        "|   3 sim1 [w] AWAITING_PARENTS",
    ]
    assert out[-1] == "|   … and 298 more: 298 AWAITING_PARENTS"
    shallow = ok(graphs("ls", "--tree", "--depth", "1")).splitlines()
    assert shallow[1:] == ["|   … 300 below: 300 AWAITING_PARENTS (2 jobs below them)"]
    cut = graphs("ls", "--tree", "--limit", "3")
    assert len(cut.stdout.splitlines()) == 3
    assert "only 3 lines are shown" in cut.stderr
    assert len(ok(graphs("ls", "--tree", "--width", "0")).splitlines()) == 1 + 300 + 300 + 1


def test_tree_of_a_selection(graphs: Balsam) -> None:
    assert ok(graphs("ls", "--tree", "--name", "collect")).splitlines() == [
        "302 collect [w] AWAITING_PARENTS (waits for 300 jobs not shown)"
    ]
    assert "No jobs found" in ok(graphs("ls", "--tree", "--name", "nothing"))
    found = ok(graphs("ls", "wf", "--tree", "--width", "1")).splitlines()
    assert found[:3] == ["v", '  303 a "larm" [v] AWAITING_PARENTS', "w"]


def test_json_of_tree_and_graph_has_every_job(graphs: Balsam) -> None:
    tree = json.loads(ok(graphs("ls", "--tree", "--json")))
    assert tree == json.loads(ok(graphs("graph", "--format", "json")))
    assert sorted(tree) == ["collapse", "edges", "jobs", "nodes"]
    assert (tree["jobs"], len(tree["nodes"]), len(tree["edges"])) == (303, 303, 601)
    first = tree["nodes"][0]
    assert sorted(first) == [
        *("application", "id", "job_id", "jobs", "name", "state", "states", "workflow")
    ]
    assert (first["id"], first["name"], first["state"]) == (1, "prepare", "PREPROCESSED")
    assert tree["edges"][-1] == {"parent": 2, "child": 303, "kind": "fail", "dependencies": 1}


def test_a_large_graph_is_collapsed_and_says_so(graphs: Balsam) -> None:
    done = graphs("graph")
    assert done.returncode == 0
    assert "303 jobs are drawn as 4 nodes (--collapse equal)" in done.stderr
    assert done.stdout.startswith("flowchart TD\n")
    assert 'n0 -->|"× 300"| n1' in done.stdout  # noqa: RUF001
    whole = graphs("graph", "--collapse", "jobs")
    assert whole.stdout.count("-->") == 600
    assert "hard to look at" in whole.stderr


def test_formats_by_the_name_of_the_file(graphs: Balsam, tmp_path: Path) -> None:
    for name, start in (("g.mmd", "flowchart"), ("g.dot", "digraph"), ("g.json", "{")):
        done = graphs("graph", "--output", tmp_path / name, "--collapse", "equal")
        assert ok(done) == f"wrote {tmp_path / name} (303 jobs as 4 nodes)\n"
        assert (tmp_path / name).read_text().startswith(start)
    ok(graphs("graph", "-o", tmp_path / "g.svg", "--workflow", "w", "--collapse", "layers"))
    ElementTree.parse(tmp_path / "g.svg")
    assert ok(graphs("graph", "--format", "svg", "--id", "1", "-o", "-")).startswith("<svg ")


def test_what_is_left_out_is_told(graphs: Balsam) -> None:
    assert "not drawn: 1 dependency on jobs" in graphs("graph", "--wf", "v").stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--output", "graph.pdf"), 2, ".svg"),
        (("--output", "/no/such/dir/g.svg"), 2, "/no/such/dir"),
        (("--name", "nothing"), 1, "no job matches"),
        (("--format", "png"), 2, "'png'"),
    ],
)
def test_wrong_use(graphs: Balsam, words: tuple[str, ...], code: int, told: str) -> None:
    done = graphs("graph", *words)
    assert done.returncode == code
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


# graphs from files -----------------------------------------------------------------------

ROWS = [
    {"name": "prepare"},
    {"name": "left", "parents": [-1]},
    {"name": "right", "parents": [-1]},
    {"name": "both", "parents": [-2, -3], "parents_any": [-1]},
]


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def from_file(balsam: Balsam, file: Path) -> Result:
    return balsam("job", "--from-file", file, "--workflow", "g", "--app", "say", "--yes")


@pytest.fixture
def say(balsam: Balsam) -> Balsam:
    ok(balsam("app", "--name", "say", "--executable", "echo"))
    return balsam


def test_rows_of_a_file_wait_for_each_other(say: Balsam, tmp_path: Path) -> None:
    ok(say("job", "--name", "old", "--workflow", "g", "--app", "say", "--yes"))
    ok(from_file(say, write(tmp_path / "rows.jsonl", [*ROWS, {"name": "x", "parents": [1, -4]}])))
    jobs = {job["name"]: job for job in json.loads(ok(say("ls", "--json")))}
    assert jobs["both"]["parents"] == [jobs["left"]["id"], jobs["right"]["id"]]
    assert jobs["both"]["parents_any"] == [jobs["prepare"]["id"]]
    assert jobs["prepare"]["state"] == "PREPROCESSED"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([*ROWS, {"name": "far", "parents": [-6]}], "rows.jsonl, line 5: there is no row 6"),
        ([{"name": "a", "parents": [-2]}, {"name": "b", "parents": [-1]}], "'a' → 'b' → 'a'"),
        ([{"name": "a", "parents": [-1]}], "'a' → 'a'"),
    ],
)
def test_wrong_rows_add_nothing(
    say: Balsam, tmp_path: Path, rows: list[dict[str, object]], told: str
) -> None:
    done = from_file(say, write(tmp_path / "rows.jsonl", rows))
    assert done.returncode != 0
    assert told in done.stderr or told.replace("'a' → 'b' → 'a'", "'b' → 'a' → 'b'") in done.stderr
    assert json.loads(ok(say("ls", "--json"))) == []


def test_rows_of_many_transactions(say: Balsam, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"name": "first"}]
    rows += [{"name": f"j{i}"} for i in range(2, 20_010)]
    rows.append({"name": "last", "parents": [-1, -19_999, -20_005]})
    ok(from_file(say, write(tmp_path / "rows.jsonl", rows)))
    (last,) = json.loads(ok(say("ls", "--json", "--name", "last")))
    assert [last["id"] - parent for parent in last["parents"]] == [20_009, 11, 5]
    rows[0] = {"name": "early", "parents": [-20_001]}
    done = from_file(say, write(tmp_path / "late.jsonl", rows))
    assert done.returncode == 2
    assert "line 1: the parent in row 20001 comes too late" in done.stderr
