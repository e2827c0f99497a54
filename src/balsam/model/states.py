"""The states of a job: the one table that everything else derives from.

The CHECK constraint of the database, the diagram in the documentation, the partial
index that launchers lease from and the tests are all generated from `TABLE`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Group(StrEnum):
    """Who acts next on a job."""

    PROCESSABLE = "processable"  #: Balsam itself: release, staging, hooks
    RUNNABLE = "runnable"  #: a launcher, as soon as it has room
    ACTIVE = "active"  #: the job's own processes
    END = "end"  #: nobody, until a user asks for it again


class State(StrEnum):
    CREATED = "CREATED"
    AWAITING_PARENTS = "AWAITING_PARENTS"
    READY = "READY"
    STAGED_IN = "STAGED_IN"
    PREPROCESSED = "PREPROCESSED"
    RUNNING = "RUNNING"
    RUN_DONE = "RUN_DONE"
    POSTPROCESSED = "POSTPROCESSED"
    JOB_FINISHED = "JOB_FINISHED"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    RUN_ERROR = "RUN_ERROR"
    RESTART_READY = "RESTART_READY"
    FAILED = "FAILED"
    USER_KILLED = "USER_KILLED"


class Row(NamedTuple):
    """One state: who acts next, what it means, and where it may go."""

    group: Group
    text: str
    #: Moves that Balsam makes.
    to: tuple[State, ...]
    #: Further moves that only a user may ask for (`modify`, `rerun`, a hook).
    user: tuple[State, ...] = ()


S = State
TABLE: dict[State, Row] = {
    S.CREATED: Row(
        Group.PROCESSABLE,
        "in the database; where it goes next is settled at once",
        (S.AWAITING_PARENTS, S.READY, S.PREPROCESSED, S.JOB_FINISHED, S.FAILED, S.USER_KILLED),
    ),
    S.AWAITING_PARENTS: Row(
        Group.PROCESSABLE,
        "waits for its parents to end",
        (S.READY, S.PREPROCESSED, S.JOB_FINISHED, S.FAILED, S.USER_KILLED),
        (S.CREATED,),
    ),
    S.READY: Row(
        Group.PROCESSABLE,
        "nothing to wait for; files are to be staged in or the preprocess hook to be run",
        (S.STAGED_IN, S.PREPROCESSED, S.AWAITING_PARENTS, S.FAILED, S.USER_KILLED),
        (S.CREATED,),
    ),
    S.STAGED_IN: Row(
        Group.PROCESSABLE,
        "its input files are in place; the preprocess hook is to be run",
        (S.PREPROCESSED, S.FAILED, S.USER_KILLED),
        (S.CREATED,),
    ),
    S.PREPROCESSED: Row(
        Group.RUNNABLE,
        "can run",
        (S.RUNNING, S.AWAITING_PARENTS, S.FAILED, S.USER_KILLED),
        (S.CREATED,),
    ),
    S.RUNNING: Row(
        Group.ACTIVE,
        "its program runs",
        (S.RUN_DONE, S.RUN_ERROR, S.RUN_TIMEOUT, S.RESTART_READY, S.FAILED, S.USER_KILLED),
    ),
    S.RUN_DONE: Row(
        Group.PROCESSABLE,
        "its program ended with exit code 0; the postprocess hook is to be run",
        (S.POSTPROCESSED, S.JOB_FINISHED, S.FAILED, S.USER_KILLED),
        (S.CREATED, S.RESTART_READY),
    ),
    S.POSTPROCESSED: Row(
        Group.PROCESSABLE,
        "its postprocess hook ended well; files are to be staged out",
        (S.JOB_FINISHED, S.FAILED, S.USER_KILLED),
        (S.CREATED, S.RESTART_READY),
    ),
    S.JOB_FINISHED: Row(
        Group.END,
        "done",
        (),
        (S.CREATED, S.RESTART_READY),
    ),
    S.RUN_TIMEOUT: Row(
        Group.PROCESSABLE,
        "the launcher's time was over before its program ended",
        (S.RESTART_READY, S.POSTPROCESSED, S.FAILED, S.USER_KILLED),
        (S.CREATED, S.JOB_FINISHED),
    ),
    S.RUN_ERROR: Row(
        Group.PROCESSABLE,
        "its program failed; a handler or a retry decides",
        (S.RESTART_READY, S.POSTPROCESSED, S.FAILED, S.USER_KILLED),
        (S.CREATED, S.JOB_FINISHED),
    ),
    S.RESTART_READY: Row(
        Group.RUNNABLE,
        "can run again, in the same directory",
        (S.RUNNING, S.AWAITING_PARENTS, S.FAILED, S.USER_KILLED),
        (S.CREATED,),
    ),
    S.FAILED: Row(
        Group.END,
        "did not end well, and will not be tried again by itself",
        (),
        (S.CREATED, S.RESTART_READY),
    ),
    S.USER_KILLED: Row(
        Group.END,
        "stopped by a user",
        (),
        (S.CREATED, S.RESTART_READY),
    ),
}

#: All states in their documented order.
STATES: tuple[State, ...] = tuple(State)


def of_group(*groups: Group) -> tuple[State, ...]:
    """Return the states of the given groups, in documented order."""
    return tuple(s for s in STATES if TABLE[s].group in groups)


PROCESSABLE_STATES = of_group(Group.PROCESSABLE)
RUNNABLE_STATES = of_group(Group.RUNNABLE)
ACTIVE_STATES = of_group(Group.ACTIVE)
END_STATES = of_group(Group.END)
LIVE_STATES = tuple(s for s in STATES if s not in END_STATES)

#: What a launcher may lease: it can do the next step itself.
LEASABLE_STATES = tuple(
    s
    for s in of_group(Group.PROCESSABLE, Group.RUNNABLE)
    if s not in (S.CREATED, S.AWAITING_PARENTS)
)


def legal(old: State, new: State, *, by_user: bool = False) -> bool:
    """Tell whether a job may go from *old* to *new*.

    Parameters
    ----------
    by_user
        Also allow the moves that only a user may ask for.
    """
    row = TABLE[old]
    return new in row.to or (by_user and new in row.user)


def may_ask(old: State, new: State) -> bool:
    """Tell whether a user may move a job from *old* to *new*.

    Only a launcher makes a job RUNNING and only a parent makes it wait: nobody would bring it
    on from there. A user can do nothing to a running job but kill it.
    """
    if new in (S.RUNNING, S.AWAITING_PARENTS) or (old == S.RUNNING and new != S.USER_KILLED):
        return False
    return legal(old, new, by_user=True)


def diagram() -> str:
    """Return the table as a Mermaid state diagram (used by the documentation)."""
    lines = ["stateDiagram-v2"]
    for old, row in TABLE.items():
        lines += [f"    {old} --> {new}" for new in row.to]
        lines += [f"    {old} --> {new}: user" for new in row.user]
    return "\n".join(lines) + "\n"
