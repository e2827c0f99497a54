"""`balsam show`, `logs`, `progress`, `wait`, `. bcd`: one job, and how far all are."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest


def job(balsam, name, *more, app="a", workflow="w"):
    done = balsam("job", "--name", name, "--workflow", workflow, "--app", app, "--yes", *more)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def echo(balsam):
    """The site's runner, with an app `a` that is `/bin/sh -c`."""
    assert balsam("app", "--name", "a", "--exec", "/bin/sh -c").returncode == 0
    return balsam


@pytest.fixture
def start(environ, site):
    """Start `balsam ARGV…` without waiting for it; what still runs is ended."""
    started = []

    def run(*argv, **options):
        environ["BALSAM_DB_PATH"] = str(site)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            ["balsam", *argv], env=environ, **{**pipes, "text": True, **options}
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


# show ------------------------------------------------------------------------------------


def test_show_json(campaign):
    record = json.loads(campaign("show", "6", "--json").stdout)
    assert record["id"] == 6
    assert record["state"] == "FAILED"
    (attempt,) = record["attempts"]
    assert attempt["number"] == 1
    assert attempt["outcome"] == "error"
    assert attempt["exit_code"] == 3
    assert attempt["signal"] is None
    assert attempt["node"]
    assert attempt["started_at"] <= attempt["ended_at"]
    assert {"peak_memory_mib", "cpu_seconds", "message"} <= attempt.keys()
    assert [event["to_state"] for event in record["events"]][-1] == "FAILED"
    assert json.loads(campaign("show", "7", "--json").stdout)["children"] == [8]


def test_show_several(campaign):
    found = json.loads(campaign("show", "8", "7", "--json").stdout)
    assert [record["id"] for record in found] == [8, 7]
    assert campaign("show", "8", "7", "--field", "name").stdout == "child\nparent\n"


def test_show_text(campaign):
    out = campaign("show", "6").stdout
    assert out.startswith("Job 6: broken\n")
    assert "did not end well" in out
    assert re.search(r"number +\| +outcome", out)
    assert re.search(r"1 +\| error", out)
    assert re.search(r"Z  RUNNING -> ", out)


def test_show_names_the_signal(echo):
    job(echo, "killed", "--args", "'kill -SEGV $$'")
    assert echo("launcher", "--consume-all").returncode == 0
    record = json.loads(echo("show", "1", "--json").stdout)
    assert record["attempts"][-1]["exit_code"] == -11
    assert record["attempts"][-1]["signal"] == "SIGSEGV"
    assert "SIGSEGV" in echo("show", "1").stdout


def test_show_field(campaign):
    record = json.loads(campaign("show", "3", "--json").stdout)
    for job_id in ("3", record["job_id"], record["job_id"][:8]):
        assert campaign("show", job_id, "--field", "workdir").stdout == f"{record['workdir']}\n"
    assert campaign("show", "3", "--field", "data__energy").stdout == "2\n"
    assert campaign("show", "3", "8", "--field", "data").stdout == '{"energy":2}\n{}\n'
    assert campaign("show", "8", "--field", "data__energy").stdout == "\n"
    done = campaign("show", "3", "--field", "workdirs")
    assert done.returncode == 2
    assert "Did you mean 'workdir'?" in done.stderr


@pytest.mark.parametrize(("text", "code"), [("4711", 1), ("x1", 2), ("", 2), ("ffffffff-0000", 1)])
@pytest.mark.parametrize("verb", ["show", "logs"])
def test_unknown_jobs(campaign, verb, text, code):
    done = campaign(verb, text)
    assert done.returncode == code
    assert repr(text) in done.stderr
    assert done.stderr.count("\n") == 1


def test_ambiguous_digits(echo):
    job(echo, "j{i}", "--array", "0-39")
    ids = [record["job_id"] for record in json.loads(echo("ls", "--json").stdout)]
    # Forty jobs share sixteen first digits; a letter is never an integer id.
    first = next(c for c in "abcdef" if sum(job_id[0] == c for job_id in ids) > 1)
    done = echo("show", first)
    assert done.returncode == 1
    assert "more digits" in done.stderr
    assert done.stderr.count("\n") == 1


