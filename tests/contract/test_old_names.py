"""The names of Balsam 0.x on a real site: what scripts of 0.3 to 0.5 rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from balsam.api import Site
from balsam.core import models
from balsam.core.models import ApplicationDefinition, BalsamJob, ObjectDoesNotExist
from balsam.errors import CyclicDependency, IllegalMove
from balsam.launcher import dag
from balsam.model.wire import Outcome
from tests.contract.pilot import Clock, Pilot


@pytest.fixture
def used(site: Path) -> Iterator[Site]:
    """A new site on each database, in use, with the app `echo`."""
    used = Site.use(site)
    ApplicationDefinition(name="echo", executable="/bin/echo").save()
    yield used
    used.close()


def new(name: str = "a", **fields: Any) -> BalsamJob:
    job = BalsamJob(**{"name": name, "workflow": "w", "application": "echo", **fields})
    job.save()
    return job


def names(jobs: Any) -> list[str]:
    return sorted(job.name for job in jobs)


# jobs -------------------------------------------------------------------------------------


def test_a_job_is_known_before_it_is_saved(used: Site) -> None:
    job = BalsamJob(name="two words", workflow="a/b", application="echo")
    identity, directory = job.pk, job.working_directory
    assert isinstance(identity, UUID)
    assert identity == job.job_id
    assert directory == str(used.path / "data/a/b" / f"two_words_{identity.hex[:8]}")
    other = new("other")
    assert other.pk != identity
    job.save()
    assert (job.pk, job.working_directory) == (identity, directory)
    assert BalsamJob.objects.get(pk=identity) == job
    assert used.jobs.get(name="two words").workdir == directory


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"args": None, "mpi_flags": None}, {"args": "", "mpi_flags": ""}),
        ({"data": '{"a": 1}'}, {"data": '{"a": 1}'}),
        ({"data": None}, {"data": {}}),
        ({"wall_time_minutes": 58.25}, {"wall_time_minutes": 58.25}),
        ({}, {"wall_time_minutes": 1, "cpu_affinity": "none", "environ_vars": "", "data": {}}),
        ({"num_nodes": "2", "ranks_per_node": 4.0}, {"num_nodes": 2, "ranks_per_node": 4}),
        ({"user_workdir": Path("/tmp")}, {"user_workdir": "/tmp", "working_directory": "/tmp"}),
        ({"environ_vars": "A=1:B=2"}, {"environ_vars": "A=1:B=2"}),
        ({"environ_vars": "A:B=x"}, {"environ_vars": "A=:B=x"}),
        ({"workflow": "x/y"}, {"workflow": "x/y"}),
        ({"post_error_handler": 1}, {"post_error_handler": True}),
        ({"walltime_minutes": 7}, {"wall_time_minutes": 7, "walltime_minutes": 7}),
    ],
)
def test_values_are_taken_and_given_as_in_0x(
    used: Site, given: dict[str, Any], stored: dict[str, Any]
) -> None:
    job = new(**given)
    again = BalsamJob.objects.get(pk=job.pk)
    for name, value in stored.items():
        found = getattr(again, name)
        assert (found, type(found)) == (value, type(value)), name
        assert getattr(job, name) == value


def test_what_belongs_to_balsam_reads_as_in_0x(used: Site) -> None:
    job = new()
    assert (job.lock, job.queued_launch, job.coschedule_num_nodes) == ("", None, 0)
    assert job.parents == "[]"
    assert type(job.state) is str
    assert job.cute_id == f"[a | {job.pk.hex[:8]}]"
    first, second = job.state_history.strip().splitlines()
    assert first.rstrip().endswith(" CREATED]")
    assert second.rstrip().endswith(" PREPROCESSED]")
    job.lock = job.state_history = "mine"
    job.queued_launch = None
    job.process = object()
    job.save()
    assert BalsamJob.objects.get().lock == ""
    assert "state_history" in job.to_dict()
    assert BalsamJob.deserialize(job.serialize()).args == job.args


def test_fields_that_there_are_not(used: Site) -> None:
    with pytest.raises(TypeError, match="Did you mean 'num_nodes'"):
        BalsamJob(num_node=3)
    with pytest.raises(ValueError, match="num_node"):
        dag.add_job("a", "w", "echo", num_node=3)
    with pytest.raises(ApplicationDefinition.DoesNotExist):
        dag.add_job("a", "w", "no-such-app")
    assert not BalsamJob.objects.exists()


def test_saving_writes_what_was_changed_here_and_nothing_else(used: Site) -> None:
    mine, other = new(), BalsamJob.objects.get()
    other.data["y"] = 1
    other.save()
    mine.args, mine.description = "x", "not wanted"
    mine.save(update_fields=["args", "state_history"])
    assert BalsamJob.objects.get().data == {"y": 1}
    assert (BalsamJob.objects.get().args, BalsamJob.objects.get().description) == ("x", "")
    mine.refresh_from_db()
    assert mine.data == {"y": 1}


def test_a_stale_update_state_takes_neither_lock_nor_history(
    used: Site, client: Any, clock: Clock
) -> None:
    """Fault A1."""
    stale = new()
    clock.now = datetime.now().timestamp() + 5
    pilot = Pilot(client, clock)
    (leased,) = pilot.lease()
    pilot.start(leased)
    dag.kill(stale)
    again = BalsamJob.objects.get()
    assert again.lock == f"launcher:{pilot.id}"
    assert [line for line in again.state_history.split() if line.endswith("]")][-2:] == [
        "RUNNING]",
        "USER_KILLED]",
    ]


def test_states(used: Site) -> None:
    job = new()
    with pytest.raises(models.InvalidStateError, match="Did you mean 'FAILED'"):
        job.update_state("failed")
    with pytest.raises(IllegalMove):
        job.update_state("JOB_FINISHED")
    job.update_state("FAILED", "not wanted")
    assert job.state == "FAILED"
    assert job.get_recent_state_str().endswith("FAILED] not wanted")
    job.update_state("USER_KILLED")
    assert job.state == "FAILED"
    job.update_state("CREATED")
    assert job.state == "PREPROCESSED"
    dag.kill(job)
    job.update_state("CREATED")
    assert job.state == "PREPROCESSED"
    assert list(job.get_state_times()) == ["CREATED", "PREPROCESSED", "FAILED", "USER_KILLED"]


def test_many_states_at_once(used: Site) -> None:
    a, b, c = (new(name) for name in "abc")
    dag.kill(c)
    assert BalsamJob.batch_update_state([a.pk, str(c.pk)], "FAILED", "why") == 1
    assert BalsamJob.batch_update_state(BalsamJob.objects.all(), "FAILED") == 1
    assert BalsamJob.objects.filter(state="FAILED").count() == 2
    BalsamJob.objects.filter(name="b").update(state="CREATED", num_nodes=2)
    b.refresh_from_db()
    assert (b.state, b.num_nodes) == ("PREPROCESSED", 2)
    assert BalsamJob.objects.get(pk=c.pk).state == "USER_KILLED"


def test_files_in_the_working_directory(used: Site) -> None:
    job = new()
    with pytest.raises(ValueError, match=r"no\.dat"):
        job.read_file_in_workdir("no.dat")
    Path(job.working_directory).mkdir(parents=True)
    Path(job.working_directory, "a.out").write_text("text")
    assert job.read_file_in_workdir(f"{job.name}.out") == "text"


# query sets -------------------------------------------------------------------------------


def test_lookups(used: Site) -> None:
    jobs = {name: new(name, data={"r": i}) for i, name in enumerate(("ab", "Bc", "cd"))}
    objects = BalsamJob.objects

    def found(**conditions: Any) -> list[str]:
        return names(objects.filter(**conditions))

    ab, bc, cd = jobs.values()
    assert found(pk=ab.pk) == found(job_id=str(ab.pk)) == found(job_id=ab.pk.hex) == ["ab"]
    assert found(job_id=str(uuid4())) == found(pk=uuid4()) == []
    assert found(job_id__in={"x": ab.pk, "y": cd.pk}.values()) == ["ab", "cd"]
    assert found(job_id__in={str(ab.pk)}) == ["ab"]
    assert found(pk__in=objects.filter(name="cd")) == ["cd"]
    assert found(pk__in=objects.filter(name="cd").values_list("job_id", flat=True)) == ["cd"]
    assert found(job_id__contains=str(bc.pk)[:8]) == ["Bc"]
    assert found(name__contains="b") == ["ab"]
    assert found(name__icontains="b") == ["Bc", "ab"]
    assert found(workflow__contains="w", application__contains="ech") == ["Bc", "ab", "cd"]
    assert found(data__r=1) == ["Bc"]
    assert found(data__r__lte=1) == ["Bc", "ab"]
    assert found(data__has_key="r", state__in=["PREPROCESSED"]) == ["Bc", "ab", "cd"]
    assert found(state_history__contains="PREPROCESSED") == ["Bc", "ab", "cd"]
    assert found(lock="", queued_launch=None) == ["Bc", "ab", "cd"]
    assert found(tick__lte=datetime.now()) == ["Bc", "ab", "cd"]
    assert names(objects.exclude(name__contains="b").exclude(pk=cd.pk)) == ["Bc"]


def test_columns(used: Site) -> None:
    job = new(data={"reward": 0.5}, environ_vars="A=1", wall_time_minutes=3)
    child = new("child", parents=json.dumps([str(job.pk)]))
    rows = BalsamJob.objects.order_by("job_id")
    assert list(rows.values_list("data__reward", flat=True)) == [0.5, None]
    assert rows.values_list("job_id", "state", "environ_vars")[0] == (
        job.pk,
        "PREPROCESSED",
        "A=1",
    )
    assert list(rows.values("pk", "parents")) == [
        {"pk": job.pk, "parents": "[]"},
        {"pk": child.pk, "parents": f'["{job.pk}"]'},
    ]
    assert list(rows.values_list("workflow", flat=True).distinct()) == ["w"]
    assert list(rows.values_list("wall_time_minutes", flat=True)) == [3, 1]
    assert rows.values_list("state_history", flat=True)[0] == job.state_history
    assert set(rows.values()[0]) >= {"job_id", "environ_vars", "data", "lock"}


def test_rows(used: Site) -> None:
    objects = BalsamJob.objects
    assert not objects.exists()
    assert objects.first() is None
    job, made = objects.get_or_create(name="x", workflow="w", defaults={"application": "echo"})
    assert made
    assert objects.get_or_create(name="x", workflow="w") == (job, False)
    made_here = objects.create(name="y", workflow="w", application="echo", args="1 2")
    given = [BalsamJob(name=n, workflow="w", application="echo") for n in "pq"]
    given[1].set_parents([given[0]])
    assert objects.bulk_create(given) == given
    assert given[1].get_parents().get() == given[0]
    assert len(objects.all()) == objects.count() == 4
    assert names(objects.order_by("-name")[1:3]) == ["q", "x"]
    assert objects.order_by("-name")[0] == made_here
    assert str(objects.order_by("name").values_list("name", flat=True)[:2]) == (
        "<QuerySet ['p', 'q']>"
    )
    columns = objects.order_by("name").values_list("num_nodes", flat=True)
    assert repr(columns) == "<QuerySet [1, 1, 1, 1]>"
    assert names(objects.iterator()) == ["p", "q", "x", "y"]
    assert objects.filter(name__in="pq").update(num_nodes=3) == 2
    assert objects.filter(num_nodes=3).delete() == (2, {"core.BalsamJob": 2})
    assert names(objects.all()) == ["x", "y"]
    assert names(BalsamJob.source.by_states("PREPROCESSED")) == ["x", "y"]
    assert BalsamJob.source.get_runnable(max_nodes=1, serial_only=True).count() == 2
    job.delete()
    for what in (BalsamJob.DoesNotExist, ObjectDoesNotExist, models.ObjectDoesNotExist):
        with pytest.raises(what):
            objects.get(pk=job.pk)
        with pytest.raises(what):
            job.refresh_from_db()
    with pytest.raises(ObjectDoesNotExist):
        ApplicationDefinition.objects.get(name="none")


def test_applications(used: Site) -> None:
    app, made = ApplicationDefinition.objects.get_or_create(name="py", executable="python3")
    app.save()
    assert made
    assert hasattr(app, "envscript")
    app.postprocess, app.description = "/bin/true", None
    app.save()
    again = ApplicationDefinition.objects.get(name="py")
    assert (again.pk, again.postprocess, again.description) == (app.pk, "/bin/true", "")
    job = new(application=app, args="-c 'a  b'")
    assert (job.application, job.postprocess, job.preprocess) == ("py", "/bin/true", "")
    assert job.app_cmd == "python3 -c a  b"
    assert dag.add_app("py", "python3 -u").pk == app.pk
    assert sorted(app.name for app in dag.get_apps()) == ["echo", "py"]
    with pytest.raises(RuntimeError):
        ApplicationDefinition(name="py", executable="x").save()
    with pytest.raises(TypeError):
        ApplicationDefinition(nme="x")


# dependencies -----------------------------------------------------------------------------


def test_what_add_dependency_takes(used: Site) -> None:
    a, b, c, d = (new(name) for name in "abcd")
    dag.add_dependency(a, b)
    dag.add_dependency(str(a.pk), c.pk)
    dag.add_dependency(BalsamJob.objects.filter(name="b"), BalsamJob.objects.filter(name="c"))
    assert b.parents == json.dumps([str(a.pk)])
    assert b.state == "AWAITING_PARENTS"
    c.refresh_from_db()
    assert sorted(c.get_parents_by_id()) == sorted([str(a.pk), str(b.pk)])
    assert names(a.get_children()) == ["b", "c"]
    assert a.get_child_by_name("b") == b
    with pytest.raises(ValueError, match="no child named 'd'"):
        a.get_child_by_name("d")
    with pytest.raises(ValueError, match="'01' is no job id"):
        dag.add_dependency("01", d)
    with pytest.raises(AssertionError):
        dag.add_dependency(BalsamJob.objects.all(), d)
    with pytest.raises(AssertionError):
        dag.add_dependency(d, BalsamJob.objects.none())
    with pytest.raises(RuntimeError, match="already depends"):
        dag.add_dependency(a, b)
    with pytest.raises(RuntimeError) as cycle:
        dag.add_dependency(c, a)
    assert isinstance(cycle.value, CyclicDependency)
    with pytest.raises(ObjectDoesNotExist):
        dag.add_dependency(uuid4(), d)
    assert not dag.detect_circular(c)


def test_parents_are_replaced_as_a_whole(used: Site) -> None:
    a, b = new("a"), new("b")
    child = new("child", parents=json.dumps([str(a.pk)]))
    assert (child.get_parents_by_id(), child.state) == ([str(a.pk)], "AWAITING_PARENTS")
    child.set_parents([b])
    assert BalsamJob.objects.get(name="child").get_parents_by_id() == [str(b.pk)]
    child.set_parents([])
    assert (child.parents, child.state) == ("[]", "PREPROCESSED")
    with pytest.raises(models.InvalidParentsError):
        child.set_parents(["01"])
    child.parents = json.dumps([str(a.pk)])
    child.save()
    assert BalsamJob.objects.get(name="child").get_parents().get() == a


def test_a_parent_that_is_not_waited_for(used: Site) -> None:
    parent = new("parent")
    child = new("child", parents=json.dumps([str(parent.pk)]), wait_for_parents=False)
    again = BalsamJob.objects.get(name="child")
    for job in (child, again):
        assert (job.state, job.wait_for_parents) == ("PREPROCESSED", False)
        assert job.get_parents().get() == parent


def test_a_workflow_is_copied(used: Site) -> None:
    a, b, outer = new("a", workflow="old"), new("b", workflow="old"), new("outer")
    dag.add_dependency(a, b)
    dag.add_dependency(outer, b)
    copies = dag.wf_from_template("old", "new", a={"args": "changed"})
    assert names(copies) == ["a", "b"]
    one, two = copies.order_by("name")
    assert (one.args, one.workflow) == ("changed", "new")
    assert {*two.get_parents_by_id()} == {str(one.pk), str(outer.pk)}
    for source, target in (("none", "x"), ("old", "new")):
        with pytest.raises(ValueError, match=r"'(none|new)'"):
            dag.wf_from_template(source, target)


def test_killing(used: Site) -> None:
    a, b, c = (new(name) for name in "abc")
    dag.add_dependency(a, b)
    dag.kill(a, recursive=False)
    assert a.state == "USER_KILLED"
    assert BalsamJob.objects.get(name="b").state == "FAILED"
    dag.kill(a)
    dag.kill(str(c.pk))
    assert BalsamJob.objects.get(name="c").state == "USER_KILLED"


# inside a job -----------------------------------------------------------------------------


def test_the_current_job_follows_the_environment(
    used: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault B4: what is not set is no None, and numbers are numbers."""
    assert (dag.current_job, dag.parents, dag.children) == (None, None, None)
    assert (dag.JOB_ID, dag.TIMEOUT, dag.ERROR, dag.LAUNCHER_NODES) == ("", False, False, 1)
    with pytest.raises(RuntimeError, match="BALSAM_JOB_ID"):
        dag.spawn_child(name="x")
    a, b = new("a", data={"x": 1}), new("b")
    dag.add_dependency(a, b)
    monkeypatch.setenv("BALSAM_JOB_ID", str(a.pk))
    monkeypatch.setenv("BALSAM_LAUNCHER_NODES", "12")
    monkeypatch.setenv("BALSAM_JOB_ERROR", "TRUE")
    assert (a.pk, True, False, 12) == (dag.JOB_ID, dag.ERROR, dag.TIMEOUT, dag.LAUNCHER_NODES)
    assert names(dag.children) == ["b"]
    dag.current_job.data["x"] = 2
    dag.current_job.save()
    assert BalsamJob.objects.get(pk=a.pk).data == {"x": 2}
    monkeypatch.setenv("BALSAM_JOB_ID", str(b.pk))
    assert dag.current_job == b
    assert names(dag.parents) == ["a"]
    monkeypatch.setenv("BALSAM_JOB_ID", str(uuid4()))
    with pytest.raises(RuntimeError, match="there is no such job"):
        dag.current_job  # noqa: B018


