"""What OpenPBS 23.06.06 wrote (data/pbs), and what users of its JSON report."""

import json
from pathlib import Path

import pytest

from balsam.errors import SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers.pbs import Pbs
from balsam.schedulers.pbs_documents import pbs_document
from balsam.schedulers.pbs_queues import read_hosts, read_queues, read_windows
from balsam.schedulers.scheduler import Answer, Submission
from balsam.schedulers.times import moment

DATA = Path(__file__).parent / "data" / "pbs"
MINE = Submission(
    name="balsam-7",
    script="/site/qsubmit/7.sh",
    output="/site/log/a b's.out",
    directory="/site/a b",
    num_nodes=2,
    minutes=90,
    queue="prod",
    project="chem",
    flags=("-l", "filesystems=home:eagle", "-W", "umask=022"),
    cores_per_node=64,
    gpus_per_node=4,
)
NOBODY = Answer(argv=("qstat",), code=0, out="", err="")


class Said:
    """Gives one answer to all commands, and keeps what they were."""

    def __init__(self, out="", err="", code=0):
        self.out, self.err, self.code, self.commands = out, err, code, []

    def __call__(self, argv, stdin=""):
        self.commands.append(list(argv))
        return Answer(argv=tuple(argv), code=self.code, out=self.out, err=self.err)


def captured(name):
    return Said((DATA / name).read_text())


def changed(name, **members):
    """Return captured output whose one job has other members; None: without this one."""
    found = json.loads((DATA / name).read_text())
    for job in found["Jobs"].values():
        job |= members
        for member in [each for each, value in members.items() if value is None]:
            del job[member]
    return Said(json.dumps(found, indent="\t"))


def test_running():
    run = captured("qstat-f-running.json")
    status = Pbs().status(run, ["1.h1"])["1.h1"]
    assert (status.state, status.word, status.queue) == (BatchState.RUNNING, "R", "workq")
    assert status.nodes == "h1,h2"
    assert status.started_at == moment("Mon Nov 23 01:30:04 2026")
    assert status.ended_at is status.exit_code is status.starts_at is None
    assert run.commands == [["qstat", "-f", "-F", "json", "1.h1"]]


def test_waiting_with_its_reason():
    status = Pbs().status(captured("qstat-f-queued.json"), ["4.h1"])["4.h1"]
    assert status.state is BatchState.QUEUED
    assert status.reason == "Can Never Run: Not enough total nodes available"
    assert not status.nodes


@pytest.mark.parametrize("start", ["Mon Nov 23 12:30:00 2026", moment("Mon Nov 23 12:30:00 2026")])
def test_when_it_is_expected_to_start(start):
    run = changed("qstat-f-queued.json", estimated={"start_time": start, "exec_vnode": "(h1)"})
    status = Pbs().status(run, ["4.h1"])["4.h1"]
    assert status.starts_at == moment("Mon Nov 23 12:30:00 2026")


def test_failed():
    run = captured("qstat-f-finished.json")
    status = Pbs().history(run, ["1.h1"])["1.h1"]
    assert (status.state, status.exit_code) == (BatchState.FAILED, 3)
    assert status.ended_at == moment("Mon Nov 23 01:30:10 2026")
    assert "-x" in run.commands[0]


def test_killed_at_its_walltime():
    status = Pbs().history(captured("qstat-walltime.json"), ["5.h1"])["5.h1"]
    assert (status.state, status.exit_code) == (BatchState.TIMEOUT, None)
    assert "exceeded resource walltime" in status.reason


@pytest.mark.parametrize(
    ("members", "state", "code"),
    [
        ({"Exit_status": 0, "substate": 92}, BatchState.FINISHED, 0),
        ({"Exit_status": 271, "substate": 91}, BatchState.CANCELLED, -15),
        ({"Exit_status": 265, "substate": 93}, BatchState.FAILED, -9),
        ({"Exit_status": -27, "substate": 93}, BatchState.FAILED, None),
        ({"Exit_status": None, "substate": 91}, BatchState.CANCELLED, None),
        ({"Exit_status": None, "substate": 93}, BatchState.FAILED, None),
        # PBS Professional 14 does not say why the signal was sent.
        (
            {
                "Exit_status": 271,
                "substate": 93,
                "comment": "Job run at … and failed",
                "resources_used": {"walltime": "00:05:01"},
            },
            BatchState.TIMEOUT,
            -15,
        ),
    ],
)
def test_how_it_ended(members, state, code):
    status = Pbs().history(changed("qstat-f-finished.json", **members), ["1.h1"])["1.h1"]
    assert (status.state, status.exit_code) == (state, code)


