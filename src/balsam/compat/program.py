"""What a job runs, by the names of 0.x."""

from __future__ import annotations

from balsam.client.jobs import Job
from balsam.compat.apps import ApplicationDefinition
from balsam.compat.exceptions import NoApplication
from balsam.lifecycle.environ import job_environ, parameters_of
from balsam.model.app import command_line
from balsam.model.states import State


class Program:
    """The part of a `BalsamJob` that knows its program and resources."""

    _real: Job

    @property
    def num_ranks(self) -> int:
        """The number of MPI ranks."""
        return self._real.num_nodes * self._real.ranks_per_node

    @property
    def required_num_cores(self) -> int:
        """The number of cores on each node."""
        real = self._real
        return max(1, real.ranks_per_node * real.threads_per_rank // real.threads_per_core)

    def get_application(self) -> ApplicationDefinition:
        """Return the job's application, as it is now.

        Raises
        ------
        NoApplication
            The job names none.
        DoesNotExist
            It was removed.
        """
        if not self._real.application:
            raise NoApplication(f"job {self._real.name!r} names no application")
        return ApplicationDefinition.objects.get(name=self._real.application)

    @property
    def preprocess(self) -> str:
        """The application's hook before a run."""
        return str(self.get_application().preprocess)

    @property
    def postprocess(self) -> str:
        """The application's hook after a run."""
        return str(self.get_application().postprocess)

    @property
    def envscript(self) -> str:
        """The application's environment script."""
        return str(self.get_application().envscript)

    @property
    def app_cmd(self) -> str:
        """The command line that is run."""
        app = self.get_application()._real
        words = command_line(app, self._real.args, parameters_of(self._real, app))
        return " ".join(words)

    def get_envs(self, *, timeout: bool = False, error: bool = False) -> dict[str, str]:
        """Return the variables that Balsam gives to the job, or to its handler."""
        handled = State.RUN_TIMEOUT if timeout else State.RUN_ERROR if error else None
        real, app = self._real, self.get_application()._real
        return job_environ(real, real.site.client.identity, real.attempt + 1, handled, app)
