"""Time on the command line: warning signals, and what was learned of run times."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import Balsam, Result


def ok(done: Result) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def sim(balsam: Balsam) -> Balsam:
    """The site, with the app 'sim', which has a signal."""
    words = ("app", "--name", "sim", "--executable", "/bin/true", "--signal", "USR2@30")
    assert "signal:                         USR2@30\n" in ok(balsam(*words))
    return balsam


def add(balsam: Balsam, *words: object, stdin: str | None = None) -> Result:
    given = ("job", "--name", "x{i}", "--workflow", "w", "--app", "sim", "--yes")
    return balsam(*given, *words, stdin=stdin)


# warning signals --------------------------------------------------------------------


def test_signals_of_apps_and_jobs(sim: Balsam) -> None:
    assert json.loads(ok(sim("ls", "apps", "--json")))[0]["signal"] == "USR2@30"
    ok(add(sim, "--signal", "SIGUSR1@120"))
    ok(add(sim))
    assert [job["signal"] for job in json.loads(ok(sim("ls", "--json")))] == ["SIGUSR1@120", ""]
    assert ok(sim("show", "1", "--field", "signal")) == "SIGUSR1@120\n"


def test_signals_are_changed(sim: Balsam) -> None:
    ok(add(sim))
    assert "signal: 10@5\n" in ok(sim("modify", "1", "signal", "10@5"))
    assert ok(sim("modify", "1", "signal", "")).endswith("Changed 1 job.\n")
    ok(sim("modify", "sim", "signal", "none", "--type", "apps"))
    assert json.loads(ok(sim("ls", "apps", "--json")))[0]["signal"] == "none"


def test_signals_of_many_jobs(sim: Balsam) -> None:
    ok(add(sim, "--from-file", "-", stdin='{"signal": "TERM@9"}\n{}\n'))
    assert [job["signal"] for job in json.loads(ok(sim("ls", "--json")))] == ["TERM@9", ""]


@pytest.mark.parametrize(
    "words",
    [
        ("job", "--name", "x", "--workflow", "w", "--app", "sim", "--yes", "--signal", "USR3@9"),
        ("app", "--name", "y", "--executable", "/bin/true", "--signal", "USR3@9"),
        ("modify", "1", "signal", "USR3@9"),
        ("modify", "sim", "signal", "USR3@9", "--type", "apps"),
    ],
    ids=" ".join,
)
def test_what_is_no_signal_is_refused(sim: Balsam, words: tuple[str, ...]) -> None:
    ok(add(sim))
    refused = sim(*words)
    assert refused.returncode == 2
    assert "signal 'USR3@9': there is no signal 'USR3'" in refused.stderr
    assert "'USR1@120'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert len(json.loads(ok(sim("ls", "apps", "--json")))) == 1
    assert [job["signal"] for job in json.loads(ok(sim("ls", "--json")))] == [""]


# run times --------------------------------------------------------------------------


def test_run_times_are_listed(sim: Balsam) -> None:
    assert ok(sim("ls", "times")) == "No run times found matching query\n"
    assert ok(sim("ls", "times", "--json")) == "[]\n"
    ok(sim("app", "--name", "other", "--executable", "/bin/true"))
    ok(add(sim, "--array", "0-2"))
    ok(sim("job", "--name", "y", "--workflow", "w", "--app", "other", "--yes"))
    ok(sim("launcher", "--consume-all", "--idle-seconds", "0"))
    other, learned = json.loads(ok(sim("ls", "times", "--json")))
    assert (learned["application"], learned["ranks"], learned["count"]) == ("sim", 1, 3)
    assert 0 < learned["mean_seconds"] < learned["longest_seconds"]
    assert (other["count"], other["deviation"], other["longest_seconds"]) == (1, 0.0, None)
    head, _, row = ok(sim("ls", "times", "--name", "SI")).splitlines()
    assert [word.strip() for word in head.split("|")] == list(learned)
    assert [word.strip() for word in row.split("|")][:3] == ["sim", "1", "3"]


def test_options_that_say_nothing_about_times_are_refused(sim: Balsam) -> None:
    refused = sim("ls", "times", "--state", "FAILED")
    assert refused.returncode == 2
    assert "`ls times` has no --state" in refused.stderr


# the launcher -----------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--limit-nodes", "--offset-nodes", "--time-limit-minutes"])
def test_less_than_nothing_is_refused(sim: Balsam, option: str) -> None:
    refused = sim("launcher", "--consume-all", f"{option}=-1")
    assert refused.returncode == 2
    assert f"{option} is -1" in refused.stderr
