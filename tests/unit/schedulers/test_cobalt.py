"""Cobalt 1.0: what its clients print (Util.py), logs and node lists that its users quote."""

import calendar
import time

import msgspec
import pytest

from balsam.errors import SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.cobalt import Cobalt
from balsam.schedulers.cobalt_log import read_log, read_moment
from balsam.schedulers.scheduler import Answer, Submission

MINE = Submission(
    name="balsam-7",
    script="/site/qsubmit/7.sh",
    output="/site/log/a b.out",
    directory="/site/a b",
    num_nodes=2,
    minutes=90,
    queue="debug-cache-quad",
    project="datascience",
    flags=("--attrs", "mcdram=cache:numa=quad"),
)
JOBS = """\
JobID: 347106
    JobName    : balsam-7
    State      : running
    Queue      : debug-cache-quad
    Location   : 3832-3833
    StartTime  : Thu Nov 05 17:29:30 2020 +0000 (UTC)
    OutputPath : {output}

JobID: 347107
    JobName    : N/A
    State      : user_hold
    Queue      : default
    Location   : None
    StartTime  : N/A
    OutputPath :{blank}

"""


class Said:
    """Gives one answer to each command, and keeps what they were."""

    def __init__(self, out="", err="", code=0, **others):
        self.out, self.err, self.code, self.others, self.commands = out, err, code, others, []

    def __call__(self, argv, stdin=""):
        self.commands.append(list(argv))
        out, err, code = self.others.get(argv[0], (self.out, self.err, self.code))
        if isinstance(out, Exception):
            raise out
        return Answer(argv=tuple(argv), code=code, out=out, err=err)


def jobs(output="/o", blank=" "):
    return JOBS.format(output=output, blank=blank)


@pytest.mark.parametrize("blank", [" ", ""])
def test_status(blank):
    run = Said(jobs(blank=blank))
    found = Cobalt().status(run, ["347106", "347107", "9"])
    assert set(found) == {"347106", "347107"}
    running, held = found["347106"], found["347107"]
    assert (running.state, running.nodes) == (BatchState.RUNNING, "3832-3833")
    assert running.started_at == calendar.timegm((2020, 11, 5, 17, 29, 30))
    assert (held.state, held.word, held.nodes) == (BatchState.HELD, "user_hold", "")
    assert held.reason == "held by its owner"
    assert len(run.commands) == 1


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", BatchState.QUEUED),
        ("starting", BatchState.RUNNING),
        ("exiting", BatchState.ENDING),
        ("killing", BatchState.ENDING),
        ("dep hold", BatchState.HELD),  # before 1.0
        ("hibernating", BatchState.UNKNOWN),
    ],
)
def test_words(word, state):
    run = Said(jobs().replace("running", word))
    status = Cobalt().status(run, ["347106"])["347106"]
    assert (status.state, status.word) == (state, word)


def test_it_says_nothing_of_requests_that_it_does_not_know():
    assert Cobalt().status(Said("", "", 1), ["9"]) == {}


@pytest.mark.parametrize(
    "out",
    [
        "",
        "Maintenance on Monday.\n",
        jobs()[:-1],
        jobs()[:-12],
        jobs().replace("    State      : running\n", ""),
        jobs().replace("    State      : running\n", "Traceback (most recent call last):\n"),
    ],
)
def test_unreadable(out):
    with pytest.raises(UnreadableAnswer, match="qstat wrote "):
        Cobalt().status(Said(out), ["347106"])


def test_away():
    err = "component error: Failed to connect to queue-manager\n"
    with pytest.raises(SchedulerAway, match="queue-manager"):
        Cobalt().status(Said("", err, 1), ["347106"])


def test_submit_amid_chatter():
    run = Said('Job routed to queue "debug-cache-quad".\nMemory mode set to cache quad\n347106\n')
    assert Cobalt().submit(run, MINE) == "347106"
    paths = ["-o", "/site/log/a b.out", "-e", "/site/log/a b.out"]
    paths += ["--debuglog", "/site/log/a b.out.cobaltlog"]
    words = ["qsub", "--mode", "script", "--cwd", "/site/a b", *paths, "/site/qsubmit/7.sh"]
    assert run.commands == [words]


def test_a_script_whose_path_has_blanks_is_named_from_where_it_starts():
    run = Said("1\n")
    changed = msgspec.structs.replace(MINE, script="/site/a b/qsubmit/7.sh")
    Cobalt().submit(run, changed)
    assert run.commands[0][-1] == "qsubmit/7.sh"


