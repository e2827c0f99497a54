"""Graphs of jobs as SVG: one file that every browser shows, drawn here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from balsam.model.graph import Kind
from balsam.model.states import STATES
from balsam.report.graph import Edge, Node, Picture
from balsam.report.graph_layout import Layout, Point, lay_out
from balsam.report.graph_text import COLOURS, CONDITIONS, PHASE_OF, TIMES, condition, label, phase
from balsam.report.tally import PHASES

#: Pixels: a node, the strip of its states, a letter of its text, the picture's edge and legend.
NODE_HEIGHT, STRIP, LETTER, MARGIN, LEGEND = 42.0, 5.0, 6.9, 20.0, 34.0
LEAST_WIDTH, MOST_LETTERS = 84.0, 34
INK, PALE, PAPER, GREY = "#1d2420", "#5a655f", "#ffffff", "#8b958f"
_DASHES = {Kind.OK: "", Kind.FAIL: "6 4", Kind.ANY: "1.5 3.5"}
_LINES = {Kind.OK: GREY, Kind.FAIL: COLOURS["failed"][0], Kind.ANY: GREY}


def svg(drawn: Picture, title: str) -> str:
    """Return *drawn* as an SVG document with a legend; pointing at a node tells more of it."""
    shown = [tuple(map(_short, label(node))) for node in drawn.nodes]
    widths = [max(LEAST_WIDTH, max(map(len, lines)) * LETTER + 20) for lines in shown]
    layout = lay_out(widths, NODE_HEIGHT, [(edge.parent, edge.child) for edge in drawn.edges])
    legend = list(_legend(drawn))
    width = max(layout.width, _legend_width(drawn), 240.0) + 2 * MARGIN
    height = layout.height + 2 * MARGIN + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" font-family="system-ui, Helvetica, Arial,'
        ' sans-serif" font-size="12">',
        f"<title>{_text(title)}</title>",
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        "<defs>",
        *(_arrow_head(kind) for kind in Kind),
        "</defs>",
        *legend,
        f'<g transform="translate({MARGIN:g} {MARGIN + LEGEND:g})">',
        *_edges(drawn, layout, widths),
        *_nodes(drawn, layout, widths, shown),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _nodes(
    drawn: Picture, layout: Layout, widths: list[float], shown: list[tuple[str, ...]]
) -> Iterable[str]:
    for node, centre, width, lines in zip(drawn.nodes, layout.centres, widths, shown, strict=True):
        x, y = centre[0] - width / 2, centre[1] - NODE_HEIGHT / 2
        line, area = COLOURS[phase(node)]
        yield f'<g transform="translate({x:.1f} {y:.1f})"><title>{_text(_about(node))}</title>'
        if node.jobs > 1:  # a sheet behind it: there are several
            yield _box(4, -4, width, area, line)
        yield _box(0, 0, width, area, line)
        yield from _strip(node, width)
        for number, text in enumerate(lines):
            weight = ' font-weight="600"' if number == 0 else ' font-size="11"'
            colour = PALE if number else INK
            yield (
                f'<text x="{width / 2:.1f}" y="{16 + 15 * number}" text-anchor="middle"'
                f' fill="{colour}"{weight}>{_text(text)}</text>'
            )
        yield "</g>"


def _box(x: float, y: float, width: float, area: str, line: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{NODE_HEIGHT:g}" rx="6"'
        f' fill="{area}" stroke="{line}"/>'
    )


def _strip(node: Node, width: float) -> Iterable[str]:
    """Yield what share of the jobs is in which state, at the lower edge of the node."""
    x, whole = 6.0, width - 12
    for state, number in node.states.items():
        part = whole * number / node.jobs
        colour = COLOURS[PHASE_OF[state]][0]
        yield (
            f'<rect x="{x:.1f}" y="{NODE_HEIGHT - STRIP - 2:g}" width="{part:.1f}"'
            f' height="{STRIP - 2:g}" fill="{colour}"/>'
        )
        x += part


def _about(node: Node) -> str:
    job = f"job {node.id} {node.name}" if node.jobs == 1 else f"{node.jobs:,} jobs"
    first = f", the first: {node.id} {node.name}" if node.jobs > 1 else ""
    counts = "\n".join(f"{number:,} {state}" for state, number in node.states.items())
    return f"{job}{first}\napp {node.application}, workflow {node.workflow}\n{counts}"


def _edges(drawn: Picture, layout: Layout, widths: list[float]) -> Iterable[str]:
    for edge, route in zip(drawn.edges, layout.routes, strict=True):
        if route:
            path, middle = _path(route)
        else:
            path, middle = _loop(layout.centres[edge.parent], widths[edge.parent])
        dashes = f' stroke-dasharray="{_DASHES[edge.kind]}"' if _DASHES[edge.kind] else ""
        yield (
            f'<path d="{path}" fill="none" stroke="{_LINES[edge.kind]}" stroke-width="1.3"{dashes}'
            f' marker-end="url(#{edge.kind})"><title>{_text(_told(drawn, edge))}</title></path>'
        )
        if edge.dependencies > 1:
            yield (
                f'<text x="{middle[0] + 5:.1f}" y="{middle[1]:.1f}" font-size="10" fill="{PALE}">'
                f"{TIMES} {edge.dependencies:,}</text>"
            )


def _told(drawn: Picture, edge: Edge) -> str:
    parent, child = drawn.nodes[edge.parent], drawn.nodes[edge.child]
    beside = condition(edge)
    return f"{label(parent)[0]} → {label(child)[0]}" + (f" ({beside})" if beside else "")


def _path(route: list[Point]) -> tuple[str, Point]:
    """Return the curve through *route* from border to border, and the middle of its first bend.

    Past the nodes of a layer it goes straight up or down.
    """
    half = NODE_HEIGHT / 2 if route[-1][1] >= route[0][1] else -NODE_HEIGHT / 2
    tip = 5 if half > 0 else -5
    leaving = [(x, y + half) for x, y in route[:-1]]
    arriving = [(x, y - half) for x, y in route[1:]]
    arriving[-1] = arriving[-1][0], arriving[-1][1] - tip
    parts = [f"M{leaving[0][0]:.1f} {leaving[0][1]:.1f}"]
    for number, ((x1, y1), (x2, y2)) in enumerate(zip(leaving, arriving, strict=True)):
        if number:
            parts.append(f"V{y1:.1f}")
        bend = (y2 - y1) / 2
        parts.append(f"C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}")
    (x1, y1), (x2, y2) = leaving[0], arriving[0]
    return "".join(parts), ((x1 + x2) / 2, (y1 + y2) / 2)


def _loop(centre: Point, width: float) -> tuple[str, Point]:
    x, y = centre[0] + width / 2, centre[1]
    path = f"M{x:.1f} {y - 8:.1f}C{x + 24:.1f} {y - 16:.1f} {x + 24:.1f} {y + 16:.1f}"
    return f"{path} {x + 5:.1f} {y + 8:.1f}", (x + 14, y + 3)


def _arrow_head(kind: Kind) -> str:
    return (
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="2" refY="4" markerWidth="6" markerHeight="6"'
        f' orient="auto"><path d="M0 0L8 4L0 8z" fill="{_LINES[kind]}"/></marker>'
    )


# the legend ------------------------------------------------------------------------------


def _entries(drawn: Picture) -> list[tuple[str, str]]:
    """Return what the legend explains: (phase or kind, text)."""
    present = {state for node in drawn.nodes for state in node.states}
    phases = [
        (name, ", ".join(state for state in STATES if state in states and state in present))
        for name, states in PHASES.items()
    ]
    kinds = {edge.kind for edge in drawn.edges} - {Kind.OK}
    return [(name, text) for name, text in phases if text] + [
        (str(kind), f"runs {CONDITIONS[kind]}") for kind in Kind if kind in kinds
    ]


def _legend_width(drawn: Picture) -> float:
    return sum(len(text) * LETTER + 36 for _, text in _entries(drawn))


def _legend(drawn: Picture) -> Iterable[str]:
    x, y = MARGIN, MARGIN + 4
    for name, text in _entries(drawn):
        if name in COLOURS:
            line, area = COLOURS[name]
            yield (
                f'<rect x="{x:.1f}" y="{y - 10:g}" width="16" height="12" rx="3" fill="{area}"'
                f' stroke="{line}"/>'
            )
        else:
            kind = Kind(name)
            yield (
                f'<path d="M{x:.1f} {y - 4:g}h16" stroke="{_LINES[kind]}" stroke-width="1.6"'
                f' stroke-dasharray="{_DASHES[kind]}"/>'
            )
        yield f'<text x="{x + 22:.1f}" y="{y:g}" font-size="11" fill="{PALE}">{_text(text)}</text>'
        x += len(text) * LETTER + 36


def _short(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def _text(text: str) -> str:
    """Return *text* for XML, which has no control characters."""
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return escape(shown, quote=False)
