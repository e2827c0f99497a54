"""The names of `balsam.core.models` of 0.x."""

from __future__ import annotations

from balsam.compat.apps import ApplicationDefinition
from balsam.compat.batch_jobs import QueuedLaunch
from balsam.compat.exceptions import (
    InvalidParentsError,
    InvalidStateError,
    NoApplication,
    ObjectDoesNotExist,
)
from balsam.compat.jobs import BalsamJob
from balsam.compat.jobset import Source as JobSource
from balsam.compat.reports import (
    error_report,
    job_waiting_report,
    process_job_times,
    throughput_report,
    utilization_report,
)
from balsam.compat.states import known as validate_state
from balsam.compat.texts import TIME_FORMAT as TIME_FMT
from balsam.compat.texts import history_line
from balsam.model import states

STATES = [str(state) for state in states.STATES]
ACTIVE_STATES = [str(state) for state in states.ACTIVE_STATES]
PROCESSABLE_STATES = [str(state) for state in states.PROCESSABLE_STATES]
RUNNABLE_STATES = [str(state) for state in states.RUNNABLE_STATES]
END_STATES = [str(state) for state in states.END_STATES]

__all__ = [
    "ACTIVE_STATES",
    "END_STATES",
    "PROCESSABLE_STATES",
    "RUNNABLE_STATES",
    "STATES",
    "TIME_FMT",
    "ApplicationDefinition",
    "BalsamJob",
    "InvalidParentsError",
    "InvalidStateError",
    "JobSource",
    "NoApplication",
    "ObjectDoesNotExist",
    "QueuedLaunch",
    "error_report",
    "history_line",
    "job_waiting_report",
    "process_job_times",
    "throughput_report",
    "utilization_report",
    "validate_state",
]
