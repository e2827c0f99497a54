"""Which jobs a verb is about: ids as users type them, and the options that filter.

Every verb takes the same selectors. They become one `Query`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from balsam.cli.output import is_time
from balsam.client.interface import Client
from balsam.client.job_ids import with_ids
from balsam.errors import InvalidInput, MultipleFound, NotFound
from balsam.model.job import Job
from balsam.model.query import JSON_FIELDS, KINDS, LOOKUPS, SYNONYMS, Filter, Query, parse

_HEX = frozenset("0123456789abcdef-")
#: A longer number is no id (the database's integers have 64 bits).
_MOST_DIGITS = 18


def add_selectors(
    parser: argparse.ArgumentParser, positional: bool = True, *, require_choice: bool = False
) -> None:
    """Add the options that select jobs.

    Parameters
    ----------
    positional
        Also take ids as arguments, into `args.jobs`.
    require_choice
        Add ``--all``; `query` refuses to take all jobs without it.
    """
    group = parser.add_argument_group("which jobs")
    if positional:
        group.add_argument(
            "jobs",
            nargs="*",
            metavar="JOB",
            help="id, UUID, or the first hexadecimal digits of the UUID",
        )
    group.add_argument("--id", metavar="JOB", help="the job with this id (as JOB)")
    group.add_argument("--name", metavar="TEXT", help="jobs whose name contains TEXT")
    group.add_argument(
        "--state", metavar="STATE", action="append", help="jobs in STATE (repeatable, or A,B)"
    )
    group.add_argument(
        "--wf", "--workflow", dest="wf", metavar="TEXT", help="jobs whose workflow contains TEXT"
    )
    group.add_argument(
        "--tag", metavar="K=V", action="append", default=[], help="jobs with this tag (repeatable)"
    )
    group.add_argument(
        "--filter",
        metavar="FIELD__LOOKUP=VALUE",
        action="append",
        default=[],
        help="jobs whose field is so, VALUE being JSON or text: data__reward__gte=0.5 (repeatable)",
    )
    if require_choice:
        group.add_argument("--all", action="store_true", help="all jobs of the site")
    parser.set_defaults(require_choice=require_choice)


def query(args: argparse.Namespace, client: Client, *, several: bool = False) -> Query:
    """Return the jobs that *args* (of a parser with `add_selectors`) select.

    Parameters
    ----------
    several
        Let the digits given with ``--id`` stand for every job that they begin.

    Raises
    ------
    InvalidInput
        An option cannot be understood, or a choice is required and none was made.
    NotFound, MultipleFound
        A job named by its id is not there, or cannot be told from another.
    """
    filters: list[Filter] = []
    jobs: list[str] = getattr(args, "jobs", [])
    chosen = resolve_all(client, jobs) if jobs else None
    if args.id is not None:
        named = matching(client, args.id) if several else [resolve(client, args.id)]
        chosen = named if chosen is None else [n for n in chosen if n in set(named)]
    if chosen is not None:
        filters.append(
            Filter("id", (), "exact", chosen[0])
            if len(chosen) == 1
            else Filter("id", (), "in", sorted(set(chosen)))
        )
    if args.name:
        filters.append(Filter("name", (), "icontains", args.name))
    if args.wf:
        filters.append(Filter("workflow", (), "icontains", args.wf))
    if args.state:
        filters += state_filter(args.state)
    filters += [tag_filter(item) for item in args.tag]
    for item in args.filter:
        filters += condition(item)
    if args.require_choice:
        if args.all and filters:
            raise InvalidInput("--all and a selection exclude each other; leave one out")
        if not args.all and not filters:
            raise InvalidInput(
                "say which jobs: ids, --name, --state, --wf, --tag, --filter, or --all"
            )
    return with_ids(Query(filters=tuple(filters)), client)


def state_filter(words: Iterable[str], field: str = "state") -> tuple[Filter, ...]:
    """Return the condition of states given as ``A``, ``A,B`` or several of these."""
    states = [word.strip().upper() for item in words for word in item.split(",")]
    kind = "jobs" if field == "state" else "events"
    if len(states) == 1:
        return parse({field: states[0]}, kind)
    return parse({f"{field}__in": states}, kind)


def tag_filter(item: str) -> Filter:
    """Return the condition of one ``--tag K=V``."""
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise InvalidInput(
            f"--tag {item!r} is not K=V; to ask for the key alone, --filter tags__has_key=K"
        )
    return Filter("tags", (key,), "exact", value)


def condition(item: str, kind: str = "jobs") -> tuple[Filter, ...]:
    """Return the condition of one ``--filter FIELD__LOOKUP=VALUE``."""
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--filter {item!r} is not FIELD__LOOKUP=VALUE; e.g. priority__gte=5")
    return parse({key: _typed(key, value, kind)}, kind)


def _typed(key: str, value: str, kind: str) -> Any:
    """Return *value* as the field and lookup of *key* want it; what cannot be so stays text."""
    name, *rest = key.split("__")
    name = SYNONYMS.get(name, name)
    lookup = rest[-1] if rest and rest[-1] in LOOKUPS else "exact"
    try:
        decoded = json.loads(value)
    except ValueError:
        decoded = value
    if lookup == "in":
        if isinstance(decoded, list):
            return decoded
        return [_typed(name, word, kind) for word in value.split(",")]
    if is_time(name):
        return decoded if isinstance(decoded, int | float) else _seconds(key, value)
    if name in ("state", "from_state", "to_state"):
        return value.upper()
    takes_text = KINDS[kind].get(name) is str and name not in JSON_FIELDS
    if lookup != "isnull" and takes_text and not isinstance(decoded, str):
        return value
    return decoded


def _seconds(key: str, value: str) -> float:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidInput(
            f"{key} takes a time such as 2031-05-04T03:02:01Z, not {value!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# ids -------------------------------------------------------------------------------------


def resolve(client: Client, text: str) -> int:
    """Return the id of the one job that *text* names.

    Digits alone are the integer id, or, where there is no such job, the first eight digits
    of a UUID. Else *text* is a UUID or the first digits of one.

    Raises
    ------
    InvalidInput
        *text* can be no id.
    NotFound, MultipleFound
        No job has it, or several have.
    """
    return resolve_all(client, [text])[0]


def resolve_all(client: Client, texts: list[str]) -> list[int]:
    """Return the id for each of *texts* (see `resolve`), the plain ones in one query."""
    numbers = [_number(text) for text in texts]
    found = set(_existing(client, {n for n in numbers if n is not None}))
    resolved: list[int] = []
    for text, number in zip(texts, numbers, strict=True):
        if number is not None and number in found:
            resolved.append(number)
            continue
        matches = matching(client, text)
        if not matches:
            raise NotFound(f"there is no job {text!r}; `balsam ls` lists them")
        if len(matches) > 1:
            shown = ", ".join(f"{n} ({client.identity.short(n)})" for n in matches[:5])
            more = f" and {len(matches) - 5} more" if len(matches) > 5 else ""
            raise MultipleFound(
                f"{text!r} begins {len(matches)} jobs: {shown}{more}; give more digits or the id"
            )
        resolved.append(matches[0])
    return resolved


def matching(client: Client, text: str) -> list[int]:
    """Return the ids of all jobs that *text* can stand for, ascending.

    Raises
    ------
    InvalidInput
        *text* can be no id, or is too short to be looked up among so many jobs.
    """
    digits = text.strip().lower()
    if not digits or not _HEX.issuperset(digits) or not digits.strip("-"):
        raise InvalidInput(
            f"{text!r} is no job id; give the number, the UUID or its first hexadecimal digits"
        )
    number = _number(digits)
    if number is not None:
        exact = _existing(client, [number])
        if exact or len(digits) < 8:
            return exact
    bare = digits.replace("-", "")
    if len(bare) == 32:
        job = client.identity.parse(digits)
        return [] if job is None else _existing(client, [job])
    if len(bare) > 32:
        return []
    if len(bare) >= 8:
        job = client.identity.number(bare)
        fits = job >= 1 and client.identity.uuid(job).hex.startswith(bare)
        return _existing(client, [job]) if fits else []
    newest = client.jobs(Query(order=("-id",), limit=1), fields=["id"])
    largest = newest[0].id or 0 if newest else 0
    candidates = client.identity.having_prefix(bare, largest)
    if candidates is None:
        raise InvalidInput(f"{text!r} is too short to tell so many jobs apart; give more digits")
    return _existing(client, candidates)


def _number(text: str) -> int | None:
    """Return the integer that *text* is as a whole, or None."""
    if not (text.isdecimal() and text.isascii()) or len(text) > _MOST_DIGITS:
        return None
    return int(text)


def _existing(client: Client, ids: Iterable[int]) -> list[int]:
    wanted = sorted(ids)
    existing: list[int] = []
    for start in range(0, len(wanted), 5000):
        chunk = wanted[start : start + 5000]
        jobs = client.jobs(Query().where(id__in=chunk), fields=["id"])
        existing += [job.id for job in jobs if job.id is not None]
    return sorted(existing)


def one_job(client: Client, text: str) -> Job:
    """Return the complete job that *text* names (see `resolve`)."""
    jobs = client.jobs(Query().where(id=resolve(client, text)))
    if not jobs:
        raise NotFound(f"there is no job {text!r}; it was removed a moment ago")
    return jobs[0]
