"""Sites and work for the plan, of every kind: strategies of hypothesis, and nodes to begin with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st

from balsam.model.resources import UNITS, NodeResources, Request
from balsam.model.service import QueueState
from balsam.model.walltime import time_limit
from balsam.schedulers.scheduler import Window
from balsam.service.estimate import Work
from balsam.service.plan import Allocation, Plan, Site, Submission


def node(cores: int = 8, gpus: int = 0, memory_mib: int = 16_000) -> NodeResources:
    names = tuple(str(number) for number in range(gpus))
    return NodeResources(
        host="a node", cores=cores, threads=cores, memory_mib=memory_mib, gpus=names
    )


def work(count: int = 1, minutes: float = 10.0, *, example: int = 1, **fields: object) -> Work:
    """Jobs; *fields* are those of `Request`, or `is_soon`."""
    is_soon = bool(fields.pop("is_soon", False))
    request = msgspec.convert(fields, Request)
    return Work(request=request, minutes=minutes, count=count, example=example, is_soon=is_soon)


NODES = st.builds(
    node,
    cores=st.sampled_from([1, 2, 7, 8, 64]),
    gpus=st.sampled_from([0, 0, 1, 4]),
    memory_mib=st.sampled_from([1000, 64_000]),
)
REQUESTS = st.builds(
    Request,
    num_nodes=st.sampled_from([1, 1, 1, 2, 3, 16]),
    ranks_per_node=st.sampled_from([1, 1, 2, 8]),
    threads_per_rank=st.sampled_from([1, 1, 3]),
    gpus_per_rank=st.sampled_from([0.0, 0.0, 0.0, 0.3, 0.6, 1.0, 2.0]),
    memory_mib=st.sampled_from([0, 0, 300, 30_000]),
    node_packing_count=st.sampled_from([1, 1, 3, 64]),
)
MINUTES = st.one_of(
    st.sampled_from([0.001, 1.0, 10.0, 30.0, 59.0, 60.0, 100.0, 720.0]),
    st.floats(0.01, 200, allow_nan=False),
)
QUEUES = st.builds(
    QueueState,
    name=st.just(""),
    is_open=st.sampled_from([True, True, True, False]),
    comment=st.just("it is closed"),
    min_nodes=st.sampled_from([1, 1, 2, 5]),
    max_nodes=st.sampled_from([None, 1, 4, 30]),
    min_minutes=st.sampled_from([0.0, 0.0, 30.0, 90.0]),
    max_minutes=st.sampled_from([None, 0.5, 10.0, 60.0, 60.5, 1440.0]),
    max_queued=st.sampled_from([None, 0, 1, 2, 10]),
    nodes=st.sampled_from([0, 3, 20]),
)


@st.composite
def works(draw: st.DrawFn) -> list[Work]:
    """Classes of work, as the record has them: no two with the same example."""
    classes = draw(
        st.lists(
            st.builds(
                Work,
                request=REQUESTS,
                minutes=MINUTES,
                count=st.sampled_from([1, 2, 7, 100, 3000]),
                example=st.just(0),
                is_soon=st.sampled_from([False, False, True]),
            ),
            max_size=6,
        )
    )
    return [msgspec.structs.replace(each, example=n) for n, each in enumerate(classes, 1)]


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Queues, windows, allocations and a budget."""
    names = [f"q{number}" for number in range(draw(st.integers(1, 3)))]
    queues = [msgspec.structs.replace(draw(QUEUES), name=name) for name in names]
    nodes = {name: draw(NODES) for name in names}
    windows = draw(
        st.lists(
            st.builds(
                Window,
                queue=st.sampled_from([*names, "other"]),
                num_nodes=st.integers(1, 25),
                minutes=st.one_of(st.none(), st.floats(0, 300)),
            ),
            max_size=4,
        )
    )
    allocations = [
        Allocation(
            batch_job=number,
            queue=(queue := draw(st.sampled_from(names))),
            num_nodes=draw(st.integers(1, 20)),
            minutes=draw(st.floats(0, 400)),
            is_waiting=draw(st.booleans()),
            is_ours=draw(st.booleans()),
            node=nodes[queue],
            used=draw(st.sampled_from([0.0, 0.0, 100.0])),
        )
        for number in range(1, 1 + draw(st.integers(0, 3)))
    ]
    return Site(
        queues=queues,
        nodes=nodes,
        windows=windows,
        allocations=allocations,
        budget_left=draw(st.sampled_from([None, None, -1.0, 0.0, 0.5, 20.0, 500.0])),
        target_minutes=draw(st.sampled_from([5.0, 60.0, 600.0])),
    )


def copied(some: Sequence[Work]) -> list[Work]:
    """Return the same work, to be taken by a plan of its own."""
    return [msgspec.structs.replace(each) for each in some]


def counts(some: Sequence[Work]) -> dict[int, int]:
    """Return how many jobs of each class there are, by its example."""
    return {each.example: each.count for each in some}


def applied(site: Site, result: Plan) -> Site:
    """Return the site after the plan was carried out."""
    last = max((each.batch_job for each in site.allocations), default=0)
    kept = [each for each in site.allocations if each.batch_job not in result.surplus]
    made = [allocation(each, last + n, site) for n, each in enumerate(result.submissions, 1)]
    budget = site.budget_left
    if budget is not None:
        budget -= sum(each.node_hours for each in result.submissions)
    return msgspec.structs.replace(site, allocations=[*kept, *made], budget_left=budget)


def allocation(asked: Submission, number: int, site: Site) -> Allocation:
    """Return what a request is when it waits, as `demand` would tell of it."""
    return Allocation(
        batch_job=number,
        queue=asked.queue,
        num_nodes=asked.num_nodes,
        minutes=time_limit(asked.minutes),
        is_waiting=True,
        node=site.nodes[asked.queue],
    )


def share(of: NodeResources, request: Request) -> float:
    """Return the part of the scarcest thing of a node that one job takes there."""
    parts = [request.core_units(of.cores) / (of.cores * UNITS)]
    if request.gpu_units:
        parts.append(request.gpu_units / (len(of.gpus) * UNITS))
    if request.memory_mib:
        parts.append(request.memory_mib / of.memory_mib)
    return max(parts)
