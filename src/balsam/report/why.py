"""Why jobs do not run: fetches the facts and puts them to `report.reasons`.

Only the database is asked: it holds what service and launchers last knew, so that there is an
answer from anywhere, also while everything is down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from balsam import config
from balsam.client.interface import Client
from balsam.model.batch_job import ENDED_STATES, LIVE_STATES
from balsam.model.demand import Waiting
from balsam.model.job import Job, needs_transfer
from balsam.model.query import ALL, Filter, Query, parse
from balsam.model.resources import Request
from balsam.model.service import ServiceInfo, Unmet
from balsam.model.states import LEASABLE_STATES, State
from balsam.model.walltime import LAST_SECONDS
from balsam.model.wire import LauncherInfo, LauncherKind
from balsam.report import histories
from balsam.report.histories import CLASS_FIELDS, FIELDS
from balsam.report.reasons.facts import Facts, Held, Scope, Subject, class_of
from balsam.report.reasons.findings import Answer, Group, Groups
from balsam.report.reasons.kinds import merged
from balsam.report.reasons.walk import answer_of, decisive, layers

#: Jobs whose history is fetched at once.
_PAGE = 500
#: Most jobs in the hands of launchers that are counted to say how busy these are.
_MOST_HELD = 20_000
#: Jobs of launchers' scopes that are read at once.
_SCOPE_PAGE = 5_000
_FREE: dict[str, Any] = {
    "launcher_id__isnull": True,
    "retry_at__isnull": True,
    "state__in": list(LEASABLE_STATES),
}
#: From so many kinds among the first jobs on, they are not counted by workflow.
_SAMPLE, _MANY = 20_000, 2_000
_KIND = {*Request.__struct_fields__, "wall_time_minutes", "application", "owner", "state"}
_KIND_FIELDS = tuple(name for name in CLASS_FIELDS if name in _KIND)


def explain(client: Client, query: Query) -> Iterator[Answer]:
    """Yield, of each of the selected jobs, why it is where it is; by id, in bounded memory."""
    facts = fetch_facts(client, client.waiting(_MOST_HELD))
    jobs = client.iterate_jobs(query, FIELDS, _PAGE)
    while page := list(islice(jobs, _PAGE)):
        for own in histories.fetch(client, page, facts):
            yield answer_of(own, facts)


def explain_all(client: Client) -> list[Group]:
    """Return all jobs that have not ended, counted by what they wait for, most first."""
    classes = client.waiting()
    facts = fetch_facts(client, classes)
    groups = Groups()
    for subject in merged(_subjects(client, classes, facts), facts):
        why = decisive(layers(subject, facts), facts)
        groups.add(why, subject.waiting.count, subject.waiting.example)
    return groups.largest_first()


def fetch_facts(client: Client, classes: Iterable[Waiting]) -> Facts:
    """Return what is known of the site; *classes* say what launchers have in their hands."""
    service, launchers = client.service(), client.launchers(live=False)
    batch_jobs = _batch_query(state__in=sorted(LIVE_STATES))
    ended = _batch_query(state__in=sorted(ENDED_STATES))
    last = client.batch_jobs(msgspec.structs.replace(ended, order=("-id",), limit=1))
    settings = config.load(client.path)
    return Facts(
        now=client.now(),
        apps={app.name: app for app in client.apps(ALL)},
        launchers=launchers,
        movers=client.launchers(live=False, kind=LauncherKind.SERVICE),
        stage_files=settings.launcher.stage_files,
        held=_held(classes, launchers),
        batch_jobs=client.batch_jobs(batch_jobs),
        last_batch_job=last[0] if last else None,
        service=service,
        unmet=_unmet(client, service),
        run_times={(each.application, each.ranks): each for each in client.run_times()},
        reserve_seconds=settings.launcher.grace_seconds + LAST_SECONDS,
        nodes=settings.nodes,
    )


def _batch_query(**conditions: object) -> Query:
    return Query(filters=parse(conditions, "batch_jobs"))


def _held(classes: Iterable[Waiting], launchers: list[LauncherInfo]) -> dict[int, Held]:
    """Return what each launcher has in its hands."""
    held: dict[int, Held] = {}
    cores = {one.id: one.cores // max(1, one.nodes) for one in launchers}
    for each in classes:
        if each.launcher_id is None:
            continue
        one = held.setdefault(each.launcher_id, Held())
        if each.state == State.RUNNING:
            one.running += each.count
            units = each.request.all_core_units(cores.get(each.launcher_id, 0))
            one.core_units += each.count * units
            one.gpu_units += each.count * each.num_nodes * each.request.gpu_units
            one.memory_mib += each.count * each.num_nodes * each.memory_mib
        else:
            one.others += each.count
    return held


def _unmet(client: Client, service: ServiceInfo | None) -> list[tuple[Waiting, Unmet]]:
    """Return the jobs for which the service does not ask, as classes of its examples."""
    found = {each.example: each for each in service.status.unmet} if service else {}
    if not found:
        return []
    jobs = client.jobs(ALL.where(id__in=list(found)), FIELDS)
    return [(class_of(job), found[job.id]) for job in jobs if job.id is not None]


def _subjects(client: Client, classes: list[Waiting], facts: Facts) -> Iterator[Subject]:
    """Yield all jobs as classes, those that launchers' scopes hold apart from the others."""
    if not facts.scopes:
        yield from (Subject(waiting=each) for each in classes)
    elif any(scope.tags for scope in facts.scopes) or _has_many_workflows(client):
        yield from _read_apart(client, classes, facts.scopes)
    else:
        for each in client.waiting(by_workflow=True):
            passes = [scope for scope in facts.scopes if scope.passes(each.workflow, {})]
            yield Subject(waiting=each, passes=frozenset(passes))


