"""`ApplicationDefinition`: a class that is an app.

Processes of jobs import this with the user's class: what only programs need that register and
submit is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakKeyDictionary

from balsam.errors import InvalidInput

if TYPE_CHECKING:
    from balsam.client.apps import App
    from balsam.client.jobs import Job
    from balsam.client.site import Site


class ApplicationDefinition:
    """An app: subclass it, with a `command_template` or a method ``run(self, …)``.

    What it says is looked at when it is registered: by `sync`, or when its first job is
    submitted in a program. Methods run in processes of the job, with `python_exe`.
    """

    site: ClassVar[Any] = ""  #: a `Site`, its path or a part of that; '': the default site
    python_exe: ClassVar[str] = ""  #: '': the Python that registers it
    environment_variables: ClassVar[Mapping[str, str]] = {}
    #: ``{{ x }}`` stands for parameter x; with operators of the shell, bash runs it.
    command_template: ClassVar[str] = ""
    #: name → ``{"required": bool, "default": text, "help": text}``; those of the template that
    #: are missing here are required. Those of `run` are its arguments.
    parameters: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: name → ``{"direction": "in" or "out", "local_path": …, "required": bool, …}``
    transfers: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Globs: files to remove after `postprocess`, of jobs whose results are not moved.
    cleanup_files: ClassVar[Iterable[str]] = ()
    run: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, job: Job | None = None) -> None:
        self._job = job

    @property
    def job(self) -> Job:
        """The job that this process is part of, as it was when it was first asked for."""
        if self._job is None:
            from balsam.client.jobs import Job

            self._job = Job.current()
            if self._job is None:
                raise InvalidInput("there is no job here: self.job is there in jobs' processes")
        return self._job

    # hooks: what these do is what happens without them ------------------------------------

    def preprocess(self) -> None:
        """Prepare the job's directory, which is the working directory, for its first run."""
        self.job.state = _state("PREPROCESSED")

    def postprocess(self) -> None:
        """Look at what a run that ended well left."""
        self.job.state = _state("POSTPROCESSED")

    def handle_error(self) -> None:
        """Decide by ``self.job.state`` what becomes of the job after a run that failed."""
        self.job.state = _state("FAILED")

    def handle_timeout(self) -> None:
        """Decide what becomes of the job after a run that the launcher's end interrupted."""
        self.job.state = _state("RESTART_READY")

    def shell_preamble(self) -> str | list[str]:
        """Return commands of bash to run before the program; asked for when it is registered."""
        return []

    # registering --------------------------------------------------------------------------

    @classmethod
    def sync(cls, rename_from: str | None = None) -> None:
        """Register the class under its name, or bring the registered app up to date.

        Jobs that have not run yet run what it is then.

        Parameters
        ----------
        rename_from
            The name that the app had.

        Raises
        ------
        InvalidInput
            The class cannot be an app; the message says why.
        DoesNotExist
            There is no app *rename_from*.
        """
        from balsam.applications.record import synchronized

        _apps[cls] = synchronized(cls, cls._site(), rename_from)

    @classmethod
    def load_by_name(cls, app_name: str, site_name: str | None = None) -> type[Self]:
        """Return a class from which jobs of a registered app can be submitted.

        Its hooks and `run` are not in it: they are loaded in processes of jobs only. Raises
        `DoesNotExist`.
        """
        from balsam.applications.record import site_of

        return cls._loaded(site_of(site_name or "").apps.get(name=app_name))

    @classmethod
    def load_by_id(cls, app_id: int) -> type[Self]:
        """Return a class as `load_by_name` does, for the app with this id in the default site."""
        from balsam.applications.record import site_of

        return cls._loaded(site_of("").apps.get(id=app_id))

    @classmethod
    def load_by_site(cls, site: Any) -> dict[str, type[Self]]:
        """Return classes for all apps of a site, by name (see `load_by_name`)."""
        from balsam.applications.record import site_of

        return {app.name: cls._loaded(app) for app in site_of(site).apps}

    @classmethod
    def _loaded(cls, app: App) -> type[Self]:
        loaded = type(app.name, (cls,), {"__doc__": app.description, "site": app.site})
        _apps[loaded] = app
        return loaded

    @classmethod
    def _site(cls) -> Site:
        from balsam.applications.record import site_of

        return site_of(cls.site)

    @classmethod
    def submit(
        cls,
        workdir: Any,
        tags: Mapping[str, str] | None = None,
        data: Any = None,
        return_code: int | None = None,
        num_nodes: int = 1,
        ranks_per_node: int = 1,
        threads_per_rank: int = 1,
        threads_per_core: int = 1,
        launch_params: Mapping[str, str] | None = None,
        gpus_per_rank: float = 0,
        node_packing_count: int = 1,
        wall_time_min: float = 0,
        parent_ids: Iterable[int] = (),
        transfers: Mapping[str, str] | None = None,
        save: bool = True,
        **app_params: Any,
    ) -> Job:
        """Make a job of this app and return it.

        Parameters
        ----------
        workdir
            Its directory, relative to the site's ``data``; made here.
        return_code
            Taken for the sake of old programs; not used.
        launch_params
            Words for the MPI start command, and ``cpu_affinity``.
        wall_time_min
            How long it takes, in minutes; 0: not known.
        parent_ids
            Integer ids of jobs that must have finished.
        transfers
            A URL for each of the class's `transfers` that is used.
        save
            Store it now; else give it to ``Job.objects.bulk_create``.
        app_params
            Values of the parameters; for `run` also what JSON cannot hold, and futures.

        Raises
        ------
        InvalidInput
            A parameter is missing or not known, or another value cannot be taken.
        """
        from balsam.applications.submission import job_fields
        from balsam.client.jobs import Job

        if cls not in _apps:
            cls.sync()
        app = _apps[cls]
        job = Job(
            **job_fields(app, workdir, launch_params or {}, transfers or {}, cls.transfers),
            tags=dict(tags or {}),
            data={} if data is None else data,
            num_nodes=num_nodes,
            ranks_per_node=ranks_per_node,
            threads_per_rank=threads_per_rank,
            threads_per_core=threads_per_core,
            gpus_per_rank=float(gpus_per_rank),
            node_packing_count=node_packing_count,
            wall_time_minutes=float(wall_time_min),
        )
        return _submitted(app, job, list(parent_ids), app_params, save=save)


#: The registered apps of classes that were synchronized or loaded here. Not in the classes, which
#: are pickled.
_apps: WeakKeyDictionary[type[ApplicationDefinition], App] = WeakKeyDictionary()


def _state(name: str) -> Any:
    from balsam.model.states import State

    return State(name)


def _submitted(
    app: App, job: Job, parents: list[int], given: Mapping[str, Any], *, save: bool
) -> Job:
    from balsam.applications.submission import give_parameters

    job._site = app.site
    job.parents = [*parents, *give_parameters(app, job, given)]
    if save:
        job.save()
    return job