def test_bcd_changes_to_the_directory(environ, campaign, tmp_path):
    record = json.loads(campaign("show", "8", "--json").stdout)
    environ["BALSAM_SITE"] = str(Path(record["workdir"]).parents[2])
    script = f". bcd {record['job_id'][:8]}; pwd; . bcd 4711; echo $?; pwd; . bcd; echo $?"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [record["workdir"], "1", record["workdir"], "1"]
    assert "usage" in done.stderr


# logs ------------------------------------------------------------------------------------


def test_logs(campaign):
    assert campaign("logs", "3").stdout == "hello 2\n"
    assert campaign("logs", "6").stdout == "oops\n"
    assert campaign("logs", "6", "--attempt", "1").stdout == "oops\n"


def test_logs_that_are_not_there(campaign):
    done = campaign("logs", "9")
    assert done.returncode == 1
    assert "job 9 (PREPROCESSED) has no output" in done.stderr
    assert campaign("logs", "3", "--attempt", "2").returncode == 1


def test_logs_tail(echo):
    job(echo, "lines", "--args", "'seq 100000'")
    echo("launcher", "--consume-all")
    assert echo("logs", "1", "--tail", "3").stdout == "99998\n99999\n100000\n"
    assert len(echo("logs", "1", "--tail", "30000").stdout.splitlines()) == 30000
    assert len(echo("logs", "1", "--tail", "200000").stdout.splitlines()) == 100000


def test_logs_of_a_stream(echo, site):
    """Outputs of many jobs in one file are told apart."""
    job(echo, "j{i}", "--array", "1-20", "--args", "'seq {i}; printf end{i}'")
    (site / "balsam.toml").write_text('[launcher]\noutput = "stream"\n')
    echo("launcher", "--consume-all")
    shown = json.loads(echo("show", "1", "20", "--json").stdout)
    files = [record["attempts"][0]["output_file"] for record in shown]
    assert not {Path(file).name for file in files} & {"j1.out", "j20.out"}
    for number in (1, 7, 20):
        expected = "".join(f"{n}\n" for n in range(1, number + 1)) + f"end{number}"
        assert echo("logs", number).stdout == expected
        last = f"{number}\nend{number}"
        assert echo("logs", number, "--tail", "2").stdout == last


@pytest.mark.parametrize("output", ["directory", "stream"])
def test_logs_of_several_attempts(echo, site, output):
    (site / "balsam.toml").write_text(f'[launcher]\noutput = "{output}"\n')
    job(echo, "twice", "--args", "'echo attempt $BALSAM_ATTEMPT; exit 1'", "--max-retries", "1")
    echo("launcher", "--consume-all")
    assert echo("show", "1", "--field", "attempt").stdout == "2\n"
    both = "attempt 1\nattempt 2\n" if output == "directory" else "attempt 2\n"
    assert echo("logs", "1").stdout == both
    assert echo("logs", "1", "--attempt", "1").stdout == "attempt 1\n"
    assert echo("logs", "1", "--attempt", "2").stdout == "attempt 2\n"
    assert echo("logs", "1", "--attempt", "3").returncode == 1


