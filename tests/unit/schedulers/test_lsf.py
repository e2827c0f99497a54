"""LSF 10.1: output that its users quote; see the sources that `balsam.schedulers.lsf` names."""

import json
import time

import pytest

from balsam.errors import SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.command import Command
from balsam.schedulers.lsf import Lsf
from balsam.schedulers.lsf_history import read_moment
from balsam.schedulers.scheduler import Answer, Submission

NOW = time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1))
NOBODY = Answer(argv=("bjobs",), code=0, out="", err="")
MINE = Submission(
    name="balsam-7",
    script="/site/qsubmit/7.sh",
    output="/site/log/a b's.out",
    directory="/site/a b",
    num_nodes=2,
    minutes=90,
    queue="batch",
    project="CHM101",
    flags=("-alloc_flags", "smt4 gpumps"),
    cores_per_node=42,
)


class Said:
    """Gives one answer to each command, and keeps what they were."""

    def __init__(self, out="", err="", code=0, **others):
        self.out, self.err, self.code, self.others, self.commands = out, err, code, others, []

    def __call__(self, argv, stdin=""):
        self.commands.append(list(argv))
        out, err, code = self.others.get(argv[0], (self.out, self.err, self.code))
        return Answer(argv=tuple(argv), code=code, out=out, err=err)


def lsf(has_jsrun=False):
    return Lsf(has_jsrun, lambda: NOW)


def records(*each):
    return json.dumps({"COMMAND": "bjobs", "JOBS": len(each), "RECORDS": list(each)}, indent=2)


def record(**members):
    found = {"JOBID": "771278", "STAT": "RUN", "QUEUE": "short", "EXEC_HOST": "n28"}
    return found | {"EXIT_CODE": "", "EXIT_REASON": "", "PEND_REASON": ""} | members


def one(**members):
    return lsf().status(Said(records(record(**members))), ["771278"])["771278"]


def test_running():
    status = one(
        EXEC_HOST="42*a01:42*a02:1*a01", START_TIME="Jan  2 11:58", FINISH_TIME="Jan  2 13:58 L"
    )
    assert (status.state, status.word, status.nodes) == (BatchState.RUNNING, "RUN", "a01,a02")
    assert status.started_at == NOW - 120
    assert status.ended_at is status.exit_code is None


def test_waiting():
    status = one(
        STAT="PEND",
        EXEC_HOST="",
        PEND_REASON="New job is waiting for scheduling;",
        ESTIMATED_START_TIME="Jan  2 14:00 E",
    )
    assert (status.state, status.reason) == (
        BatchState.QUEUED,
        "New job is waiting for scheduling",
    )
    assert status.starts_at == NOW + 7200


@pytest.mark.parametrize(
    ("members", "state", "code"),
    [
        ({"STAT": "DONE"}, BatchState.FINISHED, 0),
        ({"STAT": "EXIT", "EXIT_CODE": "3"}, BatchState.FAILED, 3),
        ({"STAT": "EXIT", "EXIT_CODE": "137"}, BatchState.FAILED, 137),
        (
            {
                "STAT": "EXIT",
                "EXIT_CODE": "140",
                "EXIT_REASON": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
            },
            BatchState.TIMEOUT,
            -12,
        ),
        (
            {"STAT": "EXIT", "EXIT_REASON": "TERM_PREEMPT: job killed after preemption"},
            BatchState.CANCELLED,
            None,
        ),
        (
            {"STAT": "EXIT", "EXIT_REASON": "TERM_OWNER: job killed by owner"},
            BatchState.CANCELLED,
            None,
        ),
        (
            {
                "STAT": "EXIT",
                "EXIT_CODE": "137",
                "EXIT_REASON": "TERM_FORCE_ADMIN: job killed by root or LSF administrator",
            },
            BatchState.CANCELLED,
            -9,
        ),
        (
            {
                "STAT": "EXIT",
                "EXIT_CODE": "137",
                "EXIT_REASON": "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit",
            },
            BatchState.FAILED,
            137,
        ),
    ],
)
def test_how_it_ended(members, state, code):
    status = one(START_TIME="Jan  2 11:00", FINISH_TIME="Jan  2 11:30", **members)
    assert (status.state, status.exit_code) == (state, code)
    assert status.ended_at == NOW - 1800


@pytest.mark.parametrize("word", ["UNKWN", "HIBERN"])
def test_a_word_that_is_not_known_is_kept(word):
    status = one(STAT=word)
    assert (status.state, status.word, status.ended_at) == (BatchState.UNKNOWN, word, None)


