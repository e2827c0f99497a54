"""Work that has not been done: jobs counted by what decides where and when they can run."""

from __future__ import annotations

import msgspec

from balsam.model.resources import Request
from balsam.model.states import State


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that have not ended and are alike in what they ask for."""

    state: State
    launcher_id: int | None = None  #: the launcher that has them; None: they are free
    is_delayed: bool = False  #: they wait for the time of their retry
    retry_at: float | None = None  #: the first of these times
    to_stage: bool = False  #: their next step is to move files from or to URLs
    num_nodes: int = 1
    ranks_per_node: int = 1
    threads_per_rank: int = 1
    threads_per_core: int = 1
    cores_per_rank: int = 0
    gpus_per_rank: float = 0.0
    memory_mib: int = 0
    node_packing_count: int = 1
    wall_time_minutes: float = 0.0
    application: str = ""
    was_timed_out: bool = False  #: a launcher's time ended before one of their runs did
    owner: str = ""
    workflow: str = ""  #: '' unless they were counted by workflow
    since: float = 0.0  #: of those that run, the mean time of their start
    count: int = 1
    example: int = 0  #: the lowest id

    @property
    def request(self) -> Request:
        """What each asks of its nodes."""
        return Request(
            num_nodes=self.num_nodes,
            ranks_per_node=self.ranks_per_node,
            threads_per_rank=self.threads_per_rank,
            threads_per_core=self.threads_per_core,
            cores_per_rank=self.cores_per_rank,
            gpus_per_rank=self.gpus_per_rank,
            memory_mib=self.memory_mib,
            node_packing_count=self.node_packing_count,
        )
