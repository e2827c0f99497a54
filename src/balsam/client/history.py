"""Events and batch jobs as Python programs see them: to be read, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from msgspec.structs import asdict

from balsam.client.interface import Client
from balsam.client.queryset import Objects, QuerySet
from balsam.errors import MultipleFound, NotFound
from balsam.model import batch_job, wire
from balsam.model.query import Query

T = TypeVar("T")


class Events(QuerySet[T]):
    """State changes, chosen step by step (see `QuerySet`)."""

    kind = "events"
    noun = "event"

    def _read(self, client: Client, query: Query, fields: list[str] | None) -> list[wire.Event]:
        return client.events(query)

    def _stream(
        self, client: Client, query: Query, fields: list[str] | None, page: int
    ) -> Iterator[wire.Event]:
        return client.iterate_events(query, page)

    def _count(self, client: Client, query: Query) -> int:
        if self._sliced:
            return len(client.events(query))
        return sum(1 for _ in client.iterate_events(query))

    def _object(self, record: wire.Event) -> Event:
        return Event(**asdict(record))

    @classmethod
    def _field_names(cls) -> list[str]:
        return list(wire.Event.__struct_fields__)


class Event(wire.Event, kw_only=True):
    """One state change of a job."""

    class DoesNotExist(NotFound):
        """No event matches."""

    class MultipleObjectsReturned(MultipleFound):
        """Several events match where one was asked for."""

    objects: ClassVar[Objects[Events[Event]]] = Objects(lambda: Events())

    @property
    def when(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.fromtimestamp(self.time, UTC)


class BatchJobs(QuerySet[T]):
    """Batch jobs, chosen step by step (see `QuerySet`)."""

    kind = "batch_jobs"
    noun = "batch job"

    def _read(
        self, client: Client, query: Query, fields: list[str] | None
    ) -> list[batch_job.BatchJob]:
        return client.batch_jobs(query)

    def _object(self, record: batch_job.BatchJob) -> BatchJob:
        return BatchJob(**asdict(record))


class BatchJob(batch_job.BatchJob, kw_only=True):
    """One request to the batch scheduler for nodes and time."""

    class DoesNotExist(NotFound):
        """No batch job matches."""

    class MultipleObjectsReturned(MultipleFound):
        """Several batch jobs match where one was asked for."""

    objects: ClassVar[Objects[BatchJobs[BatchJob]]] = Objects(lambda: BatchJobs())


Events.missing, Events.several = Event.DoesNotExist, Event.MultipleObjectsReturned
BatchJobs.missing, BatchJobs.several = BatchJob.DoesNotExist, BatchJob.MultipleObjectsReturned
