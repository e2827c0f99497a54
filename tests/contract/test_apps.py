"""Apps: registered, changed, removed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from balsam.client.local import LocalClient
from balsam.errors import AlreadyExists, InvalidInput, UnknownField
from balsam.model.app import App
from balsam.model.query import ALL, Query, parse
from balsam.model.retry import parse_rules
from balsam.model.states import State
from tests.contract.pilot import Pilot, add, request, states


def named(name: str) -> Query:
    return Query(filters=parse({"name": name}, "apps"))


FULL = App(
    name="full",
    executable="/bin/echo 'a  b' {{x}}",
    description="Grüße",
    preprocess="prepare --now",
    postprocess="/opt/my tools/x",
    envscript="~/env.sh",
    retry=parse_rules("exit=137: memory*2; any: max=3, delay=10"),
)


def test_what_is_given_comes_back(client: LocalClient) -> None:
    made = client.add_app(FULL)
    assert made == msgspec.structs.replace(FULL, id=made.id)
    assert client.apps(named("full")) == [made]
    assert [app.name for app in client.apps(ALL)] == ["a", "full"]


def test_rules_can_be_given_as_text(client: LocalClient) -> None:
    app = App(name="b", executable="x", retry=["exit=7: max=2", "exit=8: never"])  # type: ignore[list-item]
    assert client.add_app(app).retry == parse_rules("exit=7: max=2; exit=8: never")
    assert client.apps(named("b"))[0].retry == parse_rules("exit=7: max=2; exit=8: never")


def test_a_name_is_taken_once(client: LocalClient) -> None:
    client.add_app(FULL)
    before = client.apps(ALL)
    with pytest.raises(AlreadyExists, match="'full' already"):
        client.add_app(msgspec.structs.replace(FULL, executable="else"))
    assert client.apps(ALL) == before


@pytest.mark.parametrize("fields", [{"name": " "}, {"executable": ""}, {"executable": "'open"}])
def test_an_app_that_cannot_run_is_not_made(client: LocalClient, fields: dict[str, Any]) -> None:
    before = client.apps(ALL)
    with pytest.raises(InvalidInput):
        client.add_app(msgspec.structs.replace(FULL, **fields))
    assert client.apps(ALL) == before


def test_changes(client: LocalClient) -> None:
    client.add_app(FULL)
    assert client.update_apps(named("full"), {"executable": "new", "description": ""}) == 1
    (found,) = client.apps(named("full"))
    assert (found.executable, found.description, found.preprocess) == (
        "new",
        "",
        FULL.preprocess,
    )
    assert client.apps(named("a"))[0].executable == "/bin/true"
    assert client.update_apps(named("none"), {"executable": "new"}) == 0
    assert client.update_apps(ALL, {}) == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "a"}, AlreadyExists),
        ({"executable": ""}, InvalidInput),
        ({"executable": 3}, InvalidInput),
        ({"executble": "x"}, UnknownField),
        ({"id": 3}, InvalidInput),
    ],
)
def test_a_bad_change_changes_nothing(
    client: LocalClient, changes: dict[str, Any], error: type[Exception]
) -> None:
    client.add_app(FULL)
    before = client.apps(ALL)
    with pytest.raises(error):
        client.update_apps(named("full"), {"description": "new"} | changes)
    assert client.apps(ALL) == before


def test_two_apps_cannot_get_one_name(client: LocalClient) -> None:
    client.add_app(FULL)
    before = client.apps(ALL)
    with pytest.raises(AlreadyExists):
        client.update_apps(ALL, {"name": "same"})
    assert client.apps(ALL) == before


def test_an_app_can_be_renamed_to_its_own_name(client: LocalClient) -> None:
    assert client.update_apps(named("a"), {"name": "a"}) == 1


def test_the_next_job_runs_the_changed_app(client: LocalClient, pilot: Pilot) -> None:
    """Fault A10: nothing is kept from before."""
    add(client, "x", "y")
    assert client.lease(pilot.id, request(1)).apps["a"].executable == "/bin/true"
    client.update_apps(named("a"), {"executable": "/bin/false"})
    assert client.lease(pilot.id, request(1)).apps["a"].executable == "/bin/false"


def test_jobs_of_a_deleted_app_stay(client: LocalClient) -> None:
    ids = add(client, "x")
    client.add_app(FULL)
    assert client.delete_apps(named("a")) == 1
    assert client.delete_apps(named("a")) == 0
    assert [app.name for app in client.apps(ALL)] == ["full"]
    assert states(client, ids) == [State.PREPROCESSED]


def test_selections_and_order(client: LocalClient) -> None:
    for name in ("echo", "sleep", "echo2"):
        client.add_app(App(name=name, executable=f"/bin/{name}"))

    def names(order: tuple[str, ...] = (), **conditions: Any) -> list[str]:
        query = Query(filters=parse(conditions, "apps"), order=order)
        return [app.name for app in client.apps(query)]

    assert names(name__startswith="echo") == ["echo", "echo2"]
    assert names(order=("-name",)) == ["sleep", "echo2", "echo", "a"]
    assert names(executable__contains="sl") == ["sleep"]
    assert [app.name for app in client.apps(Query(order=("name",), limit=2, offset=1))] == [
        "echo",
        "echo2",
    ]
