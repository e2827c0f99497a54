"""The Python API on a real site."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from balsam import api
from balsam.api import App, BatchJob, Event, Job, Site
from balsam.errors import (
    AlreadyExists,
    CyclicDependency,
    IllegalMove,
    InvalidInput,
    InvalidResources,
    MultipleFound,
    NotFound,
    SiteError,
    UnknownField,
)
from balsam.model.states import State
from tests.contract.pilot import Clock, Pilot


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A new site with the app `echo`, used by `Job.objects`."""
    Site.create(tmp_path / "site").close()
    site = Site.use(tmp_path / "site")
    App.objects.create(name="echo", executable="echo")
    yield site
    site.close()


def new(name: str = "a", **fields: Any) -> Job:
    job = Job(**{"name": name, "workflow": "w", "application": "echo", **fields})
    job.save()
    return job


def names(jobs: Any) -> list[str]:
    return [job.name for job in jobs]


# sites ------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_and_no_site_is_needed_to_import(tmp_path: Path) -> None:
    code = (
        "import sys, balsam.api\n"
        "balsam.api.Job.objects.filter(state='FAILED')\n"
        "heavy = {'sqlalchemy', 'alembic', 'rich', 'jinja2', 'sqlite3', 'shtab', 'zmq'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("BALSAM_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environ, "BALSAM_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


HOST = """\
import datetime, logging, os, signal, sys, threading
started, starts = [], ("subprocess", "os.posix_spawn", "os.exec", "os.fork", "os.system")
sys.addaudithook(lambda event, _: event.startswith(starts) and started.append(event))

def own():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    zone = datetime.datetime.now().astimezone().utcoffset()
    root = logging.getLogger()
    hooks = sys.excepthook, threading.excepthook, sys.displayhook
    return zone, hooks, signals, root.level, root.handlers[:], dict(os.environ), os.getcwd()

before = own()
from balsam.api import App, Job
App.objects.create(name="x", executable="x")
Job.objects.create(name="x", workflow="w", application="x", data={"a": 1}).kill()
assert Job.objects.get(data__a=1).events().count() == 2
after = own()
assert after == before, (before, after)
assert after[0] == datetime.timedelta(hours=-6)
assert not started, started
raise RuntimeError("the host's own")
"""


def test_a_host_program_keeps_what_is_its_own(site: Site) -> None:
    """Faults A9, B1, B4: time zone, logging, hooks; and no batch system is asked for anything."""
    done = subprocess.run(
        [sys.executable, "-c", HOST],
        env={**os.environ, "TZ": "CST6", "BALSAM_SITE": str(site.path), "SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("\nRuntimeError: the host's own\n"), done.stderr


def test_a_site_is_found_from_the_environment_and_the_directory(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(site.path / "data")
    assert Site.find() == site
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SiteError):
        Site.find()
    monkeypatch.setenv("BALSAM_SITE", str(site.path))
    assert Site.find() == site
    with pytest.raises(SiteError):
        Site(tmp_path / "nowhere")
    with pytest.raises(AlreadyExists):
        Site.create(site.path)


def test_two_sites_side_by_side(site: Site, tmp_path: Path) -> None:
    mine = new("mine")
    with Site.create(tmp_path / "other") as other:
        other.apps.create(name="echo", executable="echo")
        theirs = other.jobs.create(name="theirs", workflow="w", application="echo")
        assert mine.id == theirs.id
        assert mine.job_id != theirs.job_id
        assert mine != theirs
        theirs.data["x"] = 1
        theirs.save()
        assert other.jobs.get(name="theirs").data == {"x": 1}
        assert Job.objects.filter(job_id=theirs.job_id).count() == 0
        assert other.events.filter(job=theirs).count() >= 1
        assert list(other.batch_jobs) == []
        assert api.use(other.path) == other
        assert names(Job.objects.all()) == ["theirs"]
    with pytest.raises(SiteError, match="was closed"):
        theirs.refresh_from_db()
    assert mine.site == site
    mine.refresh_from_db()


def test_a_site_closes_itself_at_exit(site: Site) -> None:
    code = (
        "from balsam.api import Job, Site\n"
        f"Site.use({str(site.path)!r})\n"
        "print(Job.objects.count())\n"
        f"Site({str(site.path)!r}).jobs.count()"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_forked_child_opens_the_site_anew(site: Site) -> None:
    new("parent")
    pid = os.fork()
    if pid == 0:
        try:
            new("child")
            os._exit(0 if Job.objects.count() == 2 else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert names(Job.objects.order_by("name")) == ["child", "parent"]


# saving -----------------------------------------------------------------------------------


def test_a_new_job_gets_all_that_is_balsams(site: Site) -> None:
    job = new("run 1", workflow="deep/er", tags={"k": "v"}, data={"x": [1, {"y": None}]})
    assert job.id == 1
    assert job.pk == 1
    assert UUID(job.job_id)
    assert job.state is State.PREPROCESSED
    assert job.workdir == f"{site.path}/data/deep/er/run_1_{job.job_id[:8]}"
    assert job.created_at > 0
    again = Job.objects.get()
    assert again == job
    assert again is not job
    assert hash(again) == hash(job)
    assert again.data == {"x": [1, {"y": None}]}
    assert (again.tags, again.owner) == ({"k": "v"}, job.owner)
    assert repr(again) == "<Job 1 'run 1' PREPROCESSED>"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", {"a": {"b": 2}}),
        ("tags", {"a": "b"}),
        ("parameters", {"x": 1.5}),
        ("environ", {"A": "/a:/b"}),
        ("args", "'{\"a b\": 1}'"),
        ("priority", -5),
        ("wall_time_minutes", 58.333),
        ("gpus_per_rank", 0.5),
        ("post_error_handler", True),
        ("data", [1, 2]),
        ("data", '{"a": 1}'),
        ("data", None),
    ],
)
def test_a_changed_field_is_saved(site: Site, field: str, value: Any) -> None:
    job = new()
    setattr(job, field, value)
    job.save()
    assert getattr(Job.objects.get(), field) == value


@pytest.mark.parametrize("field", ["data", "tags", "parameters", "environ"])
def test_changes_inside_are_noticed(site: Site, field: str) -> None:
    new(**{field: {"old": "1"}})
    job = Job.objects.get()
    getattr(job, field)["new"] = "2"
    job.save()
    assert getattr(Job.objects.get(), field) == {"old": "1", "new": "2"}
    del getattr(job, field)["old"]
    job.save()
    assert getattr(Job.objects.get(), field) == {"new": "2"}


def test_deep_changes_inside_data_are_noticed(site: Site) -> None:
    new(data={"trials": [{"x": 1}]})
    job = Job.objects.get()
    job.data["trials"][0]["x"] = 2
    job.data["trials"].append({"x": 3})
    job.save()
    assert Job.objects.get().data == {"trials": [{"x": 2}, {"x": 3}]}


def test_a_stale_object_writes_only_what_it_changed(site: Site) -> None:
    new(data={"x": 1}, priority=1, args="old")
    stale, other = Job.objects.get(), Job.objects.get()
    other.args = "new"
    other.data["x"] = 2
    other.state = State.USER_KILLED
    other.save()
    stale.priority = 7
    stale.save()
    now = Job.objects.get()
    assert (now.args, now.data, now.priority) == ("new", {"x": 2}, 7)
    assert now.state == State.USER_KILLED


def test_a_stale_object_takes_neither_lease_nor_history(site: Site) -> None:
    """Fault A1."""
    new()
    failed, killed = Job.objects.get(), Job.objects.get()
    pilot = Pilot(site.client, Clock())
    pilot.start(*pilot.lease())
    failed.state = State.FAILED
    with pytest.raises(IllegalMove, match="RUNNING cannot become FAILED"):
        failed.save()
    killed.state = State.USER_KILLED
    killed.save()
    now = Job.objects.get()
    assert (now.state, now.launcher_id, now.attempt) == (State.USER_KILLED, pilot.id, 1)
    assert [event.to_state for event in now.events()] == ["PREPROCESSED", "RUNNING", "USER_KILLED"]


def test_saving_without_a_change_writes_nothing(site: Site) -> None:
    job = new()
    other = Job.objects.get()
    other.args = "x"
    other.save()
    job.save()
    assert Job.objects.get().args == "x"


def test_update_fields_limits_what_is_saved(site: Site) -> None:
    job = new()
    job.args, job.priority = "x", 3
    job.save(update_fields=["args"])
    assert (Job.objects.get().args, Job.objects.get().priority) == ("x", 0)
    job.save()
    assert Job.objects.get().priority == 3
    with pytest.raises(UnknownField, match="'args'"):
        job.save(update_fields=["argss"])


def test_a_changed_state_is_a_move_with_an_event(site: Site) -> None:
    job = new()
    job.state = "USER_KILLED"  # type: ignore[assignment]
    job.data["why"] = "test"
    job.save(message="no longer needed")
    last = job.events().last()
    assert last is not None
    assert (last.from_state, last.to_state) == ("PREPROCESSED", "USER_KILLED")
    assert last.message == "no longer needed"
    assert Job.objects.get().data == {"why": "test"}


@pytest.mark.parametrize(
    ("state", "error"),
    [("RUNNING", IllegalMove), ("POSTPROCESSED", IllegalMove), ("X", InvalidInput)],
)
def test_a_refused_state_leaves_everything_as_it_was(
    site: Site, state: Any, error: type[Exception]
) -> None:
    job = new(args="old")
    job.state, job.args = state, "new"
    with pytest.raises(error):
        job.save()
    now = Job.objects.get()
    assert (now.state, now.args) == ("PREPROCESSED", "old")


def test_moving_to_created_is_settled_and_seen_in_the_object(site: Site) -> None:
    job = new()
    job.kill()
    assert job.state == State.USER_KILLED
    assert job.rerun() == 1
    assert job.state == State.PREPROCESSED
    assert job.rerun() == 0


def test_fields_of_balsam_cannot_be_set(site: Site) -> None:
    job = new()
    job.exit_code = 3
    with pytest.raises(UnknownField, match="exit_code is Balsam's own"):
        job.save()
    with pytest.raises(UnknownField, match="owner is Balsam's own"):
        Job.objects.create(name="a", workflow="w", application="echo", owner="me")
    with pytest.raises(InvalidInput, match="new job cannot be FAILED"):
        Job(name="a", workflow="w", application="echo", state=State.FAILED).save()


def test_unknown_names_are_refused_with_the_nearest(site: Site) -> None:
    job = new()
    with pytest.raises(UnknownField, match="'priority'"):
        job.priorty = 3
    job._note_of_mine = 3
    with pytest.raises(UnknownField, match="'application'"):
        Job.objects.create(name="a", workflow="w", aplication="echo")
    with pytest.raises(UnknownField, match="'environ'"):
        Job.objects.bulk_create([{"name": "a", "workflow": "w", "environ_vars": "A=1"}])
    with pytest.raises(UnknownField, match="'args'"):
        Job.objects.all().update(argss="x")
    with pytest.raises(UnknownField, match="'name'"):
        Job.objects.values("nmae")
    with pytest.raises(TypeError, match="aplication"):
        Job(aplication="echo")  # type: ignore[call-arg]


def test_types_that_scripts_pass(site: Site, tmp_path: Path) -> None:
    app = App.objects.get()
    job = new(
        args=None,
        mpi_flags=None,
        user_workdir=tmp_path,
        application=app,
        environ={"OMP_NUM_THREADS": 4},
        tags={"run": 7},
        wall_time_minutes=58,
        workflow="a/b",
    )
    now = Job.objects.get()
    assert (now.args, now.mpi_flags, now.application) == ("", "", "echo")
    assert (now.user_workdir, now.workdir) == (str(tmp_path), str(tmp_path))
    assert (now.environ, now.tags) == ({"OMP_NUM_THREADS": "4"}, {"run": "7"})
    assert now.wall_time_minutes == 58
    job.args = None  # type: ignore[assignment]
    job.tags = {"run": 8}  # type: ignore[dict-item]
    job.user_workdir = tmp_path / "x"  # type: ignore[assignment]
    job.save()
    assert (job.args, job.tags) == ("", {"run": "8"})
    assert Job.objects.get(tags__run=8, application=app).user_workdir == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"num_nodes": "4"}, InvalidInput, "num_nodes takes int"),
        ({"num_nodes": 1.5}, InvalidInput, "num_nodes takes int"),
        ({"num_nodes": -1}, InvalidResources, "num_nodes is -1"),
        ({"gpus_per_rank": float("nan")}, InvalidResources, "gpus_per_rank"),
        ({"name": "a/b"}, InvalidInput, "contains '/'"),
        ({"name": "a\nb"}, InvalidInput, "printable"),
        ({"workflow": "../x"}, InvalidInput, "relative path"),
        ({"environ": {"A": None}}, InvalidInput, "environ takes texts"),
        ({"tags": ["a"]}, InvalidInput, "tags takes"),
        ({"application": "ecko"}, NotFound, "Did you mean 'echo'"),
        ({"parents": [99]}, NotFound, "no job 99"),
        ({"parents": [str(uuid4())]}, NotFound, "no job of this site"),
        ({"parents": ["x"]}, NotFound, "no job of this site"),
        ({"parents": [1.5]}, InvalidInput, "give a Job, id or UUID"),
        ({"parents": [0]}, InvalidInput, "no place"),
    ],
)
def test_a_job_that_cannot_be_stored_is_not(
    site: Site, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        new(**fields)
    assert not Job.objects.exists()
    assert not Event.objects.exists()


def test_a_removed_job_cannot_be_saved(site: Site) -> None:
    job, twin = new(), Job.objects.get()
    twin.delete()
    job.args = "x"
    with pytest.raises(Job.DoesNotExist):
        job.save()
    with pytest.raises(Job.DoesNotExist):
        job.refresh_from_db()
    with pytest.raises(InvalidInput, match="not stored yet"):
        Job(name="a").kill()
    with pytest.raises(InvalidInput, match="was not loaded"):
        Job(id=5, name="a").save()


def test_refresh_brings_the_database_back(site: Site) -> None:
    job = new(data={"x": 1})
    Job.objects.all().update(args="theirs", data={"x": 2})
    job.args, job.data["x"] = "mine", 3
    job.refresh_from_db()
    assert (job.args, job.data) == ("theirs", {"x": 2})
    job.save()
    assert Job.objects.get().data == {"x": 2}


def test_data_must_be_json(site: Site) -> None:
    job = new(data={"t": (1, 2)})
    assert Job.objects.get().data == {"t": [1, 2]}
    job.data["x"] = object()
    with pytest.raises(InvalidInput, match="data is not JSON"):
        job.save()
    with pytest.raises(InvalidInput, match="data is not JSON"):
        new(data={"x": object()})
    with pytest.raises(InvalidInput, match="parameters is not JSON"):
        Job.objects.all().update(parameters={"x": object()})
    assert Job.objects.get().data == {"t": [1, 2]}


def test_copies_and_pickles_know_what_was_stored(site: Site) -> None:
    job = new(data={"x": 1})
    for twin in (copy.copy(job), copy.deepcopy(job), pickle.loads(pickle.dumps(job))):
        assert twin == job
        twin.data = {"x": twin.data["x"] + 1}
        twin.save()
    assert Job.objects.get().data == {"x": 2}


def test_a_renamed_job_has_a_new_directory(site: Site) -> None:
    job = new("old")
    job.name = "new"
    job.save()
    assert Path(job.workdir).name == f"new_{job.job_id[:8]}"


def test_read_file_in_workdir(site: Site) -> None:
    job = new()
    with pytest.raises(ValueError, match=r"cannot read 'out\.txt'.*No such file"):
        job.read_file_in_workdir("out.txt")
    Path(job.workdir).mkdir(parents=True)
    (Path(job.workdir) / "out.txt").write_text("42\n")
    assert job.read_file_in_workdir("out.txt") == "42\n"


def test_current_job(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Job.current() is None
    job = new()
    monkeypatch.setenv("BALSAM_JOB_ID", job.job_id)
    assert Job.current() == job
    monkeypatch.setenv("BALSAM_JOB_ID", str(uuid4()))
    with pytest.raises(Job.DoesNotExist):
        Job.current()


# dependencies -----------------------------------------------------------------------------


def test_parents_as_jobs_ids_and_uuids(site: Site) -> None:
    a, b, c = new("a"), new("b"), new("c")
    child = new("child", parents=[a, b.id, UUID(c.job_id)], parents_any=[])
    assert child.state is State.AWAITING_PARENTS
    assert child.parents == [a.id, b.id, c.id]
    assert names(child.parent_jobs()) == ["a", "b", "c"]
    assert names(a.children()) == ["child"]
    assert names(Job.objects.filter(parents=a)) == ["child"]
    assert names(Job.objects.filter(parents=UUID(a.job_id))) == ["child"]
    assert names(Job.objects.filter(parents__in=Job.objects.filter(name="b"))) == ["child"]
    assert names(Job.objects.filter(children=child, name="c")) == ["c"]
    assert new("one", parents=a).parents == [a.id]


def test_parents_can_be_added_and_taken_away(site: Site) -> None:
    a, b, child = new("a"), new("b"), new("child")
    child.parents = [a]  # type: ignore[list-item]
    child.save()
    assert (child.parents, child.state) == ([a.id], State.AWAITING_PARENTS)
    child.parents.append(b.id or 0)
    child.save()
    assert Job.objects.get(name="child").parents == [a.id, b.id]
    child.parents, child.parents_any = [b.id or 0], [a.id or 0]
    child.save()
    again = Job.objects.get(name="child")
    assert (again.parents, again.parents_any, again.state) == ([b.id], [a.id], child.state)
    a.parents = [child.id or 0]
    with pytest.raises(CyclicDependency):
        a.save()
    child.parents, child.parents_any = [], []
    child.save()
    assert Job.objects.get(name="child").parents_any == []
    assert child.state == State.PREPROCESSED


class Number(float):
    """As the numbers of other libraries."""


def test_numbers_of_other_libraries_are_numbers(site: Site) -> None:
    job = new(data={"r": Number(1.5)})
    assert Job.objects.get(data__r=1.5) == job
    job.data["r"] = Number(2)
    job.save()
    assert Job.objects.get().data == {"r": 2.0}


def test_jobs_of_one_call_depend_on_each_other(site: Site) -> None:
    first = Job(name="first", workflow="w", application="echo")
    last = Job(name="last", workflow="w", application="echo", parents=[first])  # type: ignore[list-item]
    ids = Job.objects.bulk_create([last, first, {**FIELDS, "name": "c", "parents": [-1, first]}])
    assert ids == [1, 2, 3]
    assert (last.id, first.id) == (1, 2)
    assert Job.objects.get(id=1).parents == [2]
    assert Job.objects.get(id=3).parents == [1, 2]
    a, b = (Job(name=n, workflow="w", application="echo") for n in "ab")
    a.parents, b.parents = [b], [a]  # type: ignore[list-item]
    with pytest.raises(CyclicDependency):
        Job.objects.bulk_create([a, b])
    assert Job.objects.count() == 3


FIELDS = {"workflow": "w", "application": "echo"}


# many at once -----------------------------------------------------------------------------


def test_bulk_create_streams_a_generator(site: Site) -> None:
    alive: list[int] = []  # how many were stored when each was asked for

    def source() -> Iterator[dict[str, Any]]:
        fields: dict[str, Any] = {**FIELDS, "data": {}}
        for i in range(25):
            alive.append(Job.objects.count())
            fields["name"], fields["data"]["i"] = f"n{i}", i
            if i:
                fields["parents"] = [-i]
            yield fields

    ids = Job.objects.bulk_create(source(), batch_size=10)
    assert ids == list(range(1, 26))
    assert sorted(set(alive)) == [0, 10, 20]
    assert [job.data["i"] for job in Job.objects.order_by("id")] == list(range(25))
    assert [job.parents for job in Job.objects.order_by("id")] == [[], *([i] for i in ids[:-1])]


def test_bulk_create_takes_objects_and_fills_in_their_ids(site: Site) -> None:
    jobs = [Job(name=f"n{i}", workflow="w", application="echo") for i in range(3)]
    assert Job.objects.bulk_create(jobs) == [1, 2, 3]
    jobs[1].data["x"] = 1
    jobs[1].save()
    assert Job.objects.get(job_id=jobs[1].job_id).data == {"x": 1}
    with pytest.raises(InvalidInput, match="stored already"):
        Job.objects.bulk_create(jobs)
    assert Job.objects.bulk_create([]) == []
    assert Job.objects.bulk_create(iter(())) == []


def test_an_error_in_a_later_batch_says_what_stayed(site: Site) -> None:
    source = ({**FIELDS, "name": "x" if i < 7 else "a/b"} for i in range(10))
    with pytest.raises(InvalidInput, match=r"'a/b'.*4 jobs of the batches before were stored"):
        Job.objects.bulk_create(source, batch_size=4)
    assert Job.objects.count() == 4
    with pytest.raises(InvalidInput, match=r"^job number 2: num_nodes takes int"):
        Job.objects.bulk_create([{**FIELDS, "name": "x"}, {**FIELDS, "num_nodes": "x"}])
    with pytest.raises(InvalidInput, match="batch size"):
        Job.objects.bulk_create([], batch_size=0)


def test_the_same_object_twice_is_refused(site: Site) -> None:
    job = Job(name="a", workflow="w", application="echo")
    with pytest.raises(InvalidInput, match="give a new Job"):
        Job.objects.bulk_create(job for _ in range(2))
    assert Job.objects.count() == 0


def test_update_many(site: Site) -> None:
    for i in range(4):
        new(f"n{i}", priority=i)
    assert Job.objects.filter(priority__gte=2).update(args="x", tags={"k": 1}, data=None) == 2
    assert names(Job.objects.filter(tags__k=1).order_by("name")) == ["n2", "n3"]
    assert Job.objects.filter(state="PREPROCESSED").update(state="USER_KILLED", args="y") == 4
    assert Job.objects.filter(args="y", state="USER_KILLED").count() == 4
    assert Job.objects.order_by("-priority")[:1].update(args="top") == 1
    assert Job.objects.get(args="top").name == "n3"
    assert Job.objects.filter(name="none").update(args="z") == 0
    with pytest.raises(InvalidResources):
        Job.objects.all().update(args="bad", num_nodes=0)
    with pytest.raises(InvalidInput, match="parents cannot be set"):
        Job.objects.all().update(parents=[1])
    with pytest.raises(IllegalMove):
        Job.objects.all().update(args="bad", state="RUNNING")
    assert not Job.objects.filter(args="bad").exists()


def test_update_with_a_message(site: Site) -> None:
    job = new()
    Job.objects.all().update(state="FAILED", message="by hand")
    assert job.events().last().message == "by hand"  # type: ignore[union-attr]


def test_kill_rerun_and_delete_many(site: Site) -> None:
    a = new("a")
    new("b", parents=[a])
    new("c")
    assert Job.objects.filter(name="a").kill(recursive=True) == 2
    assert Job.objects.filter(name="a").kill() == 0
    assert Job.objects.state_counts() == {State.PREPROCESSED: 1, State.USER_KILLED: 2}
    assert Job.objects.filter(state="USER_KILLED").rerun() == 2
    assert Job.objects.state_counts() == {State.AWAITING_PARENTS: 1, State.PREPROCESSED: 2}
    assert Job.objects.filter(name="c").delete() == 1
    for verb in ("delete", "kill", "rerun"):
        with pytest.raises(InvalidInput, match=rf"objects\.all\(\)\.{verb}"):
            getattr(Job.objects, verb)()
    assert Job.objects.all().delete() == 2
    assert not Job.objects.exists()
    assert not Event.objects.exists()


def test_get_or_create(site: Site) -> None:
    job, made = Job.objects.get_or_create(name="a", workflow="w", defaults={"application": "echo"})
    assert made
    assert Job.objects.get_or_create(name="a", defaults={"args": "x"}) == (job, False)
    new("a")
    with pytest.raises(Job.MultipleObjectsReturned):
        Job.objects.get_or_create(name="a")
    app, made = App.objects.get_or_create(name="cat", defaults={"executable": "cat"})
    assert made
    assert App.objects.get_or_create(name="cat", defaults={"executable": "x"}) == (app, False)


# choosing ---------------------------------------------------------------------------------


@pytest.fixture
def some(site: Site) -> list[Job]:
    """Five jobs: n0 to n4, alternately of workflows even and odd."""
    rewards = [0.1, 0.5, 0.9, None, "high"]
    jobs = [
        new(
            f"n{i}",
            workflow=("even", "odd")[i % 2],
            priority=i % 3,
            tags={"parity": ("even", "odd")[i % 2]},
            data={"reward": reward, "in": {"deep": [i]}, "flag": i == 2},
        )
        for i, reward in enumerate(rewards)
    ]
    jobs[4].kill()
    return jobs


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"state": "USER_KILLED"}, "4"),
        ({"state__in": {"USER_KILLED": 1, "FAILED": 2}.keys()}, "4"),
        ({"state__ne": "USER_KILLED"}, "0123"),
        ({"state_history__contains": "USER_KILLED"}, "4"),
        ({"name": "n1"}, "1"),
        ({"name__contains": "n"}, "01234"),
        ({"name__contains": "N"}, ""),
        ({"name__icontains": "N3"}, "3"),
        ({"name__iexact": "N3"}, "3"),
        ({"name__startswith": "n"}, "01234"),
        ({"name__istartswith": "N"}, "01234"),
        ({"name__endswith": "2"}, "2"),
        ({"name__in": ["n0", "n2", "x"]}, "02"),
        ({"name__in": []}, ""),
        ({"workflow__contains": "ve"}, "024"),
        ({"application__contains": "ech"}, "01234"),
        ({"priority__gt": 1}, "2"),
        ({"priority__gte": 1, "workflow": "odd"}, "1"),
        ({"priority__lt": 1}, "03"),
        ({"priority__lte": 0}, "03"),
        ({"exit_code__isnull": False}, ""),
        ({"exit_code": None}, "01234"),
        ({"tags__parity": "odd"}, "13"),
        ({"tags__has_key": "parity"}, "01234"),
        ({"tags__none": "x"}, ""),
        ({"data__reward__gte": 0.5}, "12"),
        ({"data__reward__lt": 1}, "012"),
        ({"data__reward": 0.5}, "1"),
        ({"data__reward": "high"}, "4"),
        ({"data__reward__isnull": True}, "3"),
        ({"data__reward__in": [0.1, "high"]}, "04"),
        ({"data__reward__contains": "ig"}, "4"),
        ({"data__flag": True}, "2"),
        ({"data__none__isnull": True}, "01234"),
        ({"data__in__has_key": "deep"}, "01234"),
        ({"id__in": [1, 5, 77]}, "04"),
        ({"id__gt": 3}, "34"),
        ({"pk": 2}, "1"),
    ],
)
def test_filter_and_exclude(some: list[Job], conditions: dict[str, Any], expected: str) -> None:
    chosen = Job.objects.filter(**conditions)
    assert "".join(job.name[1] for job in chosen) == expected
    assert chosen.count() == len(chosen) == len(expected)
    assert chosen.exists() is bool(chosen) is bool(expected)
    rest = Job.objects.exclude(**conditions)
    assert {job.name[1] for job in rest} == set("01234") - set(expected)


