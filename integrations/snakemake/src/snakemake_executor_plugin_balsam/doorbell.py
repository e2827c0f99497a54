"""Waiting for jobs to end, or for Snakemake to."""

from __future__ import annotations

import os
import select

from balsam.client.interface import Client
from balsam.model.wire import Topic


class Doorbell:
    """Wakes when jobs of a site have ended, or when it is pressed."""

    def __init__(self, client: Client) -> None:
        self._watch = client.watch(Topic.ENDS)
        self._reader, self._writer = os.pipe()

    def wait(self, seconds: float) -> None:
        """Block until it rings or is pressed, for *seconds* at most."""
        waiting = select.poll()
        waiting.register(self._reader, select.POLLIN)
        watched = self._watch.fileno()
        if watched >= 0:
            waiting.register(watched, select.POLLIN)
        waiting.poll(1000 * seconds)
        self._watch.clear()

    def press(self) -> None:
        """Wake whoever waits, now and from now on."""
        os.write(self._writer, b"!")

    def close(self) -> None:
        """Take it down. Nobody may be waiting."""
        self._watch.close()
        os.close(self._reader)
        os.close(self._writer)
