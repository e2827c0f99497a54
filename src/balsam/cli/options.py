"""The options that describe jobs, shared by `balsam job` and `balsam mkchild`."""

from __future__ import annotations

import argparse
import os.path

from balsam.cli.prototype import Given
from balsam.cli.sources import Array, Lines, Single, Source, open_records
from balsam.cli.values import memory_mib, pair
from balsam.errors import InvalidInput
from balsam.model.retry import EXAMPLE, rules_of
from balsam.model.warning import EXAMPLE as WARNING

#: Options with text → field, in the order of the help.
TEXTS = {
    "name": ("name", "name, which also names its directory and output file"),
    "workflow": ("workflow", "the group of jobs it belongs to"),
    "application": ("application", "name of a registered app"),
    "url_in": ("stage_in_url", "copy these files in before the job, e.g. local:/path/*"),
    "url_out": ("stage_out_url", "copy files to this place after the job"),
    "user_workdir": ("user_workdir", "run in this directory instead of the job's own"),
    "signal": (
        "signal",
        f"warning before the launcher's time ends: {WARNING} is USR1, 120 s before",
    ),
    "cpu_affinity": ("cpu_affinity", "binding of ranks to cores: depth, job or none"),
}
WORDS = {
    "args": ("args", "arguments, put behind the app's command line"),
    "description": ("description", "what it is for"),
    "mpi_flags": ("mpi_flags", "further options of the MPI command"),
    "input_files": ("input_files", "patterns of files of the parents to link to (default: none)"),
    "stage_out_files": ("stage_out_files", "patterns of the files that --url-out copies"),
}
NUMBERS: dict[str, tuple[type[int] | type[float], str]] = {
    "wall_time_minutes": (float, "estimate of the run time (default: not known)"),
    "num_nodes": (int, "nodes (1)"),
    "ranks_per_node": (int, "processes on each node (1)"),
    "threads_per_rank": (int, "threads of each process (1)"),
    "threads_per_core": (int, "threads on each core (1)"),
    "cores_per_rank": (int, "cores of each process (threads per rank / threads per core)"),
    "gpus_per_rank": (float, "GPUs of each process; fractions share one (0)"),
    "node_packing_count": (int, "how many such jobs may share a node (1)"),
    "priority": (int, "jobs of higher priority start first (0)"),
    "max_retries": (int, "how often to run it again after an error (0)"),
}