def test_logs_follow(echo, start, tmp_path):
    """What the job writes is seen while it runs; the command ends with the job."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job(echo, "slow", "--args", f"'echo begun; cat {gate}; echo ended'")
    follow = start("logs", "1", "--follow")
    launcher = start("launcher", "--consume-all", stdout=subprocess.DEVNULL)
    assert follow.stdout.readline() == "begun\n"
    assert follow.poll() is None
    gate.write_text("from the gate\n")
    rest, errors = follow.communicate(timeout=60)
    assert rest == "from the gate\nended\n"
    assert (follow.returncode, errors) == (0, "")
    launcher.communicate(timeout=60)


# progress --------------------------------------------------------------------------------

KEYS = {
    *("total", "done", "running", "failed", "killed", "waiting", "runnable"),
    *("rate_per_second", "seconds_left", "by_state"),
}


def test_progress_json(campaign):
    record = json.loads(campaign("progress", "--json").stdout)
    assert record.keys() == KEYS
    assert (record["total"], record["done"], record["failed"], record["killed"]) == (11, 7, 1, 1)
    assert (record["running"], record["waiting"], record["runnable"]) == (0, 1, 1)
    assert record["by_state"]["JOB_FINISHED"] == 7
    tree = json.loads(campaign("progress", "7", "8", "--json").stdout)
    assert (tree["total"], tree["done"], tree["seconds_left"]) == (2, 2, 0)


def test_progress_of_a_site_where_nothing_ended(echo):
    job(echo, "j")
    record = json.loads(echo("progress", "--json").stdout)
    assert (record["rate_per_second"], record["seconds_left"]) == (None, None)


def test_progress_rate_counts_only_what_is_selected(echo):
    job(echo, "j{i}", "--array", "0-9", "--args", "true", workflow="one")
    echo("launcher", "--consume-all")
    job(echo, "k{i}", "--array", "0-9", "--args", "true", workflow="two")
    all_jobs = json.loads(echo("progress", "--json").stdout)
    assert all_jobs["rate_per_second"] > 0
    expected = 10 / all_jobs["rate_per_second"]
    assert all_jobs["seconds_left"] == pytest.approx(expected, abs=0.06)  # told to 0.1 s
    assert json.loads(echo("progress", "--wf", "two", "--json").stdout)["rate_per_second"] is None


def test_progress_line(campaign):
    out = campaign("progress", "--wf", "alloys").stdout
    assert out.startswith("6/6 ended (100.0%): 5 done, 1 failed, 0 running")
    assert out.count("\n") == 1


def test_progress_follows_until_all_have_ended(echo, start):
    job(echo, "j{i}", "--array", "0-9", "--args", "true")
    follow = start("progress", "--follow", "--json")
    first = json.loads(follow.stdout.readline())
    assert first["done"] == 0
    assert echo("launcher", "--consume-all").returncode == 0
    rest, errors = follow.communicate(timeout=60)
    assert (follow.returncode, errors) == (0, "")
    assert json.loads(rest.splitlines()[-1])["done"] == 10


def test_progress_on_a_terminal_is_a_bar_that_ends(echo, start):
    job(echo, "j{i}", "--array", "0-9", "--args", "true")
    ours, theirs = pty.openpty()
    bar = start("progress", stdin=theirs, stdout=theirs, stderr=theirs, text=False)
    os.close(theirs)
    assert echo("launcher", "--consume-all").returncode == 0
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the terminal's other side is closed
            break
        seen += block
    os.close(ours)
    assert bar.wait(timeout=30) == 0
    text = seen.decode()
    assert "10 done" in text
    assert "10/10" in text
    assert "100%" in text


# wait ------------------------------------------------------------------------------------


def test_wait_for_jobs_that_have_ended(campaign):
    done = campaign("wait", "--wf", "tree")
    assert (done.returncode, done.stdout) == (0, "2 jobs finished\n")
    assert campaign("wait", "1", "2").returncode == 0


def test_wait_tells_what_did_not_end_well(campaign):
    done = campaign("wait", "--filter", "id__in=[5,6,11]")
    assert done.returncode == 1
    assert done.stderr == "balsam: 2 of 3 jobs did not end well: 1 FAILED, 1 USER_KILLED\n"


def test_wait_times_out(campaign):
    done = campaign("wait", "--timeout", "0.1")
    assert done.returncode == 124
    assert "2 of 11 jobs have not ended" in done.stderr


def test_wait_for_nothing_is_an_error(campaign):
    done = campaign("wait", "--name", "nothing")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_wait_until_the_last_has_ended(echo, start):
    job(echo, "good{i}", "--array", "0-4", "--args", "true")
    job(echo, "bad", "--args", "false")
    good = start("wait", "--name", "good")
    both = start("wait")
    assert echo("launcher", "--consume-all").returncode == 0
    assert good.wait(timeout=60) == 0
    _, errors = both.communicate(timeout=60)
    assert both.returncode == 1
    assert "1 of 6 jobs did not end well: 1 FAILED" in errors
