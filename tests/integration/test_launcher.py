"""One launcher and what it is given to run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from balsam.errors import IllegalMove
from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Outcome
from balsam.nodes.hardware import find_memory_mib
from tests.integration.conftest import Campaign, Run, Start, locked, wait_until

S = State


def test_a_job_runs_once_and_all_of_it_is_recorded(campaign: Campaign, run: Run) -> None:
    campaign.app("say", "/bin/echo hello")
    job = campaign.job("say", "greeting", args="to 'the  world'")
    said = run()
    found = campaign.get(job)
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_DONE JOB_FINISHED"
    assert (found.attempt, found.exit_code, found.launcher_id) == (1, 0, None)
    directory = Path(found.workdir)
    assert directory == campaign.site / "data" / "w" / f"greeting_{found.job_id[:8]}"
    assert campaign.output(job) == "hello to the  world\n"
    (attempt,) = campaign.attempts(job)
    assert attempt.outcome is Outcome.DONE
    assert attempt.pid > 0
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert attempt.started_at <= attempt.ended_at
    assert attempt.output_file == str((directory / "greeting.out").relative_to(campaign.site))
    assert attempt.output_size == len("hello to the  world\n")
    assert "1 runs started, 1 jobs ended" in said
    assert "failed" not in said
    (launcher,) = campaign.client.launchers(live=False)
    assert launcher.ended_at is not None
    assert launcher.message == "nothing left to do"
    assert list((campaign.site / "log").glob("*.journal")) == []


def test_running_is_recorded_when_the_program_starts(
    campaign: Campaign, start: Start, database: str
) -> None:
    """Faults L4 and S8: neither after it has ended, nor with the launcher's pace added."""
    campaign.app("clock", "#\ndate +%s.%N; read line < gate; date +%s.%N")
    job = campaign.job("clock")
    directory = Path(campaign.get(job).workdir)
    directory.mkdir(parents=True)
    os.mkfifo(directory / "gate")
    launcher = start()
    campaign.wait_for(job, S.RUNNING)
    (attempt,) = campaign.attempts(job)
    assert attempt.outcome is Outcome.RUNNING
    with (directory / "gate").open("w") as gate:
        gate.write("go\n")
    launcher.wait()
    began, ended = map(float, campaign.output(job).split())
    running, done = (e.time for e in campaign.events(job) if e.to_state in (S.RUNNING, S.RUN_DONE))
    # The program's own clock is read between our records of its start and of its end.
    # Ours goes on steadily, while the machine's is slewed; a server's clock is known but for the
    # time that asking for it takes.
    slack = 0.001 if database == "sqlite" else 1.0
    assert running - slack <= began <= ended <= done + slack
    assert running < done
    (attempt,) = campaign.attempts(job)
    assert (attempt.started_at, attempt.ended_at) == (running, done)


def test_run_times_are_those_of_the_programs(campaign: Campaign, run: Run) -> None:
    """Fault S8: what looked for ends once a second added that to each of them."""
    jobs = campaign.jobs("true", *(f"j{i}" for i in range(60)), memory_mib=find_memory_mib())
    run()
    attempts = [attempt for job in jobs for attempt in campaign.attempts(job)]
    assert len(attempts) == 60
    assert sum((a.ended_at or 0) - (a.started_at or 0) for a in attempts) < 30


# jobs that cannot start -----------------------------------------------------------------