def test_filter_by_job_id(some: list[Job]) -> None:
    job = some[2]
    text, uuid = job.job_id, UUID(job.job_id)
    for conditions in (
        {"job_id": text},
        {"job_id": uuid},
        {"job_id": uuid.hex},
        {"job_id": text.upper()},
        {"pk": uuid},
        {"id": text},
        {"job_id__in": [uuid, str(uuid4()), "junk"]},
        {"job_id__in": Job.objects.filter(name="n2").values_list("job_id", flat=True)},
        {"job_id__in": Job.objects.filter(name="n2")},
        {"id__in": Job.objects.filter(name="n2").values_list("id")},
        {"job_id__startswith": text[:8]},
        {"job_id__startswith": text[:13]},
        {"job_id__istartswith": uuid.hex[:13].upper()},
        {"job_id__contains": text[4:20]},
        {"job_id__contains": uuid.hex[4:20]},
        {"job_id__icontains": text[:10].upper()},
        {"job_id__endswith": text[-12:]},
    ):
        assert names(Job.objects.filter(**conditions)) == ["n2"], conditions
        assert "n2" not in names(Job.objects.exclude(**conditions)), conditions
    for conditions in (
        {"job_id": uuid4()},
        {"job_id": "junk"},
        {"job_id__in": []},
        {"job_id__isnull": True},
        {"job_id__startswith": "xyz"},
        {"job_id__startswith": text[:8] + "0" * 8},
        {"job_id__startswith": text[:3] + "-"},
        {"job_id__contains": "zz"},
        {"parents": uuid4()},
    ):
        assert names(Job.objects.filter(**conditions)) == [], conditions
    assert len(Job.objects.filter(job_id__ne=uuid)) == 4
    assert len(Job.objects.filter(job_id__ne=uuid4())) == 5
    assert len(Job.objects.filter(job_id__startswith="")) == 5
    assert "n2" in names(Job.objects.filter(job_id__startswith=text[0]))
    assert all(j.job_id[:1] == text[0] for j in Job.objects.filter(job_id__startswith=text[0]))
    with pytest.raises(InvalidInput, match="takes no lookup 'gt'"):
        list(Job.objects.filter(job_id__gt="5"))


