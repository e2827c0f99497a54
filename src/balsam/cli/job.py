"""`balsam job` and `balsam mkchild`: add jobs, one or a million."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from balsam.cli import options
from balsam.cli.context import confirm, open_site, warn
from balsam.cli.insertion import BATCH, insert, read_back, spelled
from balsam.cli.output import job_record, print_json, text
from balsam.cli.programs import with_hook_functions
from balsam.cli.prototype import ENTRY_FIELDS, Given, Prototype, Summary, option_name
from balsam.cli.selectors import one_job, resolve_all
from balsam.cli.sources import Source
from balsam.client.interface import Client
from balsam.errors import CannotStart, InvalidInput, NotFound, UnknownField, nearest
from balsam.lifecycle.environ import parameters_of
from balsam.model.app import App, command_line
from balsam.model.job import EDITABLE, FIELDS, Job
from balsam.model.parameters import shared_parameters
from balsam.model.query import ALL, Query, parse

REQUIRED = ("name", "workflow", "application")

JOB_EXAMPLES = f"""\
{options.TEMPLATES}

examples:
  balsam job --name hello --workflow test --application say-hello --args "world" --yes
  balsam job --array 0-999 --name sim_{{i:04d}} --workflow scan --app sim --args "--seed {{i}}"
  balsam job --from-file runs.csv --workflow scan --app sim --name T{{temperature}} \\
      --param temperature={{temperature}} --data '{{"run": {{i}}}}' --after 12 --yes
"""
CHILD_EXAMPLES = """\
What is not given is taken from the current job. The child depends on the current job and
on its parents. Hooks belong to apps: with --preprocessor or --postprocessor the child's app
is a copy of the app with these hooks.

example (inside a job, for instance in its postprocess script):
  balsam mkchild --name refine --args "--level 2" --num-nodes 4
