"""What flux-core 0.89.0 writes, as ood_core keeps it for its tests (spec/fixtures/output/flux)."""

import json

import pytest

from balsam.errors import SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.flux import Flux
from balsam.schedulers.scheduler import Answer, Submission

RUNNING = (
    '{"t_depend": 1791485339.3604915, "t_run": 1791485339.3808882, "duration": 0.0, "expiration":'
    ' 9223372036.0, "name": "sleep", "ntasks": 1, "ncores": 10, "nnodes": 1, "priority": 16,'
    ' "ranks": "0", "nodelist": "3db47f546663", "id": 91088924704768, "t_submit":'
    ' 1791485339.3489497, "state": "RUN", "username": "fluxuser", "userid": 1002, "urgency": 16,'
    ' "status": "RUN", "dependencies": [], "jobid": "\\u0192iFkbMhFM", "annotations": {"sched":'
    ' {"selection_type": "immediate"}}, "exception": {"occurred": false}}'
)
HELD = (
    '{"t_depend": 1791485339.6261692, "name": "sleep", "nnodes": 1, "priority": 0, "id":'
    ' 91093387444224, "t_submit": 1791485339.6152482, "state": "SCHED", "urgency": 0, "status":'
    ' "SCHED", "dependencies": [], "jobid": "\\u0192iFsPiQD5", "annotations": {}, "exception":'
    ' {"occurred": false}}'
)
CANCELED = (
    '{"t_run": 1791485339.3808882, "t_cleanup": 1791485358.243194, "t_inactive":'
    ' 1791485358.6704354, "name": "sleep", "nodelist": "3db47f546663", "success": false,'
    ' "result": "CANCELED", "waitstatus": 36608, "id": 91088924704768, "t_submit":'
    ' 1791485339.3489497, "state": "INACTIVE", "urgency": 16, "status": "CANCELED",'
    ' "returncode": 143, "jobid": "\\u0192iFkbMhFM", "annotations": {}, "exception":'
    ' {"occurred": true, "severity": 0, "type": "cancel", "note": ""}}'
)
MINE = Submission(
    name="balsam-7",
    script="/site/qsubmit/7.sh",
    output="/site/log/a b's.out",
    directory="/site",
    num_nodes=2,
    minutes=30,
    queue="batch",
    project="chem",
    flags=("-o", "cpu affinity"),
)


class Said:
    """Gives one answer to all commands, and keeps what they were."""

    def __init__(self, out="", err="", code=0):
        self.out, self.err, self.code, self.commands = out, err, code, []

    def __call__(self, argv, stdin=""):
        self.commands.append(list(argv))
        return Answer(argv=tuple(argv), code=self.code, out=self.out, err=self.err)


def test_running():
    found = Flux().status(Said(RUNNING), ["fiFkbMhFM"])
    assert list(found) == ["fiFkbMhFM"]
    status = found["fiFkbMhFM"]
    assert (status.state, status.word) == (BatchState.RUNNING, "RUN")
    assert (status.nodes, status.started_at) == ("3db47f546663", 1791485339.3808882)
    assert status.exit_code is None


def test_several_with_one_that_is_unknown():
    run = Said(f'{{"jobs": [{RUNNING}, {HELD}]}}', "JobID 999999 unknown\n", 1)
    found = Flux().status(run, ["91088924704768", "ƒiFsPiQD5", "999999"])
    assert {each: status.state for each, status in found.items()} == {
        "91088924704768": BatchState.RUNNING,
        "ƒiFsPiQD5": BatchState.HELD,
    }
    assert len(run.commands) == 1


def test_cancelled_is_in_the_history():
    status = Flux().history(Said(CANCELED), ["fiFkbMhFM"])["fiFkbMhFM"]
    assert (status.state, status.exit_code, status.reason) == (BatchState.CANCELLED, 143, "cancel")
    assert status.ended_at == 1791485358.6704354


def test_what_runs_is_not_in_the_history():
    assert Flux().history(Said(RUNNING), ["fiFkbMhFM"]) == {}


@pytest.mark.parametrize("code", [0, 1])  # since 0.80 it is 1
def test_only_unknown(code):
    assert Flux().status(Said("", "JobID 999999 unknown\n", code), ["999999"]) == {}


