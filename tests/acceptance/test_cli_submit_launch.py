"""`balsam submit-launch`: requests for nodes, checked, submitted, and run by this machine."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path

import pytest

from balsam.service.template import default_text
from tests.acceptance.batch import add_jobs, batch_jobs, ok, refused, use_local, wait_for
from tests.acceptance.conftest import BIN, Balsam


@pytest.fixture
def here(balsam: Balsam, site: Path, balsam_home: Path) -> Balsam:
    """The site, with this machine as its batch system."""
    use_local(balsam_home, site)
    return balsam


def test_as_scripts_of_0x_have_it(here: Balsam, site: Path) -> None:
    add_jobs(here, 3, "/bin/echo hello")
    words = ("-n", 1, "-q", "debug", "-t", 5, "-A", "mine", "--job-mode", "serial")
    done = here("submit-launch", *words, "--wf-filter", "wor")
    assert done.stderr == ""
    head, _, told = ok(done).partition("{")
    assert head == "Submit OK: Qlaunch "
    assert ast.literal_eval("{" + told) == {
        "command": "qsubmit/qlaunch1.sh",
        "from_balsam": True,
        "id": 1,
        "job_mode": "serial",
        "nodes": 1,
        "prescheduled_only": False,
        "project": "mine",
        "queue": "debug",
        "sched_flags": "",
        "scheduler_id": "1",
        "state": "queued",
        "wall_minutes": 5,
        "wf_filter": "wor",
    }
    assert "--wf-filter=wor" in (site / "qsubmit" / "qlaunch1.sh").read_text()
    found = wait_for(here, 1, "finished")
    assert (found["exit_code"], found["message"]) == (0, "nothing left to do")
    assert json.loads(ok(here("ls", "--by-states", "--json"))) == {"JOB_FINISHED": 3}


def test_settings_stand_in_for_what_is_not_said(
    here: Balsam, site: Path, balsam_home: Path
) -> None:
    use_local(balsam_home, site, settings='queue = "batch"\nproject = "ours"\n')
    made = json.loads(ok(here("submit-launch", "-n", 1, "-t", 2.5, "--json")))
    assert (made["queue"], made["project"], made["job_mode"]) == ("batch", "ours", "auto")
    assert made["wall_time_minutes"] == 2.5
    assert wait_for(here, 1, "finished")["message"] == "nothing left to do"


def test_a_dry_run_touches_nothing(here: Balsam, site: Path) -> None:
    add_jobs(here, 1, "/bin/true")
    before = sorted(site.rglob("*"))
    words = ("-n", 1, "-t", 30, "--tag", "a=b c", "--sched-flags", "--x=1", "--dry-run")
    done = here("submit-launch", *words)
    text = ok(done)
    assert "# command\n" in text
    command = text.splitlines()[-1]
    assert "local_queue submit --name=balsam-site-" in command
    assert command.endswith("--minutes=30 --queue= --x=1")
    assert "--time-limit-minutes 28 --batch-job 0 --tag 'a=b c'" in text
    assert "no job waits that its launcher would run" in done.stderr
    short = [word if word != "--sched-flags" else "--sched" for word in words]
    made = json.loads(ok(here("submit-launch", *short, "--json")))
    assert made["command"].endswith(" --x=1")
    assert made["script_text"].startswith("#!/bin/bash\n")
    assert (batch_jobs(here), sorted(site.rglob("*"))) == ([], before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", 2, "-t", 5), "queue 'debug' gives at most 1 node; 2 are asked for"),
        (("-n", 1, "-t", 61), "queue 'debug' gives at most 60 minutes; 61 are asked for"),
        (("-n", 1, "-t", 5, "-q", "bath"), "no queue 'bath'; it has debug, batch, closed."),
        (("-n", 1, "-t", 5, "-q", "bath"), "Did you mean 'batch'?"),
        (("-n", 0, "-t", 5), "0 nodes; give 1 to"),
        (("-n", 1, "-t", -5), "a walltime of -5 minutes"),
        (("-n", 1, "-t", "nan"), "a walltime of nan minutes"),
        (("-n", 1, "-t", 5, "--tag", "k"), "--tag 'k' is not K=V"),
        (("-n", 1, "-t", 5, "--sched-flags", "'"), "are no words of a shell"),
    ],
)
def test_what_cannot_be_is_refused(here: Balsam, words: tuple[object, ...], said: str) -> None:
    assert said in refused(here("submit-launch", *words))
    assert batch_jobs(here) == []


def test_what_the_batch_system_refuses_is_recorded(here: Balsam) -> None:
    assert "queue 'closed' is closed" in refused(
        here("submit-launch", "-n", 1, "-t", 5, "-q", "closed"), 1
    )
    (found,) = batch_jobs(here)
    assert (found["state"], found["scheduler_id"]) == ("submit_failed", "")
    assert "queue 'closed' is closed" in found["message"]
    assert "queue 'closed' is closed" in ok(here("ls", "queues"))


def test_without_the_program_that_submits_nothing_waits_to_be_submitted(
    balsam: Balsam, site: Path, tmp_path: Path
) -> None:
    (site / "balsam.toml").write_text('[scheduler]\nname = "lsf"\n')
    nothing = {"PATH": str(tmp_path)}
    said = refused(balsam("submit-launch", "-n", 1, "-t", 5, env=nothing), code=1)
    assert said == "balsam: error: there is no program 'bsub' in PATH"
    (made,) = batch_jobs(balsam)
    assert made["state"] == "submit_failed"
    assert made["message"] == "there is no program 'bsub' in PATH"


def test_that_this_machine_stands_in_for_a_batch_system_is_said(
    balsam: Balsam, site: Path, tmp_path: Path
) -> None:
    words = ("submit-launch", "-n", 1, "-t", 5, "--dry-run")
    nothing = {"PATH": str(tmp_path)}
    said = "no batch system was found here"
    assert said in balsam(*words, env=nothing).stderr
    (site / "balsam.toml").write_text('[scheduler]\nname = "local"\n')
    assert said not in balsam(*words, env=nothing).stderr


def test_limits_can_be_left_to_the_batch_system(here: Balsam) -> None:
    done = here("submit-launch", "-n", 1, "-t", 61, "-q", "debug", "--no-check")
    assert "'local' refused this: " in refused(done, 1)
    assert batch_jobs(here)[0]["state"] == "submit_failed"


@pytest.mark.parametrize(
    ("job", "words", "said"),
    [
        (("--wall-time-minutes", 30), ("-t", 30), "job 1 says"),
        (("--wall-time-minutes", 27.9), ("-t", 30), "of 30 its launcher has 27.8 for them"),
        (("--num-nodes", 2), ("-t", 30), "job 1 needs up to 2 nodes"),
        (("--ranks-per-node", 2), ("-t", 30, "--job-mode", "serial"), "job 1 has several ranks"),
        ((), ("-t", 30, "--wf-filter", "other"), "no job waits"),
        ((), ("-t", 30, "--wf-filter", "WORK"), "no job waits"),
        (("--tag", "k=w"), ("-t", 30, "--tag", "k=v"), "no job waits"),
        (("--wall-time-minutes", 27), ("-t", 30), ""),
        (("--tag", "k=v"), ("-t", 30, "--tag", "k=v"), ""),
    ],
)
def test_what_no_job_could_use_is_warned_of(
    here: Balsam, job: tuple[object, ...], words: tuple[object, ...], said: str
) -> None:
    """User pain 15: a request as long as its job never runs it."""
    add_jobs(here, 1, "/bin/true", *job)
    done = here("submit-launch", "-n", 1, *words, "--dry-run")
    ok(done)
    assert said in done.stderr
    assert ("warning" in done.stderr) == bool(said)


def test_a_budget_is_kept(here: Balsam, site: Path, balsam_home: Path) -> None:
    use_local(balsam_home, site, settings="[service]\nbudget_node_hours = 0.5\n")
    done = here("submit-launch", "-n", 1, "-t", 40)
    assert "of the budget of 0.5, 0.5 are left" in refused(done, 1)
    assert batch_jobs(here) == []


def test_templates_that_cannot_be_used(here: Balsam, site: Path) -> None:
    (site / "job-template.sh").write_text("#!/bin/sh\n{{ nodse }}\nexec {{ launcher }}\n")
    said = refused(here("submit-launch", "-n", 1, "-t", 5))
    assert "job-template.sh, line 2: there is no variable 'nodse'" in said
    assert batch_jobs(here) == []


def test_sites_have_a_template_of_their_own(bare_balsam: Balsam, tmp_path: Path) -> None:
    ok(bare_balsam("init", tmp_path / "new"))
    assert (tmp_path / "new" / "job-template.sh").read_text() == default_text()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "job-template.sh").write_text("mine")
    ok(bare_balsam("init", kept))
    assert (kept / "job-template.sh").read_text() == "mine"


def test_from_python(here: Balsam, site: Path, environ: dict[str, str]) -> None:
    add_jobs(here, 1, "/bin/true", "--tag", "k=v")
    program = """
