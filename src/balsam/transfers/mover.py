"""What a mover is: who brings files here, or away, by one kind of URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from balsam.config import TransferSettings
from balsam.transfers.files import Item
from balsam.transfers.progress import Progress
from balsam.transfers.urls import Url


@dataclass(frozen=True)
class Fetch:
    """Bring what *url* names into *directory*, which is there."""

    url: Url
    directory: Path
    mark: str  #: tells files that are not whole yet from others' of the same name
    progress: Progress


@dataclass(frozen=True)
class Delivery:
    """Bring *items* into the directory that *url* names, made if need be.

    What has such a name there is replaced, by whole files only.
    """

    url: Url
    items: list[Item]
    mark: str  #: tells files that are not whole yet from others' of the same name
    progress: Progress


@dataclass(frozen=True)
class Means:
    """What movers are made with."""

    settings: TransferSettings
    environ: Mapping[str, str]  #: added to the environment of programs that are run


class Mover(Protocol):
    """Moves files by one kind of URL; threads share it."""

    def fetch(self, order: Fetch) -> list[str]:
        """Return the names of what came.

        Raises
        ------
        TransferError
            It cannot be brought; `retryable` says whether another try may help.
        Stopped
            It was to end. What came is kept if it is of use for another try.
        """
        ...

    def deliver(self, order: Delivery) -> list[str]:
        """Return the names of what is there now. Raises as `fetch` does."""
        ...

    def close(self) -> None:
        """End what is kept for later transfers."""
        ...