def test_resources_of_any_kind():
    used = {"walltime": "00:00:05", "gpu_memory": {"h1": {"gpu0": 1.5}}, "list": [1, None]}
    status = Pbs().status(changed("qstat-f-running.json", resources_used=used), ["1.h1"])["1.h1"]
    assert status.state is BatchState.RUNNING


@pytest.mark.parametrize("letter", ["M", "Z", "HIBERNATING"])
def test_a_word_that_is_not_known_is_kept(letter):
    status = Pbs().status(changed("qstat-f-running.json", job_state=letter), ["1.h1"])["1.h1"]
    assert (status.state, status.word, status.ended_at) == (BatchState.UNKNOWN, letter, None)


@pytest.mark.parametrize(("letter", "state"), [("H", BatchState.HELD), ("E", BatchState.ENDING)])
def test_letters(letter, state):
    status = Pbs().status(changed("qstat-f-running.json", job_state=letter), ["1.h1"])["1.h1"]
    assert status.state is state


@pytest.mark.parametrize("given", ["1", "1.h1", "1.h1.example.org"])
def test_the_name_of_the_server_does_not_matter(given):
    assert set(Pbs().status(captured("qstat-f-running.json"), [given])) == {given}


def test_others_are_written_in_spite_of_an_unknown_one():
    run = captured("qstat-f-running.json")
    run.err, run.code = "qstat: Unknown Job Id 9.h1\nqstat: 3.h1 Job has finished, use -x\n", 153
    assert set(Pbs().status(run, ["1.h1", "9.h1", "3.h1"])) == {"1.h1"}


def test_nothing_is_known():
    assert Pbs().status(Said("", "qstat: Unknown Job Id 9.h1\n", 153), ["9.h1"]) == {}


def test_no_history_is_kept():
    run = Said("", "qstat: PBS is not configured to maintain job history\n", 15140 & 255)
    assert Pbs().history(run, ["9.h1"]) == {}


FUNCTION = '() {  eval `/usr/bin/modulecmd bash "$@"`;\n\tlocal x="a\\z"\n}'


def test_variables_that_are_no_json_do_not_matter():
    text = (DATA / "qstat-f-running.json").read_text()
    text = text.replace(
        '"PBS_O_HOST":\t"h1"', f'"PBS_O_HOST":\t"h1",\n\t\t\t\t"BASH_FUNC_module%%":\t"{FUNCTION}"'
    )
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert Pbs().status(Said(text), ["1.h1"])["1.h1"].nodes == "h1,h2"