def test_submit_refused():
    err = "command /site/qsubmit/7.sh is not executable\n"
    with pytest.raises(SchedulerRefused, match="is not executable"):
        Cobalt().submit(Said("", err, 1), MINE)


def test_directives_are_split_at_blanks():
    assert Cobalt().directives(MINE) == [
        "#COBALT -n 2",
        "#COBALT -t 90",
        "#COBALT --jobname balsam-7",
        "#COBALT -q debug-cache-quad",
        "#COBALT -A datascience",
        "#COBALT --attrs mcdram=cache:numa=quad",
    ]


def test_flags_with_blanks_are_words_of_the_command():
    changed = Submission(
        name="a",
        script="/s",
        output="/o",
        directory="/",
        num_nodes=1,
        minutes=1,
        flags=("--env", "A=b c"),
    )
    assert not any("--env" in line for line in Cobalt().directives(changed))
    run = Said("1\n")
    Cobalt().submit(run, changed)
    assert run.commands[0][-3:] == ["--env", "A=b c", "/s"]


def test_find():
    table = "JobID   JobName     \n====================\n347106  balsam-7  \n347108  balsam-7  \n"
    assert Cobalt().find(Said(table), "balsam-7") == "347108"
    assert Cobalt().find(Said(table), "balsam") is None
    with pytest.raises(UnreadableAnswer, match="nothing"):
        Cobalt().find(Said(), "balsam-7")


def test_cancel_of_what_is_over():
    Cobalt().cancel(Said("", "qdel: Job 9 not found\n", 1), ["9"])
    with pytest.raises(SchedulerRefused, match="not the owner"):
        Cobalt().cancel(Said("", "you are not the owner of 9\n", 1), ["9"])


@pytest.mark.parametrize(
    ("out", "is_cobalt"),
    [
        ("version: qstat.py $Revision: 406 $, Cobalt $Version$\n", True),
        ("qstat $Revision: 345 $\ncobalt $Version$\n", True),
        ("pbs_version = 23.06.06\n", False),
        ("SGE 8.1.9\nusage: qstat [options]\n", False),
    ],
)
def test_is_here(out, is_cobalt):
    assert Cobalt().is_here(Said(out)) == is_cobalt


HEAD = """\
Jobid: 347106
qsub --mode script -n 1 -t 10
Thu Nov 05 17:28:00 2020 +0000 (UTC) submitted with cwd set to: /home/ana
"""
DONE = (
    "Thu Nov 05 17:29:30 2020 +0000 (UTC) Info: task completed normally with an exit code of {};"
    " initiating job cleanup and removal\n"
)
TIME = (
    "Thu Nov 05 17:29:00 2020 +0000 (UTC) Info: maximum execution time exceeded; initiating job"
    " terminiation\n"
)
DELETE = (
    "Thu Nov 05 17:29:00 2020 +0000 (UTC) Info: user delete requested with signal SIGTERM by user"
    " ana\n"
)


@pytest.mark.parametrize(
    ("text", "state", "code"),
    [
        (HEAD + DONE.format(0), BatchState.FINISHED, 0),
        (HEAD + DONE.format(3), BatchState.FAILED, 3),
        (HEAD + DONE.format(None), BatchState.FAILED, None),
        (HEAD + TIME, BatchState.TIMEOUT, None),
        (HEAD + TIME + DONE.format(143), BatchState.TIMEOUT, 143),
        (HEAD + DELETE + DONE.format(143), BatchState.CANCELLED, 143),
        (HEAD + DELETE, BatchState.CANCELLED, None),
    ],
)
def test_how_it_ended_stands_in_its_log(tmp_path, text, state, code):
    log = tmp_path / "7.out.cobaltlog"
    log.write_text(text)
    status = read_log(str(log), "347106")
    assert (status.state, status.exit_code) == (state, code)
    assert status.ended_at in (read_moment(DONE), read_moment(TIME))


def test_a_log_that_does_not_tell(tmp_path):
    log = tmp_path / "7.out.cobaltlog"
    assert read_log(str(log), "347106") is None
    log.write_text(HEAD)
    assert read_log(str(log), "347106") is None
    log.write_text(HEAD + DONE.format(0))
    assert read_log(str(log), "347999") is None


