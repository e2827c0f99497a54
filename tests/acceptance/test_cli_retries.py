"""Retry rules on the command line: given, shown, changed, read from files, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Balsam, Result

FIRST = {"on": "exit", "exit_codes": [137], "max": 3, "memory_factor": 2.0}
SECOND = {"on": "signal", "signals": ["SEGV"], "delay": 30.0}


def ok(done: Result) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def sim(balsam: Balsam) -> Balsam:
    """The site, with the app 'sim' that has no rules."""
    ok(balsam("app", "--name", "sim", "--executable", "/bin/true"))
    return balsam


def add(balsam: Balsam, *words: object, stdin: str | None = None) -> list[dict[str, Any]]:
    given = ("job", "--name", "x{i}", "--workflow", "w", "--app", "sim", "--yes", "--json")
    found: list[dict[str, Any]] = json.loads(ok(balsam(*given, *words, stdin=stdin)))
    return found


def retry(balsam: Balsam, job: int) -> Any:
    return json.loads(ok(balsam("show", job, "--json")))["retry"]


def test_an_app_with_rules(balsam: Balsam) -> None:
    words = ("app", "--name", "big", "--executable", "/bin/true")
    rules = ("--retry", "exit=137: memory*2, max=3", "--retry", "signal=SIGSEGV: delay=30")
    made = json.loads(ok(balsam(*words, *rules, "--json")))
    assert made["retry"] == [FIRST, SECOND]
    said = ok(balsam("app", "--name", "other", "--executable", "/bin/true", "--retry", "any"))
    assert "retry:                          any: max=1\n" in said
    (big, other) = json.loads(ok(balsam("ls", "apps", "--json")))
    assert (big["retry"], other["retry"]) == ([FIRST, SECOND], [{"on": "any"}])


def test_jobs_with_rules(sim: Balsam) -> None:
    (one,) = add(sim, "--retry", "exit=137:memory*2,max=3", "--retry", "signal=SEGV: delay=30")
    assert one["retry"] == retry(sim, 1) == [FIRST, SECOND]
    assert (one["timeouts"], one["crashes"], one["retry_at"]) == (0, 0, None)
    (two,) = add(sim)
    assert two["retry"] == []
    shown = ok(sim("show", "1"))
    assert "retry: exit=137: max=3, memory*2; signal=SEGV: max=1, delay=30\n" in shown
    text = "exit=137: max=3, memory*2; signal=SEGV: max=1, delay=30"
    assert ok(sim("show", "1", "--field", "retry")).strip() == text
    listed = ok(sim("ls", env={"BALSAM_LS_FIELDS": "retry"}))
    assert text in listed


def test_rules_in_files(sim: Balsam, tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    table.write_text('name,retry\na,"exit=137: memory*2, max=3; signal=SEGV: delay=30"\nb,\n')
    made = add(sim, "--from-file", table)
    assert [one["retry"] for one in made] == [[FIRST, SECOND], []]
    lines = [
        {"retry": [FIRST, "signal=SEGV: delay=30"]},
        {"retry": "exit=137: memory*2, max=3; signal=SEGV: delay=30"},
        {"name": "c"},
    ]
    stdin = "\n".join(json.dumps(line) for line in lines)
    made = add(sim, "--from-file", "-", stdin=stdin)
    assert [one["retry"] for one in made] == [[FIRST, SECOND], [FIRST, SECOND], []]
    made = add(sim, "--from-file", "-", "--retry", "any", stdin=stdin)
    assert [one["retry"] for one in made] == [[{"on": "any"}]] * 3


def test_rules_are_changed(sim: Balsam) -> None:
    add(sim)
    said = ok(sim("modify", "1", "retry", "exit=137: memory*2, max=3; signal=SEGV: delay=30"))
    assert "retry: exit=137: max=3, memory*2; signal=SEGV: max=1, delay=30\n" in said
    assert retry(sim, 1) == [FIRST, SECOND]
    ok(sim("modify", "1", "retry", json.dumps([SECOND])))
    assert retry(sim, 1) == [SECOND]
    ok(sim("modify", "1", "retry", ""))
    assert retry(sim, 1) == []
    said = ok(sim("modify", "sim", "retry", "timeout: time+30", "--type", "apps"))
    assert "sim retry: timeout: max=1, time+30\n" in said
    (app,) = json.loads(ok(sim("ls", "apps", "--json")))
    assert app["retry"] == [{"on": "timeout", "time_add_minutes": 30.0}]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("app", "--name", "b", "--executable", "/bin/true", "--retry", "exit=x"), "'x'"),
        (
            ("job", "--name", "x", "--workflow", "w", "--app", "sim", "--retry", "any: nevr"),
            "never",
        ),
        (("modify", "1", "retry", "any: max=0"), "max is 0"),
        (("modify", "1", "retry", "[{]"), "malformed JSON"),
        (("modify", "1", "retry", '[{"on": "now"}]'), "'now'"),
        (("modify", "sim", "retry", "oops", "--type", "apps"), "'oops' is no condition"),
        (("modify", "1", "retry_at", "0"), "set by Balsam"),
        (("modify", "1", "crashes", "0"), "set by Balsam"),
    ],
)
def test_what_is_refused(sim: Balsam, words: tuple[str, ...], told: str) -> None:
    add(sim)
    before = ok(sim("ls", "apps", "--json")), retry(sim, 1)
    done = sim(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (ok(sim("ls", "apps", "--json")), retry(sim, 1)) == before


def test_a_bad_rule_in_a_file_is_named_with_its_line(sim: Balsam, tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    table.write_text("name,retry\na,any\nb,exit=0\n")
    done = sim("job", "--workflow", "w", "--app", "sim", "--yes", "--from-file", table)
    assert done.returncode == 2
    assert "line 3" in done.stderr
    assert "retry rule 'exit=0'" in done.stderr
    assert json.loads(ok(sim("ls", "--json"))) == []
