"""What Slurm 22.05.8 wrote (data/slurm), and what other versions write by their manuals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from balsam.errors import SchedulerAway, SchedulerRefused, UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers import slurm_words
from balsam.schedulers.scheduler import Answer, Submission, Window
from balsam.schedulers.slurm import Slurm

S = BatchState
DATA = Path(__file__).parent / "data" / "slurm"
HEADER = "JOBID|STATE|REASON|PARTITION|NODELIST|START_TIME|END_TIME|EXIT_CODE|NAME|\n"


class Commands:
    """Gives each command its answer; keeps what was run."""

    def __init__(self, **answers: str | Answer) -> None:
        self.answers = answers
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Answer:
        self.calls.append(list(argv))
        answer = self.answers.get(argv[0], "")
        if isinstance(answer, str):
            answer = Answer(argv=(), code=0, out=answer, err="")
        return msgspec.structs.replace(answer, argv=tuple(argv))


def fails(error: str, code: int = 1) -> Answer:
    return Answer(argv=(), code=code, out="", err=error)


def captured(name: str) -> str:
    return (DATA / name).read_text()


# requests ------------------------------------------------------------------------------------


def test_status_of_what_squeue_told() -> None:
    run = Commands(squeue=captured("squeue.txt"))
    found = Slurm().status(run, ["1", "3", "7", "8", "9", "10", "11", "12", "99"])
    told = {
        number: (each.state, each.word, each.exit_code, each.nodes)
        for number, each in found.items()
    }
    assert told == {
        "1": (S.CANCELLED, "CANCELLED", -15, "h[1-3]"),
        "3": (S.CANCELLED, "CANCELLED", None, ""),
        "7": (S.QUEUED, "PENDING", None, ""),
        "8": (S.FAILED, "FAILED", 3, "h1"),
        "9": (S.FAILED, "FAILED", -9, "h1"),
        "10": (S.RUNNING, "RUNNING", None, "h[1-3]"),
        "11": (S.QUEUED, "PENDING", None, ""),
        "12": (S.HELD, "PENDING", None, ""),
    }
    assert len(run.calls) == 1
    assert found["11"].reason == "Resources: waits for nodes to become free"
    assert found["8"].reason == "FAILED: NonZeroExitCode"
    assert found["3"].reason == ""
    assert (found["11"].starts_at, found["11"].started_at) == (1795449909.0, None)
    assert (found["10"].started_at, found["10"].ended_at) == (1795449309.0, None)
    assert (found["3"].started_at, found["3"].ended_at) == (None, 1795447786.0)
    assert found["1"].queue == "debug"


def test_a_name_of_two_lines_is_another_s_affair() -> None:
    run = Commands(squeue=captured("squeue.txt"))
    assert set(Slurm().status(run, ["10"])) == {"10"}
    with pytest.raises(UnreadableAnswer, match=r"squeue wrote '13\|PENDING.*\|a'"):
        Slurm().status(run, ["13"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("101|RUNN", r"wrote '101\|RUNN', and a line as JOBID"),
        ("101|RUNNING|None|debug|h1|17|18|0|name", r"a line as JOBID"),
        ("101|RUNNING|None|debug|h1|17|18|many|name|", r"an exit code"),
        ("101|RUNNING|None|debug|h1|yesterday|18|0|name|", r"'yesterday' is no time"),
    ],
)
def test_a_line_of_ours_must_be_readable(line: str, said: str) -> None:
    other = "102|RUNNING|None|debug|h1|17|18|0|name|"
    run = Commands(squeue=f"{HEADER}{line}\n{other}\n")
    with pytest.raises(UnreadableAnswer, match=said):
        Slurm().status(run, ["101"])
    assert set(Slurm().status(run, ["102"])) == {"102"}


def test_an_answer_without_its_header_is_none() -> None:
    with pytest.raises(UnreadableAnswer, match=r"squeue wrote nothing"):
        Slurm().status(Commands(), ["1"])
    with pytest.raises(UnreadableAnswer, match=r"squeue wrote '<html>'"):
        Slurm().status(Commands(squeue="<html>\n1|COMPLETED|"), ["1"])


@pytest.mark.parametrize(
    ("word", "reason", "state"),
    [
        ("CANCELLED by 1000", "None", S.CANCELLED),
        ("CANCELLED+", "None", S.CANCELLED),
        ("OUT_OF_MEMORY", "OutOfMemory", S.FAILED),
        ("NODE_FAIL", "None", S.FAILED),
        ("BOOT_FAIL", "None", S.FAILED),
        ("PREEMPTED", "None", S.CANCELLED),
        ("DEADLINE", "None", S.TIMEOUT),
        ("TIMEOUT", "TimeLimit", S.TIMEOUT),
        ("COMPLETING", "None", S.ENDING),
        ("CONFIGURING", "None", S.RUNNING),
        ("SUSPENDED", "None", S.RUNNING),
        ("REQUEUED", "None", S.QUEUED),
        ("REQUEUE_HOLD", "None", S.HELD),
        ("PENDING", "JobHeldAdmin", S.HELD),
        ("PENDING", "launch_failed_requeued_held", S.HELD),
        ("PENDING", "BeginTime", S.QUEUED),
        ("HIBERNATING", "None", S.UNKNOWN),
    ],
)
def test_words_for_states(word: str, reason: str, state: BatchState) -> None:
    assert slurm_words.state(word, reason)[0] is state


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("Priority", "Priority: others with higher priority come before it"),
        (
            "ReqNodeNotAvail, UnavailableNodes:h3",
            "ReqNodeNotAvail, UnavailableNodes:h3:"
            " nodes that it needs are down, drained or reserved",
        ),
        (
            "AssocGrpCPUMinutesLimit",
            "AssocGrpCPUMinutesLimit: the project has used up its hours",
        ),
        (
            "AssocGrpCPURunMinutesLimit",
            "AssocGrpCPURunMinutesLimit: the project has as much running as its hours allow",
        ),
        (
            "QOSMaxSubmitJobPerUserLimit",
            "QOSMaxSubmitJobPerUserLimit: the quality of service may have no more requests",
        ),
        ("MaxMemPerLimit", "MaxMemPerLimit: the user may have no more memory"),
        ("None", ""),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_reasons_have_a_sentence(word: str, said: str) -> None:
    assert slurm_words.reason(word) == said


def test_an_exit_code_is_read_as_newer_versions_may_write_it() -> None:
    line = "5|FAILED|NonZeroExitCode|debug|h1|2026-11-23T01:44:37|2026-11-23T01:44:38|3:0|n|"
    (found,) = Slurm().status(Commands(squeue=f"{HEADER}{line}\n"), ["5"]).values()
    assert (found.exit_code, found.started_at is not None) == (3, True)


def test_history_is_what_sacct_told_of_those_that_are_over() -> None:
    run = Commands(squeue=HEADER, sacct=captured("sacct.txt"))
    found = Slurm().history(run, ["1", "2", "3", "4", "5"])
    assert {number: (each.state, each.exit_code) for number, each in found.items()} == {
        "1": (S.FAILED, 3),
        "2": (S.CANCELLED, 0),
        "3": (S.CANCELLED, None),
    }
    assert found["2"].reason == "by 0"
    assert found["3"].started_at is None


def test_where_slurm_keeps_no_accounts_there_is_no_history() -> None:
    run = Commands(squeue=HEADER, sacct=fails("Slurm accounting storage is disabled"))
    assert Slurm().history(run, ["1"]) == {}
    assert Slurm().find(run, "name") is None


def test_a_history_that_cannot_be_asked_is_not_empty() -> None:
    error = (
        "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection"
        " to host:127.0.0.1:29319: Connection refused\n"
        "sacct: error: Problem talking to the database: Connection refused"
    )
    with pytest.raises(SchedulerAway, match=r"sacct: .*Connection refused"):
        Slurm().history(Commands(squeue=HEADER, sacct=fails(error)), ["1"])


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("12", "12"),
        ("12;cluster", "12"),
        ("Welcome to 42 nodes\n----\n12;cluster\n", "12"),
    ],
)
def test_the_id_is_found_amid_chatter(said: str, number: str) -> None:
    submission = Submission(
        name="n", script="/s", output="/o", directory="/", num_nodes=1, minutes=1
    )
    run = Commands(sbatch=said)
    assert Slurm().submit(run, submission) == number
    assert run.calls == [["sbatch", "--parsable", "/s"]]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("Batch job submission failed: Socket timed out on send/recv", SchedulerAway),
        ("Unable to contact slurm controller (connect failure)", SchedulerAway),
        ("Batch job submission failed: Connection refused", SchedulerAway),
        ("Slurm temporarily unable to accept job, sleeping and retrying", SchedulerAway),
        ("Batch job submission failed: Requested node configuration is not", SchedulerRefused),
        ("unrecognized option '--nonsense'", SchedulerRefused),
    ],
)
def test_what_can_be_tried_again(error: str, kind: type[Exception]) -> None:
    submission = Submission(
        name="n", script="/s", output="/o", directory="/", num_nodes=1, minutes=1
    )
    with pytest.raises(kind, match=r"^sbatch: sbatch: error: "):
        Slurm().submit(Commands(sbatch=fails(f"sbatch: error: {error}")), submission)


def test_to_cancel_what_is_over_is_no_error() -> None:
    over = "scancel: error: Kill job error on job id 7: Invalid job id specified\n"
    done = "scancel: error: Kill job error on job id 8: Job/step already completing or completed\n"
    Slurm().cancel(Commands(scancel=fails(over + done)), ["7", "8"])
    denied = "scancel: error: Kill job error on job id 9: Access/permission denied\n"
    with pytest.raises(SchedulerRefused, match=r"permission denied"):
        Slurm().cancel(Commands(scancel=fails(over + denied)), ["7", "9"])


def test_directives_ask_for_whole_nodes_and_end_with_the_user_s_flags() -> None:
    submission = Submission(
        name="balsam-7",
        script="/s",
        output="/a b/50%.out",
        directory='/a b/"c"',
        num_nodes=2,
        minutes=90,
        queue="batch",
        project="chem",
        flags=("-C", "knl&quad", "--time=5"),
        gpus_per_node=4,
    )
    assert Slurm().directives(submission) == [
        "#SBATCH --job-name=balsam-7",
        "#SBATCH --nodes=2",
        "#SBATCH --exclusive",
        "#SBATCH --mem=0",
        "#SBATCH --time=01:30:00",
        '#SBATCH --output="/a b/50%%.out"',
        "#SBATCH --open-mode=append",
        '#SBATCH --chdir="/a b/\\"c\\""',
        "#SBATCH --gres=gpu:4",
        "#SBATCH --partition=batch",
        "#SBATCH --account=chem",
        '#SBATCH -C "knl&quad" --time=5',
    ]


# queues --------------------------------------------------------------------------------------


def partitions(sinfo: str) -> Commands:
    return Commands(
        scontrol=captured("scontrol-partition.txt"),
        sacctmgr=captured("sacctmgr-qos.txt"),
        sinfo=sinfo,
    )


def test_queues_have_the_limits_of_their_quality_of_service_too() -> None:
    debug, batch = Slurm().queues(partitions(captured("sinfo.txt")))
    assert (debug.name, debug.is_default, debug.is_open) == ("debug", True, True)
    assert (debug.max_nodes, debug.max_minutes, debug.max_queued) == (1, 30, 3)
    assert (batch.name, batch.is_default) == ("batch", False)
    assert (batch.min_nodes, batch.max_nodes, batch.max_minutes) == (None, None, 1440)
    assert (batch.nodes, batch.cores_per_node, batch.memory_mib) == (1, 2, 4096)


def test_what_most_nodes_have_is_told() -> None:
    header = "PARTITION|NODES|STATE|S:C:T|MEMORY|GRES\n"
    sinfo = (
        f"{header}batch|3|idle|2:64:2|515000|gpu:a100:4(S:0-3),nvme:1\n"
        "batch|2|mixed|2:64:2|515000|gpu:a100:4(S:0-3),nvme:1\n"
        "batch|4|idle~|2:32:2|1000000|(null)\n"
        "batch|90|down*|2:32:2|1000000|(null)\n"
    )
    run = partitions(sinfo)
    _, batch = Slurm().queues(run)
    assert (batch.nodes, batch.cores_per_node, batch.gpus_per_node) == (9, 128, 4)
    assert Slurm().windows(run) == [Window(queue="batch", num_nodes=7)]


def test_a_partition_that_is_down_is_not_open() -> None:
    text = captured("scontrol-partition.txt").replace("State=UP", "State=DRAIN")
    run = partitions(captured("sinfo.txt"))
    run.answers["scontrol"] = text
    for queue in Slurm().queues(run):
        assert (queue.is_open, queue.comment) == (False, "the partition is DRAIN")


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        ("(null)", 0),
        ("", 0),
        ("gpu:2", 2),
        ("gpu", 1),
        ("gpu:a100:4", 4),
        ("gpu:a100:4(S:0-1)", 4),
        ("gpu:a100:2(S:0),gpu:v100:2(S:1),nvme:1", 4),
        ("shard:8,gpu:h100_3g.40gb:8", 8),
        ("mygpu:3", 0),
    ],
)
def test_gpus_of_generic_resources(gres: str, count: int) -> None:
    assert slurm_words.gpus(gres) == count
