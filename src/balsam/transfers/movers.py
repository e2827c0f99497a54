"""What moves files, by the kind of their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from balsam.config import TransferSettings
from balsam.transfers.connections import Connections
from balsam.transfers.globus import Globus
from balsam.transfers.http import Http
from balsam.transfers.local import Local
from balsam.transfers.mover import Delivery, Fetch, Means, Mover
from balsam.transfers.rsync import Rsync
from balsam.transfers.s3 import S3
from balsam.transfers.sftp import Sftp

#: By the scheme of `Url`.
MOVERS: Mapping[str, Callable[[Means, Connections], Mover]] = {
    "local": lambda _means, _connections: Local(),
    "sftp": Sftp,
    "rsync": Rsync,
    "http": lambda means, _connections: Http(means),
    "globus": lambda means, _connections: Globus(means),
    "s3": lambda means, _connections: S3(means),
}


class Movers:
    """Moves files by any URL; threads may share it.

    Parameters
    ----------
    environ
        Added to the environment of programs that are run.
    """

    def __init__(self, settings: TransferSettings, environ: Mapping[str, str]) -> None:
        means = Means(settings, environ)
        self._connections = Connections(means)
        self._movers = {name: make(means, self._connections) for name, make in MOVERS.items()}

    def fetch(self, order: Fetch) -> list[str]:
        """Carry out *order*; see `Mover.fetch`."""
        return self._movers[order.url.scheme].fetch(order)

    def deliver(self, order: Delivery) -> list[str]:
        """Carry out *order*; see `Mover.deliver`."""
        return self._movers[order.url.scheme].deliver(order)

    def close(self) -> None:
        """End what is kept for later transfers; nothing moves any more."""
        for mover in self._movers.values():
            mover.close()
        self._connections.close()