TEMPLATES = """\
Many jobs at once: --array gives the template {i}; --each-line {i} and {line} (blank lines
are left out); --from-file {i} and {COLUMN} for every column. {i:04d} formats like Python.
Templates work in names, workflows, arguments, parameters, tags, data, environment and URLs.
Other braces stay as they are.
A column named like a field of jobs (name, args, num_nodes, wall_time_minutes, data, parents,
...) sets this field, and param:X, tag:X, env:X, data:X set one entry. An option wins over a
column. A column that is no field and stands in no template is an error. In JSON lines and
JSON a key may be missing, in CSV a cell empty: the default holds.
FILE - is standard input: lines, or JSON lines.
Everything is checked before the first job is added."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options that describe jobs, none of them required."""
    group = parser.add_argument_group("the job")
    for option, (_, text) in TEXTS.items():
        group.add_argument(_spelled(option), metavar=_metavar(option), help=text)
    for option, (_, text) in WORDS.items():
        group.add_argument(_spelled(option), nargs="*", metavar="WORD", help=text)
    for option, (kind, text) in NUMBERS.items():
        group.add_argument(_spelled(option), type=kind, metavar="N", help=text)
    group.add_argument("--coschedule-num-nodes", type=int, metavar="N", help="has no effect")
    group.add_argument("--memory", metavar="MEM", help="on each node: 512 (MiB), 512M, 4G")
    group.add_argument(
        "--tag", action="append", default=[], metavar="K=V", help="label (repeatable)"
    )
    group.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="K=V",
        help="value of {{K}} in the app's command line (repeatable)",
    )
    group.add_argument(
        "--env", action="append", default=[], metavar="K=V", help="environment (repeatable)"
    )
    group.add_argument("--data", metavar="JSON", help="the job's own data")
    add_retry(group, "tried before the app's rules")
    for name, text in (
        ("post_handle_error", "run the app's postprocess after an error"),
        ("post_handle_timeout", "run the app's postprocess after a time-out"),
        ("disable_auto_timeout_retry", "do not run it again after a time-out"),
    ):
        group.add_argument(
            f"--{name}", _spelled(name), dest=name, action="store_const", const=True, help=text
        )
    for option, text in (
        ("after", "start after this job has finished"),
        ("after_any", "start after this job has ended, however"),
        ("after_failed", "start only if this job has failed"),
    ):
        group.add_argument(
            _spelled(option), action="append", default=[], metavar="ID", help=f"{text} (repeatable)"
        )
    many = parser.add_argument_group("many jobs").add_mutually_exclusive_group()
    many.add_argument("--array", metavar="0-999[:STEP][,…]", help="one job for each number")
    many.add_argument("--each-line", metavar="FILE", help="one job for each line (- : stdin)")
    many.add_argument(
        "--from-file", metavar="FILE", help="one job for each record of FILE.csv .json .jsonl .toml"
    )
    parser.add_argument(
        "--ignore-unknown-columns",
        action="store_true",
        help="take a --from-file with columns that are no fields and that no template uses",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and show, add nothing")
    parser.add_argument("--json", action="store_true", help="print the jobs as JSON")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def add_retry(parser: argparse._ActionsContainer, note: str) -> None:
    """Add ``--retry``, which gives a list of rules or nothing."""
    parser.add_argument(
        "--retry",
        action="append",
        metavar="RULE",
        help=f"what follows when a run fails, as in '{EXAMPLE}' (repeatable; {note})",
    )


def _spelled(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _metavar(option: str) -> str:
    return {"name": "NAME", "workflow": "NAME", "application": "APP"}.get(option, "TEXT")


def source(args: argparse.Namespace) -> Source:
    """Return where the jobs of the command line come from.

    Raises
    ------
    InvalidInput
        The range is malformed, or the file cannot be read.
    """
    if args.array is not None:
        return Array(args.array)
    if args.each_line is not None:
        return Lines(args.each_line)
    if args.from_file is not None:
        return open_records(args.from_file)
    return Single()


def given(args: argparse.Namespace) -> Given:
    """Return what the options say, each checked as far as it stands alone.

    Raises
    ------
    InvalidInput
        A ``K=V`` has no ``=``, an amount of memory or a retry rule is none.
    """
    said = Given(data=args.data)
    for option, (field, _) in TEXTS.items():
        text = getattr(args, option)
        if text is not None:
            said.texts[field] = text
    for option, (field, _) in WORDS.items():
        words = getattr(args, option)
        if words is not None:
            said.texts[field] = " ".join(words)
    for field in ("user_workdir", "stage_in_url", "stage_out_url"):
        if field in said.texts:
            said.texts[field] = absolute(said.texts[field])
    for option in NUMBERS:
        number = getattr(args, option)
        if number is not None:
            said.values[option] = number
    if args.memory is not None:
        said.values["memory_mib"] = memory_mib(args.memory)
    if args.retry is not None:
        said.values["retry"] = rules_of(args.retry)
    if args.post_handle_error:
        said.values["post_error_handler"] = True
    if args.post_handle_timeout:
        said.values["post_timeout_handler"] = True
    if args.disable_auto_timeout_retry:
        said.values["auto_timeout_retry"] = False
    for prefix, option in (("param", "--param"), ("tag", "--tag"), ("env", "--env")):
        said.entries[prefix] = _entries(getattr(args, prefix), option)
    return said


def _entries(texts: list[str], option: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    for text in texts:
        key, value = pair(text, option)
        if key in entries:
            raise InvalidInput(f"{option} {key} is given twice")
        entries[key] = value
    return entries


def absolute(path: str) -> str:
    """Return a path or ``local:`` URL with the working directory before a relative path.

    Other URLs, ``~`` and what begins with a template stay as they are.
    """
    scheme, colon, rest = path.partition(":")
    if colon and scheme != "local" and "/" not in scheme:
        return path
    place = rest if colon and scheme == "local" else path
    if not place or place[0] in "/~{":
        return path
    made = os.path.join(os.getcwd(), place)
    return f"local:{made}" if colon and scheme == "local" else made
