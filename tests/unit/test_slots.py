"""What is free on a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.resources import UNITS, NodeResources, Request
from balsam.nodes.slots import Slots, Taken


def node(cores: int = 4, gpus: int = 0, memory_mib: int = 1000, vendor: str = "") -> NodeResources:
    return NodeResources(
        host="n",
        cores=cores,
        threads=2 * cores,
        memory_mib=memory_mib,
        gpus=tuple(map(str, range(gpus))),
        gpu_vendor=vendor,
    )


def fill(slots: Slots, **fields: Any) -> list[Taken]:
    """Take places for one kind of job until there is no more room."""
    taken = []
    while found := slots.take(Request(**fields)):
        taken.append(found)
    return taken


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 4),
        ({"threads_per_rank": 2}, 2),
        ({"threads_per_rank": 2, "threads_per_core": 2}, 4),
        ({"threads_per_rank": 3}, 1),
        ({"threads_per_rank": 5}, 0),
        ({"cores_per_rank": 2, "threads_per_rank": 16}, 2),
        ({"ranks_per_node": 2}, 2),
        ({"ranks_per_node": 2, "cores_per_rank": 2}, 1),
        ({"node_packing_count": 1}, 4),
        ({"node_packing_count": 2}, 2),
        ({"node_packing_count": 64}, 64),
        ({"node_packing_count": 3}, 3),
        ({"memory_mib": 400}, 2),
        ({"memory_mib": 1001}, 0),
        ({"gpus_per_rank": 1.0}, 2),
        ({"gpus_per_rank": 2.0}, 1),
        ({"gpus_per_rank": 3.0}, 0),
        ({"gpus_per_rank": 0.5}, 4),
        ({"gpus_per_rank": 0.6}, 2),
        ({"gpus_per_rank": 0.25, "node_packing_count": 64}, 8),
        ({"gpus_per_rank": 1 / 3, "node_packing_count": 64}, 6),
        ({"gpus_per_rank": 0.5, "ranks_per_node": 2}, 2),
        ({"gpus_per_rank": 0.5, "ranks_per_node": 3}, 1),
    ],
)
def test_as_many_are_placed_as_fit(fields: dict[str, Any], count: int) -> None:
    slots = Slots(node(gpus=2))
    taken = fill(slots, **fields)
    assert len(taken) == count
    for one in taken:
        slots.give_back(one)
    assert slots.idle
    assert (slots.memory_mib, slots.gpu_units) == (1000, [UNITS, UNITS])


def test_sixty_four_to_a_node_are_64_at_a_time_on_two_cores() -> None:
    slots = Slots(node(cores=2))
    assert len(fill(slots, node_packing_count=64)) == 64
    assert slots.take(Request()) is None


def test_a_share_is_of_one_device() -> None:
    """A job with 0.6 of a GPU never gets 0.4 of one and 0.2 of another."""
    slots = Slots(node(gpus=2))
    taken = fill(slots, gpus_per_rank=0.6)
    assert [one.gpus for one in taken] == [((0, 6000),), ((1, 6000),)]
    assert [slots.environ(one)["CUDA_VISIBLE_DEVICES"] for one in taken] == ["0", "1"]


def test_shares_fill_a_device_before_they_open_another() -> None:
    """So that whole ones are left for those who need them."""
    slots = Slots(node(gpus=2))
    quarters = [slots.take(Request(gpus_per_rank=0.25, node_packing_count=64)) for _ in range(4)]
    assert all(one and one.gpus == ((0, 2500),) for one in quarters)
    whole = slots.take(Request(gpus_per_rank=1.0))
    assert whole
    assert whole.gpus == ((1, UNITS),)


def test_what_does_not_fit_takes_nothing() -> None:
    slots = Slots(node(gpus=1))
    for fields in (
        {"threads_per_rank": 5},
        {"memory_mib": 1001},
        {"gpus_per_rank": 2.0},
        {"gpus_per_rank": 1.0, "ranks_per_node": 2},
    ):
        assert slots.take(Request(**fields)) is None
        assert slots.idle
        assert (slots.memory_mib, slots.gpu_units) == (1000, [UNITS])


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        ("nvidia", {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("", {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("amd", {"ROCR_VISIBLE_DEVICES": "0,1"}),
        ("intel", {"ZE_AFFINITY_MASK": "0,1"}),
    ],
)
def test_a_program_is_shown_its_devices(vendor: str, expected: dict[str, str]) -> None:
    slots = Slots(node(gpus=3, vendor=vendor))
    taken = slots.take(Request(gpus_per_rank=2.0))
    assert taken
    assert slots.environ(taken) == expected


def test_a_program_that_asked_for_no_device_is_shown_none() -> None:
    slots = Slots(node(gpus=1))
    taken = slots.take(Request())
    assert taken
    assert slots.environ(taken)["CUDA_VISIBLE_DEVICES"] == ""


def test_on_a_node_without_devices_nothing_is_said() -> None:
    slots = Slots(node())
    taken = slots.take(Request())
    assert taken
    assert slots.environ(taken) == {}


SHARES = (0.0, 0.1, 0.25, 1 / 3, 0.5, 0.6, 1.0, 2.0)
requests = st.builds(
    Request,
    ranks_per_node=st.integers(1, 4),
    threads_per_rank=st.integers(1, 4),
    threads_per_core=st.integers(1, 2),
    gpus_per_rank=st.sampled_from(SHARES),
    memory_mib=st.sampled_from((0, 1, 333, 1000)),
    node_packing_count=st.sampled_from((1, 1, 2, 64)),
)


@given(st.integers(1, 8), st.integers(0, 3), st.lists(st.tuples(requests, st.booleans())))
def test_resources_are_never_over_committed_and_all_come_back(
    cores: int, gpus: int, steps: Sequence[tuple[Request, bool]]
) -> None:
    slots = Slots(node(cores, gpus))
    held: list[tuple[Request, Taken]] = []
    for request, gives_back in steps:
        if gives_back and held:
            slots.give_back(held.pop(0)[1])
        taken = slots.take(request)
        if taken:
            held.append((request, taken))
        elif not held:
            assert slots.node.shortage(request)
        used = [sum(u for _, one in held for d, u in one.gpus if d == g) for g in range(gpus)]
        assert all(units <= UNITS for units in used)
        assert slots.gpu_units == [UNITS - units for units in used]
        told = [core for _, one in held for core in one.cores]
        assert len(set(told)) == len(told) <= cores, "a core was given twice"
        assert slots.core_units >= 0
        assert slots.memory_mib >= 0
        assert sum(r.core_units(cores) for r, _ in held) + slots.core_units == cores * UNITS
        for request_held, one in held:
            if request_held.gpus_per_rank < 1:  # each rank's share is on one device
                share = round(request_held.gpus_per_rank * UNITS)
                assert all(units % share == 0 for _, units in one.gpus)
    for _, taken in held:
        slots.give_back(taken)
    assert slots.idle
    assert slots.gpu_units == [UNITS] * gpus
    assert slots.memory_mib == 1000


@given(requests, st.integers(1, 8), st.integers(0, 3))
def test_what_a_node_can_hold_is_what_it_says(request: Request, cores: int, gpus: int) -> None:
    """A request is placed on an empty node unless the node says why it never can be."""
    resources = node(cores, gpus)
    assert (Slots(resources).take(request) is None) is bool(resources.shortage(request))
    assert Slots(resources).has_room(request) is not bool(resources.shortage(request))
