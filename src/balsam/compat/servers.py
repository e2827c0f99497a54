"""What scripts of 0.x start by themselves, and what Balsam does now without being asked."""

from __future__ import annotations

from pathlib import Path

from balsam import config


def start_main(db_path: str) -> None:
    """Start the database server of the site at *db_path*, if it has one of its own."""
    path = Path(db_path).resolve()
    if config.load(path).database.url == "postgres":
        from balsam.cluster import server

        server.ensure(path)


class TransitionProcessPool:
    """What moved jobs on outside of launchers; launchers do it all themselves."""

    def __init__(self, num_threads: int = 1, wf_name: str = "") -> None:
        self.num_threads = num_threads
        self.wf_name = wf_name

    def terminate(self) -> None:
        """Do nothing."""
