"""Moves of jobs as scripts of 0.x ask for them: any state name, from any state that allows it."""

from __future__ import annotations

from msgspec.structs import replace

from balsam.client.interface import Client
from balsam.compat.exceptions import InvalidStateError
from balsam.errors import nearest
from balsam.model.query import Filter, Query
from balsam.model.states import STATES, State

#: No launcher takes a new or freed job for so long: scripts of 0.x next give it its parents.
HOLD_SECONDS = 1.0
_AGAIN = (State.CREATED, State.RESTART_READY)


def known(state: object) -> State:
    """Return *state* as a state. Raises `InvalidStateError` with the nearest one."""
    if str(state) not in STATES:
        raise InvalidStateError(
            f"there is no state {state!r}; the states are {', '.join(STATES)}."
            f"{nearest(str(state).upper(), list(STATES))}"
        )
    return State(str(state))


def move(client: Client, query: Query, state: str, message: str, *, killed: bool = True) -> int:
    """Move the jobs that *query* selects to *state*; return how many moved.

    Parameters
    ----------
    killed
        Whether those that a user had killed may begin anew.

    Raises
    ------
    InvalidStateError
        There is no such state.
    IllegalMove
        One of the jobs cannot go there; those that are not killed stay as they are.
    """
    wanted = known(state)
    if wanted == State.USER_KILLED:
        return len(client.kill_jobs(query))
    # The choice may depend on the state, which changes here: hold on to the very same jobs.
    ids = [job.id for job in client.jobs(query, ["id"])]
    chosen = Query().where(id__in=ids)
    others = replace(chosen, excludes=((Filter("state", (), "exact", State.USER_KILLED),),))
    count = client.move_jobs(others, wanted, message, hold_seconds=HOLD_SECONDS)
    if killed and wanted in _AGAIN:
        count += client.rerun_jobs(chosen.where(state=State.USER_KILLED))
    return count