def test_query_sets_as_values(some: list[Job]) -> None:
    assert len(Job.objects.filter(application__in=App.objects.all())) == 5
    assert len(Job.objects.filter(application=App.objects.get())) == 5
    odd = Job.objects.filter(workflow="odd").values_list("name", flat=True)
    assert names(Job.objects.filter(name__in=odd)) == ["n1", "n3"]
    assert names(Job.objects.exclude(name__in=odd.values("name"))) == ["n0", "n2", "n4"]
    with pytest.raises(InvalidInput, match="one column, not 2"):
        Job.objects.filter(name__in=odd.values_list("name", "args"))


def test_exclude_needs_all_its_conditions(some: list[Job]) -> None:
    rest = Job.objects.exclude(workflow="even", priority=0)
    assert names(rest) == ["n1", "n2", "n3", "n4"]
    assert names(rest.exclude(workflow="odd")) == ["n2", "n4"]


def test_order(some: list[Job]) -> None:
    assert names(Job.objects.order_by("-priority", "name")) == ["n2", "n1", "n4", "n0", "n3"]
    turned = Job.objects.order_by("-priority", "name").reverse()
    assert names(turned) == ["n3", "n0", "n4", "n1", "n2"]
    assert names(Job.objects.order_by("-id")) == ["n4", "n3", "n2", "n1", "n0"]
    assert names(Job.objects.order_by("-id").order_by()) == ["n0", "n1", "n2", "n3", "n4"]
    with pytest.raises(UnknownField, match="'priority'"):
        Job.objects.order_by("priorty")


