"""The 0.x import path of `TransitionProcessPool`."""

from balsam.compat.servers import TransitionProcessPool

__all__ = ["TransitionProcessPool"]
