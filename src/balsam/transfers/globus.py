"""Transfers by Globus, between its endpoint of this site and another.

Globus moves the files by itself, of many jobs in one task (see `globus_tasks`); it compares
checksums, and goes on after faults. What comes in goes into a box and is then renamed; at the far
side a file has its name before it is whole, for Globus has no other way.
"""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

from balsam.errors import TransferError
from balsam.transfers.box import Box, unpack
from balsam.transfers.files import aside_name, failure, files_to_send
from balsam.transfers.globus_tasks import GlobusItem, GlobusTasks
from balsam.transfers.mover import Delivery, Fetch, Means

_BOX = "globus"


class Globus:
    """Moves by Globus; see `Mover`. A path that ends with ``/`` is a directory."""

    def __init__(self, means: Means) -> None:
        self._endpoint = means.settings.globus_endpoint
        self._root = means.settings.globus_root
        self._tasks = GlobusTasks()

    def fetch(self, order: Fetch) -> list[str]:
        url, progress = order.url, order.progress
        progress.begin()
        name = os.path.basename(url.path.rstrip("/"))
        if name in ("", ".", "..", "~"):
            raise TransferError(f"{url.text} does not end with the name of a file or directory")
        box = Box(order.directory / aside_name(_BOX, f"{crc32(os.fsencode(url.text)):08x}"))
        try:
            box.prepare([])
        except OSError as error:
            raise failure(error, f"cannot write to {order.directory}") from error
        is_directory = True if url.path.endswith("/") else None
        item = GlobusItem(url.path.rstrip("/"), self._here(box.files / name), is_directory)
        label = f"Balsam stage in {order.mark}"
        self._tasks.move((url.host, self._own()), [item], url.text, label, progress)
        return unpack(box, url, order.directory, progress)

    def deliver(self, order: Delivery) -> list[str]:
        url, progress = order.url, order.progress
        progress.begin()
        files = files_to_send(order.items, url.text)
        progress.bytes_total = sum(file.size for file in files)
        root = url.path.rstrip("/")
        items = [
            GlobusItem(self._here(item.source), f"{root}/{item.name}", item.source.is_dir())
            for item in order.items
        ]
        label = f"Balsam stage out {order.mark}"
        self._tasks.move((self._own(), url.host), items, url.text, label, progress)
        progress.files, progress.bytes_done = len(files), progress.bytes_total
        return [item.name for item in order.items]

    def close(self) -> None:
        self._tasks.close()

    def _own(self) -> str:
        if not self._endpoint:
            raise TransferError(
                "globus: URLs need the endpoint that shows this site's files: set"
                " transfers.globus_endpoint to its UUID, and transfers.globus_root"
            )
        return self._endpoint

    def _here(self, path: Path) -> str:
        """Return *path* as our endpoint shows it."""
        below = os.path.relpath(path, self._root)
        if below.startswith(".."):
            raise TransferError(
                f"{path} is not below transfers.globus_root ({self._root}), which Globus shows"
            )
        return f"/{below}"
