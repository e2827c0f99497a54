"""What Grid Engine 8.1.9 wrote (data/sge)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from balsam.errors import SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers import sge_jobs, sge_words
from balsam.schedulers.scheduler import Answer, Submission, Window
from balsam.schedulers.sge import GridEngine
from balsam.schedulers.sge_queues import best_environment, environments_of, slots_of

S = BatchState
DATA = Path(__file__).parent / "data" / "sge"
REQUEST = Submission(
    name="balsam-7",
    script="/s",
    output="/site/qsubmit/7.out",
    directory="/site",
    num_nodes=2,
    minutes=90,
    queue="all.q",
    project="chem",
    flags=("-l", "mem=2G", "-M", "a b"),
    cores_per_node=8,
)


def captured(name: str) -> str:
    return (DATA / name).read_text()


class Commands:
    """Gives each command, with its first option, its answer: (output, error, exit code)."""

    def __init__(self, answers: dict[str, str | tuple[str, str, int]]) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Answer:
        line = " ".join(argv)
        self.calls.append(line)
        for start, answer in self.answers.items():
            if line.startswith(start):
                out, err, code = (answer, "", 0) if isinstance(answer, str) else answer
                return Answer(argv=tuple(argv), code=code, out=out, err=err)
        raise AssertionError(f"nobody expected {line}")


def test_status_of_what_qstat_told() -> None:
    run = Commands({"qstat -xml -u": captured("qstat.xml"), "qstat -xml -j 3": ""})
    found = GridEngine().status(run, ["1", "3", "9"])
    assert {n: (each.state, each.word, each.queue, each.nodes) for n, each in found.items()} == {
        "1": (S.RUNNING, "r", "all.q", "vm"),
        "3": (S.QUEUED, "qw", "", ""),
    }
    assert found["1"].started_at is not None
    assert found["3"].started_at is None
    assert len(run.calls) == 2


def test_an_error_has_its_reason() -> None:
    waiting = captured("qstat.xml").replace("<state>qw<", "<state>Eqw<").replace(">3<", ">14<")
    said = {"qstat -xml -u": waiting, "qstat -xml -j 14": captured("qstat-j-error.xml")}
    (found,) = GridEngine().status(Commands(said), ["14"]).values()
    assert (found.state, found.word) == (S.HELD, "Eqw")
    assert "can't open output file" in found.reason
    assert sge_jobs.reasons(captured("qstat-j-error.xml"), ["19"]).keys() == {"19"}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("qw", S.QUEUED),
        ("hqw", S.HELD),
        ("Eqw", S.HELD),
        ("hRwq", S.HELD),
        ("Rq", S.QUEUED),
        ("t", S.RUNNING),
        ("r", S.RUNNING),
        ("hr", S.RUNNING),
        ("Rr", S.RUNNING),
        ("S", S.RUNNING),
        ("T", S.RUNNING),
        ("dr", S.ENDING),
        ("dT", S.ENDING),
        ("dEqw", S.ENDING),
        ("Y", S.UNKNOWN),
        ("running", S.UNKNOWN),
        ("", S.UNKNOWN),
    ],
)
def test_letters_for_states(word: str, state: BatchState) -> None:
    assert sge_words.state(word) is state


@pytest.mark.parametrize(
    ("file", "number", "state", "code", "reason"),
    [
        ("exit-3", "1", S.FAILED, 3, "exit code 3"),
        ("h_rt", "12", S.TIMEOUT, -9, "37: qmaster enforced h_rt, h_cpu, or h_vmem limit"),
        ("qdel", "13", S.CANCELLED, -9, "100: assumedly after job, by SIGKILL"),
        ("error", "14", S.FAILED, None, "26: opening input/output file"),
        ("qrsh", "18", S.FINISHED, 0, ""),
    ],
)
def test_how_it_ended(
    file: str, number: str, state: BatchState, code: int | None, reason: str
) -> None:
    run = Commands({"qstat": captured("qstat.xml"), "qacct": captured(f"qacct-{file}.txt")})
    gone = {"qstat": captured("qstat.xml").replace(">1<", ">99<")}
    run.answers |= gone
    (found,) = GridEngine().history(run, [number]).values()
    assert (found.state, found.exit_code, found.reason) == (state, code, reason)


def test_of_its_records_that_of_the_script_counts() -> None:
    """Not those of the workers that it started with `qrsh -inherit`, whose end is another."""
    answer = Answer(argv=("qacct",), code=0, out="", err="")
    first, last = sge_jobs.records(answer, captured("qacct-qrsh.txt"))
    first["exit_status"] = "5"
    found = sge_jobs.end_of("18", [first, last])
    assert found is not None
    assert (found.state, found.exit_code) == (S.FINISHED, 0)
    assert found == sge_jobs.end_of("18", [last, first])


def test_more_memory_than_allowed_is_no_timeout() -> None:
    text = captured("qacct-h_rt.txt").replace("h_rt=2", "h_rt=3600")
    (record,) = sge_jobs.records(Answer(argv=(), code=0, out="", err=""), text)
    assert sge_words.end_of(record)[0] is S.FAILED


def test_univa_tells_who_deleted_it() -> None:
    text = captured("qacct-qdel.txt")
    answer = Answer(argv=(), code=0, out="", err="")
    (record,) = sge_jobs.records(answer, f"{text.rstrip()}\ndeleted_by   ana@login1\n")
    assert sge_words.end_of(record) == (S.CANCELLED, -9, "deleted by ana@login1")
    (record,) = sge_jobs.records(answer, f"{text.rstrip()}\ndeleted_by   NONE\n")
    assert sge_words.end_of(record)[0] is S.FAILED


def test_what_waits_in_error_is_no_history_though_it_has_a_record() -> None:
    waiting = captured("qstat.xml").replace(">3<", ">14<")
    run = Commands({"qstat": waiting, "qacct": captured("qacct-error.txt")})
    assert GridEngine().history(run, ["14"]) == {}


def test_what_was_given_back_has_not_ended() -> None:
    text = captured("qacct-exit-3.txt").replace("failed       0    ", "failed       25  : resched")
    answer = Answer(argv=(), code=0, out="", err="")
    assert sge_jobs.end_of("1", sge_jobs.records(answer, text)) is None


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (400, "qstat wrote .*XML of job_info was expected"),
        (10, "XML of job_info"),
        (0, "qstat wrote nothing"),
    ],
)
def test_what_is_cut_off_is_an_error(cut: int, said: str) -> None:
    with pytest.raises(UnreadableAnswer, match=said):
        GridEngine().status(Commands({"qstat": captured("qstat.xml")[:cut]}), ["1"])


def test_other_people_s_names_may_hold_what_xml_cannot() -> None:
    text = captured("qstat.xml").replace("e.sh", "e\x1b[31m.sh")
    run = Commands({"qstat": text})
    assert set(GridEngine().status(run, ["1"])) == {"1"}


def test_a_record_that_is_cut_off_is_an_error() -> None:
    text = captured("qacct-exit-3.txt")
    run = Commands({"qstat": captured("qstat.xml"), "qacct": text[: text.index("exit_status")]})
    with pytest.raises(UnreadableAnswer, match=r"qacct wrote .*a record with"):
        GridEngine().history(run, ["99"])


def test_directives_ask_for_what_the_user_s_flags_may_change() -> None:
    assert GridEngine().directives(REQUEST) == [
        "#$ -N balsam-7",
        "#$ -l h_rt=01:30:00",
        "#$ -o /site/qsubmit/7.out",
        "#$ -j y",
        "#$ -wd /site",
        "#$ -S /bin/bash",
        "#$ -q all.q",
        "#$ -P chem",
        '#$ -l mem=2G -M "a b"',
    ]


CONFIG = captured("qconf-sq.txt")
ENVIRONMENTS: dict[str, str | tuple[str, str, int]] = {
    "qconf -sp smp": "pe_name            smp\nallocation_rule    $pe_slots\n",
    "qconf -sp mpi": "pe_name            mpi\nallocation_rule    $round_robin\n",
}


def test_whole_nodes_are_slots_of_a_parallel_environment() -> None:
    run = Commands({"qconf -sq": CONFIG, **ENVIRONMENTS, "qsub": "12\n"})
    assert GridEngine().submit(run, REQUEST) == "12"
    assert run.calls[-1] == "qsub -terse -pe mpi 16 /s"


def test_the_user_s_environment_is_not_asked_about() -> None:
    flags = Submission(**{**_fields(REQUEST), "flags": ("-pe", "mine", "16")})
    run = Commands({"qsub": "12\n"})
    GridEngine().submit(run, flags)
    assert run.calls == ["qsub -terse /s"]


def test_without_a_parallel_environment_it_is_refused_with_what_to_do() -> None:
    run = Commands({"qconf -sq": CONFIG.replace("smp mpi", "smp"), **ENVIRONMENTS})
    with pytest.raises(SchedulerRefused, match=r"gives 2 nodes of 8 slots; .*'-pe NAME 16'"):
        GridEngine().submit(run, REQUEST)


def _fields(submission: Submission) -> dict[str, object]:
    return {name: getattr(submission, name) for name in submission.__struct_fields__}


@pytest.mark.parametrize(
    ("nodes", "name"), [(1, "eight"), (2, "eight"), (3, "eight")], ids=["1", "2", "3"]
)
def test_an_environment_of_whole_nodes_is_preferred(nodes: int, name: str) -> None:
    rules = {"smp": "$pe_slots", "mpi": "$round_robin", "fill": "$fill_up", "eight": "8"}
    assert best_environment(rules, nodes, 8) == name
    del rules["eight"]
    assert best_environment(rules, nodes, 8) == ("smp" if nodes == 1 else "fill")
    del rules["fill"], rules["smp"]
    assert best_environment(rules, nodes, 8) == "mpi"
    assert best_environment({}, nodes, 8) == ""


def test_environments_and_slots_that_differ_by_host() -> None:
    config = {"pe_list": "smp mpi,[h1=NONE],[@big=fill mpi]", "slots": "8,[h1=16]"}
    assert environments_of([config]) == ["smp", "mpi", "fill"]
    assert slots_of([config, {"slots": "12"}]) == 8


def test_queues_and_what_is_free() -> None:
    run = Commands({"qconf -sq": CONFIG, "qhost": captured("qhost.xml")})
    (queue,) = GridEngine().queues(run)
    assert (queue.name, queue.is_default, queue.is_open) == ("all.q", True, True)
    assert (queue.nodes, queue.cores_per_node, queue.memory_mib) == (1, 8, 24064)
    assert queue.max_minutes is None
    run.answers["qconf -sq"] = CONFIG.replace("h_rt                  INFINITY", "h_rt 24:00:00")
    assert GridEngine().queues(run)[0].max_minutes == 1440
    assert GridEngine().windows(run) == [Window(queue="all.q", num_nodes=1)]
    run.answers["qhost"] = captured("qhost.xml").replace(
        "name='state_string'>", "name='state_string'>au"
    )
    (queue,) = GridEngine().queues(run)
    assert (queue.is_open, queue.comment) == (False, "no host takes its requests (au)")
    assert GridEngine().windows(run) == []


def test_nobody_to_ask() -> None:
    error = (
        "error: commlib error: got select error (Connection refused)\n"
        'error: unable to send message to qmaster using port 6444 on host "vm": got send error'
    )
    with pytest.raises(SchedulerAway, match=r"qstat: error: commlib error"):
        GridEngine().status(Commands({"qstat": ("", error, 1)}), ["1"])


@pytest.mark.parametrize(
    ("out", "err", "here"),
    [
        ("SGE 8.1.9\nusage: qstat [options]", "", True),
        ("GE 6.2u5\nusage: qstat [options]", "", True),
        ("UGE 8.6.18\nusage: qstat [options]", "", True),
        ("OGS/GE 2011.11\nusage: qstat [options]", "", True),
        ("OCS 9.0.2 (x86_64)\nusage: qstat [options]", "", True),
        ("", "usage:\nqstat [-f] [-J] [-p] [-t] [-x] [-E] [-F format] [-D delim]", False),
        ("", "Usage: qstat [options] <jobid1> ... <jobidN>", False),
        ("", "error: unable to read qmaster name: … has zero length", False),
    ],
)
def test_it_is_told_from_others_by_its_help(out: str, err: str, here: bool) -> None:
    assert GridEngine().is_here(Commands({"qstat -help": (out, err, 0)})) is here
