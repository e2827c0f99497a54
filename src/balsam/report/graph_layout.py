"""Where the nodes of a graph stand and its edges run: layers from top to bottom.

The usual way (Sugiyama, Tagawa and Toda, 1981): edges that close a circle are turned, each node
gets the layer below all its parents, edges over several layers are led through each of them, the
order within the layers is chosen by the means of the neighbours, and then the places are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

#: Pixels between neighbours of a layer, and between layers.
GAP, LAYER_GAP = 18.0, 46.0
#: How often the orders are improved, and the places.
_ORDER_SWEEPS, _PLACE_SWEEPS = 12, 8
#: Points that edges are led through; more edges are drawn straight.
_MOST_POINTS = 20_000

Point = tuple[float, float]


class Layout(NamedTuple):
    """Everything in pixels from the upper left corner."""

    centres: list[Point]
    routes: list[list[Point]]  #: of each edge, from its parent's centre to its child's
    width: float
    height: float


def lay_out(widths: Sequence[float], height: float, edges: Sequence[tuple[int, int]]) -> Layout:
    """Return the places of nodes that are *widths* wide and *height* high.

    Edges from a node to itself have the route [].
    """
    kept = _kept(len(widths), edges)
    forward = [(a, b) if keep else (b, a) for (a, b), keep in zip(edges, kept, strict=True)]
    layer = _layers(len(widths), [edge for edge in forward if edge[0] != edge[1]])
    drawing = _Drawing(list(widths), layer)
    paths = [drawing.lead(*edge) if edge[0] != edge[1] else [] for edge in forward]
    drawing.order()
    places = drawing.place()
    rows = [
        height / 2 + number * (height + LAYER_GAP) for number in range(max(layer, default=0) + 1)
    ]
    centres = [(x, rows[number]) for x, number in zip(places, drawing.layer, strict=True)]
    routes = []
    for edge, turned, path in zip(edges, forward, paths, strict=True):
        points = [centres[node] for node in path]
        routes.append(points if edge == turned else points[::-1])
    count = len(widths)
    right = max((x + w / 2 for x, w in zip(places, widths, strict=False)), default=0.0)
    right = max([right, *(x for x, _ in centres[count:])])
    return Layout(centres[:count], routes, right, (rows[-1] + height / 2) if count else 0.0)


def _kept(count: int, edges: Sequence[tuple[int, int]]) -> list[bool]:
    """Tell of each edge whether it stays as it is; with the others turned there is no circle."""
    below: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for number, (parent, child) in enumerate(edges):
        below[parent].append((number, child))
    kept = [True] * len(edges)
    open_, done = set[int](), set[int]()
    for root in range(count):
        stack = [(root, iter(below[root]))] if root not in done else []
        open_.update(node for node, _ in stack)
        while stack:
            node, left = stack[-1]
            for number, child in left:
                if child in open_:
                    kept[number] = child == node
                elif child not in done:
                    stack.append((child, iter(below[child])))
                    open_.add(child)
                    break
            else:
                stack.pop()
                open_.discard(node)
                done.add(node)
    return kept


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return each node's layer: below all its parents, and roots close to their children."""
    below: list[list[int]] = [[] for _ in range(count)]
    left = [0] * count
    for parent, child in edges:
        below[parent].append(child)
        left[child] += 1
    roots = [node for node in range(count) if not left[node]]
    order, layer = list(roots), [0] * count
    for node in order:  # grows as it is walked
        for child in below[node]:
            layer[child] = max(layer[child], layer[node] + 1)
            left[child] -= 1
            if not left[child]:
                order.append(child)
    for node in roots:
        if below[node]:
            layer[node] = min(layer[child] for child in below[node]) - 1
    return layer


class _Drawing:
    """The layers with their nodes; the points that edges are led through are nodes, too."""

    def __init__(self, widths: list[float], layer: list[int]) -> None:
        self.layer = layer
        self._widths = widths
        self._points = 0
        self._rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
        for node, number in enumerate(layer):
            self._rows[number].append(node)
        self._above: list[list[int]] = [[] for _ in widths]
        self._below: list[list[int]] = [[] for _ in widths]

    def lead(self, parent: int, child: int) -> list[int]:
        """Lead an edge through the layers between its ends; return its nodes."""
        between = range(self.layer[parent] + 1, self.layer[child])
        if self._points + len(between) > _MOST_POINTS:
            return [parent, child]
        self._points += len(between)
        path = [parent, *(self._add_point(number) for number in between), child]
        for upper, lower in pairwise(path):
            self._below[upper].append(lower)
            self._above[lower].append(upper)
        return path

    def _add_point(self, number: int) -> int:
        node = len(self._widths)
        self._widths.append(0.0)
        self.layer.append(number)
        self._rows[number].append(node)
        self._above.append([])
        self._below.append([])
        return node

    def order(self) -> None:
        """Order each layer by the means of where the neighbours stand, down and up in turns."""
        rank = [0.0] * len(self._widths)
        for row in self._rows:
            _number(row, rank)
        for sweep in range(_ORDER_SWEEPS):
            downwards = sweep % 2 == 0
            near = self._above if downwards else self._below
            for row in self._rows if downwards else reversed(self._rows):
                mean = {node: _mean(near[node], rank, rank[node]) for node in row}
                row.sort(key=mean.__getitem__)
                _number(row, rank)

    def place(self) -> list[float]:
        """Return the middle of each node, as near to its neighbours' as the others allow."""
        x = [0.0] * len(self._widths)
        for row in self._rows:
            steps = self._steps(row)
            for node, step in zip(row, steps, strict=True):
                x[node] = step - steps[-1] / 2
        for sweep in range(_PLACE_SWEEPS):
            downwards = sweep % 2 == 0
            near = self._above if downwards else self._below
            for row in self._rows if downwards else reversed(self._rows):
                steps = self._steps(row)
                wanted = [_mean(near[node], x, x[node]) for node in row]
                free = [want - step for want, step in zip(wanted, steps, strict=True)]
                for node, value, step in zip(row, _rising(free), steps, strict=True):
                    x[node] = value + step
        left = min((x[n] - w / 2 for n, w in enumerate(self._widths)), default=0.0)
        return [value - left for value in x]

    def _steps(self, row: list[int]) -> list[float]:
        """Return how far each node of *row* is from the first at the least."""
        steps = [0.0]
        for one, other in pairwise(row):
            steps.append(steps[-1] + (self._widths[one] + self._widths[other]) / 2 + GAP)
        return steps


def _number(row: list[int], rank: list[float]) -> None:
    for place, node in enumerate(row):
        rank[node] = (place + 0.5) / len(row)


def _mean(nodes: list[int], values: list[float], otherwise: float) -> float:
    return sum(values[node] for node in nodes) / len(nodes) if nodes else otherwise


def _rising(values: list[float]) -> list[float]:
    """Return the numbers nearest to *values*, by squares, that never fall (pooled violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, number = pools.pop()
            total, count = total + before, count + number
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]
