"""`balsam service`: the daemon on this machine as a batch system, and what is told of it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.lifecycle.recover import process_start
from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.service import QueueState, ServiceInfo, ServiceStatus, Unmet
from tests.acceptance.batch import add_jobs, batch_jobs, ok, refused, use_local
from tests.acceptance.conftest import BIN, Balsam

ROOT = Path(__file__).parents[2]
#: Seconds between looks that make tests short.
FAST = "[service]\npoll_seconds = 0.5\nidle_minutes = 0.02\n"


@pytest.fixture
def here(
    balsam: Balsam, site: Path, balsam_home: Path, environ: dict[str, str]
) -> Iterator[Balsam]:
    """The site, with this machine as its batch system; no service is left on it."""
    use_local(balsam_home, site, settings=FAST)
    yield balsam
    client = LocalClient(site, config.load(site))
    try:
        found = client.service()
    finally:
        client.close()
    if found is not None and found.ended_at is None and process_start(found.pid):
        os.kill(found.pid, signal.SIGKILL)
    balsam("queue", "cancel", "--all", "--yes")


def status(balsam: Balsam, code: int = 0) -> dict[str, Any]:
    """Return what `balsam service status` tells."""
    done = balsam("service", "status", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def register(site: Path, lease_seconds: float = 100.0, **known: Any) -> int:
    """Enter a service of another host that knows this."""
    client = LocalClient(site, config.load(site))
    try:
        number = client.register_service(ServiceInfo(host="login2", pid=7, owner="me"), 100.0)
        client.renew_service(number, ServiceStatus(**known), lease_seconds)
    finally:
        client.close()
    return number


# the daemon -------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("service",), ("service", "start")])
def test_it_runs_what_waits_and_is_stopped(here: Balsam, site: Path, verb: tuple[str, ...]) -> None:
    add_jobs(here, 5, "/bin/true")
    said = ok(here(*verb))
    pid = status(here)["pid"]
    assert said == f"Started the Balsam service [{pid}]; its log: {site}/log/service.log\n"
    assert "has a service already: process" in refused(here("service", "start"), 1)
    assert status(here)["pid"] == pid
    ok(here("wait", "--timeout", "60", timeout=90))
    (made,) = batch_jobs(here)
    assert (made["service_id"], made["queue"], made["num_nodes"]) == (1, "debug", 1)
    assert (
        ok(here("service", "stop")) == f"The service has ended (process {pid} on {made['host']}).\n"
    )
    assert not process_start(pid)  # '' is also a zombie's
    found = status(here, 3)
    assert (found["running"], found["pid"]) == (False, pid)
    assert "batch job 1 (1) asks for " in "\n".join(found["news"])
    assert ok(here("service", "stop")) == "No service runs.\n"
    assert "batch job 1 (1) asks for " in (site / "log" / "service.log").read_text()


def heard(balsam: Balsam) -> dict[str, Any]:
    """Wait until the service has heard from the batch system; return what it tells."""
    for _ in range(100):
        found = status(balsam)
        if found["scheduler_seen_at"]:
            return found
    raise AssertionError(f"it has not heard from the batch system: {found}")


def test_in_the_foreground(here: Balsam, environ: dict[str, str], site: Path) -> None:
    command = [str(BIN / "balsam"), "service", "run"]
    with subprocess.Popen(
        command, env=environ, cwd=site, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(" service 1 started for local\n")
        assert heard(here)["pid"] == process.pid
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith(" the service ended: asked to by SIGINT\n")
    assert process.returncode == 0


def test_stopping_with_its_batch_jobs(here: Balsam) -> None:
    add_jobs(here, 1, "/bin/sleep 300")
    ok(here("service", "start"))
    for _ in range(200):
        if any(each["state"] == "running" for each in batch_jobs(here)):
            break
    assert "no answer" in refused(here("service", "stop", "--cancel-batch-jobs"))
    assert status(here)["running"]
    done = here("queue", "cancel", "--all", stdin="y\n")
    assert ok(done) == "Cancelled 1 batch job.\n"
    assert "the service runs, and asks for nodes again as long as jobs wait" in done.stderr
    for _ in range(200):
        if any(each["id"] == 2 for each in batch_jobs(here)):
            break
    said = ok(here("service", "stop", "--cancel-batch-jobs", "--yes"))
    assert said.endswith("\nCancelled 1 batch job.\n")
    assert "with the service" in batch_jobs(here)[1]["cancel_reason"]


def test_one_that_was_killed(here: Balsam) -> None:
    ok(here("service", "start"))
    pid = status(here)["pid"]
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([process], [], [], 60)  # until it is dead
    os.close(process)
    done = here("service", "status")
    assert done.returncode == 3
    assert "died: there is no such process; `balsam service start` starts one" in done.stdout
    assert not status(here, 3)["running"]
    assert "The service had died (process " in ok(here("service", "stop"))
    assert status(here, 3)["message"] == "its process had died"
    ok(here("service", "start"))
    assert status(here)["id"] == 2
    ok(here("service", "stop"))


def test_what_keeps_it_from_starting_is_said(here: Balsam, site: Path, balsam_home: Path) -> None:
    use_local(balsam_home, site)
    (site / "balsam.toml").write_text('[scheduler]\nname = "slrm"\n')
    for verb in ("start", "run", "plan"):
        said = refused(here("service", verb), 1 if verb == "start" else 2)
        assert "there is no batch system 'slrm'" in said


# status -----------------------------------------------------------------------------


def test_status_without_a_service(here: Balsam) -> None:
    done = here("service", "status")
    assert done.returncode == 3
    assert done.stdout.startswith("No service runs, and none ever did on this site; `balsam serv")
    found = status(here, 3)
    assert (found["running"], found["pid"], found["batch_jobs"]) == (False, None, {})


def test_status_tells_what_it_knows(here: Balsam, site: Path, balsam_home: Path) -> None:
    use_local(balsam_home, site, settings="[service]\nbudget_node_hours = 10\n")
    client = LocalClient(site, config.load(site))
    try:
        for state in (BatchState.QUEUED, BatchState.FAILED):
            client.create_batch_job(BatchJob(state=state, num_nodes=4, wall_time_minutes=60))
    finally:
        client.close()
    paused = QueueState(name="big", is_open=False, comment="paused after 3 failures in a row")
    register(
        site,
        scheduler="slurm",
        elastic=False,
        trouble="the batch system: it is away",
        waits="queue small has 5 requests, the most allowed",
        queues=[QueueState(name="small", max_nodes=2, max_minutes=60.0, max_queued=5), paused],
        unmet=[Unmet(count=7, example=3, what="5 nodes", reason="queue small allows 2 at most")],
        news=["2031-05-04 03:02:01 batch job 1 (17) failed"],
    )
    text = ok(here("service", "status"))
    for line in (
        "Service 1 runs: process 7 on login2, of me, for ",
        "Batch system: slurm, not heard yet\n",
        "It asks for no nodes by itself (service.elastic is false)\n",
        "Trouble: the batch system: it is away\n",
        "Budget: 4 of 10 node-hours are spent or asked for, 6 are left\n",
        "Batch jobs: 1 queued, 1 failed\n",
        "It asks for nothing more: queue small has 5 requests, the most allowed\n",
        "| no   | 1 or more | 0 or more |           | paused after 3 failures in a row\n",
        "7    | 3       | 5 nodes | queue small allows 2 at most\n",
        "Last news\n2031-05-04 03:02:01 batch job 1 (17) failed\n",
    ):
        assert line in text
    found = status(here)
    assert (found["running"], found["host"], found["stop_requested"]) == (True, "login2", False)
    assert (found["spent_node_hours"], found["left_node_hours"]) == (4, 6)
    assert found["queues"][1]["comment"] == "paused after 3 failures in a row"
    assert found["unmet"][0]["example"] == 3
    assert found["started_at"].endswith("Z")


def test_one_that_gives_no_sign_of_life(here: Balsam, site: Path) -> None:
    register(site, lease_seconds=-1.0, updated_at=1.0)
    done = here("service", "status")
    assert done.returncode == 3
    assert (
        "No service runs: the last (process 7 on login2, of me) gave no sign of life" in done.stdout
    )
    assert ok(here("service", "stop")) == "No service runs.\n"


# JSON -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ("service", "status"),
            "running id host pid pid_started owner started_at expires_at ended_at stop_requested"
            " message scheduler elastic updated_at scheduler_seen_at trouble queues unmet waits"
            " budget_node_hours spent_node_hours left_node_hours files news batch_jobs log",
        ),
        (
            ("service", "plan"),
            "scheduler elastic submissions surplus unmet waits covered to_stage queues"
            " budget_node_hours spent_node_hours asked_node_hours",
        ),
        (
            ("queue", "limits"),
            "name is_default is_open comment min_nodes max_nodes min_minutes max_minutes max_queued"
            " nodes cores_per_node gpus_per_node memory_mib policy windows",
        ),
    ],
)
def test_json_has_the_keys_of_its_page(here: Balsam, words: tuple[str, ...], keys: str) -> None:
    found = json.loads(here(*words, "--json").stdout)
    record = found[0] if isinstance(found, list) else found
    assert set(keys.split()) <= set(record)
    assert f"`{keys}`" in (ROOT / "docs" / "guide" / "json.md").read_text()


# plan -------------------------------------------------------------------------------


def test_the_plan_changes_nothing(here: Balsam, site: Path) -> None:
    add_jobs(here, 40, "/bin/true", "--wall-time-minutes", 10)
    ok(here("job", "--name", "wide", "--workflow", "w", "--app", "app", "--num-nodes", 3, "--yes"))
    before = sorted(site.rglob("*"))
    text = ok(here("service", "plan"))
    assert text.startswith("It would submit ")
    assert "a job needs 3 nodes, queue debug allows 1 at most" in text
    assert "Budget: no limit; 0 node-hours are spent or asked for\n" in text
    plan = json.loads(ok(here("service", "plan", "--json")))
    assert sum(each["jobs"] for each in plan["submissions"]) == 40
    assert {each["queue"] for each in plan["submissions"]} == {"debug"}
    assert all(each["minutes"] <= 60 and each["num_nodes"] == 1 for each in plan["submissions"])
    assert plan["asked_node_hours"] == pytest.approx(
        sum(each["node_hours"] for each in plan["submissions"])
    )
    assert [(each["count"], each["example"]) for each in plan["unmet"]] == [(1, 41)]
    assert (batch_jobs(here), status(here, 3)["id"]) == ([], None)
    assert sorted(site.rglob("*")) == before


def test_the_plan_keeps_the_budget(here: Balsam, site: Path, balsam_home: Path) -> None:
    settings = "[service]\nbudget_node_hours = 0.5\nelastic = false\n"
    use_local(balsam_home, site, settings=settings)
    add_jobs(here, 40, "/bin/true", "--wall-time-minutes", 10)
    text = ok(here("service", "plan"))
    assert "service.elastic = false: the service would submit nothing of this" in text
    assert "Nothing more, because the budget has " in text
    plan = json.loads(ok(here("service", "plan", "--json")))
    assert 0 < plan["asked_node_hours"] <= 0.5


def test_the_plan_counts_what_was_asked_for(here: Balsam) -> None:
    add_jobs(here, 2, "/bin/sleep 300")
    ok(here("submit-launch", "-n", 1, "-t", 30))
    for _ in range(200):
        plan = json.loads(ok(here("service", "plan", "--json")))
        if not plan["submissions"]:
            break
    assert (plan["submissions"], plan["surplus"]) == ([], [])
    assert "It would submit nothing.\n" in ok(here("service", "plan"))


def test_nothing_to_do(here: Balsam) -> None:
    assert ok(here("service", "plan")).startswith("It would submit nothing.\nBudget: ")
