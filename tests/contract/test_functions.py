"""Functions as jobs: what is submitted, and what futures make of the ends of jobs."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import balsam
from balsam.client.local import LocalClient
from balsam.client.site import Site
from balsam.errors import (
    DependencyFailed,
    InvalidInput,
    JobFailed,
    NotFound,
    RemoteError,
    UnknownField,
    UntrustedResult,
)
from balsam.functions import pilots
from balsam.functions.endings import RemoteTraceback
from balsam.functions.submission import submitter_of
from balsam.functions.watcher import watcher_of
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, Outcome
from tests.contract.calls import on_sqlite
from tests.contract.pilot import Pilot

PATIENCE = 30.0


@balsam.app
def add(x: Any, y: Any = 1) -> Any:
    return x + y


@balsam.app(name="sim", threads_per_rank=2, tags={"k": "v"}, modules=["gcc"])
def simulate(x: Any) -> Any:
    return x


class OddError(Exception):
    """Can be pickled, but not loaded."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


@pytest.fixture
def used(client: LocalClient, site: Path) -> Iterator[Site]:
    """The site of `client`, in use."""
    used = Site.use(site)
    yield used
    submitter_of(used).flush()
    watcher_of(used).stop(PATIENCE)
    used.close()


@pytest.fixture
def executor(used: Site) -> Iterator[balsam.Executor]:
    """An executor whose jobs the tests carry out."""
    executor = balsam.Executor(launcher=False)
    yield executor
    executor.shutdown(wait=False)


def stored(client: LocalClient, future: balsam.Future) -> Job:
    (job,) = client.jobs(ALL.where(id=future.id))
    return job


def answer(
    pilot: Pilot, results: dict[int, str] | str, outcome: Outcome = Outcome.DONE
) -> list[Job]:
    """Carry out what can run now: *results* are what the functions returned, by job or of all."""
    jobs = pilot.lease()
    assert pilot.start(*jobs) == []
    report = pilot.ended(jobs, outcome)
    for attempt in report.attempts:
        attempt.result = results if isinstance(results, str) else results[attempt.job]
    assert pilot.client.report(pilot.id, report) == []
    return jobs


def pickled(value: Any) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def raised(error: BaseException, data: str | None = None) -> str:
    """How a function's exception is written."""
    text = pickled(error) if data is None else data
    return "E" + json.dumps([type(error).__name__, str(error), "Traceback of there\n", text])


def test_importing_balsam_costs_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import balsam; assert {'app', 'Executor'} <= set(dir(balsam))\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("__future__ balsam\n", "")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = balsam.nothing  # type: ignore[attr-defined]


# submitting -------------------------------------------------------------------------------


def test_a_call_is_a_job_with_its_arguments(client: LocalClient, used: Site) -> None:
    assert add(2, y=3) == 5, "called, it runs here"
    future = add.submit(2, y=3)
    job = stored(client, future)
    assert (job.name, job.workflow, job.state) == ("add", "functions", State.PREPROCESSED)
    assert job.application == f"{__name__}.add"
    assert job.payload == 'J[[2],{"y":3}]'
    assert (future.job_id, future.job.id) == (job.job_id, job.id)
    (app,) = [app for app in client.apps(ALL) if app.name == job.application]
    assert app.function.reference == f"{__name__}:add"
    assert (app.function.python, app.function.hooks) == (sys.executable, ["run"])
    assert os.getcwd() in app.function.path
    assert pickle.loads(base64.b64decode(app.function.code)) is add.__wrapped__


def test_options_are_fields_of_the_app_and_of_its_jobs(client: LocalClient, used: Site) -> None:
    job = stored(client, simulate.submit(1, _num_nodes=2, _tags={"n": "2"}, _name="one"))
    assert (job.application, job.name, job.num_nodes) == ("sim", "one", 2)
    assert (job.threads_per_rank, job.tags) == (2, {"k": "v", "n": "2"})
    (app,) = [app for app in client.apps(ALL) if app.name == "sim"]
    assert app.modules == ["gcc"]


