"""What is told of queues and of free nodes."""

from __future__ import annotations

from tests.contract.schedulers.desk import Desk
from tests.contract.schedulers.system import System


def test_it_is_here(desk: Desk, system: System) -> None:
    assert system.scheduler.is_here(desk.run)


def test_queues_have_their_limits(desk: Desk, system: System) -> None:
    queues = {queue.name: queue for queue in system.scheduler.queues(desk.run)}
    found = queues[system.queue]
    assert found.is_open
    assert found.max_minutes == system.max_minutes
    if getattr(system, "tells_cores", True):
        assert found.cores_per_node >= max(1, system.cores_per_node)
    assert found.nodes >= system.num_nodes
    if found.max_nodes is not None:
        assert found.max_nodes >= system.num_nodes
    assert [queue.name for queue in queues.values() if queue.is_default] in ([], [system.queue])
    for queue in queues.values():
        assert queue.is_open == (queue.comment == "")


def test_what_is_taken_is_not_free(desk: Desk, system: System) -> None:
    free = {each.queue: each.num_nodes for each in system.scheduler.windows(desk.run)}
    assert all(count > 0 for count in free.values())
    system.fill()
    taken = {each.queue: each.num_nodes for each in system.scheduler.windows(desk.run)}
    assert taken.get(system.queue, 0) == 0
