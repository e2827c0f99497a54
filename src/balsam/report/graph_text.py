"""Graphs of jobs as text: Mermaid, Graphviz's DOT, and JSON."""

from __future__ import annotations

import re
from typing import Any

from balsam.model.graph import Kind
from balsam.model.identity import JobIdentity
from balsam.model.states import State
from balsam.report.graph import Edge, Node, Picture
from balsam.report.tally import PHASES

#: Colour of the line and of the area of what is in each phase.
COLOURS = {
    "waiting": ("#7d8a83", "#eceeed"),
    "ready": ("#b07c0c", "#fbf1da"),
    "running": ("#2f6fae", "#dfebf6"),
    "ending": ("#7456b4", "#ebe6f6"),
    "finished": ("#22835a", "#dff2e9"),
    "failed": ("#c23a32", "#f9e1df"),
}
PHASE_OF = {state: phase for phase, states in PHASES.items() for state in states}
#: What stands beside a dependency that is not on its parent's success.
CONDITIONS = {Kind.OK: "", Kind.FAIL: "if it fails", Kind.ANY: "in any case"}
TIMES = "\N{MULTIPLICATION SIGN}"
#: The first of these that a node's jobs have gives it its colour.
_URGENT = ("failed", "running", "ending", "ready", "waiting", "finished")


def phase(node: Node) -> str:
    """Return the phase that a node is coloured by: what a user would look for first."""
    phases = {PHASE_OF[state] for state in node.states}
    return next(name for name in _URGENT if name in phases)


def state_counts(states: dict[State, int]) -> str:
    """Return ``9,000 JOB_FINISHED, 990 RUNNING``."""
    return ", ".join(f"{number:,} {state}" for state, number in states.items())


def label(node: Node) -> tuple[str, str]:
    """Return the two lines of a node: what it is, and its state."""
    if node.jobs == 1:
        return node.name, f"{node.id} · {next(iter(node.states))}"
    if len(node.states) == 1:
        return f"{node.application} {TIMES} {node.jobs:,}", str(next(iter(node.states)))
    return f"{node.application} {TIMES} {node.jobs:,}", state_counts(node.states)


def condition(edge: Edge) -> str:
    """Return what stands beside an edge: how many dependencies it is, and what they need."""
    parts = (
        f"{TIMES} {edge.dependencies:,}" if edge.dependencies > 1 else "",
        CONDITIONS[edge.kind],
    )
    return ", ".join(filter(None, parts))


# Mermaid ---------------------------------------------------------------------------------

#: What Mermaid could take for its own syntax, for Markdown or for HTML. A lone underscore inside
#: a word is none.
_MERMAID = re.compile(
    r"(?<![^\W_])_|_(?![^\W_])|[^\w\s.,:/\u00d7·…()\[\]{}+=-]|^\d+(?=[.)]\s)|^[-+]"
)
_MERMAID_LINES = {Kind.OK: "-->", Kind.FAIL: "-.->", Kind.ANY: "==>"}


def mermaid(drawn: Picture) -> str:
    """Return a Mermaid flowchart (syntax of 10.9 and 11), as Markdown pages show it.

    Source: https://mermaid.js.org/syntax/flowchart.html. Mermaid itself refuses more than 500
    edges or 50,000 characters, unless the page allows for more.
    """
    lines = ["flowchart TD"]
    for place, node in enumerate(drawn.nodes):
        text = "<br/>".join(map(_mermaid_text, label(node)))
        lines.append(f'    n{place}["{text}"]:::{phase(node)}')
    for edge in drawn.edges:
        beside = _mermaid_text(condition(edge))
        arrow = _MERMAID_LINES[edge.kind] + (f'|"{beside}"|' if beside else "")
        lines.append(f"    n{edge.parent} {arrow} n{edge.child}")
    for name in dict.fromkeys(map(phase, drawn.nodes)):
        line, area = COLOURS[name]
        lines.append(f"    classDef {name} fill:{area},stroke:{line},color:#1d2420")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    def entity(found: re.Match[str]) -> str:
        return "".join(f"#{ord(letter)};" for letter in found[0])

    return _MERMAID.sub(entity, _printable(text))


# Graphviz --------------------------------------------------------------------------------

_DOT_LINES = {
    Kind.OK: "",
    Kind.FAIL: f'style=dashed, color="{COLOURS["failed"][0]}"',
    Kind.ANY: "style=dotted",
}


def dot(drawn: Picture) -> str:
    """Return a graph in DOT, for Graphviz.

    Source: https://graphviz.org/doc/info/lang.html. Jobs of several states are striped.
    """
    lines = [
        "digraph balsam {",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
        '  edge [color="#5a655f", fontname="Helvetica", fontsize=9];',
    ]
    for place, node in enumerate(drawn.nodes):
        text = "\\n".join(map(_dot_text, label(node)))
        line, area = COLOURS[phase(node)]
        shown = [f'label="{text}"', f'color="{line}"', f'fillcolor="{area}"']
        if len(node.states) > 1:
            shown[2] = f'style=striped, fillcolor="{_stripes(node)}"'
        about = f"{node.application}, workflow {node.workflow}"
        shown.append(f'tooltip="{_dot_text(about)}"')
        lines.append(f"  n{place} [{', '.join(shown)}];")
    for edge in drawn.edges:
        shown = [_DOT_LINES[edge.kind]] if _DOT_LINES[edge.kind] else []
        if beside := condition(edge):
            shown.append(f'label="{_dot_text(beside)}"')
        attributes = f" [{', '.join(shown)}]" if shown else ""
        lines.append(f"  n{edge.parent} -> n{edge.child}{attributes};")
    return "\n".join([*lines, "}"]) + "\n"


def _stripes(node: Node) -> str:
    """Return the colours of a node's states as Graphviz takes them, the last one as the rest."""
    colours = [(COLOURS[PHASE_OF[state]][1], n / node.jobs) for state, n in node.states.items()]
    # It draws no stripe of a share of 0, and takes what is missing for the one without a share.
    parts = [f"{colour};{max(share, 0.001):.3f}" for colour, share in colours[:-1]]
    return ":".join([*parts, colours[-1][0]])


def _dot_text(text: str) -> str:
    shown = _printable(text).replace("&", "&amp;")  # labels may hold HTML's entities
    return shown.replace("\\", "\\\\").replace('"', '\\"')


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


# JSON ------------------------------------------------------------------------------------


def record(drawn: Picture, identity: JobIdentity) -> dict[str, Any]:
    """Return the JSON form: nodes, and edges between the ids of the nodes' first jobs.

    A node of several jobs has no job_id, and a state only when all have the same.
    """
    return {
        "collapse": str(drawn.level),
        "jobs": drawn.jobs,
        "nodes": [_node_record(node, identity) for node in drawn.nodes],
        "edges": [
            {
                "parent": drawn.nodes[edge.parent].id,
                "child": drawn.nodes[edge.child].id,
                "kind": str(edge.kind),
                "dependencies": edge.dependencies,
            }
            for edge in drawn.edges
        ],
    }


def _node_record(node: Node, identity: JobIdentity) -> dict[str, Any]:
    return {
        "id": node.id,
        "job_id": identity.text(node.id) if node.jobs == 1 else None,
        "name": node.name,
        "workflow": node.workflow,
        "application": node.application,
        "state": str(next(iter(node.states))) if len(node.states) == 1 else None,
        "jobs": node.jobs,
        "states": {str(state): number for state, number in node.states.items()},
    }