def test_history_is_where_the_output_was(tmp_path):
    output = tmp_path / "7.out"
    (tmp_path / "7.out.cobaltlog").write_text(HEAD + DONE.format(3))
    cobalt = Cobalt()
    assert cobalt.history(Said("", "", 1), ["347106"]) == {}  # nobody has told it where
    cobalt.status(Said(jobs(output)), ["347106"])
    assert cobalt.history(Said(jobs(output)), ["347106"]) == {}  # it is not over yet
    found = cobalt.history(Said("", "", 1), ["347106", "9"])
    assert (found["347106"].state, found["347106"].exit_code) == (BatchState.FAILED, 3)
    assert set(found) == {"347106"}


def test_times_have_their_zone():
    found = read_moment("Thu Nov 05 17:29:30 2020 -0600 (CST)")
    assert time.gmtime(found)[:6] == (2020, 11, 5, 23, 29, 30)
    with pytest.raises(UnreadableAnswer, match="'yesterday'"):
        read_moment("yesterday")


QUEUES = """\
Name: default
    Users        : *
    MinTime      : 00:30:00
    MaxTime      : 24:00:00
    MaxRunning   : 10
    MaxQueued    : 20
    MaxUserNodes : None
    MaxNodeHours : None
    TotalNodes   : None
    State        : running

Name: debug-flat-quad
    Users        : *
    MinTime      : None
    MaxTime      : 01:00:00
    MaxRunning   : 1
    MaxQueued    : 1
    MaxUserNodes : 8
    MaxNodeHours : None
    TotalNodes   : None
    State        : draining

"""
#: Theta, in the pages of ALCF.
NODES = """\
Node_id  Name         Queues                      Status           MCDRAM  NUMA  Backfill
=========================================================================================
20       c0-0c0s5n0   default                     cleanup-pending  flat    quad  4:59:44
22       c0-0c0s5n2   default                     busy             flat    quad  4:59:44
28       c0-0c0s7n0   default:debug-flat-quad     idle             flat    quad  4:59:44
29       c0-0c0s7n1   default                     idle             flat    quad  1:00:00
30       c0-0c0s7n2   default                     idle             flat    quad  -
31       c0-0c0s7n3                               down             flat    quad  -
32       c0-0c0s8n0   default                     down             flat    quad  -
"""


def machine(queues=QUEUES, nodes=NODES):
    return Said(qstat=(queues, "", 0), nodelist=(nodes, "", 0))


def test_queues():
    default, debug = Cobalt().queues(machine())
    assert (default.name, default.is_default, default.is_open) == ("default", True, True)
    assert (default.min_minutes, default.max_minutes, default.max_queued) == (30, 1440, 20)
    assert (default.max_nodes, default.nodes) == (None, 5)
    assert (debug.is_open, debug.comment) == (False, "the queue is draining")
    assert (debug.max_nodes, debug.max_minutes, debug.nodes) == (8, 60, 1)


def test_a_cluster_has_no_list_of_nodes():
    run = machine(nodes=SchedulerAway("there is no program 'nodelist' in PATH"))
    assert [queue.nodes for queue in Cobalt().queues(run)] == [0, 0]


@pytest.mark.parametrize("text", ["", QUEUES[:-1], QUEUES.replace("MaxQueued    : 20", "Max")])
def test_queues_that_cannot_be_read(text):
    with pytest.raises(UnreadableAnswer, match="qstat wrote "):
        Cobalt().queues(machine(text))


def test_windows_grow_as_they_get_shorter():
    found = Cobalt().windows(machine())
    assert [(each.queue, each.num_nodes, each.minutes) for each in found] == [
        ("debug-flat-quad", 1, pytest.approx(299.73, abs=0.01)),
        ("default", 3, 60),
        ("default", 2, pytest.approx(299.73, abs=0.01)),
        ("default", 1, None),
    ]


def test_windows_of_a_cluster():
    text = """\
Host   Queue              State  Backfill
=========================================
ai01   default:allnodes   idle   -
ai02   default:allnodes   busy   -
"""
    found = Cobalt().windows(machine(nodes=text))
    assert [(each.queue, each.num_nodes, each.minutes) for each in found] == [
        ("allnodes", 1, None),
        ("default", 1, None),
    ]


@pytest.mark.parametrize("text", ["", "Host\n", NODES[: NODES.rindex("flat")]])
def test_nodes_that_cannot_be_read(text):
    with pytest.raises(UnreadableAnswer, match="nodelist wrote "):
        Cobalt().windows(machine(nodes=text))
