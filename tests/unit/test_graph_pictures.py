"""Graphs of jobs as they are drawn: which jobs are one node, and the text of each format."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.graph import Kind
from balsam.model.identity import JobIdentity
from balsam.model.states import State
from balsam.report import graph_svg, graph_text
from balsam.report.graph import (
    MOST_NODES,
    JobGraph,
    Level,
    Picture,
    depths,
    fitting_picture,
    picture,
)
from balsam.report.graph_layout import GAP, lay_out
from balsam.report.graph_text import TIMES

S = State
IDENTITY = JobIdentity(b"k" * 16)
SVG = "{http://www.w3.org/2000/svg}"


def made(
    jobs: list[tuple[str, str, State]], edges: list[tuple[int, int] | tuple[int, int, Kind]]
) -> JobGraph:
    """A graph of (name, application, state), with edges by position."""
    graph = JobGraph()
    for number, (name, application, state) in enumerate(jobs, 1):
        graph.ids.append(number)
        graph.names.append(name)
        graph.states.append(state)
        graph.programs.append(("w", application))
    for parent, child, *kind in edges:
        graph.parents.append(parent)
        graph.children.append(child)
        graph.kinds.append(list(Kind).index(kind[0] if kind else Kind.OK))
    return graph


def fan(width: int, done: int = 0) -> JobGraph:
    """prepare → sims → collect, of which *done* sims have finished."""
    jobs = [("prepare", "prep", S.JOB_FINISHED)]
    jobs += [(f"sim{i}", "sim", S.JOB_FINISHED if i < done else S.RUNNING) for i in range(width)]
    jobs += [("collect", "gather", S.AWAITING_PARENTS)]
    edges = [(0, i) for i in range(1, width + 1)] + [(i, width + 1) for i in range(1, width + 1)]
    return made(jobs, edges)


def nodes(drawn: Picture) -> list[tuple[str, int]]:
    return [(node.application, node.jobs) for node in drawn.nodes]


# which jobs are one node -----------------------------------------------------------------


def test_alike_jobs_of_a_fan_are_one_node_for_each_state() -> None:
    drawn = picture(fan(10_000, done=9000), Level.EQUAL)
    assert nodes(drawn) == [("prep", 1), ("sim", 9000), ("sim", 1000), ("gather", 1)]
    edges = {(edge.parent, edge.child): edge.dependencies for edge in drawn.edges}
    assert edges == {(0, 1): 9000, (0, 2): 1000, (1, 3): 9000, (2, 3): 1000}
    assert (drawn.nodes[1].id, drawn.nodes[1].name) == (2, "sim0")


def test_jobs_that_wait_for_different_parents_are_not_alike() -> None:
    jobs = [(name, "a", S.READY) for name in ("x", "y", "z")]
    equal = picture(made([("p", "p", S.READY), *jobs], [(0, 1), (0, 2, Kind.ANY)]), Level.EQUAL)
    assert nodes(equal) == [("p", 1), ("a", 1), ("a", 1), ("a", 1)]


def test_layers_and_apps_take_all_states_together() -> None:
    layers = picture(fan(50, done=20), Level.LAYERS)
    assert nodes(layers) == [("prep", 1), ("sim", 50), ("gather", 1)]
    assert layers.nodes[1].states == {S.RUNNING: 30, S.JOB_FINISHED: 20}
    chain = made([("j", "a", S.READY)] * 5, [(i, i + 1) for i in range(4)])
    assert nodes(picture(chain, Level.LAYERS)) == [("a", 1)] * 5
    apps = picture(chain, Level.APPS)
    assert nodes(apps) == [("a", 5)]
    assert [tuple(edge) for edge in apps.edges] == [(0, 0, Kind.OK, 4)]


@pytest.mark.parametrize(
    ("graph", "level"),
    [
        (fan(MOST_NODES - 2), Level.JOBS),
        (fan(MOST_NODES - 1), Level.EQUAL),
        (made([(f"j{i}", "a", S.READY) for i in range(2000)], []), Level.EQUAL),
        (made([("j", "a", S.READY)] * 2000, [(i, i + 1) for i in range(1999)]), Level.APPS),
    ],
)
def test_as_many_nodes_are_drawn_as_fit(graph: JobGraph, level: Level) -> None:
    assert fitting_picture(graph).level is level


def test_states_that_differ_at_random_are_drawn_by_layers() -> None:
    """Twenty layers of which each job has the next state: too many that are equal."""
    states = [S.JOB_FINISHED, S.RUNNING, S.FAILED]
    jobs = [(f"j{i}", "a", states[i % 3]) for i in range(2000)]
    edges = [(i - 100 + k * 7 % 50, i) for i in range(150, 2000) for k in range(i % 3 + 1)]
    drawn = fitting_picture(made(jobs, edges))
    assert drawn.level in (Level.LAYERS, Level.APPS)
    assert drawn.jobs == 2000


random_graphs = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
                lambda edge: edge[0] < edge[1]
            ),
            max_size=25,
            unique=True,
        ),
        st.lists(st.sampled_from("ab"), min_size=count, max_size=count),
    )
)


@given(random_graphs)
def test_every_job_and_dependency_is_in_every_picture(
    graph: tuple[int, list[tuple[int, int]], list[str]],
) -> None:
    count, edges, apps = graph
    whole = made([("j", app, S.READY) for app in apps], list(edges))
    deep = depths(whole)
    assert all(deep[parent] < deep[child] for parent, child in edges)
    for level in Level:
        drawn = picture(whole, level)
        assert drawn.jobs == count
        assert sum(edge.dependencies for edge in drawn.edges) == len(edges)
        if level is not Level.APPS:
            assert all(edge.parent != edge.child for edge in drawn.edges)


# places ----------------------------------------------------------------------------------


@given(random_graphs, st.booleans())
def test_nodes_do_not_overlap_and_children_are_below(
    graph: tuple[int, list[tuple[int, int]], list[str]], circles: bool
) -> None:
    count, edges, _ = graph
    given = [*edges, *((b, a) for a, b in edges[:3]), (0, 0)] if circles else edges
    widths = [40.0 + 7 * (i % 5) for i in range(count)]
    layout = lay_out(widths, 30.0, given)
    for i, (x, y) in enumerate(layout.centres):
        assert widths[i] / 2 - 1e-6 <= x <= layout.width - widths[i] / 2 + 1e-6
        assert 15 <= y <= layout.height - 15
        for j in range(i):
            if layout.centres[j][1] == y:
                apart = abs(layout.centres[j][0] - x) - (widths[i] + widths[j]) / 2
                assert apart >= GAP - 1e-6
    for (parent, child), route in zip(given, layout.routes, strict=True):
        if parent == child:
            assert route == []
            continue
        assert (route[0], route[-1]) == (layout.centres[parent], layout.centres[child])
        if not circles:
            assert all(a[1] < b[1] for a, b in pairwise(route))


def test_a_chain_stands_straight() -> None:
    layout = lay_out([50.0, 90.0, 60.0], 30.0, [(0, 1), (1, 2)])
    assert len({round(x, 6) for x, _ in layout.centres}) == 1


def test_a_graph_of_many_long_edges_is_laid_out() -> None:
    layout = lay_out([10.0] * 400, 10.0, [(i, j) for i in range(399) for j in (i + 1, 399)])
    assert len(layout.centres) == 400


# formats ---------------------------------------------------------------------------------

NASTY = [
    'quo"te',
    "back\\slash\\",
    "<b>bold</b> & #35; &amp;",
    "`md` *x* _y_ in_side",
    "1. list",
    "- dash",
    "end",
    "new\nline\tand \x1b[1m",
    "semi;colon %% --> [x] {y} (z) |w|",
    "ünïcode → 漢字",
    "",
]


def nasty() -> Picture:
    jobs = [(name, f"app {name}", S.READY) for name in NASTY]
    edges = [(i, i + 1, list(Kind)[i % 3]) for i in range(len(NASTY) - 1)]
    return picture(made(jobs, edges), Level.JOBS)


def test_mermaid_has_nothing_that_it_takes_for_syntax() -> None:
    lines = graph_text.mermaid(nasty()).splitlines()
    assert lines[0] == "flowchart TD"
    labels = [line for line in lines if '["' in line]
    assert len(labels) == len(NASTY)
    for line in labels:
        text = re.fullmatch(r' +n\d+\["(.*)<br/>\d+ · READY"\]:::ready', line)
        assert text
        assert not re.search(r'["`*<>\\&|%]', text[1])
        assert not re.search(r"#(?!\d+;)", text[1])
        assert not re.match(r"[-+]|\d+[.)] ", text[1])
    decoded = [
        re.sub(r"#(\d+);", lambda m: chr(int(m[1])), label.split('["')[1].split("<br/>")[0])
        for label in labels
    ]
    assert decoded[0] == 'quo"te'
    assert decoded[2] == NASTY[2]
    assert decoded[3] == NASTY[3]
    assert "in_side" in labels[3]


def test_mermaid_tells_the_kinds_of_edges_apart() -> None:
    text = graph_text.mermaid(nasty())
    assert " n0 --> n1\n" in text
    assert ' n1 -.->|"if it fails"| n2\n' in text
    assert ' n2 ==>|"in any case"| n3\n' in text


def test_graphviz_reads_what_is_given_to_it() -> None:
    if shutil.which("dot") is None and not os.environ.get("CI"):
        pytest.skip("Graphviz (dot) is not installed")
    for drawn in (nasty(), picture(fan(30, done=10), Level.LAYERS)):
        done = subprocess.run(
            ["dot", "-Tjson"], input=graph_text.dot(drawn), capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        read = json.loads(done.stdout)
        assert len(read["objects"]) == len(drawn.nodes)
        assert len(read.get("edges", [])) == len(drawn.edges)
        texts = [
            "".join(part["text"] for part in node["_ldraw_"] if part["op"] == "T")
            for node in read["objects"]
        ]
        for node, text in zip(drawn.nodes, texts, strict=True):
            shown = "".join(c if c.isprintable() else " " for c in node.name)
            assert text.startswith(shown if node.jobs == 1 else node.application)


def test_stripes_of_a_node_with_several_states() -> None:
    text = graph_text.dot(picture(fan(4, done=1), Level.APPS))
    assert 'style=striped, fillcolor="#dfebf6;0.750:#dff2e9"' in text


def test_svg_is_xml_with_all_nodes_and_edges() -> None:
    drawn = nasty()
    root = ElementTree.fromstring(graph_svg.svg(drawn, 'a "title" <&'))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    for name in NASTY:
        shown = "".join(c if c.isprintable() or c == "\n" else " " for c in name)
        assert any(text.startswith(shown[:30]) for text in texts)
    arrows = [e for e in root.iter(f"{SVG}path") if e.get("marker-end")]
    assert [e.get("marker-end") for e in arrows[:3]] == ["url(#ok)", "url(#fail)", "url(#any)"]
    assert len(arrows) == len(drawn.edges)
    assert {"runs if it fails", "runs in any case"} <= set(texts)


def test_svg_of_alike_jobs_says_how_many_are_in_which_state() -> None:
    drawn = picture(fan(10_000, done=9000), Level.LAYERS)
    text = graph_svg.svg(drawn, "fan")
    ElementTree.fromstring(text)
    assert f"sim {TIMES} 10,000" in text
    assert "9,000 JOB_FINISHED" in text
    assert f"{TIMES} 10,000</text>" in text


def test_json_of_jobs_and_of_nodes_of_several() -> None:
    drawn = picture(fan(3, done=1), Level.EQUAL)
    record = json.loads(json.dumps(graph_text.record(drawn, IDENTITY)))
    assert (record["collapse"], record["jobs"]) == ("equal", 5)
    prepare, done, running, _ = record["nodes"]
    assert prepare["job_id"] == IDENTITY.text(1)
    assert (done["id"], done["state"], done["job_id"]) == (2, "JOB_FINISHED", IDENTITY.text(2))
    assert (running["jobs"], running["states"], running["job_id"]) == (2, {"RUNNING": 2}, None)
    assert {"parent": 3, "child": 5, "kind": "ok", "dependencies": 2} in record["edges"]
