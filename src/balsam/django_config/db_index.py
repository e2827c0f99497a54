"""The 0.x import path of `refresh_db_index`."""

from balsam.compat.workflows import database_paths as refresh_db_index

__all__ = ["refresh_db_index"]