"""


def add_commands(subparsers: Any) -> None:
    """Add `job` and `mkchild`."""
    job = subparsers.add_parser("job", help="add jobs", epilog=JOB_EXAMPLES)
    options.add_options(job)
    job.set_defaults(run=run_job)
    child = subparsers.add_parser(
        "mkchild", help="add a child of the current job", epilog=CHILD_EXAMPLES
    )
    options.add_options(child)
    child.add_argument(
        "--wall-minutes",
        dest="wall_time_minutes",
        type=float,
        metavar="N",
        help="as --wall-time-minutes",
    )
    child.add_argument("--preprocessor", metavar="HOOK", help="the child's preprocess hook")
    child.add_argument("--postprocessor", metavar="HOOK", help="the child's postprocess hook")
    child.set_defaults(run=run_mkchild)


def run_job(args: argparse.Namespace) -> int:
    said = options.given(args)
    with closing(options.source(args)) as source, open_site(args) as client:
        _add_parents(said, args, client)
        return _add(args, client, Job(), said, source)


def run_mkchild(args: argparse.Namespace) -> int:
    said = options.given(args)
    current_id = os.environ.get("BALSAM_JOB_ID", "")
    if not current_id:
        raise InvalidInput(
            "BALSAM_JOB_ID is not set: `balsam mkchild` works inside a job; outside, use"
            " `balsam job … --after ID`"
        )
    args.yes = True  # a job has nobody to ask
    with closing(options.source(args)) as source, open_site(args) as client:
        current = one_job(client, current_id)
        fields = {name: getattr(current, name) for name in EDITABLE}
        fields["parents"] = [*current.parents, current.id]
        _add_parents(said, args, client, fields)
        name = said.texts.get("application", current.application)
        if name != current.application:
            fields["parameters"] = _shared_parameters(client, name, current)
        hooks = {"preprocess": args.preprocessor, "postprocess": args.postprocessor}
        hooks = {name: command for name, command in hooks.items() if command is not None}
        derived = None
        if hooks:
            derived = _with_hooks(client, name, hooks)
            said.texts["application"] = derived.name
        return _add(args, client, Job(**fields), said, source, derived)


def _shared_parameters(client: Client, name: str, current: Job) -> dict[str, Any]:
    """Return the parameters of *current* that a child of the app *name* takes, too."""
    for app in client.apps(Query(filters=parse({"name": name}, "apps"))):
        return shared_parameters(app, current.parameters)
    return current.parameters


def _with_hooks(client: Client, name: str, hooks: dict[str, str]) -> App:
    """Return the copy of app *name* with *hooks*: the registered one, or a new one without id."""
    from hashlib import blake2s

    import msgspec

    apps = {app.name: app for app in client.apps(ALL)}
    _refuse_unknown({name}, apps)
    digest = blake2s(repr(sorted(hooks.items())).encode(), digest_size=4).hexdigest()
    derived = f"{name}-{digest}"
    changes = with_hook_functions(hooks, apps[name])
    return apps.get(derived) or msgspec.structs.replace(
        apps[name], id=None, name=derived, **changes
    )


def _add_parents(
    said: Given, args: argparse.Namespace, client: Client, known: dict[str, Any] | None = None
) -> None:
    for field, texts in (
        ("parents", args.after),
        ("parents_any", args.after_any),
        ("parents_failed", args.after_failed),
    ):
        before = (known or {}).get(field, [])
        if texts:
            said.values[field] = list(dict.fromkeys([*before, *resolve_all(client, texts)]))


def _add(
    args: argparse.Namespace,
    client: Client,
    shared: Job,
    said: Given,
    source: Source,
    new_app: App | None = None,
) -> int:
    """Check all jobs, ask, insert them, and say what was added."""
    missing = [
        option_name(field)
        for field in REQUIRED
        if field not in said.texts and field not in source.names and not getattr(shared, field)
    ]
    if missing:
        raise InvalidInput(f"the following options are required: {', '.join(missing)}")
    prototype = Prototype(shared, said, source)
    if not args.ignore_unknown_columns:
        _refuse_columns(args.from_file, prototype.unused)
    apps = {app.name: app for app in client.apps(ALL)}
    if new_app is not None:
        apps[new_app.name] = new_app
    summary = prototype.check(apps)
    if summary.first is None:
        raise InvalidInput(f"{args.each_line or args.from_file} has no records: no job to add")
    _refuse_unknown(summary.applications, apps)
    _refuse_missing_parents(client, summary.parents)
    _warn(args, client, summary, prototype.unused, apps, source)
    total = source.count() or 0
    if args.dry_run:
        return _show_only(args, prototype, summary.first, total, apps)
    if not args.json:
        _describe(summary.first, total, apps)
    if not args.yes:
        where = sys.stderr if args.json else sys.stdout
        print(_population(client, summary), file=where, flush=True)
        what = "job" if total == 1 else f"{total} jobs"
        if not confirm(args, f"Confirm adding {what} to DB"):
            print("Nothing was added.", file=where)
            return 1
    if new_app is not None and new_app.id is None:
        client.add_app(new_app)
    spans = insert(client, prototype.batches(BATCH), total)
    if args.json:
        print_json(job_record(job) for job in read_back(client, spans))
    elif total == 1:
        job_id = spans[0][0]
        print(
            f"Added job to database: id {job_id} "
            f"[{summary.first.name} | {client.identity.short(job_id)}]"
        )
    else:
        print(f"Added {total} jobs to database: {spelled(spans)}")
    return 0


def _refuse_columns(file: str, unused: list[str]) -> None:
    """Raise `InvalidInput` when a column that nothing uses has no name of a field."""
    for column in unused:
        if column.replace("-", "_") in FIELDS:  # Balsam's own, of jobs that `balsam ls` printed
            continue
        prefix, colon, key = column.partition(":")
        known = [f"{entry}:{key}" for entry in ENTRY_FIELDS] if colon else list(EDITABLE)
        hint = nearest(column if colon else prefix.replace("-", "_"), known)
        raise UnknownField(
            f"--from-file {file}: column {column!r} is no field of a job, and no template uses"
            f" it.{hint} Use it as {{{column}}}, or give"
            " --ignore-unknown-columns"
        )


def _refuse_unknown(names: Iterable[str], apps: dict[str, App]) -> None:
    for name in sorted(set(names) - set(apps)):
        raise NotFound(
            f"there is no app {name!r}.{nearest(name, list(apps))}"
            " Register it with `balsam app`; `balsam ls apps` lists those there are."
        )


def _refuse_missing_parents(client: Client, parents: set[int]) -> None:
    ids = sorted(parents)
    for start in range(0, len(ids), 5000):
        chunk = ids[start : start + 5000]
        found = {job.id for job in client.jobs(Query().where(id__in=chunk), fields=["id"])}
        for missing in sorted(set(chunk) - found):
            raise NotFound(f"there is no job {missing} to be a parent; `balsam ls` lists the jobs")


def _warn(
    args: argparse.Namespace,
    client: Client,
    summary: Summary,
    unused: list[str],
    apps: dict[str, App],
    source: Source,
) -> None:
    if args.coschedule_num_nodes:
        warn("--coschedule-num-nodes has no effect")
    if unused:
        warn(f"no field and no template uses the columns {', '.join(map(repr, unused))}")
    cores, gpus = _largest(client)
    requests = summary.requests
    _warn_beyond(
        max((r.cores_per_node for r in requests if r.node_packing_count == 1), default=0),
        cores,
        "cores",
    )
    if gpus is not None:
        _warn_beyond(max(r.gpus_per_rank * r.ranks_per_node for r in requests), gpus, "GPUs")
    first = summary.first
    if first is not None:
        _warn_left_over(first, source)
        try:
            app = apps[first.application]
            command_line(app, first.args, parameters_of(first, app))
        except CannotStart as error:
            warn(f"{first.name} cannot start as it is: {error}")


def _warn_left_over(first: Job, source: Source) -> None:
    """Tell of a name such as ``T{temprature}``, where a template was meant but none is."""
    if not source.names:
        return
    for field in ("name", "workflow"):
        for word in re.findall(r"\{(\w+)\}", getattr(first, field)):
            known = list(source.names)
            warn(
                f"{field} {getattr(first, field)!r}: {{{word}}} is no template here"
                f" (there are {', '.join(known)}).{nearest(word, known)}"
            )


def _largest(client: Client) -> tuple[int, int | None]:
    """Return the most cores and GPUs of a node: of this machine and of all launchers so far.

    The GPUs are None while no launcher has counted any.
    """
    launchers = client.launchers(live=False)
    cores = max([os.cpu_count() or 1, *(one.cores for one in launchers)])
    return cores, max((one.gpus for one in launchers), default=None)


def _warn_beyond(needed: float, most: int, unit: str) -> None:
    if needed > most:
        warn(
            f"{needed:g} {unit} on a node are asked for, and the largest node known here has"
            f" {most}: such a job waits for a launcher with a larger node"
        )


def _population(client: Client, summary: Summary) -> str:
    if len(summary.workflows) == 1:
        (workflow,) = summary.workflows
        number = client.count_jobs(Query(filters=parse({"workflow": workflow})))
        return f'[INFO]: The workflow "{workflow}" currently has {number} jobs in the database'
    number = client.count_jobs(ALL)
    return f"[INFO]: There are currently {number} jobs in the database"


def _describe(first: Job, total: int, apps: dict[str, App]) -> None:
    """Print what the first of *total* jobs is."""
    print(f"Job (the first of {total})" if total > 1 else "Job")
    print("-" * 46)
    default = Job()
    for field in EDITABLE:
        value = getattr(first, field)
        if field != "job_id" and (field in REQUIRED or value != getattr(default, field)):
            print(f"{field + ':':<32}{text(field, value)}")
    try:
        app = apps[first.application]
        words = command_line(app, first.args, parameters_of(first, app))
    except CannotStart:
        return
    print(f"{'  *** Executed command:':<32}{shlex.join(words)}")


def _show_only(
    args: argparse.Namespace,
    prototype: Prototype,
    first: Job,
    total: int,
    apps: dict[str, App],
) -> int:
    if args.json:
        print_json(job_record(job) for batch in prototype.batches(BATCH) for job in batch)
        return 0
    _describe(first, total, apps)
    print(f"Would add {total} job{'s' if total != 1 else ''}; nothing was added.")
    return 0
