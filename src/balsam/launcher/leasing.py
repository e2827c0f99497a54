"""When a launcher asks for jobs, and for how many. Pure."""

from __future__ import annotations

import msgspec

from balsam.launcher.board import Board
from balsam.model.job import needs_transfer
from balsam.model.resources import UNITS, NodeResources
from balsam.model.states import State
from balsam.model.wire import Lease, LeaseRequest

#: Seconds after which an idle launcher looks for work by itself, though no bell rang.
LOOK_SECONDS = 5.0
#: Most jobs leased at once, and most held back for the free places.
LARGEST_LEASE, LARGEST_STOCK = 1000, 4000
#: How often the stock may be held of jobs that wait for many cores to be free at once.
MOST_BLOCKED = 4
#: No more is leased while so many jobs have files moved, or wait for that: others may be free.
MOST_STAGING = 1000
#: Jobs whose files are moved are leased ahead until there are so many, however few the places.
FEWEST_STAGING = 20


class Leasing:
    """Decides when to lease.

    Parameters
    ----------
    request
        Whose jobs, and which; kept up to date by the planner, but for the numbers.
    stage_files
        Whether the launcher moves files (`LauncherSettings.stage_files`).
    """

    def __init__(self, request: LeaseRequest, stage_files: str = "auto") -> None:
        self.is_asked = False  #: the database has a request to answer
        self.retry_at: float | None = None  #: when the next job that waits for its retry comes
        self.staging = 0  #: jobs whose files we move, or are to
        self.leaves_files = stage_files == "never"  #: others move results of jobs away
        self._stage_files = stage_files
        self._request = request
        self._request.leave_files = stage_files == "auto"
        self._files_hungry = True  #: there may be jobs whose files we can move
        self._hungry = True  #: there may be jobs to lease
        self._news = False  #: there is cause to ask that came after the last request
        self._urgent = False  #: there may be jobs that go before all in stock
        self._looked_at = 0.0
        self._mean_units = UNITS

    def look(self, *, urgent: bool = False) -> None:
        """There may be jobs to lease; *urgent*: also some that go before all in stock."""
        self._hungry = self._files_hungry = self._news = True
        self._urgent = self._urgent or urgent

    def times(self) -> list[float]:
        """Return when `due` is to be asked again, though nothing happened."""
        look = self._looked_at + LOOK_SECONDS
        return [look] if self.retry_at is None else [look, self.retry_at]

    def due(
        self,
        now: float,
        board: Board,
        minutes_left: float | None,
        too_long: list[tuple[str, int]],
    ) -> LeaseRequest | None:
        """Return what to ask for when fewer jobs are in stock than will soon be needed."""
        waited = self.retry_at is not None and now >= self.retry_at
        if waited or now - self._looked_at >= LOOK_SECONDS:
            self.look(urgent=True)
        if self.is_asked or not (self._hungry or self._files_hungry):
            return None
        if self.staging >= MOST_STAGING:
            return None
        nodes = [node for node in board.nodes.values() if not node.set_aside]
        if not nodes:
            return None
        cores = [node.resources.cores for node in nodes]
        stock = board.classes.stock(max(cores))
        free = sum(node.slots.core_units for node in nodes)
        wanted = free + int(sum(cores) * UNITS * max(1.0, board.classes.stock_per_place()))
        in_stock = (
            stock.units > wanted // 2
            or stock.blocked > MOST_BLOCKED * wanted
            or stock.jobs > LARGEST_STOCK
        )
        request = self._request
        request.stage_in = request.stage_out = self._files_room(wanted)
        hungry = self._hungry and (self._urgent or not in_stock)
        if not hungry and not (self._files_hungry and request.stage_in):
            return None
        limit = max(1, (wanted if in_stock else wanted - stock.units) // self._mean_units)
        request.limit = min(limit, LARGEST_LEASE)
        request.only_priority_from = board.classes.highest_priority() + 1 if in_stock else None
        request.minutes_left, request.too_long = minutes_left, too_long
        self._looked_at, self.is_asked, self._urgent, self.retry_at = now, True, False, None
        self._news = False
        request.number += 1
        return msgspec.structs.replace(request)

    def _files_room(self, wanted: int) -> int:
        """Return of how many jobs more we can soon move files; *wanted* is the work for all."""
        if self._stage_files == "never":
            return 0
        most = min(max(FEWEST_STAGING, wanted // self._mean_units), LARGEST_LEASE)
        return most - self.staging if self.staging <= most // 2 else 0

    def answered(self, lease: Lease, nodes: list[NodeResources], now: float) -> None:
        """Learn from what was leased."""
        self.is_asked = False
        self.retry_at = None if lease.next_in is None else now + lease.next_in
        self.leaves_files = self._stage_files == "never" or (
            self._stage_files == "auto" and lease.has_mover
        )
        to_stage = [job.state for job in lease.jobs if needs_transfer(job)]
        most = self._request.stage_in
        many = max(to_stage.count(State.READY), to_stage.count(State.POSTPROCESSED)) >= most > 0
        self._files_hungry = self._news or many or (self._files_hungry and not most)
        if self._request.only_priority_from is None:
            # What has come meanwhile (a node, say) the answer may know nothing of.
            self._hungry = self._news or len(lease.jobs) - len(to_stage) >= self._request.limit
        if lease.jobs:
            cores = max((node.cores for node in nodes), default=1)
            units = sum(job.request.all_core_units(cores) for job in lease.jobs)
            self._mean_units = max(1, units // len(lease.jobs))