def test_what_cannot_be_submitted_is_refused_at_once(client: LocalClient, used: Site) -> None:
    with pytest.raises(UnknownField, match=r"'_num_node'.*Did you mean '_num_nodes'"):
        add.submit(1, _num_node=2)
    with pytest.raises(InvalidInput, match="num_nodes"):
        add.submit(1, _num_nodes=0)
    with pytest.raises(TypeError, match=r"add\(x.*unexpected keyword argument 'z'"):
        add.submit(1, z=2)
    with balsam.Executor(launcher=False) as executor:
        with pytest.raises(TypeError, match=r"add\(x.*too many positional"):
            executor.submit(add, 1, 2, 3)
        with pytest.raises(InvalidInput, match=r"submit takes a function .* not 3: "):
            executor.submit(add(1, 2))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"argument 'y' of add cannot be pickled.*lock"):
        add.submit(1, y=threading.Lock())
    with pytest.raises(InvalidInput, match=r"argument 'x' of add cannot be pickled.*lock"):
        add.submit([threading.Lock()])
    with pytest.raises(UnknownField, match="Did you mean 'num_nodes'"):
        balsam.app(num_node=2)
    assert client.count_jobs(ALL) == 0


def test_what_cannot_be_an_app_is_refused() -> None:
    async def later() -> None: ...

    def several() -> Iterator[int]:
        yield 1

    def private(_x: int) -> None: ...

    for function, reason in (
        *((later, "async"), (several, "generator"), (private, "'_x' of private begins with '_'")),
        *((OddError, "is a class"), (add, "an app already")),
    ):
        with pytest.raises(InvalidInput, match=reason):
            balsam.app(function)


def test_a_function_with_too_much_around_it_names_it(used: Site) -> None:
    table, lock = bytes(9 << 20), threading.Lock()
    with pytest.raises(InvalidInput, match="takes 9 MiB with it, most of it 'table'"):
        balsam.app(lambda: len(table)).submit()
    with pytest.raises(InvalidInput, match=r"uses 'lock', which cannot be pickled"):
        balsam.app(lambda: lock.locked()).submit()


def test_arguments_are_written_as_what_they_are(client: LocalClient, used: Site) -> None:
    futures = [add.submit((1, 2)), add.submit(bytes(100_000)), add.submit(bytes(100_000))]
    tuples, large, same = (stored(client, future).payload for future in futures)
    assert pickle.loads(base64.b64decode(tuples[1:])) == (((1, 2),), {})
    assert (tuples[0], large[0]) == ("P", "F")
    assert pickle.loads((used.path / large[1:]).read_bytes()) == ((bytes(100_000),), {})
    assert large == same, "one content is one file"


def test_many_calls_are_stored_with_few_transactions(client: LocalClient, used: Site) -> None:
    futures = [add.submit(number) for number in range(500)]
    assert futures[-1].id
    jobs = client.jobs(ALL)
    assert [job.payload for job in jobs] == [f"J[[{number}],{{}}]" for number in range(500)]
    assert len({job.created_at for job in jobs}) == 1 or client.count_jobs(ALL) == 500


# registering ------------------------------------------------------------------------------


def test_what_is_registered_never_changes(client: LocalClient, used: Site) -> None:
    def version(number: int) -> balsam.functions.app.FunctionApp:
        return balsam.app(name="f")(lambda: number)

    first, again, second = version(1), version(1), version(2)
    jobs = [stored(client, app.submit()).application for app in (first, again, second, second)]
    assert jobs[:2] == ["f", "f"]
    assert jobs[2] == jobs[3]
    assert jobs[2].startswith("f@")
    assert second.register(replace=True) == "f"
    code = {app.name: app.function.code for app in client.apps(ALL) if app.function.code}
    assert code["f"] == code[jobs[2]]


def test_a_function_that_sees_something_new_is_registered_anew(
    client: LocalClient, used: Site
) -> None:
    factor = 2
    app = balsam.app(name="scale")(lambda x: factor * x)
    before = stored(client, app.submit(1)).application
    assert stored(client, app.submit(1)).application == before
    factor = 3
    assert stored(client, app.submit(1)).application != before