def test_slices_and_indexes(some: list[Job]) -> None:
    jobs = Job.objects.order_by("name")
    assert names(jobs[1:3]) == ["n1", "n2"]
    assert names(jobs[3:]) == ["n3", "n4"]
    assert names(jobs[:2]) == ["n0", "n1"]
    assert names(jobs[1:][1:3]) == ["n2", "n3"]
    assert names(jobs[:3][2:9]) == ["n2"]
    assert names(jobs[3:2]) == []
    assert names(jobs[::2]) == ["n0", "n2", "n4"]
    assert jobs[4].name == "n4"
    assert jobs[1:][1].name == "n2"
    assert (jobs[1:3].count(), jobs[4:9].count(), jobs[9:].count()) == (2, 1, 0)
    assert jobs[9:].exists() is False
    assert (jobs[1:3].first().name, jobs[1:3].last().name) == ("n1", "n2")  # type: ignore[union-attr]
    assert list(jobs[0:0]) == []
    with pytest.raises(IndexError):
        jobs[5]
    list(jobs)
    with pytest.raises(IndexError):
        jobs[5]
    assert names(jobs[1:3]) == ["n1", "n2"]
    for wrong in (lambda: jobs[-1], lambda: jobs[-2:], lambda: jobs[:-1]):
        with pytest.raises(InvalidInput, match="from the start"):
            wrong()
    for step in ("filter", "exclude", "order_by", "reverse"):
        with pytest.raises(InvalidInput, match="slice last"):
            getattr(jobs.all()[:2], step)()


