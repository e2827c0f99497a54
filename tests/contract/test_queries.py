"""Selections: each lookup on columns and on JSON, exclusions, order, slices, pages."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.errors import InvalidInput
from balsam.model.query import ALL, Filter, Query, parse
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.contract.pilot import Clock, Pilot, add


def names(client: LocalClient, query: Query) -> str:
    return "".join(job.name for job in client.jobs(query))


def chosen(client: LocalClient, **conditions: Any) -> str:
    """The names of the jobs that meet *conditions*, whoever counts them."""
    query = ALL.where(**conditions)
    found = names(client, query)
    assert client.count_jobs(query) == len(found)
    assert sum(client.state_counts(query).values()) == len(found)
    assert "".join(job.name for job in client.iterate_jobs(query, page=2)) == found
    return found


def rest(client: LocalClient, **conditions: Any) -> str:
    """The names of the jobs that are left when *conditions* are excluded."""
    return names(client, Query(excludes=(parse(conditions),)))


# columns ----------------------------------------------------------------------------


@pytest.fixture
def letters(client: LocalClient, pilot: Pilot) -> LocalClient:
    """Jobs a to e with priorities -1 to 3; a ended with exit code 0, b with 1."""
    for priority, name in enumerate("abcde", -1):
        add(client, name, priority=priority, description=f"is {name.upper()}%_", workflow=name * 2)
    (a,) = pilot.lease(1, workflow_filter="aa")
    pilot.run(a)
    (b,) = pilot.lease(1, workflow_filter="bb")
    moves = pilot.path(b, State.RUNNING, State.RUN_ERROR, State.FAILED)
    attempt = pilot.attempt(b, Outcome.ERROR)
    pilot.report(moves=moves, attempts=[attempt])
    return client


COLUMNS: list[tuple[dict[str, Any], str]] = [
    ({"name": "a"}, "a"),
    ({"name": "A"}, ""),
    ({"name__iexact": "A"}, "a"),
    ({"name__ne": "a"}, "bcde"),
    ({"name__in": ["a", "c", "z"]}, "ac"),
    ({"name__in": []}, ""),
    ({"id__in": [1, 3]}, "ac"),
    ({"id__in": []}, ""),
    ({"id__in": list(range(3, 100_000))}, "cde"),
    ({"priority": 0}, "b"),
    ({"priority__in": [0, 1]}, "bc"),
    ({"priority__gt": 1}, "de"),
    ({"priority__gte": 1}, "cde"),
    ({"priority__lt": 1}, "ab"),
    ({"priority__lte": 1}, "abc"),
    ({"priority__gt": 0.5}, "cde"),
    ({"description__contains": "is"}, "abcde"),
    ({"description__contains": "IS"}, ""),
    ({"description__icontains": "IS"}, "abcde"),
    ({"description__contains": "A%_"}, "a"),
    ({"description__icontains": "a%_"}, "a"),
    ({"description__contains": "%A"}, ""),
    ({"description__icontains": "s__"}, ""),
    ({"description__startswith": "is"}, "abcde"),
    ({"description__startswith": "IS"}, ""),
    ({"description__istartswith": "IS B"}, "b"),
    ({"description__startswith": "%"}, ""),
    ({"description__endswith": "B%_"}, "b"),
    ({"description__endswith": "longer than all of them"}, ""),
    ({"description__endswith": ""}, "abcde"),
    ({"exit_code": 0}, "a"),
    ({"exit_code": None}, "cde"),
    ({"exit_code__isnull": True}, "cde"),
    ({"exit_code__isnull": False}, "ab"),
    ({"exit_code__ne": 0}, "bcde"),
    ({"exit_code__ne": None}, "ab"),
    ({"exit_code__gte": 0}, "ab"),
    ({"state": "FAILED"}, "b"),
    ({"state__in": ["FAILED", "JOB_FINISHED"]}, "ab"),
    ({"state__ne": State.PREPROCESSED}, "ab"),
    ({"auto_timeout_retry": True}, "abcde"),
    ({"post_error_handler": True}, ""),
    ({"workflow__contains": "cc", "priority": 1}, "c"),
    ({"workflow__contains": "cc", "priority": 2}, ""),
    ({"state_history__contains": "RUN_ERROR"}, "b"),
    ({"id": 2**62}, ""),
]


@pytest.mark.parametrize(("conditions", "expected"), COLUMNS)
def test_columns(letters: LocalClient, conditions: dict[str, Any], expected: str) -> None:
    assert chosen(letters, **conditions) == expected
    assert rest(letters, **conditions) == "".join(x for x in "abcde" if x not in expected)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30, [1, 10**30]])
def test_numbers_that_no_column_holds_are_refused(client: LocalClient, value: Any) -> None:
    for condition in ("id", "priority", "data__x"):
        lookup = "__in" if isinstance(value, list) else ""
        with pytest.raises(InvalidInput, match=condition.split("__")[0]):
            client.jobs(ALL.where(**{condition + lookup: value}))


# JSON -------------------------------------------------------------------------------

DATA: dict[str, Any] = {
    "a": {"x": 1, "deep": {"er": [10, {"y": "z"}]}, "s": "text"},
    "b": {"x": 1.5, "s": "Text"},
    "c": {"x": "1", "s": ""},
    "d": {"x": True},
    "e": {"x": False},
    "f": {"x": None},
    "g": {"x": [1, 2]},
    "h": {"x": {"y": 1}},
    "i": {},
    "j": [5, "six"],
    "k": {"x": 0, "odd key.": 7, 'quo"te': 8, "2024": {"n": 9}},
    "l": None,
}


@pytest.fixture
def json(client: LocalClient) -> LocalClient:
    for name, data in DATA.items():
        add(client, name, data=data)
    return client


JSON: list[tuple[dict[str, Any], str]] = [
    ({"data__x": 1}, "a"),
    ({"data__x": 1.0}, "a"),
    ({"data__x": "1"}, "c"),
    ({"data__x": True}, "d"),
    ({"data__x": False}, "e"),
    ({"data__x": None}, "f"),
    ({"data__x": 0}, "k"),
    ({"data__x": 1.5}, "b"),
    ({"data__x": ""}, ""),
    ({"data__s": ""}, "c"),
    ({"data__x__gt": 0}, "ab"),
    ({"data__x__gte": 1.5}, "b"),
    ({"data__x__lt": 1.5}, "ak"),
    ({"data__x__lte": 1.5}, "abk"),
    ({"data__x__gt": "0"}, "c"),
    ({"data__x__in": [1, "1"]}, "ac"),
    ({"data__x__in": [True, None]}, "df"),
    ({"data__x__in": []}, ""),
    ({"data__x__ne": 1}, "bcdefghijkl"),
    ({"data__x__isnull": True}, "fijl"),
    ({"data__x__isnull": False}, "abcdeghk"),
    ({"data__has_key": "x"}, "abcdefghk"),
    ({"data__has_key": "odd key."}, "k"),
    ({"data__has_key": "2024"}, "k"),
    ({"data__deep__has_key": "er"}, "a"),
    ({"data__x__has_key": "y"}, "h"),
    ({"data__x__y": 1}, "h"),
    ({"data__deep__er__0": 10}, "a"),
    ({"data__deep__er__1__y": "z"}, "a"),
    ({"data__x__0": 1}, "g"),
    ({"data__0": 5}, "j"),
    ({"data__1": "six"}, "j"),
    ({"data__2024__n": 9}, "k"),
    ({"data__s": "text"}, "a"),
    ({"data__s__iexact": "TEXT"}, "ab"),
    ({"data__s__contains": "ex"}, "ab"),
    ({"data__s__contains": "EX"}, ""),
    ({"data__s__icontains": "EX"}, "ab"),
    ({"data__s__startswith": "te"}, "a"),
    ({"data__s__istartswith": "te"}, "ab"),
    ({"data__s__endswith": "xt"}, "ab"),
    ({"data__s__contains": "1"}, ""),
    ({"data__x__contains": "1"}, "c"),
    ({"data": {}}, "i"),
    ({"data": None}, "l"),
    ({"data": [5, "six"]}, "j"),
    ({"data__ne": {}}, "abcdefghjkl"),
    ({"data__isnull": True}, "l"),
    ({"data__in": [{}, None]}, "il"),
    ({"data__contains": "six"}, "j"),
]


@pytest.mark.parametrize(("conditions", "expected"), JSON)
def test_json(json: LocalClient, conditions: dict[str, Any], expected: str) -> None:
    """Numbers, texts and booleans never match each other by accident."""
    assert chosen(json, **conditions) == expected
    assert rest(json, **conditions) == "".join(x for x in DATA if x not in expected)


def test_keys_with_odd_characters(json: LocalClient) -> None:
    odd = Filter("data", ("odd key.",), "exact", 7)
    assert names(json, Query(filters=(odd,))) == "k"
    for key in ('quo"te', "back\\slash"):
        with pytest.raises(InvalidInput, match="cannot look for the key"):
            json.jobs(Query(filters=(Filter("data", (key,), "exact", 8),)))


@pytest.mark.parametrize("key", ["k", "1", "with space", "a.b", "$", "*", "[0]", "#", "é"])
@pytest.mark.parametrize("field", ["tags", "environ", "parameters"])
def test_every_key_of_a_tag_is_found(client: LocalClient, field: str, key: str) -> None:
    add(client, "a", **{field: {key: "v"}})
    add(client, "b", **{field: {"other": "v"}})
    assert names(client, Query(filters=(Filter(field, (key,), "exact", "v"),))) == "a"
    assert names(client, Query(filters=(Filter(field, (), "has_key", key),))) == "a"


def test_a_lookup_that_makes_no_sense_on_the_whole(client: LocalClient) -> None:
    with pytest.raises(InvalidInput, match="data"):
        client.jobs(ALL.where(data__gt=3))


# excluding, order, slices -----------------------------------------------------------


def test_each_group_is_excluded_as_a_whole(letters: LocalClient) -> None:
    both = parse({"priority__gte": 0, "state": "PREPROCESSED"})
    assert names(letters, Query(excludes=(both,))) == "ab"
    each = (parse({"priority": 0}), parse({"exit_code": 0}))
    assert names(letters, Query(excludes=each)) == "cde"


def test_what_is_not_known_to_match_is_not_excluded(letters: LocalClient) -> None:
    assert rest(letters, exit_code__gt=0) == "acde"
    assert rest(letters, data__x=1) == "abcde"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((), "abcde"),
        (("id",), "abcde"),
        (("-id",), "edcba"),
        (("-priority",), "edcba"),
        (("state",), "bacde"),
        (("state", "-priority"), "baedc"),
        (("-state", "name"), "cdeab"),
    ],
)
def test_order(letters: LocalClient, order: tuple[str, ...], expected: str) -> None:
    """What is equal comes by id."""
    assert names(letters, Query(order=order)) == expected


@pytest.mark.parametrize("offset", [0, 1, 4, 9])
@pytest.mark.parametrize("limit", [None, 0, 1, 3, 9])
def test_slices(letters: LocalClient, offset: int, limit: int | None) -> None:
    expected = "edcba"[offset:][:limit]
    query = Query(order=("-name",), offset=offset, limit=limit)
    assert names(letters, query) == expected
    assert letters.count_jobs(query) == len(expected)
    assert letters.update_jobs(query, {"description": "hit"}) == len(expected)
    hit = names(letters, ALL.where(description="hit"))
    assert hit == expected[::-1]


# pages ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 5, 7, 100])
@pytest.mark.parametrize("limit", [None, 0, 3, 7, 100])
def test_pages(client: LocalClient, page: int, limit: int | None) -> None:
    ids = add(client, *(f"j{i}" for i in range(7)))
    found = [job.id for job in client.iterate_jobs(Query(limit=limit), ["name"], page)]
    assert found == ids[:limit]


def test_pages_hold_no_transaction(client: LocalClient) -> None:
    """Jobs that are made and removed meanwhile neither disturb nor repeat others."""
    ids = add(client, *(f"j{i}" for i in range(6)))
    seen = []
    for job in client.iterate_jobs(ALL, ["name"], page=2):
        seen.append(job.id)
        if job.id == ids[1]:
            client.delete_jobs(ALL.where(id__in=[ids[0], ids[4]]))
            new = add(client, "new")
    assert seen == [ids[0], ids[1], ids[2], ids[3], ids[5], *new]


@pytest.mark.parametrize("query", [Query(order=("-id",)), Query(offset=1), Query(order=("name",))])
def test_pages_come_by_id(client: LocalClient, query: Query) -> None:
    with pytest.raises(InvalidInput, match="order of id"):
        list(client.iterate_jobs(query))


# relations and history --------------------------------------------------------------


def test_parents_and_children(client: LocalClient) -> None:
    (top,) = add(client, "t")
    left, right = add(client, "l", "r", parents=[top])
    (bottom,) = add(client, "b", parents=[left], parents_any=[right])
    assert chosen(client, parents=top) == "lr"
    assert chosen(client, parents=left) == "b"
    assert chosen(client, parents__in=[top, right]) == "lrb"
    assert chosen(client, parents=bottom) == ""
    assert chosen(client, children=bottom) == "lr"
    assert chosen(client, children__in=[bottom, left]) == "tlr"
    assert chosen(client, children=top) == ""
    assert rest(client, parents=top) == "tb"
    with pytest.raises(InvalidInput, match="parents takes no lookup 'gt'"):
        client.jobs(ALL.where(parents__gt=1))


def test_events(client: LocalClient, clock: Clock) -> None:
    first, second = add(client, "a", workflow="one/x") + add(client, "b", workflow="two")
    clock.now += 10
    client.kill_jobs(ALL.where(id=second))

    def events(
        order: tuple[str, ...] = (), limit: int | None = None, **conditions: Any
    ) -> list[tuple[int, str]]:
        query = Query(filters=parse(conditions, "events"), order=order, limit=limit)
        return [(event.job, event.to_state) for event in client.events(query)]

    made = [(first, "PREPROCESSED"), (second, "PREPROCESSED")]
    killed = (second, "USER_KILLED")
    assert events() == [*made, killed]
    assert events(workflow="one/x") == made[:1]
    assert events(workflow__contains="two") == [made[1], killed]
    assert events(job=second) == [made[1], killed]
    assert events(job__in=[first]) == made[:1]
    assert events(to_state="USER_KILLED") == [killed]
    assert events(from_state="") == made
    assert events(time__gte=clock.now) == [killed]
    assert events(message__contains="killed") == [killed]
    assert events(order=("-id",), limit=1) == [killed]
    everything = list(client.iterate_events(ALL, page=1))
    assert everything == client.events(ALL)


def test_there_are_no_batch_jobs_yet(client: LocalClient) -> None:
    assert client.batch_jobs(ALL) == []
    assert client.batch_jobs(Query(filters=parse({"state": "x"}, "batch_jobs"))) == []