# results ----------------------------------------------------------------------------------


def test_results_come_as_they_were(client: LocalClient, used: Site, pilot: Pilot) -> None:
    futures = [add.submit(number) for number in range(4)]
    numbers = [future.id for future in futures]
    (used.path / "data" / "large").write_bytes(pickle.dumps({1: (2,)}))
    written = ['J{"a":[1,null]}', f"P{pickled({3, 4})}", "Fdata/large", "Jnull"]
    answer(pilot, dict(zip(numbers, written, strict=True)))
    assert [future.result(PATIENCE) for future in futures] == [
        *({"a": [1, None]}, {3, 4}, {1: (2,)}, None)
    ]
    assert futures[0].done()
    assert futures[0].exception() is None
    assert futures[1].result() is futures[1].result()


def test_a_result_that_is_not_there_in_time(used: Site) -> None:
    with pytest.raises(TimeoutError):
        add.submit(1).result(0.01)


def test_what_a_function_raised_is_raised(client: LocalClient, used: Site, pilot: Pilot) -> None:
    future = add.submit(1)
    assert future.id
    answer(pilot, raised(KeyError("there")), Outcome.ERROR)
    with pytest.raises(KeyError, match="there") as told:
        future.result(PATIENCE)
    assert isinstance(told.value.__cause__, RemoteTraceback)
    assert "Traceback of there" in str(told.value.__cause__)
    assert isinstance(future.exception(), KeyError)


def test_an_exception_that_cannot_be_rebuilt_is_told(
    client: LocalClient, used: Site, pilot: Pilot
) -> None:
    future, other = add.submit(1), add.submit(2)
    first, second = raised(OddError(1, 2)), f"P{base64.b64encode(b'no pickle').decode()}"
    answer(pilot, {future.id: first, other.id: second}, Outcome.ERROR)
    with pytest.raises(RemoteError, match="raised OddError: 1 2") as told:
        future.result(PATIENCE)
    assert "Traceback of there" in str(told.value.__cause__)


def test_a_job_that_failed_otherwise_shows_its_output(
    client: LocalClient, used: Site, pilot: Pilot
) -> None:
    future = add.submit(1)
    (used.path / "data" / "out").write_text("begin\nSegmentation fault\n")
    number = future.id
    jobs = pilot.lease()
    assert pilot.start(*jobs) == []
    report = pilot.ended(jobs, Outcome.ERROR)
    report.attempts[0].output_file = "data/out"
    assert pilot.client.report(pilot.id, report) == []
    with pytest.raises(JobFailed, match=rf"job {number} ended as FAILED(.|\n)*Segmentation fault"):
        future.result(PATIENCE)


def test_a_job_that_was_removed(client: LocalClient, used: Site) -> None:
    future = add.submit(1)
    client.delete_jobs(ALL.where(id=future.id))
    with pytest.raises(JobFailed, match="was removed"):
        future.result(PATIENCE)


def test_killing(client: LocalClient, used: Site, pilot: Pilot) -> None:
    mine, theirs, ended = add.submit(1), add.submit(2), add.submit(3)
    assert ended.id
    jobs = {job.id: job for job in pilot.lease()}
    assert pilot.start(*jobs.values()) == []
    assert mine.running()
    assert mine.cancel(), "also while it runs"
    assert mine.cancelled()
    assert concurrent.futures.wait([mine], PATIENCE).done == {mine}
    client.kill_jobs(ALL.where(id=theirs.id))
    with pytest.raises(concurrent.futures.CancelledError):
        theirs.result(PATIENCE)
    assert pilot.end(jobs[ended.id]) == []
    assert ended.result(PATIENCE) is None
    assert not ended.cancel()
    assert stored(client, mine).state is State.USER_KILLED


