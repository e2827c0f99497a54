"""What is checked before a database sees it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from balsam.client.checks import NewJobs, check_app, check_changes
from balsam.errors import CyclicDependency, InvalidInput, NotFound, UnknownField
from balsam.model.app import App
from balsam.model.graph import Kind
from balsam.model.job import EDITABLE, FIELDS, Job, directory_name


def new(**fields: Any) -> Job:
    return Job(**({"name": "x", "workflow": "w", "application": "a"} | fields))


GOOD_NAMES = ["x", "x.y", "-", "a b", "größe", "日本", "n" * 200, "é" * 100, "..."]
BAD_NAMES = [
    "",
    " ",
    "a/b",
    "/",
    "a\nb",
    "a\tb",
    "a\0b",
    "\x7f",
    ".",
    "..",
    " .. ",
    "😀",
    "a\udcff",
]
BAD_NAMES += ["n" * 201, "é" * 101, "a\u200bb", "a\u2028b"]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_are_taken(name: str) -> None:
    NewJobs([new(name=name)])
    assert len(directory_name(name, "01234567").encode()) <= 255


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_refused(name: str) -> None:
    """Also as one among many like it, where most checks are shared."""
    with pytest.raises(InvalidInput, match="name") as caught:
        NewJobs([new(name="ordinary"), new(name=name), new(name="ordinary")])
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput):
        check_changes(Job, {"name": name})


@pytest.mark.parametrize("workflow", ["w", "a/b", "a/b/c", "w-1.2", "a b"])
def test_workflows_that_are_taken(workflow: str) -> None:
    NewJobs([new(workflow=workflow)])


@pytest.mark.parametrize("workflow", ["", "/", "/abs", "a/", "a//b", "../x", "a/../b", ".", "a\nb"])
def test_workflows_that_would_leave_the_data_directory(workflow: str) -> None:
    with pytest.raises(InvalidInput, match="workflow"):
        NewJobs([new(workflow="fine"), new(workflow=workflow)])


BAD_FIELDS: list[tuple[str, Any]] = [
    ("num_nodes", 0),
    ("num_nodes", -3),
    ("ranks_per_node", 0),
    ("threads_per_rank", -1),
    ("threads_per_core", 0),
    ("cores_per_rank", -1),
    ("gpus_per_rank", -0.1),
    ("gpus_per_rank", math.nan),
    ("memory_mib", -1),
    ("node_packing_count", 0),
    ("wall_time_minutes", -1.0),
    ("wall_time_minutes", math.nan),
    ("wall_time_minutes", math.inf),
    ("max_retries", -1),
    ("max_retries", 2**63),
    ("priority", 2**31),
    ("priority", -(2**31) - 1),
    ("args", "'open"),
    ("args", "a\udcff"),
    ("args", "a\0b"),
    ("description", "a\udcff"),
    ("user_workdir", "/tmp/\udcff"),
    ("data", {"x": object()}),
    ("data", {"x": "\udcff"}),
    ("parameters", {"x": object()}),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_bad_field_is_named_with_its_job(field: str, value: Any) -> None:
    jobs = [new(name="good"), new(name="culprit", **{field: value}), new(name="good")]
    with pytest.raises(InvalidInput, match=field) as caught:
        NewJobs(jobs)
    assert "'culprit'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_bad_field_cannot_be_set_later(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=field):
        check_changes(Job, {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_nodes", "2"),
        ("num_nodes", 1.5),
        ("num_nodes", None),
        ("priority", "high"),
        ("post_error_handler", "False"),
        ("post_error_handler", 1),
        ("tags", {"k": 1}),
        ("tags", ["k"]),
        ("environ", "A=1"),
        ("environ", {"A": None}),
        ("parameters", [1]),
        ("name", 3),
    ],
)
def test_a_value_of_another_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{field} cannot be "):
        check_changes(Job, {field: value})


def test_changes_come_back_in_the_fields_types() -> None:
    changes: dict[str, Any] = {"wall_time_minutes": 5, "data": [1, {"x": None}], "tags": {"k": "v"}}
    checked = check_changes(Job, changes)
    assert checked == changes
    assert isinstance(checked["wall_time_minutes"], float)
    assert check_changes(Job, {}) == {}


@pytest.mark.parametrize("field", sorted(set(FIELDS) - set(EDITABLE)))
def test_fields_that_are_balsams_cannot_be_set(field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        check_changes(Job, {field: getattr(Job(), field)})


@pytest.mark.parametrize("field", ["parents", "parents_failed", "parents_any"])
def test_parents_are_changed_by_another_verb(field: str) -> None:
    with pytest.raises(InvalidInput, match="balsam dep"):
        check_changes(Job, {field: [1]})


def test_an_unknown_field_gives_the_nearest() -> None:
    with pytest.raises(UnknownField, match="Did you mean 'num_nodes'"):
        check_changes(Job, {"num_node": 1})
    with pytest.raises(UnknownField, match="Did you mean 'executable'"):
        check_changes(App, {"executble": "x"})


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": " "},
        {"name": "a\nb"},
        {"executable": ""},
        {"executable": "  "},
        {"executable": "'open"},
        {"preprocess": "'open"},
        {"postprocess": '"open'},
    ],
)
def test_an_app_that_could_never_run_is_refused_and_stays_so(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        check_app(App(**({"name": "x", "executable": "y"} | fields)))
    with pytest.raises(InvalidInput):
        check_changes(App, fields)


def test_an_app_keeps_its_id() -> None:
    with pytest.raises(InvalidInput, match="id"):
        check_changes(App, {"id": 3})


def test_edges_name_the_child_by_its_position() -> None:
    jobs = [new(), new(parents=[7, -1], parents_any=[9]), new(parents_failed=[-2])]
    checked = NewJobs(jobs)
    assert checked.edges == [
        (7, 1, Kind.OK),
        (-1, 1, Kind.OK),
        (9, 1, Kind.ANY),
        (-2, 2, Kind.FAIL),
    ]
    assert checked.outside_parents == {7, 9}


def test_a_circle_of_new_jobs_is_shown() -> None:
    jobs = [
        new(name="start"),
        new(name="one", parents=[-1, -4]),
        new(name="two", parents=[-2]),
        new(name="three", parents_any=[-3]),
    ]
    with pytest.raises(CyclicDependency) as caught:
        NewJobs(jobs)
    shown = str(caught.value).split(": ", 1)[1].split(" → ")
    assert shown[0] == shown[-1]
    assert set(shown) == {"'one'", "'two'", "'three'"}
    circle = ["'one'", "'two'", "'three'"] * 2
    at = circle.index(shown[0])
    assert shown[:3] == circle[at : at + 3]


def test_a_job_cannot_wait_for_itself() -> None:
    with pytest.raises(CyclicDependency, match="'x' → 'x'"):
        NewJobs([new(parents=[-1])])


@pytest.mark.parametrize("fields", [{"parents": [0]}, {"parents": [-3]}, {"parents_any": [-99]}])
def test_a_parent_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="is no job's id"):
        NewJobs([new(), new(**fields)])


@pytest.mark.parametrize("fields", [{"parents": [5, 5]}, {"parents": [5], "parents_any": [5]}])
def test_a_parent_is_given_once(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="parent 5 is given twice"):
        NewJobs([new(**fields)])


def test_an_unknown_app_gives_the_nearest() -> None:
    checked = NewJobs([new(application="ecoh")])
    with pytest.raises(NotFound, match=r"'ecoh'.*echo, sleep.*Did you mean 'echo'"):
        checked.check_apps([], lambda: ["echo", "sleep"])
    with pytest.raises(NotFound, match="there are none yet"):
        checked.check_apps([], list)
    checked.check_apps(["ecoh"], list)


def test_a_job_needs_an_app() -> None:
    with pytest.raises(InvalidInput, match="needs an application"):
        NewJobs([new(application="")]).check_apps([], list)


def test_a_list_of_alike_jobs_is_checked_to_its_end() -> None:
    jobs = [new(name=f"job{i}") for i in range(1000)]
    NewJobs(jobs)
    jobs[-1].num_nodes = -1
    with pytest.raises(InvalidInput, match="job999"):
        NewJobs(jobs)


@pytest.mark.parametrize("field", ["args", "mpi_flags", "input_files", "stage_out_files"])
def test_a_quotation_without_an_end_is_refused(field: str) -> None:
    job = Job(name="x", workflow="w", application="a")
    setattr(job, field, "a 'b")
    with pytest.raises(InvalidInput, match=field):
        NewJobs([job])
