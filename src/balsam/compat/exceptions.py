"""The exceptions that scripts of 0.x catch. Where Django is installed they are Django's, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsam.client.apps import App
from balsam.client.history import BatchJob
from balsam.client.jobs import Job
from balsam.errors import InvalidInput, NotFound, UnknownField


class ObjectDoesNotExist(Exception):
    """Django's name for what does not exist."""


class MultipleObjectsReturned(Exception):
    """Django's name for more than one where one was asked for."""


if not TYPE_CHECKING:  # a checker need not know whether Django is there
    try:
        from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
    except ImportError:
        pass


class NoSuchJob(Job.DoesNotExist, ObjectDoesNotExist):
    """No job matches."""


class SeveralJobs(Job.MultipleObjectsReturned, MultipleObjectsReturned):
    """Several jobs match where one was asked for."""


class NoSuchApp(App.DoesNotExist, ObjectDoesNotExist):
    """No application matches."""


class SeveralApps(App.MultipleObjectsReturned, MultipleObjectsReturned):
    """Several applications match where one was asked for."""


class NoSuchLaunch(BatchJob.DoesNotExist, ObjectDoesNotExist):
    """No batch job matches."""


class SeveralLaunches(BatchJob.MultipleObjectsReturned, MultipleObjectsReturned):
    """Several batch jobs match where one was asked for."""


class UnexpectedField(UnknownField, TypeError):
    """A new object was given a field that there is not."""


class InvalidStateError(InvalidInput):
    """There is no such state."""


class InvalidParentsError(InvalidInput):
    """What was given are no jobs that can be parents."""


class NoApplication(NotFound):
    """The job names no application."""


class NoCurrentJob(NotFound, RuntimeError):
    """This process is part of no job, or of one that is not there any more."""
