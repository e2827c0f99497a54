"""Conditions as data: what they become, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest

from balsam.errors import InvalidInput, UnknownField
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import KINDS, LOOKUPS, Filter, Query, check_order, parse, plain
from balsam.model.states import STATES, State

UUID_TEXT = "7995e5d2-87b9-8d79-b346-3bf5be12d140"


def one(kind: str = "jobs", **conditions: object) -> Filter:
    (found,) = parse(conditions, kind)
    return found


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("state", "FAILED", Filter("state", (), "exact", "FAILED")),
        ("name__contains", "x", Filter("name", (), "contains", "x")),
        ("tags__k", "v", Filter("tags", ("k",), "exact", "v")),
        ("data__reward__gte", 0.5, Filter("data", ("reward",), "gte", 0.5)),
        ("data__a__b__c", 1, Filter("data", ("a", "b", "c"), "exact", 1)),
        ("data__has_key", "k", Filter("data", (), "has_key", "k")),
        ("data__in__in", [1, 2], Filter("data", ("in",), "in", [1, 2])),
        ("id__in", (1, 2), Filter("id", (), "in", [1, 2])),
        ("id__in", {5: "x"}.keys(), Filter("id", (), "in", [5])),
        ("pk", 3, Filter("id", (), "exact", 3)),
        ("exit_code__isnull", True, Filter("exit_code", (), "isnull", True)),
        ("exit_code", None, Filter("exit_code", (), "exact", None)),
        ("priority__lt", 1.5, Filter("priority", (), "lt", 1.5)),
        ("auto_timeout_retry", False, Filter("auto_timeout_retry", (), "exact", False)),
    ],
)
def test_condition(condition: str, value: object, expected: Filter) -> None:
    assert one(**{condition: value}) == expected


def test_every_field_of_every_kind_takes_isnull() -> None:
    for kind, fields in KINDS.items():
        for name in fields:
            assert one(kind, **{f"{name}__isnull": False}).field == name


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_known_as_text_and_as_member(state: State) -> None:
    assert one(state=str(state)).value == one(state=state).value == str(state)


@pytest.mark.parametrize(
    ("condition", "nearest"),
    [
        ({"nmae": "x"}, "'name'"),
        ({"environ_vars": "x"}, "'environ'"),
        ({"name__contians": "x"}, "'contains'"),
        ({"priority__key": 1}, "no lookup"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(
    condition: dict[str, object], nearest: str
) -> None:
    with pytest.raises(UnknownField, match=nearest):
        parse(condition)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"state": "failed"}, "no state 'failed'.*'FAILED'"),
        ({"state__in": ["FAILED", "BOGUS"]}, "no state 'BOGUS'"),
        ({"priority": "high"}, "priority takes a number"),
        ({"id": "17x"}, "id takes a number"),
        ({"num_nodes__gte": "2"}, "takes a number"),
        ({"exit_code__isnull": 1}, "takes True or False"),
        ({"auto_timeout_retry": "no"}, "takes True or False"),
        ({"state__in": "FAILED"}, "several values"),
        ({"id__in": 5}, "several values"),
        ({"id": [1, 2]}, "id__in"),
        ({"name": {"a": 1}}, "one value"),
        ({"name__contains": None}, "takes a text"),
        ({"updated_at__gte": datetime(2031, 1, 1)}, "no time zone"),
    ],
)
def test_wrong_value_is_refused(condition: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(condition)


def test_uuids_are_texts_and_stand_where_ids_do() -> None:
    assert one(job_id=UUID(UUID_TEXT)).value == UUID_TEXT
    assert one(job_id__in=[UUID(UUID_TEXT), "x"]).value == [UUID_TEXT, "x"]
    for field in ("id", "pk", "parents", "children"):
        assert one(**{field: UUID(UUID_TEXT)}).value == UUID_TEXT
    assert one("events", job=UUID_TEXT).value == UUID_TEXT
    with pytest.raises(InvalidInput, match="takes a number"):
        one(priority=UUID_TEXT)


def test_times_are_seconds_since_the_epoch() -> None:
    moment = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=-5)))
    assert one("events", time__gte=moment).value == moment.timestamp()
    assert one(created_at__lt=there).value == moment.timestamp()


def test_numbers_become_text_where_only_text_can_be() -> None:
    assert one(tags__run=5).value == "5"
    assert one(environ__OMP_NUM_THREADS__in=[1, 2]).value == ["1", "2"]
    assert one(name=7).value == "7"
    assert one(user_workdir=Path("/tmp/x")).value == "/tmp/x"
    assert one(data__run=5).value == 5
    assert one(name__contains=7).value == "7"


def test_records_stand_for_their_ids() -> None:
    assert plain(Job(id=4)) == 4
    assert plain(App(id=2, name="a")) == 2
    assert one(parents__in=[Job(id=4), 5]).value == [4, 5]


def test_where_adds_and_leaves_the_query_alone() -> None:
    query = Query().where(state="FAILED")
    further = query.where(name="x", priority__gt=1)
    assert len(query.filters) == 1
    assert [one.field for one in further.filters] == ["state", "name", "priority"]


def test_order() -> None:
    assert check_order(("-priority", "pk", "job_id"), "jobs") == ("-priority", "id", "id")
    with pytest.raises(UnknownField, match="'priority'"):
        check_order(("-priorty",), "jobs")
    with pytest.raises(UnknownField, match="cannot be ordered"):
        check_order(("parents",), "jobs")


def test_lookups_are_unique() -> None:
    assert len(set(LOOKUPS)) == len(LOOKUPS)