def test_futures_are_those_of_concurrent_futures(
    client: LocalClient, used: Site, pilot: Pilot
) -> None:
    futures = [add.submit(number) for number in range(20)]
    called: list[int] = []
    there = threading.Event()
    futures[3].add_done_callback(lambda future: (called.append(future.result()), there.set()))

    async def gather() -> list[Any]:
        wrapped = [asyncio.wrap_future(future) for future in futures[:5]]
        await asyncio.to_thread(answer, pilot, {f.id: f"J{f.id}" for f in futures})
        return await asyncio.wait_for(asyncio.gather(*wrapped), PATIENCE)

    assert asyncio.run(gather()) == [future.id for future in futures[:5]]
    assert there.wait(PATIENCE)
    assert called == [futures[3].id]
    done = [future.result() for future in balsam.as_completed(futures, PATIENCE)]
    assert sorted(done) == [future.id for future in futures]
    assert balsam.wait(futures, PATIENCE).not_done == set()
    assert set(concurrent.futures.as_completed(futures, PATIENCE)) == set(futures)


@on_sqlite
def test_a_forked_child_has_results_too(client: LocalClient, used: Site, pilot: Pilot) -> None:
    future = add.submit(1)
    assert future.id
    with pytest.raises(TimeoutError):
        future.result(0.1)
    pid = os.fork()
    if pid == 0:
        try:
            same = future.result(PATIENCE) == 7
            os._exit(0 if same and add.submit(2).id > future.id else 3)
        finally:
            os._exit(4)
    answer(pilot, "J7")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert future.result(PATIENCE) == 7