def test_children_of_the_current_job(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documented in 0.x: clone, walltime_minutes, create_job, ValueError for unknown fields."""
    parent, job = new("parent"), new("job", args="old", environ_vars="A=1", user_workdir="/tmp")
    dag.add_dependency(parent, job)
    monkeypatch.setenv("BALSAM_JOB_ID", str(job.pk))
    child = dag.spawn_child(
        clone=True, name="child", walltime_minutes=dag.current_job.walltime_minutes + 10
    )
    assert (child.args, child.environ_vars, child.user_workdir) == ("old", "A=1", "")
    assert child.wall_time_minutes == 11
    assert {*child.get_parents_by_id()} == {str(parent.pk), str(job.pk)}
    assert child.state == "AWAITING_PARENTS"
    free = dag.spawn_child(clone=False, name="free", application="echo", wait_for_parents=False)
    assert (free.workflow, free.args, free.state) == ("w", "", "PREPROCESSED")
    with pytest.raises(ValueError, match="no field 'clon'"):
        dag.spawn_child(clon=True)
    assert dag.create_job("x", "w", "echo", save=False).args == ""
    assert BalsamJob.objects.filter(name="x").count() == 0


def test_an_added_job_waits_a_moment_for_its_parents(used: Site, client: Any, clock: Clock) -> None:
    """Scripts add a job, then its dependencies, while a launcher runs."""
    pilot = Pilot(client, clock)
    job = new()
    clock.now = datetime.now().timestamp()
    assert pilot.lease() == []
    clock.now += 2
    assert [leased.name for leased in pilot.lease()] == [job.name]


# reports ----------------------------------------------------------------------------------


def test_reports(used: Site, client: Any, clock: Clock) -> None:
    clock.now = datetime.now().timestamp()
    a, b, _ = new("a"), new("b"), new("other", workflow="x")
    pilot = Pilot(client, clock)
    clock.now += 5
    leased = {job.name: job for job in pilot.lease()}
    pilot.run(leased["a"])
    clock.now += 70
    pilot.run(leased["b"], outcome=Outcome.ERROR)
    times = models.process_job_times(BalsamJob.objects.filter(workflow="w"))
    assert {state: len(found) for state, found in times.items()} == {
        "CREATED": 2,
        "PREPROCESSED": 2,
        "RUNNING": 2,
        "RUN_DONE": 1,
        "JOB_FINISHED": 1,
        "RUN_ERROR": 1,
        "FAILED": 1,
    }
    assert times["NOT_THERE"] == []
    assert models.utilization_report(times)[1][-1] == 0
    assert models.throughput_report(times)[1] == [1]
    bounds, counts = models.error_report(times)
    assert (len(bounds), counts) == (2, [1])
    assert models.error_report({}) is None
    waiting = models.job_waiting_report()
    assert waiting[1][-1] == 1
    assert len(models.process_job_times()["CREATED"]) == 3
    assert a.runtime_seconds == 0
    assert b.runtime_seconds is None


# the site ---------------------------------------------------------------------------------


def test_sites(used: Site, capsys: pytest.CaptureFixture[str]) -> None:
    from balsam import config
    from balsam.django_config.db_index import refresh_db_index
    from balsam.scripts.postgres_control import start_main

    config.remember_site(used.path)
    assert dag.get_database_paths() == refresh_db_index() == [str(used.path)]
    assert dag.get_active_database() == str(used.path)
    assert str(used.path) in capsys.readouterr().out
    start_main(str(used.path))
