"""What moves files, by the kind of their URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from balsam.config import TransferSettings
from balsam.transfers import http, local, rsync, s3, sftp
from balsam.transfers.files import Item
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url


class Movers:
    """Moves files by any URL; threads may share it.

    Parameters
    ----------
    environ
        Added to the environment of programs that are run.
    """

    def __init__(self, settings: TransferSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ

    def fetch(self, url: Url, directory: Path, mark: str, progress: Progress) -> list[str]:
        """Bring what *url* names into *directory*, which is there; return the names it has there.

        Parameters
        ----------
        mark
            Tells files that are not whole yet from others' of the same name.

        Raises
        ------
        TransferError
            It cannot be brought; `retryable` says whether another try may help.
        Stopped
            It was to end. What came is kept if it is of use for another try.
        """
        progress.begin()
        settings, seconds = self._settings, self._settings.timeout_seconds
        match url.scheme:
            case "local":
                return local.fetch(url, directory, mark, progress)
            case "sftp":
                return sftp.fetch(url, directory, progress, settings, self._environ)
            case "rsync":
                return rsync.fetch(url, directory, progress, settings, self._environ)
            case "s3":
                return s3.fetch(url, directory, progress, seconds)
            case _:
                return http.fetch(url, directory, progress, seconds)

    def deliver(self, items: list[Item], url: Url, mark: str, progress: Progress) -> list[str]:
        """Bring *items* into the directory that *url* names, made if need be; return their names.

        What has such a name there is replaced, by whole files only. Raises as `fetch` does.
        """
        if url.scheme != "sftp":  # which goes on behind what an earlier try has sent
            progress.begin()
        settings, seconds = self._settings, self._settings.timeout_seconds
        match url.scheme:
            case "local":
                return local.deliver(items, url, mark, progress)
            case "sftp":
                return sftp.deliver(items, url, mark, progress, settings, self._environ)
            case "rsync":
                return rsync.deliver(items, url, progress, settings, self._environ)
            case "s3":
                return s3.deliver(items, url, progress, seconds)
            case _:
                return http.deliver(items, url, progress, seconds)