@on_sqlite
def test_a_program_ends_with_all_submitted_and_waits_for_nothing(
    client: LocalClient, used: Site, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import balsam\n"
        "@balsam.app\n"
        "def twice(x):\n"
        "    return 2 * x\n"
        "futures = [twice.submit(number) for number in range(300)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        env={**os.environ, "BALSAM_SITE": str(used.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    jobs = client.jobs(ALL)
    assert len(jobs) == 300
    assert {job.application for job in jobs} == {"script.twice"}
    (app,) = [app for app in client.apps(ALL) if app.function.code]
    assert app.function.path[0] == str(tmp_path)


# dependencies -----------------------------------------------------------------------------


def test_a_future_among_the_arguments_is_a_parent(
    client: LocalClient, used: Site, pilot: Pilot
) -> None:
    one = add.submit(1)
    other = add.submit(5)
    two = add.submit([{"a": one}, one], _parents=[other])
    job = stored(client, two)
    assert job.state is State.AWAITING_PARENTS
    assert sorted(job.parents) == [one.id, other.id]
    assert job.payload[0] == "R"

    class Loader(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            return f"result of {pid}"

    arguments = Loader(io.BytesIO(base64.b64decode(job.payload[1:]))).load()
    told = f"result of {one.id}"
    assert arguments == (([{"a": told}, told],), {})
    answer(pilot, "J1")
    leased = pilot.lease()
    assert [job.id for job in leased] == [two.id]


def test_what_depends_on_a_failure_tells_where_it_began(
    client: LocalClient, used: Site, pilot: Pilot
) -> None:
    first = add.submit(1)
    middle = add.submit(first)
    last = add.submit(middle)
    assert last.id
    answer(pilot, raised(ZeroDivisionError("by zero")), Outcome.ERROR)
    with pytest.raises(DependencyFailed, match=rf"parent {middle.id} \(add\) ended") as told:
        last.result(PATIENCE)
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_a_parent_that_is_gone(client: LocalClient, used: Site) -> None:
    gone = add.submit(1)
    client.delete_jobs(ALL.where(id=gone.id))
    child, other = add.submit(gone), add.submit(2)
    with pytest.raises(NotFound, match=f"there is no job {gone.number}"):
        child.result(PATIENCE)
    with pytest.raises(NotFound):
        _ = child.id
    assert stored(client, other).state is State.PREPROCESSED, "others are not held responsible"


# executors --------------------------------------------------------------------------------


def test_an_executor_maps_in_chunks(
    client: LocalClient, executor: balsam.Executor, pilot: Pilot
) -> None:
    results = executor.map(add, range(5), range(5), chunksize=2)
    jobs = list(executor.jobs().order_by("id"))
    assert len(jobs) == 3
    calls = [pickle.loads(base64.b64decode(job.payload[1:])) for job in jobs[:2]]
    assert calls[1] == [((2, 2), {}), ((3, 3), {})]
    assert [job.payload[0] for job in jobs] == ["M", "M", "J"]
    answer(pilot, {jobs[0].id or 0: "J[0,2]", jobs[1].id or 0: "J[4,6]", jobs[2].id or 0: "J8"})
    assert list(results) == [0, 2, 4, 6, 8]


def test_a_map_over_futures(client: LocalClient, executor: balsam.Executor, pilot: Pilot) -> None:
    first = executor.submit(add, 1)
    results = executor.map(add, [first, 2, (3,), {4}], chunksize=2)
    jobs = list(executor.jobs().order_by("id"))
    assert [(job.payload[0], job.parents) for job in jobs[1:]] == [
        *(("R", [first.id]), ("J", []), ("M", []))
    ]
    answer(pilot, {jobs[0].id or 0: "J0", jobs[2].id or 0: "J2", jobs[3].id or 0: "J[3,4]"})
    answer(pilot, "J1")
    assert list(results) == [1, 2, 3, 4]


@on_sqlite
def test_futures_of_another_site(used: Site, tmp_path: Path) -> None:
    with Site.create(tmp_path / "other") as other:
        executor = balsam.Executor(other, launcher=False)
        theirs = executor.submit(add, 1)
        assert theirs.id == 1
        with pytest.raises(InvalidInput, match=r"is of the site .*other"):
            add.submit(theirs)
        executor.shutdown(wait=False)
        watcher_of(other).stop(PATIENCE)


def test_an_executor_takes_endless_input_as_there_is_room(
    client: LocalClient, executor: balsam.Executor, pilot: Pilot
) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    results = executor.map(add, numbers(), buffersize=3, chunksize=1)
    assert len(taken) == 3
    _ = [future.id for future in executor._pending]
    answer(pilot, "J0")
    assert next(results) == 0
    assert next(results) == 0
    assert len(taken) == 4


def test_objects_and_functions_of_functions_need_no_apps_of_their_own(
    client: LocalClient, executor: balsam.Executor
) -> None:
    futures = [executor.submit(lambda x, n=n: x + n, 1) for n in range(3)]
    futures += [executor.submit(int, "7"), executor.submit([3, 1].count, 3)]
    assert {stored(client, future).application for future in futures} == {"balsam.call"}
    (app,) = [app for app in client.apps(ALL) if app.function.code]
    assert b"balsam.functions" not in base64.b64decode(app.function.code)[:200]


def test_shutting_down(client: LocalClient, executor: balsam.Executor, pilot: Pilot) -> None:
    runs, waits = executor.submit(add, 1), None
    assert runs.id
    (job,) = pilot.lease()
    assert pilot.start(job) == []
    waits = executor.submit(add, 2)
    executor.shutdown(wait=False, cancel_futures=True)
    assert waits.cancelled()
    assert not runs.cancelled()
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(add, 3)
    assert pilot.end(job) == []
    executor.shutdown()
    assert runs.done()


def test_fields_of_an_executor(client: LocalClient, used: Site) -> None:
    with pytest.raises(UnknownField, match="Did you mean 'gpus_per_rank'"):
        balsam.Executor(launcher=False, gpu_per_rank=1)
    with pytest.raises(InvalidInput, match="launcher cannot be 'yes'"):
        balsam.Executor(launcher="yes")  # type: ignore[arg-type]
    executor = balsam.Executor(
        launcher=False, workflow="w", tags={"a": "b"}, priority=4, python_exe="/opt/python"
    )
    job = stored(client, executor.submit(max, 1, 2))
    assert (job.workflow, job.priority) == ("w", 4)
    assert job.tags == {"a": "b", "executor": executor.token}
    (app,) = [app for app in client.apps(ALL) if app.function.code]
    assert (app.name, app.function.python) == ("builtins.max", "/opt/python")
    assert executor.jobs().count() == 1
    other = balsam.Executor(launcher=False, tags={"c": "d"})
    assert stored(client, executor.submit(add, 1)).tags["executor"] == executor.token
    assert stored(client, other.submit(add, 1)).tags == {"c": "d", "executor": other.token}
    codes = {
        app.function.python: app.function.code for app in client.apps(ALL) if "add" in app.name
    }
    by_value, by_name = (base64.b64decode(codes[p]) for p in ("/opt/python", sys.executable))
    assert b"_make_function" in by_value, "its module imports balsam, which may not be there"
    assert b"_make_function" not in by_name
    for each in (executor, other):
        each.shutdown(wait=False)


def test_waiting_for_what_nobody_runs_is_told(
    client: LocalClient,
    executor: balsam.Executor,
    pilot: Pilot,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pilots, "TELL_SECONDS", 0.0)
    waits = {executor.submit(add, 1).id}
    check = pilots.PilotCheck()
    for _ in range(3):
        check.look(client, waits)
    assert caplog.messages == [], "there is a launcher"
    client.retire_launcher(pilot.id, "done")
    others = LauncherInfo(host="h", pid=1, tags={"other": "jobs"})
    client.register_launcher(others, 60)
    for _ in range(3):
        check.look(client, waits)
    (told,) = caplog.messages
    assert re.search(r"1 jobs are waited for, and no launcher of .* takes job \d+", told)


# earlier programs, other users ------------------------------------------------------------


def test_futures_of_an_earlier_program(client: LocalClient, used: Site, pilot: Pilot) -> None:
    before, after = add.submit(1), add.submit(2)
    assert after.id
    uuid = before.job_id
    answer(pilot, {before.id: "J11", after.id: "J12"})
    assert [future.result(PATIENCE) for future in balsam.attach([after.id, uuid])] == [12, 11]
    (again,) = balsam.Executor.attach(after.job)
    assert pickle.loads(pickle.dumps(again)).result(PATIENCE) == 12
    with pytest.raises(NotFound, match="there is no job 999"):
        balsam.attach([999])


def test_pickles_of_others_are_not_loaded(
    client: LocalClient, used: Site, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures = [add.submit(number) for number in range(3)]
    numbers = [future.id for future in futures]
    answer(pilot, {numbers[0]: "J1", numbers[1]: f"P{pickled({2})}", numbers[2]: "Fnone"})
    monkeypatch.setenv("LOGNAME", "somebody")
    plain, secret, _ = balsam.attach(numbers)
    assert plain.result(PATIENCE) == 1
    with pytest.raises(UntrustedResult, match="any_owner=True"):
        secret.result(PATIENCE)
    assert balsam.attach(numbers[1], any_owner=True)[0].result(PATIENCE) == {2}


# inside a job -----------------------------------------------------------------------------


def test_what_a_job_submits_is_of_its_kind_and_goes_first(
    client: LocalClient, used: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = stored(client, add.submit(1, _workflow="w", _tags={"k": "v"}, _priority=3))
    monkeypatch.setenv("BALSAM_JOB_ID", parent.job_id)
    child = stored(client, simulate.submit(1))
    assert (child.workflow, child.priority) == ("w", 4)
    assert child.tags == {"k": "v"}


def test_a_call_that_waits_gives_its_place_away(
    used: Site, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    runner = types.ModuleType("__balsam_runner__")
    runner.__dict__["blocked"] = lambda: said.append("blocked")
    runner.__dict__["unblocked"] = lambda: said.append("unblocked")
    monkeypatch.setitem(sys.modules, "__balsam_runner__", runner)
    future = add.submit(1)
    with pytest.raises(TimeoutError):
        future.result(0.01)
    assert said == ["blocked", "unblocked"]
    with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
        next(balsam.as_completed([future, future], 0.01))
    assert said == ["blocked", "unblocked"] * 2
    assert balsam.wait([future], 0.01).not_done == {future}
    assert said == ["blocked", "unblocked"] * 3
    assert future.id
    answer(pilot, "J2")
    assert concurrent.futures.wait([future], PATIENCE).done == {future}
    assert balsam.wait([future]).done == {future}
    assert list(balsam.as_completed([future])) == [future]
    assert future.result() == 2
    assert said == ["blocked", "unblocked"] * 3, "what is there is not waited for"
