"""Functions as jobs, carried out by real launchers."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import balsam
from balsam.client.site import Site
from balsam.errors import JobFailed
from balsam.functions.submission import submitter_of
from balsam.functions.watcher import watcher_of
from balsam.model.query import ALL
from balsam.model.states import State
from tests.conftest import DATABASES
from tests.integration.conftest import PATIENCE, Campaign, Launcher, is_running, wait_until

on_sqlite = pytest.mark.parametrize("database", DATABASES[:1], indirect=True)


@pytest.fixture
def site(campaign: Campaign) -> Iterator[Site]:
    """The site of `campaign`, in use."""
    site = Site.use(campaign.site)
    yield site
    submitter_of(site).flush()
    watcher_of(site).stop(PATIENCE)
    site.close()


@pytest.fixture
def pilot(site: Site, start: Callable[..., Launcher]) -> Launcher:
    """A launcher that waits for work."""
    return start("--persistent")


@balsam.app
def shout(word: str, times: int = 1) -> str:
    print(f"saying {word}")
    return times * word.upper()


@balsam.app
def fail(value: object) -> None:
    raise ValueError(f"no {value}")


@balsam.app
def fib(n: int) -> int:
    if n < 2:
        return n
    first, second = fib.submit(n - 1), fib.submit(n - 2)
    return int(first.result()) + int(second.result())


def square(x: int) -> int:
    return x * x


def halves(x: int) -> Iterator[float]:
    return (n / 2 for n in range(x))


def crash() -> None:
    os._exit(3)


def test_functions_run_as_jobs(campaign: Campaign, pilot: Launcher) -> None:
    with balsam.Executor(launcher=False) as executor:
        word = shout.submit("a")
        twice = shout.submit(word, times=2)
        failed = fail.submit({1, 2})
        below = shout.submit(failed)
        squares = executor.map(square, range(100), chunksize=7)
        assert twice.result(PATIENCE) == "AA"
        assert list(squares) == [x * x for x in range(100)]
        with pytest.raises(ValueError, match=r"no \{1, 2\}") as told:
            failed.result(PATIENCE)
        assert "in fail" in "".join(traceback.format_exception(told.value)), "the place there"
        with pytest.raises(JobFailed, match="did not run: parent"):
            below.result(PATIENCE)
        with pytest.raises(JobFailed, match="exit code 3"):
            executor.submit(crash).result(PATIENCE)
        with pytest.raises(TypeError, match=r"returned what .* \(generator\): .*; return what it"):
            executor.submit(halves, 3).result(PATIENCE)
        assert executor.submit(lambda f, x: f(x), square, 5).result(PATIENCE) == 25
    said = subprocess.run(
        ["balsam", "--site", str(campaign.site), "logs", str(word.id)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "saying a\n"
    assert campaign.state(failed.id) is State.FAILED


@on_sqlite
def test_recursion_ends(campaign: Campaign, pilot: Launcher) -> None:
    assert fib.submit(3).result(PATIENCE) == 2
    priorities = [job.priority for job in campaign.client.jobs(ALL)]
    assert len(priorities) == 5
    assert max(priorities) == 2, "the deeper, the sooner"


@on_sqlite
def test_a_python_without_balsam_and_an_initializer(
    campaign: Campaign, pilot: Launcher, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)

    def begin(word: str) -> None:
        import sys

        counted = sys.__dict__.setdefault("counted", [])
        counted.append(word)

    def look(number: int) -> tuple[int, list[str], str, bool]:
        import importlib.util
        import sys

        has_balsam = importlib.util.find_spec("balsam") is not None
        return number, sys.__dict__["counted"], sys.prefix, has_balsam

    executor = balsam.Executor(
        launcher=False,
        python_exe=str(tmp_path / "venv" / "bin" / "python"),
        initializer=begin,
        initargs=("x",),
    )
    results = list(executor.map(look, range(8), chunksize=1, timeout=PATIENCE))
    assert [number for number, *_ in results] == list(range(8))
    assert {prefix for _, _, prefix, _ in results} == {str(tmp_path / "venv")}
    assert {tuple(counted) for _, counted, _, _ in results} == {("x",)}, "once in each process"
    assert not any(has_balsam for *_, has_balsam in results)
    executor.shutdown()


@on_sqlite
def test_an_executor_has_a_launcher_of_its_own_while_it_lives(
    campaign: Campaign, site: Site
) -> None:
    (campaign.site / "balsam.toml").write_text('[scheduler]\nname = "local"\n')
    other = campaign.job("true", "of somebody else")
    with balsam.Executor() as executor:
        assert executor.submit(square, 3).result(PATIENCE) == 9
        (info,) = campaign.client.launchers()
        assert info.tags == {"executor": executor.token}
        assert is_running(info.pid)
    assert not psutil.pid_exists(info.pid) or not is_running(info.pid)
    assert campaign.state(other) is State.PREPROCESSED
    assert "Launcher 1 ended" in next((campaign.site / "log").glob("executor-*")).read_text()


@on_sqlite
def test_ctrl_c_ends_an_executor_at_once(campaign: Campaign, site: Site) -> None:
    (campaign.site / "balsam.toml").write_text('[scheduler]\nname = "local"\n')
    futures: list[balsam.Future] = []

    def interrupted() -> None:
        with balsam.Executor() as executor:
            futures.append(executor.submit(time.sleep, 600))
            wait_until(futures[0].running)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert campaign.client.launchers() == []
    assert campaign.state(futures[0].id) is State.RESTART_READY, "it can be run again"
    assert not futures[0].done()


@on_sqlite
def test_killing_ends_the_call(campaign: Campaign, pilot: Launcher) -> None:
    with balsam.Executor(launcher=False) as executor:
        future = executor.submit(time.sleep, 600)
        wait_until(future.running)
        pid = wait_until(lambda: campaign.attempts(future.id)[0].pid)
        assert future.cancel()
        wait_until(lambda: not is_running(pid))
        assert executor.submit(square, 2).result(PATIENCE) == 4
    assert concurrent.futures.wait([future], 0).done == {future}
