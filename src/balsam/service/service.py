"""The 0.x import path of `submit_qlaunch`."""

from balsam.compat.batch_jobs import submit_qlaunch

__all__ = ["submit_qlaunch"]
