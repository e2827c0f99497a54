"""Why a job that is free gets no nodes."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.model.batch_job import BatchState
from balsam.model.run_time import RunTime
from balsam.model.service import Unmet
from balsam.report.reasons.facts import class_of
from tests.unit.why import FULL, NOW, batch_job, facts, job, launcher, queue, service, why


def test_nobody_is_there() -> None:
    answer = why(job())
    assert answer.reason == "no_launcher"
    assert "there has been none yet" in answer.waits_for
    for command in (
        "balsam launcher --consume-all",
        "balsam submit-launch",
        "balsam service start",
    ):
        assert f"`{command}`" in answer.help


def test_the_last_launcher_says_why_it_ended() -> None:
    gone = launcher(ended_at=NOW - 120, message="its time is over")
    answer = why(job(), facts(launchers=[gone]))
    assert answer.reason == "no_launcher"
    assert "launcher 3 on n1, ended 2 min ago: its time is over" in answer.waits_for


def test_a_launcher_that_gives_no_sign_of_life_is_none() -> None:
    answer = why(job(), facts(launchers=[launcher(expires_at=NOW - 90)]))
    assert answer.reason == "no_launcher"
    assert "the sign of life of launcher 3 on n1 was due 90 s ago" in answer.waits_for


# launchers --------------------------------------------------------------------------


def test_all_places_are_taken() -> None:
    answer = why(job(), facts(launchers=[launcher()], held=FULL), ahead=9)
    assert answer.reason == "busy"
    assert "launcher 3 on n1, with 16 jobs running" in answer.waits_for
    assert "9 jobs of a higher priority before it" in answer.waits_for


def test_a_launcher_with_room_takes_it_at_once() -> None:
    answer = why(job(updated_at=NOW - 1), facts(launchers=[launcher()]))
    assert answer.reason == "starting"


def test_a_launcher_with_room_that_does_not_take_it() -> None:
    answer = why(job(), facts(launchers=[launcher()]))
    assert answer.reason == "not_taken"


MISFITS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"num_nodes": 3}, {}, "too_few_nodes", "needs 3 nodes, launcher 3 has 2"),
    ({"threads_per_rank": 9}, {"past": 10}, "node_too_small", "needs 9 cores on a node"),
    ({"gpus_per_rank": 1.0}, {"past": 10}, "node_too_small", "needs 1 GPUs on a node"),
    ({"memory_mib": 2000}, {"past": 10}, "node_too_small", "needs 2000 MiB on a node"),
    ({"ranks_per_node": 2}, {"job_mode": "serial"}, "serial_only", "--job-mode"),
    ({}, {"workflow_filter": "other"}, "other_workflow", "'other'"),
    ({}, {"tags": {"kind": "big"}}, "other_tags", "kind=big"),
    ({"owner": "bob"}, {}, "other_owner", "runs jobs of ann"),
]


@pytest.mark.parametrize(("asked", "had", "reason", "said"), MISFITS)
def test_a_launcher_that_is_not_for_it(
    asked: dict[str, Any], had: dict[str, Any], reason: str, said: str
) -> None:
    fields = {name: value for name, value in had.items() if name != "past"}
    larger = launcher(id=1, nodes=8, cores=80, gpus=8, memory_mib=9000, ended_at=NOW - 9000)
    answer = why(job(**asked), facts(launchers=[larger, launcher(**fields)]))
    assert answer.reason == reason
    assert said in answer.waits_for
    assert answer.help


@pytest.mark.parametrize(
    ("asked", "had"),
    [
        ({}, {"workflow_filter": "sca"}),
        ({"tags": {"kind": "big", "x": "y"}}, {"tags": {"kind": "big"}}),
        ({"num_nodes": 2}, {}),
        ({"threads_per_rank": 8}, {}),
    ],
)
def test_a_launcher_that_is_for_it(asked: dict[str, Any], had: dict[str, Any]) -> None:
    answer = why(job(**asked), facts(launchers=[launcher(**had)], held=FULL))
    assert answer.reason == "busy"


def test_a_launcher_for_anybody() -> None:
    answer = why(job(owner="bob"), facts(launchers=[launcher(jobs_of="")], held=FULL))
    assert answer.reason == "busy"


def test_the_end_of_a_launcher_that_is_of_no_batch_job() -> None:
    site = facts(launchers=[launcher(ends_at=NOW + 600)])
    assert why(job(wall_time_minutes=15.0), site).reason == "too_little_time"
    assert why(job(wall_time_minutes=5.0), site).reason != "too_little_time"


@pytest.mark.parametrize("is_learned", [True, False])
def test_too_little_time_is_left(is_learned: bool) -> None:
    learned = RunTime(application="sim", ranks=1, count=9, mean_seconds=1200.0)
    site = facts(
        launchers=[launcher(batch_job_id=4, started_at=NOW - 50 * 60)],
        batch_jobs=[batch_job(state=BatchState.RUNNING, started_at=NOW - 50 * 60)],
        run_times={("sim", 1): learned} if is_learned else {},
    )
    answer = why(job(wall_time_minutes=0 if is_learned else 20), site)
    assert answer.reason == "too_little_time"
    assert f"needs {22 if is_learned else 20} min, launcher 3 has 7.8 min" in answer.waits_for


def test_what_is_nearest_to_a_fit_comes_first() -> None:
    other = launcher(id=5, workflow_filter="other")
    answer = why(job(num_nodes=3), facts(launchers=[other, launcher()]))
    assert answer.reason == "too_few_nodes"
    assert answer.waits_for.index("launcher 3") < answer.waits_for.index("launcher 5")


def test_more_nodes_than_any_launcher_had() -> None:
    answer = why(job(num_nodes=3), facts(launchers=[launcher(ended_at=NOW - 5)]))
    assert answer.reason == "too_few_nodes"
    assert "needs 3 nodes, and none had more than 2" in answer.waits_for
    assert "`balsam submit-launch -n 3 -t 60`" in answer.help


# batch jobs -------------------------------------------------------------------------


STANDING = [
    (BatchState.QUEUED, "batch_job_queued"),
    (BatchState.HELD, "batch_job_held"),
    (BatchState.RUNNING, "batch_job_starting"),
    (BatchState.PENDING_SUBMISSION, "batch_job_not_submitted"),
    (BatchState.UNKNOWN, "batch_job_unknown"),
]


@pytest.mark.parametrize(("state", "reason"), STANDING)
def test_a_batch_job_that_will_run_it(state: BatchState, reason: str) -> None:
    coming = batch_job(state=state, message="(Priority)", scheduler_state="XY")
    answer = why(job(), facts(batch_jobs=[coming]))
    assert answer.reason == reason
    assert "batch job 4 (slurm 812, debug, 2 nodes)" in answer.waits_for
    assert "(Priority)" in answer.waits_for
    assert answer.help


def test_the_expected_start_is_told() -> None:
    answer = why(job(), facts(batch_jobs=[batch_job(starts_at=NOW + 7200)]))
    assert answer.waits_for.endswith("expected to start 1970-01-12 15:46:40 UTC, in 2 h 00 min")


def test_what_the_batch_system_said_long_ago_is_told_as_that() -> None:
    fresh = why(job(), facts(batch_jobs=[batch_job(seen_at=NOW - 60)]))
    assert "last asked" not in fresh.waits_for
    old = why(job(), facts(batch_jobs=[batch_job(seen_at=NOW - 7200)]))
    assert old.reason == "batch_job_queued"
    assert old.waits_for.endswith("so it was 2 h 00 min ago, when the batch system was last asked")
    assert "`balsam queue ls`" in old.help


def test_a_batch_job_whose_time_has_passed_is_none() -> None:
    running = batch_job(state=BatchState.RUNNING, started_at=NOW - 3599)
    assert why(job(), facts(batch_jobs=[running])).reason == "too_little_time"
    running.started_at = NOW - 3601
    assert why(job(), facts(batch_jobs=[running])).reason == "no_launcher"


def test_a_request_that_nobody_submits_needs_the_service() -> None:
    waiting = batch_job(state=BatchState.PENDING_SUBMISSION)
    assert why(job(), facts(batch_jobs=[waiting])).help == "`balsam service start`"
    with_service = facts(batch_jobs=[waiting], service=service())
    assert why(job(), with_service).help.startswith("nothing")


@pytest.mark.parametrize(
    ("asked", "fields", "reason"),
    [
        ({"num_nodes": 3}, {}, "too_few_nodes"),
        ({"wall_time_minutes": 58.5}, {}, "too_little_time"),
        ({}, {"wf_filter": "other"}, "other_workflow"),
        ({}, {"owner": "bob"}, "other_owner"),
        ({"num_nodes": 2}, {"job_mode": "serial"}, "serial_only"),
    ],
)
def test_a_batch_job_that_is_not_for_it(
    asked: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    assert why(job(**asked), facts(batch_jobs=[batch_job(**fields)])).reason == reason


def test_a_batch_job_that_is_to_be_cancelled_is_none() -> None:
    coming = batch_job(cancel_reason="by ann")
    assert why(job(), facts(batch_jobs=[coming])).reason == "no_launcher"


def test_a_batch_job_whose_launcher_has_ended_is_none() -> None:
    site = facts(
        batch_jobs=[batch_job(state=BatchState.RUNNING)],
        launchers=[launcher(batch_job_id=4, ended_at=NOW - 5, message="nothing left to do")],
    )
    assert why(job(), site).reason == "no_launcher"


def test_nodes_that_are_being_given_back_start_no_launcher() -> None:
    ending = batch_job(state=BatchState.ENDING, started_at=NOW - 60)
    assert why(job(), facts(batch_jobs=[ending])).reason == "no_launcher"


@pytest.mark.parametrize("gone", [{"ended_at": NOW - 90}, {"expires_at": NOW - 90}])
def test_a_batch_job_that_was_requeued_waits_again(gone: dict[str, Any]) -> None:
    before = launcher(batch_job_id=4, **gone)
    waits = why(job(), facts(batch_jobs=[batch_job()], launchers=[before]))
    assert waits.reason == "batch_job_queued"
    begun = batch_job(state=BatchState.RUNNING, started_at=NOW - 30)
    assert why(job(), facts(batch_jobs=[begun], launchers=[before])).reason == "batch_job_starting"


def test_a_refused_request_says_what_the_batch_system_said() -> None:
    refused = batch_job(state=BatchState.SUBMIT_FAILED, message="Invalid\n qos")
    answer = why(job(), facts(last_batch_job=refused))
    assert answer.reason == "submit_failed"
    assert "refused the last request, batch job 4: Invalid qos" in answer.waits_for


def test_a_cancelled_request_is_mentioned() -> None:
    cancelled = batch_job(state=BatchState.CANCELLED, message="by ann")
    answer = why(job(), facts(last_batch_job=cancelled))
    assert answer.reason == "no_launcher"
    assert "batch job 4, is cancelled: by ann" in answer.waits_for


# never ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"threads_per_rank": 9}, "threads_per_rank"),
        ({"ranks_per_node": 9}, "ranks_per_node"),
        ({"gpus_per_rank": 1.0}, "gpus_per_rank"),
        ({"memory_mib": 1001}, "memory_mib"),
    ],
)
@pytest.mark.parametrize(
    "known", [{"launchers": [launcher(ended_at=NOW)]}, {"service": service(False)}]
)
def test_no_node_that_is_known_could_ever_run_it(
    asked: dict[str, Any], field: str, known: dict[str, Any]
) -> None:
    answer = why(job(**asked), facts(**known))
    assert answer.reason == "impossible"
    assert f"`balsam modify 7 {field} N`" in answer.help


def test_the_queues_allow_fewer_nodes() -> None:
    queues = [queue(), queue(name="large", max_nodes=None, nodes=6)]
    answer = why(job(num_nodes=7), facts(service=service(queues=queues)))
    assert answer.reason == "impossible"
    assert "needs 7 nodes, and 6 at most can be had" in answer.waits_for
    assert "`balsam modify 7 num_nodes N`" in answer.help


def test_the_whole_time_of_a_queue_is_never_a_jobs() -> None:
    site = facts(service=service())
    assert why(job(wall_time_minutes=57), site).reason == "service_soon"
    answer = why(job(wall_time_minutes=60), site)
    assert answer.reason == "impossible"
    assert "needs 60 min, and jobs have 57 min at most (queue 'debug'" in answer.waits_for


def test_what_launchers_had_before_is_possible_though_no_queue_allows_it() -> None:
    before = launcher(nodes=8, cores=64, ended_at=NOW - 5)
    answer = why(job(num_nodes=7), facts(service=service(), launchers=[before]))
    assert answer.reason == "queue_limits"


def test_what_the_settings_say_of_nodes_goes_before_what_queues_tell() -> None:
    site = facts(service=service())
    site.nodes.cores = 16
    assert why(job(threads_per_rank=16), site).reason == "service_soon"


def test_a_queue_that_tells_nothing_of_its_nodes_may_have_any() -> None:
    unknown = queue(cores_per_node=0, memory_mib=0, max_nodes=None)
    site = facts(service=service(queues=[unknown]))
    assert why(job(threads_per_rank=900, num_nodes=900), site).reason == "service_soon"


# the service ------------------------------------------------------------------------


def test_the_service_is_down() -> None:
    answer = why(job(), facts(service=service(live=False)))
    assert answer.reason == "service_down"
    assert "down for 5 min: asked to by SIGTERM" in answer.waits_for
    assert answer.help == "`balsam service start`"


def test_a_service_without_a_sign_of_life_is_down() -> None:
    silent = service()
    silent.expires_at = NOW - 180
    answer = why(job(), facts(service=silent))
    assert answer.reason == "service_down"
    assert "3 min: it gives no sign of life" in answer.waits_for


def test_a_launcher_that_is_too_small_and_a_service_that_is_down() -> None:
    site = facts(launchers=[launcher()], service=service(live=False))
    answer = why(job(num_nodes=3), site)
    assert answer.reason == "too_few_nodes"
    assert "launcher 3 has 2; and the service, which could ask" in answer.waits_for
    assert answer.help.startswith("`balsam service start`; or start a launcher")


STATUS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"trouble": "squeue: timed out"}, {}, "service_trouble", "squeue: timed out"),
    ({"elastic": False}, {}, "elastic_off", "service.elastic"),
    (
        {"unmet": [Unmet(count=4, example=7, what="x", reason="no such nodes")]},
        {},
        "unmet",
        "no such nodes",
    ),
    (
        {"queues": [queue(is_open=False, comment="paused after 3 failures")]},
        {},
        "queue_closed",
        "debug (paused after 3 failures)",
    ),
    ({"queues": [queue(max_queued=1)]}, {"num_nodes": 3}, "max_queued", "debug (1)"),
    (
        {"budget_node_hours": 10.0, "spent_node_hours": 10.0},
        {},
        "budget_spent",
        "of the budget of 10, 0 are left",
    ),
    (
        {"budget_node_hours": 10.0, "spent_node_hours": 9.5},
        {"wall_time_minutes": 40, "num_nodes": 1},
        "budget_spent",
        "0.5 are left",
    ),
    ({"waits": "the last request is a minute old"}, {}, "service_waits", "a minute old"),
    ({}, {}, "service_soon", "it looked 5 s ago"),
]


@pytest.mark.parametrize(("status", "asked", "reason", "said"), STATUS)
def test_what_keeps_the_service(
    status: dict[str, Any], asked: dict[str, Any], reason: str, said: str
) -> None:
    wanted = job(**asked)
    running = launcher(batch_job_id=4, workflow_filter="other")
    site = facts(
        launchers=[running],
        batch_jobs=[batch_job(state=BatchState.RUNNING, started_at=NOW - 60)],
        service=service(**status),
    )
    site.unmet = [(class_of(job()), each) for each in status.get("unmet", [])]
    answer = why(wanted, site)
    assert answer.reason == reason
    assert said in answer.waits_for
    assert answer.help


def test_jobs_alike_have_the_same_reason_as_the_services_example() -> None:
    unmet = Unmet(count=4, example=1, what="x", reason="no such nodes")
    site = facts(service=service(unmet=[unmet]))
    site.unmet = [(class_of(job(id=1, num_nodes=2)), unmet)]
    assert why(job(num_nodes=2), site).reason == "unmet"
    assert why(job(num_nodes=3), site).reason == "service_soon"


def test_the_service_of_another_user_does_not_ask() -> None:
    answer = why(job(owner="bob"), facts(service=service()))
    assert answer.reason == "other_owner"
    assert "the service is ann's" in answer.waits_for


def test_all_layers_are_told() -> None:
    answer = why(job(), facts(service=service()))
    assert [each.layer for each in answer.layers] == [
        *("state", "lease", "parents", "retry", "app", "files"),
        *("launchers", "batch_jobs", "nodes", "service"),
    ]
    assert all(each.found for each in answer.layers)