def test_first_last_and_get(some: list[Job]) -> None:
    assert Job.objects.first() == some[0]
    assert Job.objects.last() == some[4]
    assert Job.objects.order_by("-name").last() == some[0]
    assert Job.objects.order_by("priority").last() == some[2]
    assert Job.objects.filter(name="x").first() is None
    assert Job.objects.filter(name="x").last() is None
    assert Job.objects.get(name="n3") == some[3]
    assert Job.objects.filter(workflow="odd").get(priority=0) == some[3]
    with pytest.raises(Job.DoesNotExist, match="no job with name='x'") as missing:
        Job.objects.get(name="x")
    assert isinstance(missing.value, NotFound)
    with pytest.raises(Job.MultipleObjectsReturned, match="filter further") as several:
        Job.objects.get(workflow="odd")
    assert isinstance(several.value, MultipleFound)


def test_values(some: list[Job]) -> None:
    jobs = Job.objects.order_by("name")
    assert jobs.values("name", "data__reward")[0] == {"name": "n0", "data__reward": 0.1}
    rewards = [0.1, 0.5, 0.9, None, "high"]
    assert list(jobs.values_list("data__reward", flat=True)) == rewards
    assert list(jobs.values_list("data__in__deep__0", "priority"))[:2] == [(0, 0), (1, 1)]
    assert list(jobs.values_list("job_id", flat=True)) == [job.job_id for job in some]
    assert list(jobs.values_list("workdir", flat=True)) == [job.workdir for job in some]
    assert jobs.values_list("data__none__deeper", flat=True)[0] is None
    assert jobs.values().first()["state"] == "PREPROCESSED"  # type: ignore[index]
    assert len(jobs.values_list()[0]) == len(Job.__struct_fields__)
    assert sorted(jobs.values_list("workflow", flat=True).distinct()) == ["even", "odd"]
    assert Job.objects.values("workflow").distinct().count() == 2
    assert list(jobs.values_list("workflow", flat=True).distinct()[:1]) == ["even"]
    assert jobs.distinct().count() == 5
    assert list(jobs.values_list("id", flat=True).iterator()) == [1, 2, 3, 4, 5]
    with pytest.raises(InvalidInput, match="takes one field"):
        jobs.values_list("id", "name", flat=True)
    with pytest.raises(UnknownField, match="no keys"):
        jobs.values("name__first")


