"""The public Python names.

::

    from balsam.api import Job

    for job in Job.objects.filter(state="FAILED", tags__campaign="scan").order_by("-priority"):
        job.data["seen"] = True
        job.save()

`Job.objects`, `App.objects`, `Event.objects` and `BatchJob.objects` are the rows of the site
found from the environment or the working directory on first use; `use(path)` chooses another,
and ``with Site(path) as site: site.jobs…`` works on several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsam.client.apps import App
from balsam.client.history import BatchJob, Event
from balsam.client.jobs import Job
from balsam.client.queryset import QuerySet
from balsam.client.site import Site
from balsam.model.graph import Kind
from balsam.model.states import (
    ACTIVE_STATES,
    END_STATES,
    PROCESSABLE_STATES,
    RUNNABLE_STATES,
    STATES,
    State,
)
from balsam.model.wire import Attempt

if TYPE_CHECKING:
    from balsam.applications import ApplicationDefinition as ApplicationDefinition

__all__ = [
    "ACTIVE_STATES",
    "END_STATES",
    "PROCESSABLE_STATES",
    "RUNNABLE_STATES",
    "STATES",
    "App",
    "ApplicationDefinition",
    "Attempt",
    "BatchJob",
    "Event",
    "Job",
    "Kind",
    "QuerySet",
    "Site",
    "State",
    "use",
]

use = Site.use


def __getattr__(name: str) -> object:
    if name != "ApplicationDefinition":  # which few programs need
        raise AttributeError(f"module 'balsam.api' has no attribute {name!r}")
    from importlib import import_module

    return import_module("balsam.applications").ApplicationDefinition
