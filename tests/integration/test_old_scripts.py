"""Scripts of the shapes that were written for Balsam 0.3 to 0.5, run by a launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from balsam.model.query import Query
from balsam.model.states import State
from tests.integration.conftest import Campaign, Run, Start

S = State


def script(campaign: Campaign, name: str, text: str) -> str:
    """Write an executable Python script as tutorials have them; return its path."""
    return campaign.program(name, f"#!/usr/bin/env python\n{text}")


def call(campaign: Campaign, text: str, *args: object) -> str:
    """Run a script at the prompt, with the site activated; return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, args)],
        env={**os.environ, "BALSAM_DB_PATH": str(campaign.site)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(campaign: Campaign) -> dict[str, str]:
    return {job.name: str(job.state) for job in campaign.client.jobs(Query())}


def output(campaign: Campaign, name: str) -> str:
    (job,) = campaign.client.jobs(Query().where(name=name))
    return Path(job.workdir, f"{name}.out").read_text()


# a scan with a summary: hooks that read and write `data`, a job that reads its parents --------

APPS = """
import sys
from balsam.core.models import ApplicationDefinition as App

if not App.objects.filter(name="energy").exists():
    energy, pre, post, envs, table = sys.argv[1:]
    App(name="energy", executable=energy, preprocess=pre, postprocess=post, envscript=envs).save()
    App(name="table", executable=table).save()
"""
POPULATE = """
from balsam.launcher.dag import BalsamJob, add_dependency

scan = []
for i, r in enumerate([0.9, 0.7, 0.8]):
    job = BalsamJob(
        name=f"task{i}", workflow="demo", description=f"r = {r:.3f}", application="energy",
        args="input.nw", num_nodes=1, ranks_per_node=1, cpu_affinity="depth",
        data={"r": r, "theta": 104.5},
    )
    scan.append(job)
    job.save()
table = BalsamJob(name="table", application="table", workflow="demo", input_files="")
table.save()
for job in scan:
    add_dependency(parent=job, child=table)
"""
PRE = """
from balsam.launcher.dag import current_job
data = current_job.data
with open("input.nw", "w") as fp:
    fp.write(str(data["r"] * data["theta"]))
"""
POST = """
from balsam.launcher.dag import current_job
with open(current_job.name + ".out") as fp:
    for line in fp:
        if "Total energy" in line:
            current_job.data["energy"] = float(line.split()[-1])
current_job.save()
"""
TABLE = """
from balsam.launcher.dag import current_job
found = sorted((task.data["r"], task.data["energy"]) for task in current_job.get_parents())
for r, e in found:
    print("%6.3f %10.4f" % (r, e))
"""


def test_a_scan_with_a_summary(campaign: Campaign, run: Run) -> None:
    energy = campaign.program("energy", 'echo "Total energy = $(cat "$1")"; echo "$LOADED"')
    envs = campaign.program("envs.sh", "export LOADED=loaded")
    paths = [script(campaign, f"{n}.py", t) for n, t in (("pre", PRE), ("post", POST))]
    call(campaign, APPS, energy, *paths, envs, script(campaign, "table.py", TABLE))
    call(campaign, APPS)
    call(campaign, POPULATE)
    assert states(campaign)["table"] == "AWAITING_PARENTS"
    run()
    assert campaign.states() == {"JOB_FINISHED": 4}, campaign.tell(1)
    assert output(campaign, "table").split("\n") == [
        " 0.700    73.1500",
        " 0.800    83.6000",
        " 0.900    94.0500",
        "",
    ]
    assert output(campaign, "task0").endswith("loaded\n")


# a graph that grows: sides → squares of each → their sum --------------------------------------

MAKE_SIDES = """
import os, sys
for i in range(int(os.environ["NUM_SIDES"]) if "--none" not in sys.argv else 0):
    with open(f"side{i}.dat", "w") as fp:
        fp.write(str(i + 1))
sys.exit(int(sys.argv[sys.argv.index("--retcode") + 1]) if "--retcode" in sys.argv else 0)
"""
SIDES_POST = """
import glob, os, sys
import balsam.launcher.dag as dag
current_job = dag.current_job

if dag.ERROR:
    num_files = len(glob.glob("side*.dat"))
    if num_files == int(os.environ["NUM_SIDES"]):
        print("it was done after all")
        current_job.update_state("JOB_FINISHED", "handled error; it was okay")
        sys.exit(0)
    elif num_files == 0:
        children = current_job.get_children()
        rescue = dag.spawn_child(clone=True, name="rescue", args="--spawn")
        rescue.set_parents([])
        current_job.update_state("JOB_FINISHED", f"spawned rescue job {rescue.cute_id}")
        for child in children.exclude(pk=rescue.pk):
            child.set_parents([rescue])
        sys.exit(0)

if "--spawn" not in current_job.args:
    sys.exit(0)
sum_job = current_job.get_child_by_name("sum_squares")
for i, side in enumerate(glob.glob("side*.dat")):
    square = dag.spawn_child(name=f"square{i}", application="square", args=side, input_files=side)
    dag.add_dependency(parent=square, child=sum_job)
"""
SQUARE = """
import sys
with open("square_" + sys.argv[1], "w") as fp:
    fp.write(str(float(open(sys.argv[1]).read()) ** 2))
"""
SUM = """
import glob
print(sum(float(open(name).read()) for name in glob.glob("square_*.dat*")))
"""
GRAPH = """
import sys
from balsam.launcher import dag
sides = dag.add_job(
    name="make_sides", workflow="w", application="make_sides", args=sys.argv[1],
    environ_vars="NUM_SIDES=3", post_error_handler=True, auto_timeout_retry=False,
)
total = dag.add_job(
    name="sum_squares", workflow="w", application="sum", input_files="square_*.dat"
)
dag.add_dependency(sides, total)
"""


@pytest.fixture
def squares(campaign: Campaign) -> Campaign:
    campaign.app(
        "make_sides",
        script(campaign, "make_sides.py", MAKE_SIDES),
        postprocess=script(campaign, "sides_post.py", SIDES_POST),
    )
    campaign.app("square", script(campaign, "square.py", SQUARE))
    campaign.app("sum", script(campaign, "sum.py", SUM))
    return campaign


@pytest.mark.parametrize("args", ["--spawn", "--spawn --retcode 1"])
def test_a_graph_that_grows(squares: Campaign, run: Run, args: str) -> None:
    """The error handler finds that all is there, and lets the job finish (without squares)."""
    call(squares, GRAPH, args)
    run()
    assert set(states(squares).values()) == {"JOB_FINISHED"}, squares.tell(1)
    if "retcode" in args:
        assert squares.path(1) == "PREPROCESSED RUNNING RUN_ERROR JOB_FINISHED"
        assert squares.message(1, S.JOB_FINISHED) == "handled error; it was okay"
    else:
        assert sorted(states(squares)) == [
            *("make_sides", "square0", "square1", "square2", "sum_squares")
        ]
        assert output(squares, "sum_squares") == "14.0\n"


def test_a_handler_that_puts_another_job_in_its_place(squares: Campaign, run: Run) -> None:
    call(squares, GRAPH, "--none --retcode 1")
    run()
    found = states(squares)
    assert set(found.values()) == {"JOB_FINISHED"}, squares.tell(1)
    assert {"make_sides", "rescue", "square2", "sum_squares"} <= set(found)
    assert output(squares, "sum_squares") == "14.0\n"
    assert "spawned rescue job [rescue | " in squares.message(1, S.JOB_FINISHED)


# a job that goes on from where it was, and one that is followed by another ---------------------

AGAIN_POST = """
import sys
from balsam.launcher import dag
job = dag.current_job
job.data["runs"] = job.data.get("runs", 0) + 1
job.save()
if job.data["runs"] < 3:
    job.update_state("RESTART_READY", "not converged")
else:
    following = dag.add_job(
        name=job.name + "C", workflow=job.workflow, application="true", num_nodes=job.num_nodes,
        wall_time_minutes=job.wall_time_minutes,
    )
    dag.add_dependency(job, following)
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_hook_that_runs_its_job_again(campaign: Campaign, run: Run, code: int) -> None:
    campaign.app(
        "again", f"sh -c 'exit {code}'", postprocess=script(campaign, "post.py", AGAIN_POST)
    )
    job = campaign.job("again", "job", post_error_handler=True)
    run()
    assert len(campaign.attempts(job)) == 3, campaign.tell(job)
    assert campaign.get(job).data == {"runs": 3}
    found = states(campaign)
    if code == 0:
        assert found == {"job": "JOB_FINISHED", "jobC": "JOB_FINISHED"}
    else:
        assert found == {"job": "FAILED", "jobC": "FAILED"}


# a search: a job that makes jobs and waits for them --------------------------------------------

SEARCH = """
import json, os, sys
from balsam.core.models import ApplicationDefinition as AppDef, BalsamJob, ObjectDoesNotExist
from balsam.launcher import dag
from balsam.launcher.futures import FutureTask
from balsam.launcher.futures import wait as balsam_wait

assert int(os.environ["BALSAM_LAUNCHER_NODES"]) == dag.LAUNCHER_NODES == 1
try:
    AppDef.objects.get(name="point")
except ObjectDoesNotExist:
    AppDef(name="point", executable=f"{sys.executable} {sys.argv[1]}").save()

def on_done(job):
    if "objective" in job.data:
        return job.data["objective"]
    return float(job.read_file_in_workdir(f"{job.name}.out").split()[-1])

def submit(x):
    task = BalsamJob(
        application="point", args=f"'{json.dumps({'x': x})}'", environ_vars="BACKEND=none:ZERO=0",
        num_nodes=1, ranks_per_node=1, threads_per_rank=1, node_packing_count=8,
    )
    task.name = f"task{x}"
    task.workflow = dag.current_job.workflow
    task.save()
    future = FutureTask(task, on_done, fail_callback=lambda job: -1)
    future.task_args = task.args
    return future

active = {x: submit(x) for x in range(4)}
found = {}
while active:
    waited = balsam_wait(active.values(), timeout=50, return_when="ANY_COMPLETED")
    for x, future in list(active.items()):
        if future not in waited.active:
            found[x] = active.pop(x).result()
print(json.dumps(found))
"""
POINT = """
import json, os, sys
x = json.loads(sys.argv[1])["x"]
assert (os.environ["BACKEND"], os.environ["ZERO"]) == ("none", "0")
if x == 3:
    sys.exit("no such point")
if x == 2:
    from balsam.launcher import dag
    dag.current_job.data["objective"] = 20
    dag.current_job.save()
print("objective", 10 * x)
"""


def test_a_search_that_waits_for_its_jobs(campaign: Campaign, run: Run) -> None:
    point = Path(script(campaign, "point.py", POINT))
    campaign.app("search", f"{script(campaign, 'search.py', SEARCH)} {point}")
    campaign.job("search", "search", workflow="dl-hps", node_packing_count=8)
    run()
    assert json.loads(output(campaign, "search")) == {"0": 0.0, "1": 10.0, "2": 20, "3": -1}
    assert states(campaign)["task3"] == "FAILED"


# a driver beside a launcher: polls, kills, reads -----------------------------------------------

DRIVER = """
import time
from datetime import datetime
from pathlib import Path
from balsam.launcher import dag

def until(job, states):
    end = time.time() + 50
    while time.time() < end:
        job.refresh_from_db()
        if job.state in states:
            return
        time.sleep(0.05)
    raise SystemExit(job.state)

short = dag.add_job(
    name="short", workflow="libe_workflow", application="say", args="hello", num_nodes=1,
    ranks_per_node=1, mpi_flags=None, stage_out_url="local:" + str(Path.cwd()),
    stage_out_files="*.out",
)
long = dag.add_job(name="long", workflow="libe_workflow", application="sleep", args="1000")
until(short, ["JOB_FINISHED", "FAILED"])
print(short.read_file_in_workdir("short.out").strip(), Path("short.out").read_text().strip())
until(long, ["RUNNING"])
elapsed = datetime.now() - long.get_state_times()["RUNNING"]
assert 0 <= elapsed.total_seconds() < 60, elapsed
dag.kill(long)
until(long, ["USER_KILLED", "FAILED"])
print(long.state, short.runtime_seconds < 50)
dag.BalsamJob.objects.filter(workflow__contains="libe", state="JOB_FINISHED").delete()
print(dag.BalsamJob.objects.filter(workflow__contains="libe").count())
"""


def test_a_driver_beside_a_launcher(
    campaign: Campaign, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.app("say", "/bin/echo")
    campaign.app("sleep", "/bin/sleep")
    launcher = start("--idle-seconds", "5")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert call(campaign, DRIVER) == "hello hello\nUSER_KILLED True\n1\n"
    launcher.process.terminate()
    launcher.wait()


# functions in warm interpreters -----------------------------------------------------------------

FUNCTION = """
import balsam

@balsam.app
def note(x):
    from balsam import dag
    dag.current_job.data["x"] = x
    dag.current_job.save()
    if x == 0:
        dag.spawn_child(clone=False, name="child", application="true")

for x in range(3):
    note.submit(x)
"""


def test_functions_of_one_process_have_each_its_job(campaign: Campaign, run: Run) -> None:
    call(campaign, FUNCTION)
    run()
    jobs = campaign.client.jobs(Query())
    assert [job.data.get("x") for job in jobs] == [0, 1, 2, None]
    assert {str(job.state) for job in jobs} == {"JOB_FINISHED"}
    assert jobs[3].parents == [jobs[0].id]
