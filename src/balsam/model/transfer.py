"""Files that are moved for a job: to where it runs, or its results away."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from balsam.model.states import State


class Direction(StrEnum):
    """Which way files go."""

    IN = "in"  #: stage_in_url: to the job's directory
    OUT = "out"  #: stage_out_url: from there


class TransferState(StrEnum):
    """How far a transfer is."""

    WAITING = "waiting"  #: for others to the same host to end, or for the next try
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  #: the job has failed with it
    STOPPED = "stopped"  #: its job was killed, or its launcher ended


def after_transfers(state: State, error: str) -> State:
    """Return where a job goes on from *state* when its files are moved, or cannot be (*error*)."""
    if error:
        return State.FAILED
    return State.STAGED_IN if state == State.READY else State.JOB_FINISHED


class Transfer(msgspec.Struct, kw_only=True):
    """What is moved between a job's directory and one URL. A job that runs again moves it anew."""

    job: int
    job_id: str = ""
    direction: Direction
    number: int  #: position of the URL among the job's, from 1
    url: str
    state: TransferState = TransferState.WAITING
    files: int = 0  #: that were moved
    bytes_done: int = 0
    bytes_total: int | None = None  #: None: not known
    attempts: int = 0  #: tries so far
    started_at: float | None = None
    ended_at: float | None = None
    error: str = ""  #: why the last try failed
    launcher_id: int