def test_an_unknown_id_is_a_record_or_a_complaint():
    unknown = {"JOBID": "9", "ERROR": "Job <9> is not found"}
    assert set(lsf().status(Said(records(record(), unknown)), ["771278", "9"])) == {"771278"}
    run = Said(records(record()), "Job <9> is not found\n", 255)
    assert set(lsf().status(run, ["771278", "9"])) == {"771278"}
    assert lsf().status(Said("", "Job <9> is not found\n", 255), ["9"]) == {}


@pytest.mark.parametrize(
    "out",
    [
        "",
        "JOBID   USER    STAT  QUEUE\n",
        records(record())[:-10],
        '{"COMMAND": "bjobs"}',
        records({"JOBID": "771278"}),
        records(record(START_TIME="yesterday")),
        records(record(STAT="EXIT", EXIT_CODE="many")),
    ],
)
def test_unreadable(out):
    with pytest.raises(UnreadableAnswer, match="bjobs wrote "):
        lsf().status(Said(out), ["771278"])


@pytest.mark.parametrize(
    "err",
    [
        "Failed in an LSF library call: LIM is down; try later. Job not submitted.",
        "batch system daemon not responding ... still trying",
        "LSF is down. Please wait ...",
    ],
)
def test_away(err):
    with pytest.raises(SchedulerAway):
        lsf().status(Said("", err, 255), ["771278"])


@pytest.mark.parametrize(
    ("text", "year", "clock"),
    [
        ("Dec 31 23:50", 2025, "23:50:00"),
        ("Jan  3 01:00 L", 2026, "01:00:00"),
        ("Dec 31 23:50:12 2024", 2024, "23:50:12"),
        ("Thu Jan  1 10:01:28", 2026, "10:01:28"),
    ],
)
def test_times_without_a_year_are_near(text, year, clock):
    found = time.localtime(read_moment(NOBODY, text, NOW))
    assert (found.tm_year, time.strftime("%H:%M:%S", found)) == (year, clock)


def test_a_leap_day_is_a_day():
    now = time.mktime((2028, 2, 29, 12, 0, 0, 0, 0, -1))
    assert read_moment(NOBODY, "Feb 29 11:00", now) == now - 3600
    assert read_moment(NOBODY, "Feb 29 11:00", now + 7 * 86400) == now - 3600
    with pytest.raises(UnreadableAnswer):
        read_moment(NOBODY, "Feb 30 11:00", now)


#: Issue 7694 of equinor/ert.
DONE = """\
Job <289263>, User <havb>, Project <default>, Command <sleep 10>
Thu Apr 18 10:00:40: Submitted from host <st-grid03>, to Queue <normal>, CWD <$
                     HOME>;
Thu Apr 18 10:01:28: Dispatched to <st-rst14-03-05>, Effective RES_REQ <select[
                     (cs)&&(type == any )&&(mem>maxmem*1/12)] order[r15s:pg:bjo
                     bs] span[hosts=1] same[model] >;
Thu Apr 18 10:01:28: Starting (Pid 658);
Thu Apr 18 10:01:28: Running with execution home </private/havb>, Execution CWD
                      </private/havb>, Execution Pid <658>;
Thu Apr 18 10:01:38: Done successfully. The CPU time used is 0.1 seconds;
Thu Apr 18 10:02:01: Post job process done successfully;

MEMORY USAGE:
MAX MEM: 3.9 Gbytes;  AVG MEM: 3.9 Gbytes

Summary of time in seconds spent in various states by  Thu Apr 18 10:02:01
  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL
  48       0        10       0        0        0        58
"""
KILLED = """\
Job <771278>, User <brandl>, Project <default>, Command <sleep 120>
Mon Nov 23 10:16:26: Submitted from host <falcon>, to Queue <short>;
Mon Nov 23 10:16:31: Starting (Pid 17);
Mon Nov 23 10:17:33: Exited with exit code 140. The CPU time used is 0.1 second
                     s;
Mon Nov 23 10:17:33: Completed <exit>; TERM_RUNLIMIT: job killed after reaching
                      LSF run time limit;
"""
RUNS = """\
Job <5>, User <brandl>, Project <default>, Command <sleep 120>
Mon Nov 23 10:16:26: Submitted from host <falcon>, to Queue <short>;
Mon Nov 23 10:16:31: Starting (Pid 17);
"""


