"""The 0.x import path of `start_main`."""

from balsam.compat.servers import start_main

__all__ = ["start_main"]
