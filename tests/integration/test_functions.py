"""Python functions as jobs: called in warm processes, on the places of ordinary jobs."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from balsam.model.app import App, Function
from balsam.model.job import Job
from balsam.model.states import State
from balsam.model.wire import Attempt, Outcome
from tests.integration.conftest import Campaign, Run, Start, is_running, wait_until

S = State
pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def by_value(function: Callable[..., Any]) -> str:
    """Return *function* as a process loads it that cannot import this module."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return base64.b64encode(cloudpickle.dumps(function)).decode()
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def add(campaign: Campaign, function: Callable[..., Any], **fields: Any) -> str:
    """Register *function* as an app of its name."""
    told = {"python": sys.executable, "hooks": ["run"]} | fields
    name = function.__name__
    campaign.client.add_app(App(name=name, function=Function(code=by_value(function), **told)))
    return name


def call(campaign: Campaign, app: str, *arguments: Any, **fields: Any) -> int:
    """Add a job that calls the function with *arguments*; return its id."""
    return campaign.job(app, payload="J" + json.dumps([arguments, {}]), **fields)


def outcome(campaign: Campaign, job: int) -> Attempt:
    return campaign.attempts(job)[-1]


def value(campaign: Campaign, job: int) -> Any:
    """Return what a call returned, whose result is JSON."""
    found = outcome(campaign, job)
    assert found.result[:1] == "J", found
    return json.loads(found.result[1:])


def output(campaign: Campaign, job: int) -> str:
    """Return what a call has printed."""
    attempt = outcome(campaign, job)
    assert attempt.output_size is not None
    text = Path(campaign.site, attempt.output_file).read_bytes()
    return text[attempt.output_offset :][: attempt.output_size].decode()


def test_what_is_returned_printed_and_raised_is_kept(campaign: Campaign, run: Run) -> None:
    def divide(a: int, b: int) -> float:
        print(f"{a} by {b}")
        return a / b

    app = add(campaign, divide)
    jobs = [call(campaign, app, 1, b) for b in (4, 0, 2)]
    run()
    assert [campaign.state(job) for job in jobs] == [S.JOB_FINISHED, S.FAILED, S.JOB_FINISHED]
    assert [value(campaign, job) for job in (jobs[0], jobs[2])] == [0.25, 0.5]
    assert [output(campaign, job).splitlines()[0] for job in jobs] == ["1 by 4", "1 by 0", "1 by 2"]
    failed = outcome(campaign, jobs[1])
    assert (failed.outcome, failed.exit_code) == (Outcome.ERROR, 1)
    kind, text, told, pickled = json.loads(failed.result[1:])
    assert (failed.result[0], kind, text) == ("E", "ZeroDivisionError", "division by zero")
    assert "return a / b" in told
    assert "runner" not in told, "our own frames are nothing to its author"
    assert "division by zero" in failed.message
    assert "division by zero" in output(campaign, jobs[1])
    assert isinstance(cloudpickle.loads(base64.b64decode(pickled)), ZeroDivisionError)


def test_processes_are_warm_and_their_calls_do_not_see_each_other(
    campaign: Campaign, run: Run
) -> None:
    def look(n: int) -> list[Any]:
        import os

        before = os.environ.get("LEFT")
        os.environ["LEFT"] = "behind"
        return [os.getpid(), os.environ["BALSAM_JOB_ID"], os.environ.get("MINE"), before]

    app = add(campaign, look)
    jobs = [call(campaign, app, n, environ={"MINE": "yes"} if n % 2 else {}) for n in range(40)]
    run("--time-limit-minutes", 5)
    found = [value(campaign, job) for job in jobs]
    assert [job_id for _, job_id, _, _ in found] == [campaign.get(job).job_id for job in jobs]
    assert [mine for _, _, mine, _ in found] == [None, "yes"] * 20
    with_mine = {pid for pid, _, mine, _ in found if mine}
    without = {pid for pid, _, mine, _ in found if not mine}
    assert with_mine.isdisjoint(without), "what a process has from its start, it has for good"
    assert len(with_mine | without) <= 2 * (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("end", "exit_code", "told"),
    [
        ("import os; os._exit(0)", 1, "ended before the function returned"),
        ("import os; os._exit(3)", 3, "ended before the function returned"),
        ("import os; os.kill(os.getpid(), 9)", -9, "ended before the function returned"),
        ("raise SystemExit('no good')", 1, "no good"),
        ("class Odd(Exception):\n def __reduce__(self): return 1/0\nraise Odd('x')", 1, "Odd: x"),
    ],
)
def test_a_call_that_ends_its_process_fails_alone(
    campaign: Campaign, run: Run, end: str, exit_code: int, told: str
) -> None:
    def act(code: str) -> int:
        print("here", flush=True)
        exec(code)
        return 1

    app = add(campaign, act)
    first, bad, last = (call(campaign, app, code) for code in ("", end, ""))
    run()
    assert campaign.states() == {S.JOB_FINISHED: 2, S.FAILED: 1}
    assert (value(campaign, first), value(campaign, last)) == (1, 1)
    failed = outcome(campaign, bad)
    assert (failed.exit_code, failed.outcome) == (exit_code, Outcome.ERROR)
    assert told in failed.message
    assert "here" in output(campaign, bad)