def test_history_after_bjobs_has_forgotten():
    run = Said("", "Job <289263> is not found\n", 255, bhist=(DONE + KILLED + RUNS, "", 0))
    found = lsf().history(run, ["289263", "771278", "5"])
    assert {each: status.state for each, status in found.items()} == {
        "289263": BatchState.FINISHED,
        "771278": BatchState.TIMEOUT,
    }
    assert found["289263"].ended_at - found["289263"].started_at == 10
    assert found["771278"].exit_code == -12
    assert found["771278"].reason == ("TERM_RUNLIMIT: job killed after reaching LSF run time limit")
    assert [argv[0] for argv in run.commands] == ["bjobs", "bhist"]


def test_history_knows_nothing_either():
    run = Said("", "Job <9> is not found\n", 255, bhist=("", "No matching job found\n", 255))
    assert lsf().history(run, ["9"]) == {}


def test_submit_amid_chatter(tmp_path):
    script = tmp_path / "7.sh"
    script.write_text("#BSUB -J a\n")
    said = """\
Verifying job submission parameters...
Balance (SUs): 4999.8694
Job <7274791> is submitted to default queue <curie_devel>.
"""
    submission = Submission(
        name="a", script=str(script), output="/o", directory="/", num_nodes=1, minutes=1
    )
    assert lsf().submit(Said(said), submission) == "7274791"
    with pytest.raises(SchedulerRefused, match="nope: No such queue"):
        lsf().submit(Said("", "nope: No such queue. Job not submitted.\n", 255), submission)
    with pytest.raises(UnreadableAnswer, match="Balance"):
        lsf().submit(Said("Balance (SUs): 4999.8694\n"), submission)


def test_a_script_that_is_not_there():
    with pytest.raises(SchedulerRefused, match=r"cannot read /site/qsubmit/7\.sh"):
        lsf().submit(Said(), MINE)


def test_directives():
    assert lsf().directives(MINE) == [
        "#BSUB -J balsam-7",
        "#BSUB -W 90",
        '#BSUB -o "/site/log/a b\'s.out"',
        "#BSUB -cwd '/site/a b'",
        "#BSUB -n 84",
        '#BSUB -R "span[ptile=42]"',
        "#BSUB -q batch",
        "#BSUB -P CHM101",
        "#BSUB -alloc_flags 'smt4 gpumps'",
    ]


def sizes(scheduler, **changes):
    given = {"name": "a", "script": "/s", "output": "/o", "directory": "/", "minutes": 1}
    lines = scheduler.directives(Submission(num_nodes=3, **given, **changes))
    return [line for line in lines if line.split()[1] not in ("-J", "-W", "-o", "-cwd")]


def test_nodes_are_asked_for_as_the_system_takes_them():
    assert sizes(lsf(has_jsrun=True), gpus_per_node=6) == ["#BSUB -nnodes 3"]
    assert sizes(lsf()) == ["#BSUB -n 3", '#BSUB -R "span[ptile=1]"', "#BSUB -x"]
    assert sizes(lsf(), cores_per_node=8, gpus_per_node=2)[-1] == "#BSUB -gpu num=2"
    assert sizes(lsf(), flags=("-n", "7")) == ["#BSUB -n 7"]


def test_cancel_of_what_is_over():
    err = "Job <3>: Job has already finished\nJob <9>: No matching job found\n"
    lsf().cancel(Said("Job <4> is being terminated\n", err, 255), ["3", "4", "9"])
    with pytest.raises(SchedulerRefused, match="permission denied"):
        lsf().cancel(Said("", "Job <3>: User permission denied\n", 255), ["3"])


@pytest.mark.parametrize(
    ("err", "is_lsf"),
    [
        ("IBM Spectrum LSF Standard 10.1.0.12, Jun 10 2021\n", True),
        ("Platform LSF 9.1.3.0, Jul 04 2014\n", True),
        ("bash: bjobs: command not found\n", False),
    ],
)
def test_is_here(err, is_lsf):
    assert lsf().is_here(Said("", err)) == is_lsf


