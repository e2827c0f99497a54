"""The jobs of a simulation, and what is recorded of them."""

from __future__ import annotations

import msgspec

from balsam.model.app import App
from balsam.model.job import Job, needs_transfer
from balsam.model.run_time import RunTime
from balsam.model.states import END_STATES, LEASABLE_STATES, State, legal
from balsam.model.wire import Aftermath, Attempt, Lease, LeaseRequest, Refusal, Report

S = State
LAUNCHER = 7


class Database:
    """Jobs, who holds them, and what is recorded; refuses as the store does."""

    def __init__(self, jobs: list[Job], apps: dict[str, App]) -> None:
        self.jobs = {job.id or 0: job for job in jobs}
        self.apps = apps
        self.paths: dict[int, list[State]] = {id_: [job.state] for id_, job in self.jobs.items()}
        self.attempts: dict[tuple[int, int], Attempt] = {}
        self.not_before: dict[int, float] = {}  #: when a job may run again, by its last retry
        self.run_times: list[RunTime] = []
        self.leases = 0
        self.has_mover = False  #: a service moves files

    def lease(self, request: LeaseRequest, now: float) -> Lease:
        self.leases += 1
        lowest = request.only_priority_from
        fitting = [
            job
            for job in self.jobs.values()
            if job.launcher_id is None
            and job.state in LEASABLE_STATES
            and (_fits(job, request) or job.state.startswith(("RUN_", "POST")))
        ]
        for job in fitting:
            if job.retry_at is not None and job.retry_at <= now:
                job.retry_at = None
        delays = [job.retry_at - now for job in fitting if job.retry_at is not None]
        free = [
            job
            for job in fitting
            if job.retry_at is None and (lowest is None or job.priority >= lowest)
        ]
        free.sort(key=lambda j: (-j.priority, -j.num_nodes, -j.wall_time_minutes, j.id))
        queued = [job for job in free if not needs_transfer(job)]
        given = queued[: request.limit] + self._to_stage(request, free)
        for job in given:
            job.launcher_id = LAUNCHER
        return Lease(
            jobs=[msgspec.structs.replace(job) for job in given],
            apps=self.apps,
            run_times=self.run_times,
            next_in=min(delays, default=None) if len(queued) < request.limit else None,
            has_mover=self.has_mover,
        )

    def _to_stage(self, request: LeaseRequest, free: list[Job]) -> list[Job]:
        if self.has_mover and request.leave_files:
            return []
        waiting = [job for job in free if needs_transfer(job)]
        results = [job for job in waiting if job.state == S.POSTPROCESSED][: request.stage_out]
        return results + [job for job in waiting if job.state == S.READY][: request.stage_in]

    def report(self, report: Report) -> list[Refusal]:
        refused: dict[int, Refusal] = {}
        for move in report.moves:
            job = self.jobs[move.job]
            starts = move.to_state == S.RUNNING
            if move.job in refused:
                continue
            fits = job.state == move.from_state and move.attempt == job.attempt + starts
            if job.launcher_id != LAUNCHER or not fits:
                refused[move.job] = Refusal(move.job, job.state, "moved by somebody else")
                continue
            assert legal(move.from_state, move.to_state), move
            if move.from_state == S.RUN_ERROR and move.to_state == S.RESTART_READY:
                job.retries += 1
            job.timeouts += move.to_state == S.RUN_TIMEOUT
            if move.aftermath is not None:
                self._change(job, move.aftermath)
            job.attempt = move.attempt
            self.move(move.job, move.to_state)
        for attempt in report.attempts:
            self.attempts[attempt.job, attempt.number] = attempt
        for released in report.released:
            if self.jobs[released].launcher_id == LAUNCHER:
                self.jobs[released].launcher_id = None
        return list(refused.values())

    def _change(self, job: Job, after: Aftermath) -> None:
        job.crashes += after.crashed
        job.memory_mib = after.memory_mib or job.memory_mib
        job.wall_time_minutes = after.wall_time_minutes or job.wall_time_minutes
        if after.retry_at is not None:
            job.retry_at = self.not_before[job.id or 0] = after.retry_at

    def move(self, id_: int, state: State) -> None:
        job = self.jobs[id_]
        job.state = state
        if state in END_STATES:
            job.retry_at = None
        self.paths[id_].append(state)
        if state in END_STATES and state != S.USER_KILLED:
            job.launcher_id = None

    def killed(self) -> list[int]:
        return [
            id_
            for id_, job in self.jobs.items()
            if job.launcher_id == LAUNCHER and job.state == S.USER_KILLED
        ]


def _fits(job: Job, request: LeaseRequest) -> bool:
    return (
        job.num_nodes <= request.num_nodes
        and (job.node_packing_count > 1 or job.request.cores_per_node <= request.cores)
        and _fits_gpus(job.gpus_per_rank, job.ranks_per_node, int(request.gpus))
        and job.memory_mib <= request.memory_mib
        and (request.minutes_left is None or job.wall_time_minutes <= request.minutes_left)
        and not _takes_too_long(job, request)
    )


def _takes_too_long(job: Job, request: LeaseRequest) -> bool:
    unknown = not job.wall_time_minutes and not job.timeouts
    return unknown and (job.application, job.num_nodes * job.ranks_per_node) in request.too_long


def _fits_gpus(share: float, ranks: int, devices: int) -> bool:
    if share < 1:
        return not share or ranks <= devices * int(1 / share)
    return ranks * share <= devices
