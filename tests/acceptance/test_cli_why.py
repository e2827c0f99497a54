"""`balsam why`: what jobs wait for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.batch import add_jobs, ok, use_local, wait_for
from tests.acceptance.conftest import Balsam

LAYERS = [
    "state",
    "lease",
    "parents",
    "retry",
    "app",
    "files",
    "launchers",
    "batch_jobs",
    "nodes",
    "service",
]


@pytest.fixture
def waiting(balsam: Balsam) -> Balsam:
    """The site with a job that is free, its child, and one that asks for very many nodes."""
    assert balsam("app", "--name", "say", "--exec", "/bin/echo").returncode == 0
    given = ("job", "--workflow", "w", "--app", "say", "--yes")
    for words in (["--name", "a"], ["--name", "b", "--after", "1"], ["--name", "c", "-n", "900"]):
        words = ["--num-nodes" if word == "-n" else word for word in words]
        done = balsam(*given, *words)
        assert done.returncode == 0, done.stderr
    return balsam


def test_one_job_has_one_sentence_and_one_that_helps(campaign: Balsam) -> None:
    done = campaign("why", "9")
    assert done.returncode == 0
    told, helps = done.stdout.splitlines()
    assert told.startswith("9 later (PREPROCESSED) waits for a launcher, and nothing will start")
    assert helps.startswith("    help: start one: `balsam launcher --consume-all`")
    assert done.stderr == ""


def test_a_child_waits_for_what_its_parent_waits_for(campaign: Balsam) -> None:
    told = campaign("why", "10").stdout
    assert "10 last (AWAITING_PARENTS) waits for its parent, job 9, which waits for a laun" in told


def test_a_failure_and_a_kill_say_how_to_go_on(campaign: Balsam) -> None:
    told = campaign("why", "6", "11").stdout
    assert "6 broken (FAILED) failed" in told
    assert "error, exit code 3)" in told
    assert "`balsam logs 6`" in told
    assert "`balsam rerun 11`" in told


def test_verbose_tells_all_layers(campaign: Balsam) -> None:
    lines = campaign("why", "9", "--verbose").stdout.splitlines()
    assert [line.partition(":")[0].strip() for line in lines[2:]] == LAYERS


def test_json_of_one_job_is_an_object(campaign: Balsam) -> None:
    record = json.loads(campaign("why", "9", "--json").stdout)
    assert list(record) == [
        *("id", "job_id", "name", "workflow", "state", "waits_for", "reason", "help", "layers")
    ]
    assert (record["id"], record["state"]) == (9, "PREPROCESSED")
    assert record["reason"] == "no_launcher"
    assert [layer["layer"] for layer in record["layers"]] == LAYERS
    assert list(record["layers"][0]) == ["layer", "found", "reason", "help"]
    assert json.loads(campaign("why", "--id", record["job_id"], "--json").stdout)["id"] == 9


def test_json_of_a_selection_is_an_array(campaign: Balsam) -> None:
    records = json.loads(campaign("why", "--wf", "alloys", "--json").stdout)
    assert [record["id"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["reason"] for record in records] == [*["finished"] * 5, "failed"]


def test_all_are_counted_by_what_they_wait_for(waiting: Balsam) -> None:
    told = waiting("why", "--all").stdout
    assert told.startswith("2 jobs: no_launcher. Such as job 1, which waits for a launcher")
    groups = json.loads(waiting("why", "--all", "--json").stdout)
    assert list(groups[0]) == ["count", "reason", "waits_for", "help", "example"]
    counts = {group["reason"]: (group["count"], group["example"]) for group in groups}
    assert counts == {"no_launcher": (2, 1), "parents": (1, 2)}


def test_what_no_node_can_hold_is_told_after_a_launcher(waiting: Balsam) -> None:
    assert waiting("launcher", "--consume-all").returncode == 0
    told = waiting("why", "--all").stdout
    assert "1 job: too_few_nodes. Such as job 3, which waits for a launcher of its size" in told
    assert "`balsam submit-launch -n 900" in told


def test_where_no_job_waits(balsam: Balsam) -> None:
    assert balsam("why", "--all").stdout == "No job waits: all have ended.\n"
    assert balsam("why", "--all", "--json").stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "say which jobs: ids, --name, --state, --wf, --tag, --filter, or --all"),
        (("--all", "9"), 2, "--all and a selection exclude each other"),
        (("999",), 1, "there is no job '999'"),
        (("--wf", "nothing"), 1, "no job matches"),
        (("9", "--verbos3"), 2, "there is no '--verbos3' here"),
    ],
    ids=str,
)
def test_wrong_use(campaign: Balsam, words: tuple[str, ...], code: int, said: str) -> None:
    done = campaign("why", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_settings_that_cannot_be_read_are_named(site: Path, balsam: Balsam) -> None:
    (site / "balsam.toml").write_text("[launcher]\ngrace_seconds = 'long'\n")
    done = balsam("why", "--all")
    assert done.returncode == 2
    assert "balsam.toml" in done.stderr


@pytest.fixture
def here(balsam: Balsam, site: Path, balsam_home: Path) -> Balsam:
    """The site, with this machine as its batch system, and a request that it is busy with."""
    use_local(balsam_home, site)
    add_jobs(balsam, 1, "/bin/sleep 300")
    ok(balsam("submit-launch", "-n", 1, "-t", 10, "-q", "debug", "--wf-filter", "work"))
    wait_for(balsam, 1, "running")
    ok(balsam("job", "--name", "other", "--workflow", "rest", "--app", "app", "--yes"))
    return balsam


def reason(balsam: Balsam, number: int) -> str:
    found: str = json.loads(ok(balsam("why", number, "--json")))["reason"]
    return found


def test_a_batch_job_that_waits_is_told_with_the_words_of_the_batch_system(here: Balsam) -> None:
    assert reason(here, 2) == "other_workflow"
    ok(here("submit-launch", "-n", 1, "-t", 10, "-q", "batch"))
    told = ok(here("why", 2))
    assert "2 other (PREPROCESSED) waits for batch job 2 (local 2, batch, 1 node), which" in told
    ok(here("queue", "ls"))
    assert "queued in the batch system: this machine is busy with request 1" in ok(here("why", 2))
    groups = json.loads(ok(here("why", "--all", "--json")))
    assert {group["reason"]: group["example"] for group in groups}["batch_job_queued"] == 2
    ok(here("queue", "cancel", "--all", "--yes"))
    for number in (1, 2):
        wait_for(here, number, "cancelled")
    assert reason(here, 2) == "no_launcher"


def test_a_refused_request_is_told_with_the_words_of_the_batch_system(here: Balsam) -> None:
    ok(here("queue", "cancel", "1", "--yes"))
    wait_for(here, 1, "cancelled")
    here("submit-launch", "-n", 1, "-t", 5, "-q", "closed", "--no-check")
    assert reason(here, 2) == "submit_failed"
    assert "batch job 2: " in ok(here("why", 2))
    assert "queue 'closed' is closed" in ok(here("why", 2))
