"""The state table: every pair of states, and what derives from it."""

from __future__ import annotations

from itertools import product

import pytest

from balsam.model import states
from balsam.model.states import STATES, TABLE, Group, State, legal, may_ask

# b: Balsam may move a job so, and users; u: only users may; .: nobody.
# Columns in the documented order, as the rows.
LAW = """
CREATED           . b b . b . . . b . . . b b
AWAITING_PARENTS  u . b . b . . . b . . . b b
READY             u b . b b . . . . . . . b b
STAGED_IN         u . . . b . . . . . . . b b
PREPROCESSED      u b . . . b . . . . . . b b
RUNNING           . . . . . . b . . b b b b b
RUN_DONE          u . . . . . . b b . . u b b
POSTPROCESSED     u . . . . . . . b . . u b b
JOB_FINISHED      u . . . . . . . . . . u . .
RUN_TIMEOUT       u . . . . . . b u . . b b b
RUN_ERROR         u . . . . . . b u . . b b b
RESTART_READY     u b . . . b . . . . . . b b
FAILED            u . . . . . . . . . . u . .
USER_KILLED       u . . . . . . . . . . u . .
"""
ROWS = [line.split() for line in LAW.split("\n") if line]
PAIRS = {
    (old, new): marks[column]
    for old, *marks in ROWS
    for column, new in enumerate(name for name, *_ in ROWS)
}


def test_the_documented_states_in_their_order() -> None:
    assert [str(state) for state in STATES] == [name for name, *_ in ROWS]
    assert len(STATES) == 14


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_every_pair(old: State, new: State) -> None:
    mark = PAIRS[old, new]
    assert legal(old, new) is (mark == "b")
    assert legal(old, new, by_user=True) is (mark in "bu")


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_what_users_may_ask_for(old: State, new: State) -> None:
    leads_nowhere = new in (State.RUNNING, State.AWAITING_PARENTS)
    disturbs = old == State.RUNNING and new != State.USER_KILLED
    allowed = PAIRS[old, new] in "bu" and not leads_nowhere and not disturbs
    assert may_ask(old, new) is allowed


def test_every_state_has_one_row_and_one_group() -> None:
    assert set(TABLE) == set(STATES)
    in_groups = [state for group in Group for state in states.of_group(group)]
    assert sorted(in_groups) == sorted(STATES)
    assert all(TABLE[state].text for state in STATES)


def test_a_move_is_listed_once_and_changes_the_state() -> None:
    for old, row in TABLE.items():
        moves = [*row.to, *row.user]
        assert len(moves) == len(set(moves)), old
        assert old not in moves


def test_groups() -> None:
    assert states.ACTIVE_STATES == (State.RUNNING,)
    assert states.RUNNABLE_STATES == (State.PREPROCESSED, State.RESTART_READY)
    assert states.END_STATES == (State.JOB_FINISHED, State.FAILED, State.USER_KILLED)
    assert set(states.LIVE_STATES) == set(STATES) - set(states.END_STATES)


def test_leasable_is_what_a_launcher_can_go_on_with() -> None:
    assert set(states.LEASABLE_STATES) == set(states.LIVE_STATES) - {
        State.CREATED,
        State.AWAITING_PARENTS,
        State.RUNNING,
    }


def test_every_state_is_reached_from_the_first() -> None:
    reached, todo = set(), [State.CREATED]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += TABLE[state].to
    assert reached == set(STATES)


def test_every_live_state_can_be_killed_and_can_end() -> None:
    for state in states.LIVE_STATES:
        assert legal(state, State.USER_KILLED)
        assert legal(state, State.FAILED)


def test_the_end_is_left_only_when_a_user_asks() -> None:
    for end, new in product(states.END_STATES, STATES):
        assert not legal(end, new)


def test_the_diagram_has_every_move_once() -> None:
    lines = states.diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    drawn = [line.strip() for line in lines[1:]]
    expected = [
        f"{old} --> {new}" + (": user" if mark == "u" else "")
        for (old, new), mark in PAIRS.items()
        if mark != "."
    ]
    assert sorted(drawn) == sorted(expected)
