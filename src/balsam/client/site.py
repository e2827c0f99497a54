"""A site as Python programs hold it, and the one that is used when none is named."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from balsam import config
from balsam.client.interface import Client
from balsam.errors import SiteError

if TYPE_CHECKING:
    from balsam.client.apps import App, Apps
    from balsam.client.history import BatchJob, BatchJobs, Event, Events
    from balsam.client.jobs import Job
    from balsam.client.jobset import Jobs


class Site:
    """One site: a directory with a campaign's jobs.

    The database is opened when it is first needed, and again in a forked child. Threads may
    share a site.

    Parameters
    ----------
    path
        The site's directory, or a unique part of a known one's path. Without it, the site is
        found as on the command line: `BALSAM_SITE`, the activated one, or the nearest
        directory above the working directory.

    Raises
    ------
    SiteError
        There is none, or several match.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path: Path = config.find_site(None if path is None else os.fspath(path)).resolve()
        self._client: Client | None = None
        self._process = 0
        self._closed = False
        self._opening = threading.Lock()
        self._inherited: list[Client] = []

    @classmethod
    def find(cls) -> Site:
        """Return the site that commands given here and now would use. Raises `SiteError`."""
        return cls()

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Site:
        """Make a new site at *path* and return it.

        Raises
        ------
        AlreadyExists
            There is a site already.
        SiteError
            The path cannot be used.
        """
        from balsam.client.connect import create_site

        create_site(Path(path).absolute())
        return cls(path)

    @classmethod
    def use(cls, path: str | os.PathLike[str]) -> Site:
        """Make the site at *path* the one behind `Job.objects` and return it.

        What was loaded from another site stays with that one.
        """
        global _default
        site = cls(path)
        with _choosing:
            _default = site
        return site

    @property
    def client(self) -> Client:
        """The open client. Raises `SiteError` after `close`."""
        if self._client is not None and self._process == os.getpid():
            return self._client
        with self._opening:
            if self._closed:
                raise SiteError(f"the site {self.path} was closed; open it again with Site(path)")
            if self._client is not None and self._process != os.getpid():
                # The parent's connections: to use or even to close them here would break its.
                self._inherited.append(self._client)
                self._client = None
            if self._client is None:
                from balsam.client.connect import open_client

                self._client, self._process = open_client(self.path), os.getpid()
                weakref.finalize(self, _close, self._client, self._process)
            return self._client

    def close(self) -> None:
        """Give back the connections; the site and what was loaded from it are of no more use."""
        with self._opening:
            self._closed = True
            if self._client is not None:
                _close(self._client, self._process)
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # The collections are imported here because their modules need this one.

    @property
    def jobs(self) -> Jobs[Job]:
        """All jobs of the site."""
        from balsam.client import jobs

        return jobs.Jobs(self, all_of_it=True)

    @property
    def apps(self) -> Apps[App]:
        """All apps of the site."""
        from balsam.client.apps import Apps

        return Apps(self, all_of_it=True)

    @property
    def events(self) -> Events[Event]:
        """All events of the site."""
        from balsam.client.history import Events

        return Events(self)

    @property
    def batch_jobs(self) -> BatchJobs[BatchJob]:
        """All batch jobs of the site."""
        from balsam.client.history import BatchJobs

        return BatchJobs(self)

    def __repr__(self) -> str:
        return f"Site({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Site) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __reduce__(self) -> tuple[type[Site], tuple[str]]:
        return Site, (str(self.path),)


def _close(client: Client, process: int) -> None:
    """Close *client* if this is the process that opened it (closing again does nothing)."""
    if process == os.getpid():
        client.close()


_default: Site | None = None
_choosing = threading.Lock()


def default_site() -> Site:
    """Return the site of `Site.use`, else the one found on the first call. Raises `SiteError`."""
    global _default
    with _choosing:
        if _default is None:
            _default = Site.find()
        return _default
