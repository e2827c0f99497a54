"""What is known of single jobs: fetched by pages for `report.why`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from balsam.client.interface import Client
from balsam.model.demand import Waiting
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.states import END_STATES, LEASABLE_STATES, LIVE_STATES, State
from balsam.model.transfer import Direction, Transfer
from balsam.model.wire import Attempt
from balsam.report.reasons.facts import Ancestor, Facts, Own
from balsam.report.reasons.walk import answer_of

#: Most parents of parents that are followed to where it begins.
_DEPTH = 50
#: What is recorded of a job that a parent's end keeps from running (store/moves.py). One that
#: failed by itself may have parents that failed, too: it did not need them, or they ran again.
_NEVER = re.compile(r"parent (\d+) \(.*\) ended as \w+$", re.DOTALL)
_TO_STAGE = ("stage_in_url", "stage_out_url", "stage_out_files")
#: What `class_of` needs of a job.
CLASS_FIELDS = (
    *(set(Waiting.__struct_fields__) & set(Job.__struct_fields__)),
    *_TO_STAGE,
    "timeouts",
)
#: What `Own.job` has.
FIELDS = (
    *CLASS_FIELDS,
    *("job_id", "name", "tags", "priority", "attempt", "updated_at", "exit_code"),
)
_ENDED_BADLY = (State.FAILED, State.USER_KILLED)


def fetch(client: Client, jobs: list[Job], facts: Facts) -> Iterator[Own]:
    """Yield each of *jobs* with what is known of it alone."""
    ids = {job.id: job.state for job in jobs if job.id is not None}
    messages = _last_messages(client, [n for n, state in ids.items() if state in END_STATES])
    ran = [n for n, state in ids.items() if state in (*_ENDED_BADLY, State.RUNNING)]
    attempts: dict[int, Attempt] = {each.job: each for each in client.attempts(ran)} if ran else {}
    moved = _transfers(client, jobs, {one.id for one in facts.movers})
    ahead: dict[int, int] = {}
    known: dict[int, list[Ancestor]] = {}
    for job in jobs:
        number = job.id or 0
        own = Own(job=job, attempt=attempts.get(number), message=messages.get(number, ""))
        own.transfers = moved.get(number, [])
        if job.state == State.AWAITING_PARENTS:
            own.parents = client.state_counts(ALL.where(children=number))
            own.root = _holding_back(client, job, facts, known)
        elif job.state == State.FAILED:
            own.root = _failed_before(client, own.message)
        elif job.launcher_id is None and facts.live and job.state in LEASABLE_STATES:
            if job.priority not in ahead:
                ahead[job.priority] = _ahead(client, job.priority)
            own.ahead = ahead[job.priority]
        yield own


def _transfers(client: Client, jobs: list[Job], movers: set[int]) -> dict[int, list[Transfer]]:
    """Return what the services move now, by job."""
    ids = {job.id: job.state for job in jobs if job.launcher_id in movers}
    found: dict[int, list[Transfer]] = {}
    if ids:
        for each in client.transfers(Query(filters=parse({"job__in": list(ids)}, "transfers"))):
            way = Direction.OUT if ids[each.job] == State.POSTPROCESSED else Direction.IN
            if each.direction is way:
                found.setdefault(each.job, []).append(each)
    return found


def _last_messages(client: Client, ids: list[int]) -> dict[int, str]:
    if not ids:
        return {}
    query = Query(filters=parse({"job__in": ids}, "events"))
    return {event.job: event.message for event in client.iterate_events(query)}


def _ahead(client: Client, priority: int) -> int:
    """Return how many free jobs have a higher priority."""
    free = ALL.where(launcher_id__isnull=True, retry_at__isnull=True)
    return client.count_jobs(free.where(state__in=list(LEASABLE_STATES), priority__gt=priority))


def _holding_back(
    client: Client, job: Job, facts: Facts, known: dict[int, list[Ancestor]]
) -> list[Ancestor]:
    """Return the way from *job* to the first that waits for no parent, with what that waits for.

    Of several parents the first that does not run is followed. The ways from parents on are put
    into *known*: many jobs may have one.
    """
    way: list[Ancestor] = []
    rest: list[Ancestor] = []
    while job.state == State.AWAITING_PARENTS and len(way) < _DEPTH and not rest:
        live = ALL.where(children=job.id, state__in=list(LIVE_STATES))
        parent = _first(client, live.where(state__ne=State.RUNNING)) or _first(client, live)
        if parent is None:
            return way
        job = parent
        way.append(Ancestor(job.id or 0, "waits for parents itself", f"`balsam why {job.id}`"))
        rest = known.get(job.id or 0, [])
    if rest:
        way[-1:] = rest
    elif job.state != State.AWAITING_PARENTS:
        (own,) = fetch(client, [job], facts)
        answer = answer_of(own, facts)
        way[-1] = Ancestor(answer.id, answer.waits_for, answer.help)
    known.update({each.job: way[number:] for number, each in enumerate(way)})
    return way


def _failed_before(client: Client, message: str) -> list[Ancestor]:
    """Return the way from a job, by the *message* of its end, to the one that this began with."""
    way: list[Ancestor] = []
    while (told := _NEVER.match(message)) and len(way) < _DEPTH:
        bad = ALL.where(id=int(told[1]), state__in=list(_ENDED_BADLY))
        parent = _first(client, bad)
        if parent is None:  # it was removed, or has run again since
            break
        message = _last_messages(client, [parent.id or 0]).get(parent.id or 0, "")
        verb = "failed" if parent.state == State.FAILED else "was stopped by a user"
        way.append(Ancestor(parent.id or 0, f"{verb}{f': {message}' if message else ''}"))
    return way


def _first(client: Client, query: Query) -> Job | None:
    found = client.jobs(msgspec.structs.replace(query, limit=1), FIELDS)
    return found[0] if found else None