def test_iterate_reads_page_by_page(some: list[Job]) -> None:
    assert names(Job.objects.iterate(page=2)) == ["n0", "n1", "n2", "n3", "n4"]
    assert names(Job.objects.filter(workflow="odd").iterator(chunk_size=1)) == ["n1", "n3"]
    assert names(Job.objects.order_by("-id").iterate(page=2))[0] == "n4"
    seen = []
    for job in Job.objects.iterate(page=1):
        seen.append(job.name)
        if len(seen) == 1:
            new("later")
    assert seen[-1] == "later"
    job.data["x"] = 1
    job.save()
    assert Job.objects.get(name="later").data == {"x": 1}


def test_query_sets_are_lazy_kept_and_immutable(some: list[Job]) -> None:
    chosen = Job.objects.filter(workflow="odd")
    narrower = chosen.filter(priority=0)
    assert (chosen.count(), narrower.count()) == (2, 1)
    job = next(iter(chosen))
    job.workflow = "even"
    job.save()
    assert len(chosen) == 2
    assert job in chosen
    assert len(chosen.all()) == 1


# apps, events, batch jobs -----------------------------------------------------------------


def test_apps(site: Site) -> None:
    app = App(name="cat", executable="cat", description=None)  # type: ignore[arg-type]
    app.save()
    assert app.pk == 2
    assert names(App.objects.all()) == ["echo", "cat"]
    stale = App.objects.get(name="cat")
    app.executable = "cat -n"
    app.save()
    stale.description = "numbers"
    stale.save(update_fields=["description"])
    app.refresh_from_db()
    assert (app.executable, app.description) == ("cat -n", "numbers")
    assert App.objects.filter(name="cat").update(preprocess="true", envscript=None) == 1
    assert App.objects.get(preprocess="true") == app
    assert App.objects.values_list("name", flat=True).last() == "cat"
    assert App.objects.filter(name__startswith="c").exists()
    with pytest.raises(AlreadyExists):
        App.objects.create(name="cat", executable="x")
    with pytest.raises(UnknownField, match="'executable'"):
        App.objects.create(name="x", exectable="x")
    with pytest.raises(UnknownField, match="'executable'"):
        app.exectable = "x"
    with pytest.raises(InvalidInput, match="takes a text"):
        App.objects.create(name="x", executable=5)
    with pytest.raises(InvalidInput, match="no executable"):
        App(name="x").save()
    app.delete()
    with pytest.raises(App.DoesNotExist):
        app.refresh_from_db()
    app.executable = "x"
    with pytest.raises(App.DoesNotExist):
        app.save()
    with pytest.raises(App.DoesNotExist, match="no app with name='cat'"):
        App.objects.get(name="cat")
    with pytest.raises(InvalidInput, match=r"objects\.all\(\)"):
        App.objects.delete()
    assert App.objects.all().delete() == 1


