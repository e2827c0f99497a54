"""The service moves files: what waits for that stands outside the launchers' queue.

Revision 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_FREE = (
    "launcher_id IS NULL AND retry_at IS NULL AND state IN ('READY', 'STAGED_IN', 'PREPROCESSED', "
    "'RUN_DONE', 'POSTPROCESSED', 'RUN_TIMEOUT', 'RUN_ERROR', 'RESTART_READY')"
)
QUEUED = (
    f"{_FREE} AND (state <> 'READY' OR stage_in_url = '')"
    " AND (state <> 'POSTPROCESSED' OR stage_out_url = '' OR stage_out_files = '')"
)
FREE_TO_STAGE = (
    f"{_FREE} AND ((state = 'READY' AND stage_in_url <> '')"
    " OR (state = 'POSTPROCESSED' AND stage_out_url <> '' AND stage_out_files <> ''))"
)


def upgrade() -> None:
    kind = sa.Column("kind", sa.Text(), server_default="pilot", nullable=False)
    op.add_column("launchers", kind)
    op.drop_index("ix_jobs_queue", "jobs")
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        [
            sa.literal_column("priority DESC"),
            sa.literal_column("num_nodes DESC"),
            sa.literal_column("wall_time_minutes DESC"),
            "id",
        ],
        unique=False,
        sqlite_where=sa.text(QUEUED),
        postgresql_where=sa.text(QUEUED),
    )
    op.create_index(
        "ix_jobs_to_stage",
        "jobs",
        ["state", sa.literal_column("priority DESC"), "id"],
        unique=False,
        sqlite_where=sa.text(FREE_TO_STAGE),
        postgresql_where=sa.text(FREE_TO_STAGE),
    )
