"""Bad input: one line that says what, the right exit code, and nothing changed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

BALSAM = str(Path(sys.executable).parent / "balsam")
Run = Callable[..., "subprocess.CompletedProcess[str]"]

FILES = {
    "short.csv": "priority,max_retries\n8,1\n16\n",
    "long.csv": "priority,max_retries\n8,1\n16,2,3\n",
    "quote.csv": 'priority,max_retries\n8,"1\n',
    "number.csv": "priority,num_nodes\n8,1\n16,two\n",
    "negative.csv": "priority,num_nodes\n8,1\n16,-2\n",
    "slash.csv": "name\nfine\na/b\n",
    "parent.csv": "parents\n1\n99\n",
    "app.csv": "application\nhello\nhelo\n",
    "bad.jsonl": '{"size": 8}\n{"size": 16,}\n',
    "list.jsonl": '{"size": 8}\n[16]\n',
    "bad.json": '[\n  {"size": 8},\n  {"size": }\n]\n',
    "object.json": '{"size": 8, "seed": 1}',
    "bad.toml": "[[job]]\nsize = 8\nseed = \n",
    "empty.csv": "",
    "header.csv": "priority,max_retries\n",
    "lines.txt": "fine\nit's\n",
    "known.txt": "a\n",
}
JOB = ("job", "--name", "x", "--workflow", "w", "--application", "hello", "--yes")
MANY = ("job", "--name", "x{i}", "--workflow", "w", "--application", "hello", "--yes")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    """Run `balsam ARGV…` with a site of two apps and three jobs, 1 → 2, 3 killed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BALSAM_")}
    environ = {**clean, "BALSAM_HOME": str(place / "home"), "BALSAM_DB_PATH": str(place / "site")}

    def balsam(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BALSAM, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            env=environ,
            cwd=place,
            timeout=60,
        )

    for argv in (
        ("init", "site"),
        ("app", "--name", "hello", "--executable", "echo hello"),
        ("app", "--name", "other", "--executable", "echo other"),
        (*MANY, "--array", "1-3"),
        ("dep", "1", "2"),
        ("kill", "3", "--yes"),
    ):
        done = balsam(*argv)
        assert done.returncode == 0, done.stderr
    for name, text in FILES.items():
        (place / name).write_text(text)
    return balsam


@pytest.fixture
def unchanged(run: Run, place: Path) -> Iterator[None]:
    """Fail when the test has changed anything in the database."""
    before = _dump(place)
    yield
    assert _dump(place) == before


def _dump(place: Path) -> list[str]:
    with closing(sqlite3.connect(place / "site" / "balsam.db")) as database:
        return list(database.iterdump())