def test_events(site: Site) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    job, other = new("a"), new("b", workflow="v")
    job.kill()
    first, last = job.events()
    assert (first.from_state, first.to_state) == ("", "PREPROCESSED")
    assert (last.to_state, last.job, last.job_id) == ("USER_KILLED", job.id, job.job_id)
    assert before <= first.when <= last.when <= datetime.now(UTC) + timedelta(seconds=1)
    assert first.when.tzinfo is UTC
    assert Event.objects.filter(to_state="USER_KILLED").get() == last
    assert Event.objects.count() == 3
    assert Event.objects.order_by("-id").first() == last
    assert [e.job for e in Event.objects.filter(job_id=other.job_id)] == [other.id]
    assert [e.job for e in Event.objects.filter(job__in=Job.objects.filter(name="b"))] == [other.id]
    assert Event.objects.filter(workflow="v").count() == 1
    assert Event.objects.filter(time__gte=before).count() == 3
    assert Event.objects.filter(time__lt=before).count() == 0
    assert len(list(Event.objects.iterate(page=2))) == 3
    assert Event.objects.all()[1:].count() == 2
    assert Event.objects.values_list("to_state", flat=True).distinct().count() == 2
    assert not hasattr(Event.objects, "delete")
    with pytest.raises(Event.DoesNotExist):
        Event.objects.get(to_state="FAILED")
    assert job.attempts() == []