def test_jobs_that_cannot_start_fail_with_the_reason_and_the_launcher_goes_on(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    """Faults L1, L2, A13."""
    program = Path(campaign.program("no_x", "exit 0"))
    program.chmod(0o644)
    head = campaign.program("bad_head", "#!/no/such/interpreter\n")
    Path(campaign.program("no_head", "exit 0")).write_text("echo\n")
    apps = {
        "missing": ("/no/such/program", {}),
        "unknown": ("no-such-program", {}),
        "no_x": (str(program), {}),
        "bad_head": (head, {}),
        "no_head": (str(tmp_path / "scripts" / "no_head"), {}),
        "no_env": ("/bin/true", {"envscript": "/no/such/env.sh"}),
        "unset": ("/bin/echo {{x}}", {}),
    }
    for name, (executable, fields) in apps.items():
        campaign.app(name, executable, **fields)
    campaign.app("removed", "/bin/true")
    expected = {
        campaign.job("missing"): "program /no/such/program does not exist",
        campaign.job("unknown"): "program 'no-such-program' is not found in PATH",
        campaign.job("no_x"): "may not be executed",
        campaign.job("bad_head"): "the interpreter in its first line does not exist",
        campaign.job("no_head"): "a script needs '#!'",
        campaign.job("no_env"): "envscript /no/such/env.sh does not exist",
        campaign.job("unset", parameters={"x": 1}): "parameter 'x' of the command has no value",
        campaign.job("true", user_workdir="/no/such/dir"): "/no/such/dir does not exist",
        campaign.job("true", args="x" * 3_000_000): "the arguments of /bin/true are too long",
        campaign.job("removed"): "app 'removed' does not exist (any more)",
        campaign.job("true", stage_in_url="/no/such/file"): "nothing matches /no/such/file",
        campaign.job("true", stage_in_url="gopher:/x"): "cannot move files by 'gopher'",
        campaign.job("true", "blocked"): "File exists",
    }
    blocked = Path(campaign.get(max(expected)).workdir)
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.symlink_to(tmp_path / "nowhere")
    campaign.client.delete_apps(Query().where(name="removed"))
    campaign.client.update_jobs(Query().where(application="unset"), {"parameters": {}})
    good = campaign.job("true", "good")
    said = run()
    assert f"{len(expected)} of these jobs failed; `balsam why --state FAILED` says why" in said
    for job, reason in expected.items():
        assert campaign.state(job) == S.FAILED, campaign.tell(job)
        assert reason in campaign.message(job, S.FAILED)
        assert campaign.attempts(job) == []
        assert campaign.get(job).attempt == 0
    assert campaign.state(good) == S.JOB_FINISHED


def test_a_path_that_is_no_utf8_is_told(campaign: Campaign, run: Run) -> None:
    """Fault L1: neither the worker nor the launcher dies of what it has to tell."""
    campaign.app("unknown", "no-such-program")
    job, good = campaign.job("unknown"), campaign.job("true")
    run(env={"PATH": os.environ["PATH"] + os.fsdecode(b":/no/such\xff")})
    assert "is not found in PATH" in campaign.message(job, S.FAILED)
    assert campaign.state(good) == S.JOB_FINISHED


def test_a_job_too_big_for_the_machine_is_left_alone_and_told(campaign: Campaign, run: Run) -> None:
    """Fault L7: it does not keep the launcher waiting."""
    big = campaign.job("true", threads_per_rank=4000)
    wide = campaign.job("true", num_nodes=2)
    waits = campaign.job("true", parents=[big])
    good = campaign.job("true")
    said = run()
    assert "2 jobs need more than this launcher has" in said
    assert [campaign.state(job) for job in (big, wide, waits, good)] == [
        S.PREPROCESSED,
        S.PREPROCESSED,
        S.AWAITING_PARENTS,
        S.JOB_FINISHED,
    ]
    assert campaign.get(big).launcher_id is None


# what a job is told -----------------------------------------------------------------------


def environment(campaign: Campaign, job: int) -> dict[str, str]:
    lines = campaign.output(job).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_the_environment_of_a_job(campaign: Campaign, run: Run) -> None:
    """Faults A11, A12, L6: inherited, then the job's own, then Balsam's."""
    campaign.app("env", "/usr/bin/env")
    parents = campaign.jobs("true", "a", "b")
    own = {
        "PATH": "/a:/b",
        "TEXT": "a  b=c:'d'",
        "FROM_LAUNCHER": "job",
        "OMP_NUM_THREADS": "99",
        "BALSAM_JOB_ID": "forged",
        "BALSAM_SITE": "forged",
    }
    job = campaign.job("env", "child", parents=parents, environ=own, threads_per_rank=2)
    plain = campaign.job("env", "plain", args="")
    run(env={"FROM_LAUNCHER": "launcher", "INHERITED": "yes", "BALSAM_PARENT_IDS": "forged"})
    got = environment(campaign, job)
    ids = {id_: campaign.get(id_).job_id for id_ in (*parents, job)}
    (launcher,) = campaign.client.launchers(live=False)
    assert got["BALSAM_JOB_ID"] == ids[job]
    assert json.loads(got["BALSAM_PARENT_IDS"]) == [ids[parent] for parent in parents]
    assert got["BALSAM_DB_PATH"] == got["BALSAM_SITE"] == str(campaign.site)
    assert got["BALSAM_ATTEMPT"] == "1"
    assert got["BALSAM_LAUNCHER_ID"] == str(launcher.id)
    assert got["BALSAM_LAUNCHER_NODES"] == "1"
    assert got["BALSAM_JOB_MODE"] == "mpi"
    assert (got["PATH"], got["TEXT"]) == ("/a:/b", "a  b=c:'d'")
    assert (got["INHERITED"], got["FROM_LAUNCHER"]) == ("yes", "job")
    assert got["OMP_NUM_THREADS"] == "2"
    assert not {"BALSAM_JOB_ERROR", "BALSAM_JOB_TIMEOUT", "{}"} & set(got)
    got = environment(campaign, plain)
    assert got["BALSAM_PARENT_IDS"] == "[]"
    assert got["FROM_LAUNCHER"] == "launcher"
    assert "OMP_NUM_THREADS" not in got


def test_the_job_mode_is_told_and_kept(campaign: Campaign, run: Run) -> None:
    campaign.app("env", "/usr/bin/env")
    job = campaign.job("env")
    parallel = campaign.job("env", ranks_per_node=2)
    run("--job-mode", "serial")
    assert environment(campaign, job)["BALSAM_JOB_MODE"] == "serial"
    assert campaign.state(parallel) == S.PREPROCESSED


def test_whole_devices_are_given_to_one_job_at_a_time(campaign: Campaign, run: Run) -> None:
    """Fault S4."""
    text = "#\necho $CUDA_VISIBLE_DEVICES; mkdir $TAKEN.$CUDA_VISIBLE_DEVICES || exit 9; sleep 0.1;"
    campaign.app("gpu", f"{text} rmdir $TAKEN.$CUDA_VISIBLE_DEVICES")
    campaign.app("env", "/usr/bin/env")
    given: dict[str, Any] = {
        "environ": {"TAKEN": str(campaign.site / "taken"), "CUDA_VISIBLE_DEVICES": "0"},
        "node_packing_count": 8,
    }
    whole = campaign.jobs("gpu", *(f"gpu{i}" for i in range(12)), gpus_per_rank=1, **given)
    none = campaign.job("env", "none")
    two = campaign.job("env", "two", gpus_per_rank=2)
    run("--gpus-per-node", 3)
    assert {campaign.state(job) for job in whole} == {S.JOB_FINISHED}
    assert {campaign.output(job).strip() for job in whole} == {"0", "1", "2"}
    assert environment(campaign, none)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment(campaign, two)["CUDA_VISIBLE_DEVICES"].count(",") == 1
    assert environment(campaign, two)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_shares_of_a_device_stay_on_it(campaign: Campaign, run: Run) -> None:
    """Two halves fill a device: four jobs that wait for each other need two devices."""
    text = "#\necho $CUDA_VISIBLE_DEVICES; touch $MEET/$BALSAM_JOB_ID;"
    campaign.app("half", f"{text} while [ $(ls $MEET | wc -l) -lt 4 ]; do sleep 0.02; done")
    meet = campaign.site / "meet"
    meet.mkdir()
    jobs = campaign.jobs(
        "half",
        *"abcd",
        gpus_per_rank=0.5,
        node_packing_count=8,
        environ={"MEET": str(meet)},
    )
    run("--gpus-per-node", 2)
    assert sorted(campaign.output(job).strip() for job in jobs) == ["0", "0", "1", "1"]


def test_packed_jobs_share_the_node(campaign: Campaign, run: Run) -> None:
    """64 to a node are 64 at a time, however few cores there are: they wait for each other."""
    text = "#\ntouch $MEET/$BALSAM_JOB_ID;"
    campaign.app("meet", f"{text} while [ $(ls $MEET | wc -l) -lt 64 ]; do sleep 0.1; done")
    meet = campaign.site / "meet"
    meet.mkdir()
    names = [f"j{i}" for i in range(64)]
    campaign.jobs("meet", *names, node_packing_count=64, environ={"MEET": str(meet)})
    run()
    assert campaign.states() == {"JOB_FINISHED": 64}


# what changes while a launcher runs -------------------------------------------------------


def gate(campaign: Campaign, job: int) -> Path:
    """Make a pipe in the job's directory that the app 'wait' reads a line from."""
    directory = Path(campaign.get(job).workdir)
    directory.mkdir(parents=True)
    os.mkfifo(directory / "gate")
    return directory / "gate"


def test_an_app_that_changes_is_used_as_it_is_now(campaign: Campaign, start: Start) -> None:
    """Fault A10."""
    campaign.app("wait", "#\nread line < gate; echo old")
    campaign.app("now", "/bin/echo old")
    first = campaign.job("wait")
    opened = gate(campaign, first)
    launcher = start()
    campaign.wait_for(first, S.RUNNING)
    campaign.client.update_apps(Query().where(name="now"), {"executable": "/bin/echo new"})
    second = campaign.job("now", parents=[first])
    third = campaign.job("now", "gone", parents=[second])
    opened.write_text("go\n")
    campaign.wait_for(third, S.JOB_FINISHED)
    launcher.wait()
    assert campaign.output(second) == campaign.output(third) == "new\n"


def test_a_running_job_cannot_be_removed_and_a_waiting_one_can(
    campaign: Campaign, start: Start
) -> None:
    campaign.app("wait", "#\nread line < gate")
    running = campaign.job("wait")
    opened = gate(campaign, running)
    child = campaign.job("true", parents=[running])
    launcher = start()
    campaign.wait_for(running, S.RUNNING)
    with pytest.raises(IllegalMove, match="kill it before"):
        campaign.client.delete_jobs(Query().where(id=running))
    assert campaign.client.delete_jobs(Query().where(id=child)) == 1
    opened.write_text("go\n")
    launcher.wait()
    assert campaign.states() == {"JOB_FINISHED": 1}


def test_a_job_removed_while_the_launcher_holds_it_does_no_harm(
    campaign: Campaign, start: Start
) -> None:
    """It waits behind another that takes all memory; what still starts is ended at once."""
    campaign.app("wait", "#\nread line < gate")
    campaign.app("long", "/bin/sleep 1000")
    first = campaign.job("wait", "first", memory_mib=find_memory_mib())
    held = campaign.job("long", "held", memory_mib=find_memory_mib())
    opened = gate(campaign, first)
    last = campaign.job("true", "last", memory_mib=find_memory_mib())
    launcher = start()
    campaign.wait_for(first, S.RUNNING)
    wait_until(lambda: campaign.get(held).launcher_id)
    campaign.client.delete_jobs(Query().where(id=held))
    opened.write_text("go\n")
    launcher.wait()
    assert [campaign.state(job) for job in (first, last)] == [S.JOB_FINISHED] * 2


def test_children_of_what_finishes_run_at_once(campaign: Campaign, run: Run) -> None:
    """A chain and a fan: nobody waits for the clock, though the launcher ends when idle."""
    last: list[int] = []
    for i in range(20):
        last = [campaign.job("true", f"chain{i}", parents=last)]
    fan = campaign.jobs("true", *(f"fan{i}" for i in range(50)), parents=last)
    campaign.job("true", "end", parents=fan)
    run("--idle-seconds", "0.1")
    assert campaign.states() == {"JOB_FINISHED": 71}


def test_more_urgent_jobs_run_first(campaign: Campaign, run: Run) -> None:
    campaign.app("note", f"#\necho $BALSAM_JOB_ID >> {campaign.site}/order")
    share = {"memory_mib": find_memory_mib()}
    jobs = [campaign.job("note", priority=p, **share) for p in (0, 5, -5, 7, 0)]
    run()
    order = (campaign.site / "order").read_text().split()
    ids = [campaign.get(job).job_id for job in jobs]
    assert order == [ids[i] for i in (3, 1, 0, 4, 2)]


def test_a_locked_database_only_delays_what_it_is_told(campaign: Campaign, start: Start) -> None:
    """The launcher goes on with what it holds, says so, and tells the rest afterwards."""
    (campaign.site / "balsam.toml").write_text("[database]\nbusy_seconds = 0.05\n")
    campaign.app("wait", "#\nread line < gate; echo went on")
    job = campaign.job("wait")
    opened = gate(campaign, job)
    child = campaign.job("true", "child", parents=[job])
    launcher = start()
    campaign.wait_for(job, S.RUNNING)
    with locked(campaign):
        opened.write_text("go\n")
        campaign.wait_for_output(job, "went on")
        wait_until(lambda: "the database cannot answer" in launcher.output, lambda: launcher.output)
        assert campaign.state(job) == S.RUNNING
    launcher.wait()
    assert "the database answers again" in launcher.output
    assert [campaign.state(id_) for id_ in (job, child)] == [S.JOB_FINISHED] * 2
    assert len(campaign.attempts(job)) == 1


def test_only_the_wanted_workflows_run(campaign: Campaign, run: Run) -> None:
    mine = campaign.job("true", workflow="alloys/fcc")
    other = campaign.job("true", workflow="oxides")
    run("--wf-filter", "alloys")
    assert [campaign.state(job) for job in (mine, other)] == [S.JOB_FINISHED, S.PREPROCESSED]


# retries ----------------------------------------------------------------------------------


def test_failures_are_repeated_only_when_wanted(campaign: Campaign, run: Run) -> None:
    """Fault S1: no silent repetition; every attempt is recorded."""
    campaign.app("fail", "#\necho try $BALSAM_ATTEMPT; [ $BALSAM_ATTEMPT -ge ${GOOD:-9} ]")
    once = campaign.job("fail", "once")
    never = campaign.job("fail", "never", max_retries=2)
    third = campaign.job("fail", "third", max_retries=5, environ={"GOOD": "3"})
    run()
    assert campaign.path(once) == "PREPROCESSED RUNNING RUN_ERROR FAILED"
    assert campaign.output(once) == "try 1\n"
    assert "exit code 1: try 1" in campaign.message(once, S.RUN_ERROR)
    assert [a.outcome for a in campaign.attempts(never)] == [Outcome.ERROR] * 3
    assert campaign.get(never).retries == 2
    assert campaign.state(never) == S.FAILED
    assert campaign.message(never, S.RESTART_READY) == "retry 2 of 2 (exit code 1)"
    assert campaign.output(never) == "try 1\ntry 2\ntry 3\n"
    attempts = campaign.attempts(third)
    assert [a.exit_code for a in attempts] == [1, 1, 0]
    assert [(a.output_offset, a.output_size) for a in attempts] == [(0, 6), (6, 6), (12, 6)]
    assert campaign.state(third) == S.JOB_FINISHED
