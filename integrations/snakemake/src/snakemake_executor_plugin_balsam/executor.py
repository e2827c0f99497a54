"""The executor: Snakemake's jobs go into a Balsam site, and their ends come back."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from hashlib import blake2s
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from balsam.api import END_STATES, Site, State
from balsam.client.interface import Client
from balsam.config import user_name
from balsam.errors import AlreadyExists, BalsamError, InvalidInput
from balsam.model.app import App
from balsam.model.job import Job, check_job
from balsam.model.query import Query, parse
from balsam.model.wire import LauncherInfo
from balsam.wfformat.names import plain

from .demand import Demand
from .doorbell import Doorbell
from .launcher import Launcher
from .resources import job_fields

#: Runs a job script: ``sh SCRIPT``, or ``env SCRIPT`` for one that has a ``#!`` of the user's.
APP = App(
    name="snakemake",
    executable="/usr/bin/env {{runner}} {{script}}",
    description="Jobs of Snakemake",
)
#: Marks jobs of one workflow for a launcher of Snakemake's own.
TAG = "snakemake"
#: Ids in one query.
MANY = 5000
#: How often it is looked whether jobs were removed.
SECONDS_BETWEEN_COUNTS = 30


class Executor(RemoteExecutor):
    """Submits jobs in one transaction, asks for all of them in one query, kills all in one."""

    # The base class starts its thread before `__post_init__` has run.
    _doorbell: Doorbell | None = None
    _launcher: Launcher | None = None

    def __post_init__(self) -> None:
        settings = self.workflow.executor_settings
        #: What was submitted and has not been reported, by id in the site.
        self._unfinished: dict[int, SubmittedJobInfo] = {}
        self._threads: int | None = None
        self._is_away = False
        self._count_at = 0.0
        self._demand = Demand()
        directory = os.path.basename(os.path.abspath(self.workflow.workdir_init))
        self._name = settings.workflow or f"snakemake/{plain(directory)}"
        try:
            self._site = Site(settings.site)
            self._client: Client = self._site.client
            _register(self._client)
            self._left = self._find_left()
            if not self._launchers():
                self._without_launcher(start=settings.launcher)
            self._doorbell = Doorbell(self._client)
        except BalsamError as error:
            raise WorkflowError(f"Balsam: {error}") from error
        self.logger.info(f"Balsam site: {self._site.path}, workflow: {self._name}")

    def _without_launcher(self, *, start: bool) -> None:
        if start:
            log = Path(self.workflow.workdir_init, ".snakemake", "log", "balsam-launcher.log")
            self._launcher = Launcher(self._site.path, f"{TAG}={self._name}", log)
            self.logger.info(f"Balsam launcher started (log: {log}).")
            return
        self.logger.warning(
            f"No launcher of {self._site.path} takes these jobs: they wait until one does. Start"
            " one by `balsam launcher` or `balsam submit-launch`, or give --balsam-launcher."
        )

    # submitting -------------------------------------------------------------------------
    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        for job in jobs:
            self.run_job_pre(job)
        self._submit(jobs)

    def run_job(self, job: JobExecutorInterface) -> None:
        self._submit([job])

    def _submit(self, jobs: Sequence[JobExecutorInterface]) -> None:
        """Submit *jobs* at once; those that cannot be are reported as failed, each by itself."""
        new: list[tuple[JobExecutorInterface, Job]] = []
        for job in jobs:
            try:
                if self._resume(job):
                    continue
                record = self._record(job)
                check_job(record)
            except BalsamError as error:
                self._refuse(job, error)
            else:
                new.append((job, record))
        if not new:
            return
        if self._launcher is not None:
            self._launcher.keep()
        try:
            ids = self._client.create_jobs([record for _, record in new])
            paths = self._outputs(ids)
        except BalsamError as error:
            for job, _ in new:
                self._refuse(job, error)
            return
        for (job, _), number in zip(new, ids, strict=True):
            self.logger.info(f"Job {job.jobid} is Balsam job {number} (output: {paths[number]}).")
            self._register_submitted(job, number, paths[number])
        self._demand.add(record for _, record in new)

    def _warn_of_shortage(self) -> None:
        for shortage in self._demand.shortages(self._launchers()):
            self.logger.warning(shortage)

    def _launchers(self) -> list[LauncherInfo]:
        """Return the live launchers that take our jobs."""
        return [
            launcher
            for launcher in self._client.launchers()
            if launcher.workflow_filter in self._name
            and launcher.tags.items() <= {TAG: self._name}.items()
            and launcher.jobs_of in ("", user_name())
        ]

    def _refuse(self, job: JobExecutorInterface, error: BalsamError) -> None:
        self.report_job_error(SubmittedJobInfo(job), msg=f"Balsam does not take it: {error}. ")

    def _register_submitted(self, job: JobExecutorInterface, number: int, output: str) -> None:
        info = SubmittedJobInfo(
            job,
            external_jobid=self._client.identity.text(number),
            aux={"id": number, "output": output},
        )
        self._unfinished[number] = info
        self.report_job_submission(info)

    def _record(self, job: JobExecutorInterface) -> Job:
        fields = job_fields(job.threads, job.resources)
        self._threads = fields["threads_per_rank"]
        script = self.get_jobscript(job)
        self.write_jobscript(job, script)
        return Job(
            name=plain(f"{job.name}.{str(job.jobid)[:8]}"),  # that of a group is a UUID
            workflow=self._name,
            application=APP.name,
            description=f"output: {', '.join(map(str, job.output))}"[:1000],
            parameters={"runner": "sh" if self.is_default_jobscript else "env", "script": script},
            tags={TAG: self._name, "rule": job.name, "target": _target(job)},
            max_retries=self.workflow.executor_settings.retries,
            **fields,
        )

    def _resume(self, job: JobExecutorInterface) -> bool:
        """Take over the job that a Snakemake submitted which was killed, if it lives.

        Snakemake's own note of it does not serve: the Snakemake inside the job overwrites that.
        """
        number = self._left.pop(_target(job), None)
        if number is None:
            return False
        self.logger.info(f"Job {job.jobid} goes on as Balsam job {number}.")
        self._register_submitted(job, number, self._outputs([number])[number])
        return True

    def _find_left(self) -> dict[str, int]:
        """Return the live jobs of an earlier Snakemake by what they make; kill what cannot run."""
        mine = Query().where(workflow=self._name, application=APP.name)
        live = Query(filters=mine.filters, excludes=(parse({"state__in": list(END_STATES)}),))
        left, lost = {}, []
        for job in self._client.jobs(live, fields=["tags", "parameters"]):
            if os.path.exists(job.parameters.get("script", "")):
                left[job.tags.get("target", "")] = job.id or 0
            else:
                lost.append(job.id or 0)
        for some in _parts(lost):
            self._client.kill_jobs(_with(some))
        return left

    def _outputs(self, ids: list[int]) -> dict[int, str]:
        """Return the path of each job's output."""
        return {
            job.id or 0: os.path.join(job.workdir, f"{job.name}.out")
            for some in _parts(ids)
            for job in self._client.jobs(_with(some), fields=["name", "workdir"])
        }

    # what the job runs ------------------------------------------------------------------
    @property
    def cores(self) -> int | str:
        """The cores for the Snakemake inside the job at hand: those that the job has."""
        return self._threads or super().cores

    def get_job_exec_prefix(self, job: JobExecutorInterface) -> str:
        # A profile would give the Snakemake inside the job this executor once more.
        return f"cd {shlex.quote(self.workflow.workdir_init)} && unset SNAKEMAKE_PROFILE"

    def get_envvar_declarations(self) -> str:
        """Return ``export A=… &&``, quoted for a shell: values may hold any text."""
        words = [f"{name}={shlex.quote(value)}" for name, value in self.envvars().items()]
        return f"export {' '.join(words)} &&" if words else ""

    # watching ---------------------------------------------------------------------------
    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report all jobs that have ended; yield the others."""
        if not active_jobs:
            return
        numbers = [info.aux["id"] for info in active_jobs]
        try:
            async with self.status_rate_limiter:
                ends = await asyncio.to_thread(self._ends, numbers)
                reasons = await asyncio.to_thread(self._reasons, ends)
                if self._demand.is_new:
                    await asyncio.to_thread(self._warn_of_shortage)
        except BalsamError as error:
            if not error.retryable:
                raise WorkflowError(f"Balsam: {error}") from error
            if not self._is_away:
                self.logger.warning(f"Balsam: {error}; asking again")
            self._is_away = True
            ends, reasons = {}, {}
        else:
            self._is_away = False
        for info in active_jobs:
            if info.aux["id"] in ends:
                self._report(info, ends[info.aux["id"]], reasons)
            else:
                yield info
        self._check_launcher()

    def _ends(self, numbers: list[int]) -> dict[int, State | None]:
        """Return the states of the jobs that have ended; None: it was removed from the site.

        Only now and then are all asked for, to find those that were removed: a check follows
        whenever jobs end, and thousands may be waiting.
        """
        now = time.monotonic()
        for_all = now >= self._count_at
        if for_all:
            self._count_at = now + SECONDS_BETWEEN_COUNTS
        found = {}
        for some in _parts(numbers):
            chosen = _with(some) if for_all else _with(some).where(state__in=list(END_STATES))
            for job in self._client.jobs(chosen, fields=["state"]):
                found[job.id or 0] = job.state
        ends: dict[int, State | None] = {n: s for n, s in found.items() if s in END_STATES}
        if for_all:
            ends.update((number, None) for number in numbers if number not in found)
        return ends

    def _reasons(self, ends: dict[int, State | None]) -> dict[int, str]:
        """Return what the last event of each job that did not end well tells."""
        failed = [number for number, state in ends.items() if state != State.JOB_FINISHED]
        return {
            event.job: event.message.partition("\n")[0].rstrip(".:")
            for some in _parts(failed)
            for event in self._client.events(Query(filters=parse({"job__in": some}, "events")))
            if event.message
        }

    def _report(self, info: SubmittedJobInfo, state: State | None, reasons: dict[int, str]) -> None:
        number, output = info.aux["id"], info.aux["output"]
        self._unfinished.pop(number, None)
        if state == State.JOB_FINISHED:
            self.report_job_success(info)
            return
        what = f"is {state}: {reasons.get(number, '')}" if state else "was removed from the site"
        self.report_job_error(info, msg=f"Balsam job {number} {what}. ", aux_logs=[output])

    def _check_launcher(self) -> None:
        if self._launcher is None or not self._unfinished:
            return
        self._launcher.keep()
        if self._launcher.exit_code is not None:
            raise WorkflowError(
                f"The Balsam launcher has ended with exit code {self._launcher.exit_code}, and"
                f" {len(self._unfinished)} jobs have not: see {self._launcher.log}"
            )

    async def sleep(self) -> None:
        """Wait for a job to end; look anyway after the time between two checks."""
        if self._doorbell is None:
            await asyncio.sleep(0.1)
            return
        await asyncio.to_thread(self._doorbell.wait, self.next_seconds_between_status_checks)

    # ending -----------------------------------------------------------------------------
    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Kill all jobs that have not been reported (*active_jobs* lacks those being checked)."""
        try:
            for some in _parts(self._unfinished):
                self._client.kill_jobs(_with(some))
        except BalsamError as error:
            self.logger.warning(f"Balsam: the jobs of {self._name} were not killed: {error}")

    def shutdown(self) -> None:
        with self.lock:
            self.wait = False
        doorbell = self._doorbell
        if doorbell is not None:
            doorbell.press()
            if not self.workflow.remote_execution_settings.immediate_submit:
                self.cancel_jobs([])  # nobody would hear of their ends
        super().shutdown()
        if self._launcher is not None:
            self._launcher.stop()
            self._launcher = None
        if doorbell is not None:  # not the second time
            self._doorbell = None
            doorbell.close()
            self._site.close()


def _register(client: Client) -> None:
    query = Query(filters=parse({"name": APP.name}, "apps"))
    known = client.apps(query)
    if not known:
        try:
            client.add_app(APP)
        except AlreadyExists:
            known = client.apps(query)
    if known and known[0].executable != APP.executable:
        raise InvalidInput(
            f"the site's app {APP.name!r} is not this plugin's: it runs {known[0].executable!r};"
            " rename it, or use another site"
        )


def _target(job: JobExecutorInterface) -> str:
    """Return a digest of what *job* makes, by which another Snakemake knows it again."""
    outputs = sorted(os.path.abspath(str(path)) for path in job.output)
    made = outputs or [os.getcwd(), *sorted(map(repr, job.get_target_spec()))]
    return blake2s("\n".join(made).encode(), digest_size=8).hexdigest()


def _with(numbers: Iterable[int]) -> Query:
    return Query().where(id__in=list(numbers))


def _parts(numbers: Iterable[int]) -> Iterable[list[int]]:
    every = list(numbers)
    return (every[start : start + MANY] for start in range(0, len(every), MANY))
