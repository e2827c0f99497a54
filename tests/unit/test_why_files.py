"""Why jobs wait whose files are to be moved."""

from __future__ import annotations

import pytest

from balsam.model.states import State
from balsam.model.transfer import Direction, Transfer, TransferState
from balsam.model.wire import LauncherInfo, LauncherKind
from balsam.report.reasons.reason import Reason
from tests.unit.why import NOW, facts, job, launcher, service, why

TO_FETCH = {"state": State.READY, "stage_in_url": "http://x/a"}
RESULTS = {"stage_out_url": "/b", "stage_out_files": "*"}


def mover(**fields: object) -> LauncherInfo:
    """Ann's service as a launcher."""
    none = {"id": 9, "host": "login", "nodes": 0, "cores": 0, "kind": LauncherKind.SERVICE}
    return launcher(**{**none, **fields})


@pytest.mark.parametrize("state", [State.READY, State.POSTPROCESSED])
def test_what_the_service_will_move(state: State) -> None:
    asked = job(**{**TO_FETCH, **RESULTS, "state": state})
    found = why(asked, facts(movers=[mover()], service=service()))
    assert found.reason is Reason.FILES
    assert "which the service on login moves in its turn" in found.waits_for


def test_how_far_it_is() -> None:
    def one(number: int, state: TransferState, **fields: object) -> Transfer:
        given: dict[str, object] = {"job": 7, "direction": Direction.IN, "number": number}
        given |= {"url": "u", "launcher_id": 9, "state": state, **fields}
        return Transfer(**given)  # type: ignore[arg-type]

    told = [
        one(1, TransferState.DONE),
        one(2, TransferState.RUNNING, bytes_done=20, bytes_total=100),
        one(3, TransferState.WAITING),
    ]
    site = facts(movers=[mover()], service=service())
    found = why(job(**TO_FETCH, launcher_id=9), site, transfers=told)
    assert found.reason is Reason.FILES
    assert found.waits_for == (
        "waits for its files, which the service on login moves (1 of 3 done, the next 20 %)"
    )
    assert found.help == "follow it: `balsam ls transfers --id 7`"


def test_when_nobody_moves_them() -> None:
    gone = mover(ended_at=NOW - 10)
    found = why(job(**TO_FETCH), facts(movers=[gone], service=service(live=False)))
    assert found.reason is Reason.FILES_UNMOVED
    assert found.waits_for == "waits for its files: the service is down and no launcher runs"
    assert "balsam service start" in found.help
    never = facts(movers=[gone], launchers=[launcher()], stage_files="never")
    assert why(job(**TO_FETCH), never).reason is Reason.FILES_UNMOVED


def test_launchers_move_them_where_no_service_does() -> None:
    assert why(job(**TO_FETCH), facts(launchers=[launcher()])).reason is Reason.NOT_TAKEN
    of_bob = mover(jobs_of="bob")
    found = why(job(**TO_FETCH), facts(launchers=[launcher()], movers=[of_bob]))
    assert found.reason is Reason.NOT_TAKEN
    always = facts(launchers=[launcher()], movers=[mover()], stage_files="always")
    assert why(job(**TO_FETCH), always).reason is Reason.NOT_TAKEN


def test_a_service_that_is_silent_is_no_mover() -> None:
    late = mover(expires_at=NOW - 1)
    found = why(job(**TO_FETCH, launcher_id=9), facts(movers=[late]))
    assert found.reason is Reason.LAUNCHER_LOST