def test_a_python_without_cloudpickle_gets_ours(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    def where() -> list[str]:
        import importlib.util
        import sys

        return [sys.prefix, str(importlib.util.find_spec("balsam")), sys.argv[0][-6:]]

    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    app = add(campaign, where, python=str(venv / "bin" / "python"))
    job = call(campaign, app)
    run()
    assert value(campaign, job) == [str(venv), "None", "runner"], campaign.tell(job)


def test_modules_beside_the_script_are_found(campaign: Campaign, run: Run, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "beside.py").write_text("ANSWER = 42\n")

    def answer() -> int:
        import beside  # type: ignore[import-not-found]

        return int(beside.ANSWER)

    app = add(campaign, answer, path=[str(tmp_path / "lib")])
    job = call(campaign, app)
    run()
    assert value(campaign, job) == 42


def test_keywords_are_the_parameters_of_jobs_without_a_payload(
    campaign: Campaign, run: Run
) -> None:
    def weigh(mass: float, *, unit: str) -> str:
        return f"{mass} {unit}"

    job = campaign.job(add(campaign, weigh), parameters={"mass": 1.5, "unit": "kg"})
    run()
    assert value(campaign, job) == "1.5 kg"


def test_many_calls_of_one_job(campaign: Campaign, run: Run) -> None:
    def square(x: int) -> int:
        return x * x

    calls = base64.b64encode(cloudpickle.dumps([((n,), {}) for n in range(5)])).decode()
    job = campaign.job(add(campaign, square), payload="M" + calls)
    run()
    assert value(campaign, job) == [0, 1, 4, 9, 16]


def test_results_are_arguments_of_children(campaign: Campaign, run: Run) -> None:
    """Also large ones, which are kept in files."""

    def make(n: int) -> bytes:
        return b"x" * n

    def measure(*parts: bytes) -> list[int]:
        return [len(part) for part in parts]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, found: Any) -> Any:
            return found[1] if isinstance(found, tuple) and found[:1] == ("job",) else None

    app = add(campaign, make)
    small, large = call(campaign, app, 10), call(campaign, app, 200_000)
    import io

    written = io.BytesIO()
    Pickler(written).dump((([("job", small), ("job", large)]), {}))
    payload = "R" + base64.b64encode(written.getvalue()).decode()
    child = campaign.client.create_jobs(
        [
            Job(
                name="child",
                workflow="w",
                application=add(campaign, measure),
                payload=payload,
                parents=[small, large],
            )
        ]
    )[0]
    run()
    assert outcome(campaign, small).result[:1] == "P"
    kept = outcome(campaign, large).result
    assert kept[:1] == "F"
    assert (campaign.site / kept[1:]).stat().st_size > 200_000
    assert value(campaign, child) == [10, 200_000], campaign.tell(child)


def test_a_killed_call_ends_and_others_go_on(campaign: Campaign, start: Start) -> None:
    def hang(seconds: float) -> str:
        import time

        time.sleep(seconds)
        return "woke"

    app = add(campaign, hang)
    job = call(campaign, app, 600)
    launcher = start("--idle-seconds", 3)
    wait_until(lambda: campaign.attempts(job))
    pid = outcome(campaign, job).pid
    campaign.client.kill_jobs(_only(job))
    wait_until(lambda: not is_running(pid))
    after = call(campaign, app, 0)
    campaign.wait_for(after, S.JOB_FINISHED)
    launcher.wait()
    assert campaign.state(job) == S.USER_KILLED
    assert outcome(campaign, job).outcome is Outcome.KILLED


def test_no_process_is_left(campaign: Campaign, start: Start) -> None:
    def pid() -> int:
        import os

        return os.getpid()

    job = call(campaign, add(campaign, pid))
    launcher = start("--idle-seconds", 60)
    campaign.wait_for(job, S.JOB_FINISHED)
    warm = value(campaign, job)
    assert is_running(warm), "it waits for the next call"
    launcher.process.send_signal(signal.SIGTERM)
    launcher.wait()
    wait_until(lambda: not is_running(warm))


def test_calls_that_wait_for_others_leave_them_their_places(campaign: Campaign, run: Run) -> None:
    """More calls wait than there are cores, and all end."""

    def fib(n: int) -> int:
        if n < 2:
            return n
        import json
        import sys

        from balsam.api import Job
        from balsam.model.query import Query
        from balsam.model.states import END_STATES
        from balsam.model.wire import Topic

        me = Job.current()
        assert me is not None
        client = me.site.client
        parts = [
            Job(
                name=f"fib{k}",
                workflow="w",
                application="fib",
                priority=me.priority + 1,
                payload="J" + json.dumps([[k], {}]),
            )
            for k in (n - 1, n - 2)
        ]
        ids = client.create_jobs(parts)  # type: ignore[arg-type]
        watch = client.watch(Topic.ENDS)
        runner = sys.modules["__balsam_runner__"]
        runner.blocked()
        while not all(job.state in END_STATES for job in client.jobs(Query().where(id__in=ids))):
            watch.wait(5)
        runner.unblocked()
        return sum(int(attempt.result[1:]) for attempt in client.attempts(ids))

    job = call(campaign, add(campaign, fib), 5)
    run("--idle-seconds", 2)
    assert value(campaign, job) == 5, campaign.tell(job)
    assert campaign.states() == {S.JOB_FINISHED: 15}


@pytest.mark.usefixtures("mpi")
def test_a_function_of_several_ranks(campaign: Campaign, run: Run) -> None:
    def rank(fails: bool) -> int:
        import os

        number = int(os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"])
        print(f"rank {number}")
        if fails and number == 1:
            raise KeyError("one")
        return 7 + number

    app = add(campaign, rank)
    good = call(campaign, app, False, ranks_per_node=2)
    bad = call(campaign, app, True, ranks_per_node=2, name="bad")
    run()
    assert value(campaign, good) == 7
    assert sorted(campaign.output(good).split()) == ["0", "1", "rank", "rank"]
    assert campaign.state(bad) == S.FAILED
    assert outcome(campaign, bad).result.startswith('E["KeyError"')
    left = [file.name for file in campaign.site.glob("run/*/functions/*.call*")]
    assert not left


def _only(job: int) -> Any:
    from balsam.model.query import Query

    return Query().where(id=job)
