"""`snakemake --executor balsam`: a real Snakemake, with the plugin in `integrations/snakemake`.

It is in an environment of its own, which `tools/install-test-needs` makes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balsam.api import Site
from tests.acceptance.conftest import BIN, Balsam
from tests.integration.conftest import wait_until

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "integrations" / "snakemake"
SNAKEMAKE = ROOT / "build" / "snakemake" / "bin" / "snakemake"
#: Starts Snakemake with the options that are given.
Start = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The directory that Snakemake works in; its name is not easy to quote."""
    path = tmp_path / "it's work"
    path.mkdir()
    return path


@pytest.fixture
def start(work: Path, tmp_path: Path, environ: dict[str, str], balsam: Balsam) -> Iterator[Start]:
    """Start Snakemake on `site`; its output goes to the file `snakemake.log`."""
    if not SNAKEMAKE.exists() and not os.environ.get("CI"):
        pytest.skip(f"there is no {SNAKEMAKE}: run tools/install-test-needs")
    paths = [str(PLUGIN / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    environ["SECRET"] = 'it\'s $HOME "x" \\'
    started: list[subprocess.Popen[str]] = []

    def run(*argv: str) -> subprocess.Popen[str]:
        with open(work / "snakemake.log", "a") as log:
            words = [str(SNAKEMAKE), *argv, "--executor", "balsam", "--jobs", "50"]
            process = subprocess.Popen(words, cwd=work, env=environ, stdout=log, stderr=log)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def finish(process: subprocess.Popen[str], work: Path, code: int = 0) -> str:
    """Wait for the end of Snakemake with exit *code*, and return its log."""
    process.wait(120)
    log = (work / "snakemake.log").read_text()
    assert process.returncode == code, log
    return log


def jobs(balsam: Balsam) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(balsam("ls", "jobs", "--json").stdout)
    return found


def states(balsam: Balsam) -> list[tuple[str, str]]:
    """Rule and state of all jobs, in order of submission."""
    return [(job["tags"]["rule"], job["state"]) for job in jobs(balsam)]


def test_align_sort_and_call(start: Start, work: Path, balsam: Balsam) -> None:
    snakefile = str(PLUGIN / "example" / "Snakefile")
    log = finish(start("--snakefile", snakefile, "--balsam-launcher"), work)
    assert (work / "calls" / "all.tsv").read_text() == "300\tT>A\t2\n777\tT>A\t1\n"
    assert not (work / "mapped" / "B.tsv").exists()
    assert "400 reads" in (work / "logs" / "align" / "C.log").read_text()
    done = jobs(balsam)
    assert {job["state"] for job in done} == {"JOB_FINISHED"}
    rules = [job["tags"]["rule"] for job in done]
    assert sorted(rules) == sorted(2 * ["align"] + 2 * ["sort"] + ["call"])
    align = done[0]
    assert align["workflow"] == "snakemake/it's work"
    asked = (align["threads_per_rank"], align["memory_mib"], align["wall_time_minutes"])
    assert asked == (2, 191, 5.0)
    output = Path(align["workdir"], f"{align['name']}.out")
    assert f"Balsam job 1 (output: {output})" in log
    assert "rule align" in output.read_text()


TROUBLE = """
envvars: "SECRET"
rule all:
    input: "flaky", "1.b", "2.b", "secret"
rule bad:
    output: "bad"
    shell: "echo reason >&2; exit 3"
rule large:
    output: "large"
    resources: nodes=2
    shell: "touch {output}"
rule flaky:
    output: "flaky"
    resources: tried=lambda wildcards, attempt: attempt
    shell: "test {resources.tried} = 2 && touch {output}"
rule first:
    output: "{n}.a"
    group: "pair"
    shell: "echo {wildcards.n} > {output}"
rule second:
    input: "{n}.a"
    output: "{n}.b"
    group: "pair"
    shell: "cp {input} {output}"
rule secret:
    output: "secret"
    shell: "printenv SECRET > {output}"
"""


def test_failures_retries_groups_and_secrets(start: Start, work: Path, balsam: Balsam) -> None:
    (work / "Snakefile").write_text(TROUBLE)
    options = ("--keep-going", "--retries", "1", "--group-components", "pair=2")
    log = finish(start("all", "bad", "large", *options, "--balsam-launcher"), work, code=1)
    assert "Balsam does not take it: nodes=2: a rule gets one node" in log
    assert "is FAILED: exit code 1" in log
    assert (work / "secret").read_text() == 'it\'s $HOME "x" \\\n'
    assert (work / "2.b").read_text() == "2\n"
    found = sorted((rule.partition("_")[0], state) for rule, state in states(balsam))
    assert found == [
        ("bad", "FAILED"),
        ("bad", "FAILED"),
        ("flaky", "FAILED"),
        ("flaky", "JOB_FINISHED"),
        ("pair", "JOB_FINISHED"),
        ("secret", "JOB_FINISHED"),
    ]


HELD = """
rule held:
    output: "out"
    shell: "touch started; while [ ! -e go ]; do sleep 0.05; done; touch {output}"
"""


LARGE = """
rule large:
    output: "large"
    threads: 1000
    shell: "touch {output}"
"""


def test_an_interrupt_kills_what_runs_and_what_waits(
    start: Start, work: Path, site: Path, balsam: Balsam, environ: dict[str, str]
) -> None:
    (work / "Snakefile").write_text(HELD + LARGE)
    others = ("launcher", "--wf-filter", "others", "--persistent")
    other = subprocess.Popen(
        [str(BIN / "balsam"), *others],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with Site(site) as opened:
        wait_until(opened.client.launchers)
    process = start("out", "large", "--balsam-launcher")
    log = work / "snakemake.log"
    wait_until((work / "started").exists, log.read_text)
    wait_until(lambda: "asks for 1000 cores" in log.read_text(), log.read_text)
    process.send_signal(signal.SIGINT)
    finish(process, work, code=1)
    other.terminate()
    other.wait(30)
    assert "Balsam launcher started" in log.read_text()
    assert sorted(states(balsam)) == [("held", "USER_KILLED"), ("large", "USER_KILLED")]
    assert not (work / "out").exists()


def test_jobs_outlive_a_snakemake_that_is_killed(
    start: Start, work: Path, balsam: Balsam, environ: dict[str, str]
) -> None:
    (work / "Snakefile").write_text(HELD)
    launcher = subprocess.Popen(
        [str(BIN / "balsam"), "launcher", "--consume-all", "--persistent"],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        first = start("out")
        wait_until((work / "started").exists)
        first.kill()
        first.wait()
        finish(start("--unlock"), work)
        second = start("out")
        log = work / "snakemake.log"
        wait_until(lambda: "goes on as Balsam job 1" in log.read_text(), log.read_text)
        (work / "go").touch()
        finish(second, work)
    finally:
        launcher.terminate()
        launcher.wait(30)
    assert states(balsam) == [("held", "JOB_FINISHED")]