def _has_many_workflows(client: Client) -> bool:
    """Tell, by the first jobs, whether to count by workflow would take much memory."""
    return len(client.waiting(_SAMPLE, by_workflow=True)) > _MANY


def _read_apart(client: Client, classes: list[Waiting], scopes: list[Scope]) -> Iterator[Subject]:
    """Yield all jobs as classes; the free ones that scopes hold are read to tell them apart."""
    taken: Counter[Waiting] = Counter()
    firsts: set[int] = set()
    for (kind, passes), (count, example) in _in_scopes(client, scopes).items():
        taken[kind] += count
        firsts.add(example)
        waiting = msgspec.structs.replace(kind, count=count, example=example)
        yield Subject(waiting=waiting, passes=passes)
    for each in classes:
        left = each.count - taken[_kind(each)]
        if left > 0:
            example = each.example
            if example in firsts:
                example = _example_outside(client, each, scopes)
            yield Subject(waiting=msgspec.structs.replace(each, count=left, example=example))


_Key = tuple[Waiting, frozenset[Scope]]


def _in_scopes(client: Client, scopes: list[Scope]) -> dict[_Key, tuple[int, int]]:
    """Count the free jobs that scopes hold, by class and by these scopes, with the first of each.

    They are read page by page: there may be as many workflows and tags as jobs.
    """
    values = attrgetter(*_KIND_FIELDS)
    found: dict[Any, tuple[int, Job]] = {}
    for number, scope in enumerate(scopes):
        free = ALL.where(**_FREE)
        query = msgspec.structs.replace(free, filters=free.filters + _filters_of(scope))
        fields = (*CLASS_FIELDS, "workflow", "tags")
        for job in client.iterate_jobs(query, fields, _SCOPE_PAGE):
            passes = tuple(each.passes(job.workflow, job.tags) for each in scopes)
            if any(passes[:number]):
                continue  # it was counted with an earlier scope
            key = values(job), job.timeouts > 0, needs_transfer(job), passes
            count, first = found.get(key, (0, job))
            found[key] = count + 1, first
    result: dict[_Key, tuple[int, int]] = {}
    for (*_, passes), (count, first) in found.items():
        held_by = frozenset(s for s, holds in zip(scopes, passes, strict=True) if holds)
        kind = _kind(class_of(first)), held_by
        before, example = result.get(kind, (0, first.id or 0))
        result[kind] = before + count, min(example, first.id or 0)
    return result


def _filters_of(scope: Scope) -> tuple[Filter, ...]:
    text = scope.workflow_filter
    found = [Filter("workflow", (), "contains", text)] if text else []
    return (*found, *(Filter("tags", (key,), "exact", value) for key, value in scope.tags))


def _example_outside(client: Client, waiting: Waiting, scopes: list[Scope]) -> int:
    """Return the first free job of a class that no scope holds."""
    same = {name: getattr(waiting, name) for name in _KIND_FIELDS}
    timed_out = {"timeouts__gt" if waiting.was_timed_out else "timeouts": 0}
    query = ALL.where(**_FREE, **same, **timed_out)
    outside = tuple(map(_filters_of, scopes))
    found = client.jobs(msgspec.structs.replace(query, excludes=outside, limit=1), ["name"])
    return (found[0].id if found else None) or waiting.example


def _kind(waiting: Waiting) -> Waiting:
    """Return what makes a class, without who is in it."""
    return msgspec.structs.replace(waiting, count=0, example=0, retry_at=None, workflow="")