CASES = [
    # unknown options and verbs
    ((*JOB, "--nmu-nodes", "2"), 2, ["--nmu-nodes", "--num-nodes"]),
    (("modfy", "1", "name", "y"), 2, ["modfy"]),
    (("rm", "files", "--all"), 2, ["files"]),
    (("app", "--name", "x"), 2, ["--executable"]),
    (("job", "--workflow", "w", "--yes"), 2, ["--name", "--application"]),
    # unknown apps
    ((*JOB[:6], "helo", "--yes"), 1, ["'helo'", "'hello'"]),
    ((*MANY[:5], "--yes", "--from-file", "app.csv"), 1, ["'helo'", "'hello'"]),
    (("rm", "apps", "--id", "nothing", "--yes"), 1, ["'nothing'"]),
    (("modify", "othr", "executable", "x", "--type", "apps"), 1, ["'othr'", "'other'"]),
    (("modify", "1", "application", "helo"), 1, ["'helo'", "'hello'"]),
    (("app", "--name", "hello", "--executable", "echo"), 1, ["'hello'"]),
    (("app", "--name", "new", "--executable", "echo 'x"), 2, ["--executable", "quotation"]),
    # unknown fields
    (("modify", "1", "num_node", "2"), 2, ["'num_node'", "'num_nodes'"]),
    (("modify", "1", "exit_code", "2"), 2, ["exit_code", "Balsam"]),
    (("modify", "1", "parents", "2"), 2, ["parents", "balsam dep"]),
    (("modify", "hello", "executabel", "x", "--type", "apps"), 2, ["'executabel'", "'executable'"]),
    (("rerun", "--filter", "stat=FAILED"), 2, ["'stat'", "'state'"]),
    (("kill", "--filter", "name__contians=x", "--yes"), 2, ["contians", "contains"]),
    # unknown states
    (("modify", "1", "state", "FINISHED"), 2, ["'FINISHED'", "'JOB_FINISHED'"]),
    (("rerun", "--state", "FAILD"), 2, ["'FAILD'", "'FAILED'"]),
    (("rm", "jobs", "--state", "DONE", "--yes"), 2, ["'DONE'", "CREATED"]),
    (("modify", "3", "state", "CREATED"), 1, ["Cannot mutate state of a killed job"]),
    (("modify", "1", "state", "RUN_DONE"), 1, ["1", "PREPROCESSED", "RUN_DONE"]),
    # unknown sites
    (("--site", "nowhere", *JOB), 1, ["'nowhere'", "--site", "balsam init"]),
    # malformed JSON, CSV, TOML
    ((*JOB, "--data", '{"a": }'), 2, ["--data", "line 1", "column 7"]),
    ((*JOB, "--data", "{'a': 1}"), 2, ["--data", "line 1", "column 2"]),
    ((*MANY, "--array", "0-9", "--data", '{"a": {j}}'), 2, ["--data", "line 1", "column"]),
    (("modify", "1", "data", '{"a": 1'), 2, ["data", "line 1", "column 8"]),
    (("modify", "1", "tags", "[1]"), 2, ["tags", "[1]"]),
    ((*MANY, "--from-file", "short.csv"), 2, ["short.csv", "line 3", "column 2", "'max_retries'"]),
    ((*MANY, "--from-file", "long.csv"), 2, ["long.csv", "line 3", "column 3", "'3'"]),
    ((*MANY, "--from-file", "quote.csv"), 2, ["quote.csv", "line 2"]),
    ((*MANY, "--from-file", "number.csv"), 2, ["line 3", "num_nodes", "'two'"]),
    ((*MANY, "--from-file", "bad.jsonl"), 2, ["bad.jsonl", "line 2", "column 13"]),
    ((*MANY, "--from-file", "list.jsonl"), 2, ["list.jsonl", "line 2", "[16]"]),
    ((*MANY, "--from-file", "bad.json"), 2, ["bad.json", "line 3", "column 12"]),
    ((*MANY, "--from-file", "object.json"), 2, ["object.json", "array of objects"]),
    ((*MANY, "--from-file", "bad.toml"), 2, ["bad.toml", "line 3", "column 8"]),
    ((*MANY, "--from-file", "empty.csv"), 2, ["empty.csv", "empty"]),
    ((*MANY, "--from-file", "header.csv"), 2, ["header.csv", "no records"]),
    ((*MANY, "--from-file", "none.csv"), 2, ["none.csv", "No such file"]),
    ((*MANY, "--from-file", "known.txt"), 2, ["known.txt", ".csv"]),
    ((*MANY, "--each-line", "lines.txt", "--args", "{line}"), 2, ["line 2", "it's"]),
    ((*MANY, "--each-line", "."), 2, ["directory"]),
    ((*MANY, "--array", "9-0"), 2, ["--array", "'9-0'"]),
    ((*MANY, "--array", "ten"), 2, ["--array", "'ten'"]),
    ((*MANY, "--array", "0-9", "--each-line", "known.txt"), 2, ["--each-line", "--array"]),
    ((*MANY[:2], "x{i:c}", *MANY[3:], "--array", "0-9"), 2, ["--name", "{i:c}"]),
    ((*JOB, "--args", "it's"), 2, ["it's"]),
    ((*JOB, "--tag", "size"), 2, ["--tag", "'size'"]),
    ((*JOB, "--env", "=x"), 2, ["--env", "'=x'"]),
    ((*JOB, "--param", "n=1", "--param", "n=2"), 2, ["--param n", "twice"]),
    # bytes that are no UTF-8
    ((*JOB, "--args", "a\udcff"), 2, ["args", "UTF-8"]),
    ((*JOB, "--env", "A=b\udcff"), 2, ["--env", r"'A=b\udcff'", "UTF-8"]),
    ((*JOB, "--tag", "\udcff=b"), 2, ["--tag", r"'\udcff=b'", "UTF-8"]),
    (("app", "--name", "new", "--executable", "x\udcff"), 2, [r"x\udcff"]),
    (("modify", "1", "environ", "A=\udcff"), 2, ["environ", r"'A=\udcff'"]),
    (("kill", "--name", "\udcff", "--yes"), 2, [r"'\udcff'"]),
    # cycles and wrong dependencies
    (("dep", "2", "1"), 1, ["[1 | ", "[2 | ", " → ", "cycle"]),
    (("dep", "1", "1"), 1, ["1"]),
    (("dep", "1", "2"), 1, ["1", "2"]),
    (("dep", "1", "99"), 1, ["99"]),
    (("dep", "1", "2", "--kind", "maybe"), 2, ["'maybe'", "ok"]),
    ((*JOB, "--after", "99"), 1, ["'99'"]),
    ((*MANY, "--from-file", "parent.csv"), 1, ["99"]),
    # negative and impossible resources
    ((*JOB, "--num-nodes", "-1"), 2, ["num_nodes", "-1"]),
    ((*JOB, "--num-nodes", "0"), 2, ["num_nodes", "0"]),
    ((*JOB, "--num-nodes", "many"), 2, ["--num-nodes", "'many'"]),
    ((*JOB, "--num-nodes", "99999999"), 2, ["num_nodes", "99999999"]),
    ((*JOB, "--ranks-per-node", "-4"), 2, ["ranks_per_node", "-4"]),
    ((*JOB, "--cores-per-rank", "-1"), 2, ["cores_per_rank", "-1"]),
    ((*JOB, "--gpus-per-rank", "nan"), 2, ["gpus_per_rank", "nan"]),
    ((*JOB, "--gpus-per-rank", "-0.5"), 2, ["gpus_per_rank", "-0.5"]),
    ((*JOB, "--memory", "4X"), 2, ["memory", "'4X'"]),
    ((*JOB, "--memory", "-4G"), 2, ["memory"]),
    ((*JOB, "--node-packing-count", "0"), 2, ["node_packing_count", "0"]),
    ((*JOB, "--wall-time-minutes", "-5"), 2, ["wall_time_minutes", "-5"]),
    ((*JOB, "--wall-time-minutes", "inf"), 2, ["wall_time_minutes", "inf"]),
    ((*JOB, "--max-retries", "-1"), 2, ["max_retries", "-1"]),
    ((*JOB, "--priority", "99999999999"), 2, ["priority", "99999999999"]),
    ((*MANY, "--from-file", "negative.csv"), 2, ["line 3", "num_nodes", "-2"]),
    (("modify", "1", "num_nodes", "-1"), 2, ["num_nodes", "-1"]),
    (("modify", "1", "auto_timeout_retry", "maybe"), 2, ["auto_timeout_retry", "'maybe'"]),
    (("make_dummies", "0"), 2, ["0"]),
    (("make_dummies", "many"), 2, ["'many'"]),
    # names
    ((*JOB, "--name", "a/b"), 2, ["'a/b'", "'/'"]),
    ((*JOB, "--name", "a\nb"), 2, [r"'a\nb'"]),
    ((*JOB, "--name", "a\U0001f600"), 2, ["four bytes"]),
    ((*JOB, "--name", "a" * 300), 2, ["longer", "200"]),
    ((*JOB, "--name", ""), 2, ["name is empty"]),
    ((*JOB, "--name", ".."), 2, ["'..'"]),
    ((*JOB, "--workflow", "../w"), 2, ["'../w'"]),
    ((*JOB, "--workflow", "a\nb"), 2, [r"'a\nb'"]),
    ((*MANY[:1], *MANY[3:], "--from-file", "slash.csv"), 2, ["slash.csv", "line 3", "'a/b'"]),
    (("modify", "1", "name", "a/b"), 2, ["'a/b'"]),
    # ids
    (("modify", "first", "name", "y"), 2, ["'first'"]),
    (("modify", "99", "name", "y"), 1, ["'99'"]),
    (("dep", "one", "2"), 2, ["'one'"]),
    (("killjob", "--id", "x1", "--yes"), 2, ["'x1'"]),
    (("killjob", "--id", "77", "--yes"), 1, ["'77'"]),
    (("rm", "jobs", "--id", "1.5", "--yes"), 2, ["'1.5'"]),
    (("rerun", "no-job"), 2, ["'no-job'"]),
    ((*JOB, "--after", "first"), 2, ["'first'"]),
    # nothing chosen, or too much
    (("kill", "--yes"), 2, ["--state", "--all"]),
    (("rerun",), 2, ["--state", "--all"]),
    (("rm", "jobs", "--yes"), 2, ["--name", "--all"]),
    (("rm", "apps", "--yes"), 2, ["--name", "--all"]),
    (("rm", "jobs", "--name", "x", "--all", "--yes"), 2, ["--name", "--all"]),
    (("rm", "jobs", "--name", "x", "--id", "1", "--yes"), 2, ["--name", "--id"]),
    (("rm", "apps", "--state", "FAILED", "--yes"), 2, ["--name", "--id", "--all"]),
    (("modify", "priority", "5"), 2, ["--state", "--all"]),
    (("modify", "1"), 2, ["ID ATTR VALUE"]),
    (("modify", "apps", "1", "name", "y", "--type", "jobs"), 2, ["apps", "jobs"]),
    (("kill", "--wf", "nothing", "--yes"), 1, ["no job matches"]),
    (("rm", "jobs", "--name", "nothing", "--yes"), 1, ["no job matches"]),
    (("rerun", "--name", "nothing"), 1, ["no job matches"]),
    (("mkchild", "--name", "x"), 2, ["BALSAM_JOB_ID"]),
    # two inits on one path
    (("init", "site"), 1, ["site", "already"]),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    CASES,
    ids=[" ".join(c[0])[-60:].encode("unicode_escape").decode() for c in CASES],
)
def test_refused_in_one_line(run: Run, argv: tuple[str, ...], code: int, words: list[str]) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("balsam")
    assert "error: " in lines[0]
    for word in words:
        assert word in lines[0]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "argv",
    [
        JOB[:-1],
        ("rm", "jobs", "--all"),
        ("rm", "apps", "--all"),
        ("kill", "1"),
        ("killjob", "--id", "1"),
    ],
    ids=" ".join,
)
def test_refused_where_nobody_answers(run: Run, argv: tuple[str, ...]) -> None:
    done = run(*argv)
    assert done.returncode == 2
    assert "--yes" in done.stderr.splitlines()[-1]
    done = run(*argv, stdin="n\n")
    assert done.returncode == 1
    assert "Nothing was" in done.stdout


def test_more_than_any_node_is_accepted_with_a_warning(run: Run) -> None:
    done = run(*JOB, "--cores-per-rank", "5000")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("balsam: warning: 5000 cores")
    assert str(os.cpu_count()) in line