@pytest.mark.parametrize(
    ("member", "written"),
    [
        ("Job_Name", "0012"),
        ("Account_Name", "inf"),
        ("Submit_arguments", '"-v A="b c" p.sh"'),
        ("comment", '"a\\qb"'),
        ("project", "1e5x"),
    ],
)
def test_values_that_are_no_json(member, written):
    text = (DATA / "qstat-f-running.json").read_text()
    text = text.replace('\t\t\t"job_state"', f'\t\t\t"{member}":\t{written},\n\t\t\t"job_state"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert Pbs().status(Said(text), ["1.h1"])["1.h1"].state is BatchState.RUNNING


@pytest.mark.parametrize(
    "out",
    [
        "",
        "Job id  Name  User\n",
        (DATA / "qstat-f-running.json").read_text()[:-4],
        (DATA / "qstat-f-running.json").read_text()[:400],
        '{"pbs_version": "23", "Jobs": {"1.h1": {}}}',
        "{}",
    ],
)
def test_unreadable(out):
    with pytest.raises(UnreadableAnswer, match="qstat wrote "):
        Pbs().status(Said(out), ["1.h1"])


@pytest.mark.parametrize(
    "err",
    [
        "Connection refused\nqstat: cannot connect to server h1 (errno=15010)",
        "pbs_iff: cannot connect to host\nNo Permission.\nqstat: cannot connect to server",
        "qstat: End of File",
    ],
)
def test_away(err):
    with pytest.raises(SchedulerAway):
        Pbs().status(Said("", err, 2), ["1.h1"])


def test_submit_amid_chatter():
    run = Said("Your project chem has 17.5 node-hours left.\n  1042.polaris-pbs-01.hsn\n\n")
    assert Pbs().submit(run, MINE) == "1042.polaris-pbs-01.hsn"


@pytest.mark.parametrize(
    "err", ["qsub: Unknown queue", "qsub: Job violates queue and/or server resource limits"]
)
def test_submit_refused(err):
    with pytest.raises(SchedulerRefused, match=err):
        Pbs().submit(Said("", err, 168), MINE)


def test_directives():
    assert Pbs().directives(MINE) == [
        "#PBS -N balsam-7",
        "#PBS -l select=2:ncpus=64:ngpus=4",
        "#PBS -l place=scatter:excl",
        "#PBS -l walltime=01:30:00",
        "#PBS -j oe",
        "#PBS -k doe",
        "#PBS -o '/site/log/a b'\"'\"'s.out'",
        "#PBS -q prod",
        "#PBS -A chem",
        "#PBS -l filesystems=home:eagle -W umask=022",
        "cd '/site/a b' || exit",
    ]


@pytest.mark.parametrize("flags", [("-l", "place=pack,select=1"), ("-lplace=pack", "-lselect=1")])
def test_the_users_resources_stand(flags):
    lines = Pbs().directives(
        Submission(
            name="7a", script="/s", output="/o", directory="/", num_nodes=2, minutes=1, flags=flags
        )
    )
    assert [line for line in lines if "select=" in line or "place=" in line] == [
        f"#PBS {' '.join(flags)}"
    ]
    assert lines[0] == "#PBS -N b7a"  # a name begins with a letter


def test_find_asks_whether_the_server_is_there():
    class Silent(Said):
        def __call__(self, argv, stdin=""):
            answer = super().__call__(argv)
            out = (DATA / "qstat-B.json").read_text() if "-B" in argv else ""
            return Answer(argv=answer.argv, code=0, out=out, err="")

    run = Silent()
    assert Pbs().find(run, "balsam-7") is None
    assert [argv[0] for argv in run.commands] == ["qselect", "qstat"]
    with pytest.raises(UnreadableAnswer):
        Pbs().find(Said(), "balsam-7")
    assert Pbs().find(Said("9.h1\n10.h1\n"), "balsam-7") == "10.h1"


def test_cancel_of_what_is_over():
    Pbs().cancel(
        Said("", "qdel: Unknown Job Id 9.h1\nqdel: Job has finished 3.h1\n", 153), ["9.h1"]
    )
    with pytest.raises(SchedulerRefused, match="Unauthorized"):
        Pbs().cancel(Said("", "qdel: Unauthorized Request  9.h1\n", 159), ["9.h1"])


@pytest.mark.parametrize(
    ("out", "is_pbs"),
    [
        ("pbs_version = 23.06.06\n", True),
        ("Version: 6.1.2\nCommit: 661e092552de43a785c15d39a3634a541d86898e\n", False),  # Torque
        ("qstat $Revision: 406 $, Cobalt $Version$\n", False),
        ("SGE 8.1.9\nusage: qstat [options]\n", False),
    ],
)
def test_is_here(out, is_pbs):
    assert Pbs().is_here(Said(out)) == is_pbs


class Machine(Said):
    """The three hosts of the captured output."""

    def __call__(self, argv, stdin=""):
        answer = super().__call__(argv)
        name = {"-B": "qstat-B", "-Q": "qstat-Q", "-a": "pbsnodes"}[argv[1]]
        out = (DATA / f"{name}.json").read_text()
        return Answer(argv=answer.argv, code=0, out=out, err="")


def test_queues():
    (workq,) = Pbs().queues(Machine())
    assert (workq.name, workq.is_default, workq.is_open) == ("workq", True, True)
    assert (workq.nodes, workq.cores_per_node, workq.memory_mib) == (3, 4, 24105)
    assert workq.max_nodes is workq.max_minutes is workq.max_queued is None


def test_windows():
    assert [(each.queue, each.num_nodes) for each in Pbs().windows(Machine())] == [("workq", 2)]


NODES = {
    f"n{number}": {
        "state": "free" if number < 4 else "down",
        "resources_available": {
            "host": f"n{number}",
            "ncpus": 64,
            "ngpus": 4,
            "Qlist": "big,small",
        },
    }
    for number in range(5)
} | {"d1": {"state": "free", "queue": "debug", "resources_available": {"ncpus": 8}}}
QUEUES = {
    "prod": {
        "queue_type": "Route",
        "route_destinations": "small,big@server",
        "enabled": "True",
        "started": "True",
        "max_queued": "[u:PBS_GENERIC=10],[u:ana=20]",
    },
    "small": {
        "queue_type": "Execution",
        "from_route_only": "True",
        "enabled": "True",
        "started": "True",
        "resources_max": {"nodect": 2, "walltime": "03:00:00"},
        "resources_min": {"nodect": 1, "walltime": 300},
        "default_chunk": {"ncpus": 1, "Qlist": "small"},
    },
    "big": {
        "queue_type": "Execution",
        "from_route_only": "True",
        "enabled": "True",
        "started": "True",
        "resources_max": {"ncpus": 256, "walltime": "24:00:00"},
        "resources_min": {"nodect": 3, "walltime": "00:05:00"},
        "default_chunk": {"Qlist": "big"},
    },
    "debug": {
        "queue_type": "Execution",
        "enabled": "True",
        "started": "False",
        "acl_user_enable": "True",
        "acl_users": "bob@*,+eve",
    },
}


SERVER = {"default_queue": "prod", "max_queued": "[u:PBS_GENERIC=15]"}


def shown(nodes=NODES, queues=QUEUES):
    """Return what `qstat` and `pbsnodes` would show of these."""
    found = {"pbs_version": "23.06.06", "nodes": nodes, "Queue": queues, "Server": {"h1": SERVER}}
    return pbs_document(NOBODY, json.dumps(found, indent="\t"))


def test_limits():
    found = shown()
    hosts = read_hosts(NOBODY, found.nodes)
    queues = read_queues(NOBODY, found.queues, found.servers["h1"], hosts, "ana")
    prod, small, big, debug = queues
    # A routing queue has the widest limits of where it leads to.
    assert (prod.min_nodes, prod.max_nodes) == (1, 4)
    assert (prod.min_minutes, prod.max_minutes, prod.max_queued) == (5, 1440, 15)
    assert (prod.nodes, prod.gpus_per_node, prod.is_open, prod.is_default) == (4, 4, True, True)
    assert (small.min_nodes, small.max_nodes, small.max_minutes) == (1, 2, 180)
    assert small.comment == "it takes only what other queues pass on"
    assert (big.min_nodes, big.max_nodes, big.nodes) == (3, 4, 4)
    assert debug.comment == "it starts none and it is not for ana"
    assert (debug.nodes, debug.cores_per_node) == (1, 8)


def test_a_limit_that_is_no_number():
    queues = {"q": {"resources_max": {"nodect": "many"}, "enabled": "True", "started": "True"}}
    found = shown({}, queues)
    with pytest.raises(UnreadableAnswer, match="'many'"):
        read_queues(NOBODY, found.queues, found.servers["h1"], [], "ana")


def test_free_hosts_are_told_for_each_queue():
    shows = shown()
    found = read_windows(shows.queues, read_hosts(NOBODY, shows.nodes))
    assert {each.queue: each.num_nodes for each in found} == {
        "prod": 4,
        "small": 4,
        "big": 4,
        "debug": 1,
    }


def test_vnodes_of_one_host_are_one_node():
    half = {"state": "free", "resources_available": {"host": "x", "ncpus": 32, "mem": "1gb"}}
    nodes = shown({"x[0]": half, "x[1]": half | {"jobs": ["1.h1"]}}).nodes
    (host,) = read_hosts(NOBODY, nodes)
    assert (host.cores, host.memory_mib, host.is_free) == (64, 2048, False)