def test_unknown_state_keeps_its_word():
    job = json.loads(RUNNING) | {"state": "HIBERNATE"}
    status = Flux().status(Said(json.dumps(job)), ["fiFkbMhFM"])["fiFkbMhFM"]
    assert (status.state, status.word) == (BatchState.UNKNOWN, "HIBERNATE")


@pytest.mark.parametrize("out", ["", "flux: segfault", RUNNING[:-30], "[]", '{"jobs": [{}]}'])
def test_unreadable(out):
    with pytest.raises(UnreadableAnswer, match="flux wrote "):
        Flux().status(Said(out), ["fiFkbMhFM"])


def test_away():
    text = "flux-jobs: ERROR: [Errno 111] Unable to connect to Flux: ECONNREFUSED"
    with pytest.raises(SchedulerAway, match="ECONNREFUSED"):
        Flux().status(Said("", text, 1), ["fiFkbMhFM"])


def test_no_broker_is_no_batch_system():
    text = "flux-getattr: Unable to connect to Flux: broker socket /run/flux/local was not found"
    assert not Flux().is_here(Said("", text, 1))
    assert not Flux().is_here(Said("", "flux: command not found", 127))
    assert Flux().is_here(Said("", "Unable to connect to Flux: Connection refused", 1))
    assert Flux().is_here(Said("4\n"))


def test_submit_amid_chatter():
    run = Said("Welcome to node4 of 16.\nfiFkbMhFM\n\n")
    assert Flux().submit(run, MINE) == "fiFkbMhFM"
    assert run.commands == [["flux", "batch", "/site/qsubmit/7.sh"]]


def test_submit_refused():
    with pytest.raises(SchedulerRefused, match="queue not found"):
        Flux().submit(Said("", "flux-batch: ERROR: queue not found", 1), MINE)


def test_directives_end_with_the_users_flags():
    assert Flux().directives(MINE) == [
        "# flux: --job-name=balsam-7",
        "# flux: --nodes=2",
        "# flux: --exclusive",
        "# flux: --time-limit=30m",
        "# flux: '--output=/site/log/a b'\"'\"'s.out'",
        "# flux: --cwd=/site",
        "# flux: --queue=batch",
        "# flux: --bank=chem",
        "# flux: -o 'cpu affinity'",
    ]


def test_cancel_of_what_is_over():
    Flux().cancel(Said("", "flux-cancel: ERROR: ƒ68GN: unknown job id\n", 1), ["f68GN"])
    with pytest.raises(SchedulerRefused, match="guest"):
        Flux().cancel(Said("", "flux-cancel: ERROR: f1: guest is not its owner", 1), ["f1"])


class Machine(Said):
    """Two queues; of four nodes of 'batch' one is free, and of another half."""

    def __call__(self, argv, stdin=""):
        answer = super().__call__(argv)
        if argv[1] == "queue":
            out = "queue=batch*|enabled|started|7200.0|1|3|end\n"
            out += "queue=debug|disabled|stopped|inf|0|inf|end\n"
        else:
            free = [("0", "0-7"), ("1", "0-3")] if "--states=free" in argv else [("0-3", "0-7")]
            lite = [{"rank": r, "children": {"core": c, "gpu": "0,1"}} for r, c in free]
            out = json.dumps({"version": 1, "execution": {"R_lite": lite}})
        return Answer(argv=answer.argv, code=0, out=out, err="")


def test_queues():
    batch, debug = Flux().queues(Machine())
    assert (batch.name, batch.is_default, batch.is_open) == ("batch", True, True)
    assert (batch.min_nodes, batch.max_nodes, batch.max_minutes) == (1, 3, 120)
    assert (batch.nodes, batch.cores_per_node, batch.gpus_per_node) == (4, 8, 2)
    assert (debug.max_nodes, debug.max_minutes, debug.is_open) == (None, None, False)
    assert debug.comment == "it takes no requests and it starts none"


def test_windows_are_of_whole_nodes():
    assert [(each.queue, each.num_nodes) for each in Flux().windows(Machine())] == [
        ("batch", 1),
        ("debug", 1),
    ]


def test_a_line_of_queues_that_is_cut_off():
    with pytest.raises(UnreadableAnswer, match=r"'queue=batch\|enabled\|sta'"):
        Flux().queues(Said("queue=batch|enabled|sta"))