from balsam import dag
made = dag.submit("mine", "debug", 1, 5, "mpi", "work", sched_flags="--x", tags={"k": "v"})
"""
    words = [str(BIN / "python"), "-c"]
    failed = subprocess.run([*words, program], env=environ, capture_output=True, text=True)
    assert "SchedulerRefused: 'local' refused this: " in failed.stderr
    program = program.replace('"--x"', '""') + "print(made.id, made.state, made.project)\n"
    done = subprocess.run([*words, program], env=environ, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2 queued mine\n", "")
    found = wait_for(here, 2, "finished")
    assert (found["tags"], found["wf_filter"], found["job_mode"]) == ({"k": "v"}, "work", "mpi")
    assert json.loads(ok(here("ls", "--by-states", "--json"))) == {"JOB_FINISHED": 1}


def test_its_filter_is_part_of_a_name_from_the_request_to_the_launcher(here: Balsam) -> None:
    """Fault C6."""
    for workflow in ("alloys-1", "my-alloys", "alloy"):
        words = ("--name", "j", "--workflow", workflow, "--application", "c", "--yes")
        if workflow == "alloys-1":
            ok(here("app", "--name", "c", "--executable", "/bin/true"))
        ok(here("job", *words))
    ok(here("submit-launch", "-n", 1, "-t", 5, "--wf-filter", "alloys"))
    wait_for(here, 1, "finished")
    found = json.loads(ok(here("ls", "--json")))
    assert {job["workflow"]: job["state"] for job in found} == {
        "alloys-1": "JOB_FINISHED",
        "my-alloys": "JOB_FINISHED",
        "alloy": "PREPROCESSED",
    }