def test_batch_jobs(site: Site) -> None:
    assert list(BatchJob.objects.filter(queue="debug", num_nodes__gte=2)) == []
    assert BatchJob.objects.count() == 0
    with pytest.raises(BatchJob.DoesNotExist):
        BatchJob.objects.get(scheduler_id="7")


# retry rules --------------------------------------------------------------------------------


def test_retry_rules_are_texts_or_records(site: Site) -> None:
    job = new(retry=["exit=137: memory*2, max=3", "any: delay=5"])
    assert [str(rule) for rule in job.retry] == ["exit=137: max=3, memory*2", "any: max=1, delay=5"]
    assert Job.objects.get(id=job.id).retry == job.retry
    same = new("b", retry="exit=137: memory*2, max=3; any: delay=5")
    assert same.retry == new("c", retry=list(same.retry)).retry == job.retry
    loaded = Job.objects.get(id=job.id)
    loaded.retry.append("timeout: time*2")  # type: ignore[arg-type]
    loaded.save()
    assert len(Job.objects.get(id=job.id).retry) == 3
    Job.objects.filter(name="b").update(retry="any: never")
    assert [str(rule) for rule in Job.objects.get(name="b").retry] == ["any: never"]
    loaded.retry = []
    loaded.save()
    assert Job.objects.get(id=job.id).retry == []
    with pytest.raises(InvalidInput, match="retry rule 'sometimes'"):
        new("d", retry=["sometimes"])


def test_apps_have_retry_rules(site: Site) -> None:
    app = App.objects.create(name="sim", executable="sim", retry="exit=1: max=2")
    assert [str(rule) for rule in App.objects.get(name="sim").retry] == ["exit=1: max=2"]
    app.retry.append("any: never")  # type: ignore[arg-type]
    app.save()
    assert len(App.objects.get(name="sim").retry) == 2
    App.objects.filter(name="sim").update(retry=[])
    app.refresh_from_db()
    assert app.retry == []
    with pytest.raises(InvalidInput, match="retry rule 'exit=0'"):
        App.objects.create(name="bad", executable="x", retry="exit=0")


def test_jobs_and_apps_have_warning_signals(site: Site) -> None:
    job = new(signal="USR1@120")
    assert Job.objects.get(id=job.id).signal == "USR1@120"
    app = App.objects.create(name="sim", executable="sim", signal="10@5")
    app.signal = "none"
    app.save()
    assert App.objects.get(name="sim").signal == "none"
    assert Job.objects.filter(signal__startswith="USR1").update(signal="") == 1
    for refused in (
        lambda: new("b", signal="USR1@soon"),
        lambda: Job.objects.filter(id=job.id).update(signal="KILL"),
        lambda: App.objects.create(name="bad", executable="x", signal="@5"),
        lambda: App.objects.filter(name="sim").update(signal="USR9"),
    ):
        with pytest.raises(InvalidInput, match="an example: 'USR1@120'"):
            refused()
    assert Job.objects.get(id=job.id).signal == ""
    assert [app.signal for app in App.objects.all() if app.name == "sim"] == ["none"]
