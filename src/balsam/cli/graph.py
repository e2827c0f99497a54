"""`balsam graph`: draw jobs and what they wait for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam.cli import context, selectors
from balsam.cli.report import check_writable, write_page
from balsam.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from balsam.client.interface import Client
    from balsam.report.graph import JobGraph, Picture

FORMATS = {
    "mermaid": (".mmd", ".mermaid"),
    "dot": (".dot", ".gv"),
    "svg": (".svg",),
    "json": (".json",),
}
LEVELS = ("auto", "jobs", "equal", "layers", "apps")
EPILOG = """\
Jobs that are alike are drawn as one node with a count, when there are many (--collapse):
  jobs    every job is a node
  equal   jobs of one app and state that wait for the same
  layers  jobs of one app with as many jobs above them
  apps    jobs of one app
  auto    the first of these that still can be looked at; JSON has every job

examples:
  balsam graph --wf alloys -o alloys.svg
  balsam graph --wf alloys --format dot | dot -Tpdf -o alloys.pdf
  balsam graph --state FAILED --collapse apps"""


def add_commands(subparsers: Any) -> None:
    """Add `graph`."""
    parser = subparsers.add_parser(
        "graph",
        help="draw jobs and what they wait for: Mermaid, Graphviz, SVG, JSON",
        description="Draw the selected jobs and the dependencies among them, in the colours of"
        " their states.",
        epilog=EPILOG,
    )
    selectors.add_selectors(parser)
    parser.add_argument(
        "--format", choices=tuple(FORMATS), help="(default: by the end of FILE, else mermaid)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the file to write ('-': standard output)"
    )
    parser.add_argument(
        "--collapse",
        choices=LEVELS,
        default="auto",
        help="which jobs are drawn as one node (auto)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw a graph."""
    from balsam.report.graph import read_graph

    file = args.output if args.output is not None and str(args.output) != "-" else None
    kind = args.format or _format_of(file)
    if file is not None:
        check_writable(file)
    with context.open_site(args) as client:
        graph = read_graph(client, selectors.query(args, client))
        if not len(graph):
            raise NotFound("no job matches; `balsam ls` with the same selection shows what does")
        drawn = _picture(graph, args.collapse, kind)
        text = _drawn(drawn, kind, client)
    outside = sum(graph.outside.values())
    if outside:
        what = "1 dependency" if outside == 1 else f"{outside:,} dependencies"
        context.warn(f"not drawn: {what} on jobs that are not selected")
    if file is None:
        sys.stdout.write(text)
        return 0
    write_page(file, text)
    nodes = "" if len(drawn.nodes) == drawn.jobs else f" as {len(drawn.nodes):,} nodes"
    print(f"wrote {file} ({drawn.jobs:,} jobs{nodes})")
    return 0


def _format_of(file: Path | None) -> str:
    if file is None:
        return "mermaid"
    for kind, ends in FORMATS.items():
        if file.suffix.lower() in ends:
            return kind
    known = ", ".join(ends[0] for ends in FORMATS.values())
    raise InvalidInput(f"--output {file}: the name must end in one of {known}, or give --format")


def _picture(graph: JobGraph, wanted: str, kind: str) -> Picture:
    from balsam.report.graph import Level, fitting_picture, picture

    if wanted == "auto" and kind == "json":
        return picture(graph, Level.JOBS)
    if wanted != "auto":
        drawn = picture(graph, Level(wanted))
        if not drawn.fits() and kind != "json":
            context.warn(
                f"{len(drawn.nodes):,} nodes and {len(drawn.edges):,} edges are hard to look at,"
                " and many programs refuse them; --collapse takes alike jobs together"
            )
        return drawn
    drawn = fitting_picture(graph)
    if drawn.level is not Level.JOBS:
        context.warn(
            f"{drawn.jobs:,} jobs are drawn as {len(drawn.nodes):,} nodes"
            f" (--collapse {drawn.level}); --collapse jobs draws each"
        )
    return drawn


def _drawn(drawn: Picture, kind: str, client: Client) -> str:
    from balsam.report import graph_svg, graph_text

    match kind:
        case "svg":
            return graph_svg.svg(drawn, f"{client.path.name}: {drawn.jobs:,} jobs")
        case "dot":
            return graph_text.dot(drawn)
        case "json":
            import msgspec

            record = graph_text.record(drawn, client.identity)
            return msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n"
        case _:
            return graph_text.mermaid(drawn)