QUEUES = """\

QUEUE: normal
  -- For normal low priority jobs.  This is the default queue.

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV
 30   20  Open:Active       -    -    -    -     0     0     0     0     0    0
Interval for a host to accept two jobs is 0 seconds

 DEFAULT LIMITS:
 RUNLIMIT
 60.0 min of n1

 MAXIMUM LIMITS:
 CPULIMIT             RUNLIMIT             PROCLIMIT
 9000.0 min of n1     1440.0 min of n1     9 16 64

SCHEDULING PARAMETERS
           r15s   r1m  r15m   ut      pg    io   ls    it    tmp    swp    mem
 loadSched   -     -     -     -       -     -    -     -     -      -      -

SCHEDULING POLICIES:  FAIRSHARE  NO_INTERACTIVE
USERS: all
HOSTS:  compute/ n9+2
RES_REQ:  span[ptile=24]
-------------------------------------------------------------------------------

QUEUE: small
  -- on nodes: node1~node67

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV
 57   20  Closed:Active   720  120    -    -  1964  1464   500     0     0    0

USERS: paiduigroup/ scc_group/
HOSTS:  all
"""
HOSTS = json.dumps(
    {
        "COMMAND": "bhosts",
        "RECORDS": [
            {"HOST_NAME": "n1", "STATUS": "ok", "MAX": "16"},
            {"HOST_NAME": "n2", "STATUS": "closed_Full", "MAX": "16"},
            {"HOST_NAME": "n9", "STATUS": "ok", "MAX": "8"},
            {"HOST_NAME": "n3", "STATUS": "unavail", "MAX": "16"},
            {"HOST_NAME": "login", "STATUS": "closed_Adm", "MAX": "-"},
        ],
    }
)
GROUPS = "GROUP_NAME    HOSTS\ncompute      n1 n2 n3\n"


def machine(**others):
    known = {"bqueues": (QUEUES, "", 0), "bhosts": (HOSTS, "", 0), "bmgroup": (GROUPS, "", 0)}
    return Said(**known | others)


def test_queues():
    normal, small = lsf().queues(machine())
    assert (normal.name, normal.is_default, normal.is_open) == ("normal", True, True)
    assert (normal.min_nodes, normal.max_nodes, normal.max_minutes) == (1, 4, 1440)
    assert (normal.nodes, normal.cores_per_node) == (3, 16)
    assert (small.is_open, small.comment) == (False, "its status is Closed:Active")
    assert (small.nodes, small.max_nodes, small.max_minutes) == (3, None, None)


@pytest.mark.parametrize(
    "text",
    ["", QUEUES[: QUEUES.index("HOSTS:  all") + 6], QUEUES[:300], QUEUES.replace("min", "h")],
)
def test_queues_that_cannot_be_read(text):
    with pytest.raises(UnreadableAnswer, match="bqueues wrote "):
        lsf().queues(machine(bqueues=(text, "", 0)))


#: c4backfill of COSMA, which is `bslots -l`.
SLOTS = """\
SLOTS:    46
RUNTIME:  6 hours 37 minutes 0 seconds
HOSTS:    16*n1 16*n2
          6*n9 8*login

SLOTS:    16
RUNTIME:  UNLIMITED
HOSTS:    16*n1
"""


def test_windows_are_of_whole_hosts():
    found = lsf().windows(machine(bslots=(SLOTS, "", 0)))
    assert [(each.queue, each.num_nodes, each.minutes) for each in found] == [
        ("normal", 2, 397),
        ("normal", 1, None),
    ]
    none = ("No backfill window exists at this time\n", "", 0)
    assert lsf().windows(machine(bslots=none)) == []


def test_windows_of_summit():
    text = (
        "SLOTS          RUNTIME\n  42           22 hours 40 minutes 44 seconds\n  7  30 seconds\n"
    )
    run = machine(bslots=(text, "", 0))
    found = lsf(has_jsrun=True).windows(run)
    assert [(each.num_nodes, round(each.minutes, 1)) for each in found] == [(42, 1360.7), (7, 0.5)]
    assert run.commands[-1] == ["bslots", "-R", "select[CN]"]


@pytest.mark.parametrize("has_jsrun", [True, False])
@pytest.mark.parametrize(
    "text",
    ["", "SLOTS          RUNTIME\n  42           22 hours 40 mi\n", "SLOTS:  7\nRUNTIME: 6 ho\n"],
)
def test_windows_that_cannot_be_read(text, has_jsrun):
    with pytest.raises(UnreadableAnswer, match="bslots wrote "):
        lsf(has_jsrun).windows(machine(bslots=(text, "", 0)))


def test_a_script_of_any_bytes_reaches_bsub(tmp_path):
    script, copy = tmp_path / "7.sh", tmp_path / "copy"
    script.write_bytes(b"cd /data/\xe9t\xc3\xa9\n")
    bsub = tmp_path / "bsub"
    bsub.write_text(f"#!/bin/sh\ncat > {copy}\necho 'Job <7> is submitted to queue <q>.'\n")
    bsub.chmod(0o755)
    submission = Submission(
        name="a", script=str(script), output="/o", directory="/", num_nodes=1, minutes=1
    )
    run = Command(30, {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert lsf().submit(run, submission) == "7"
    assert copy.read_bytes() == script.read_bytes()
