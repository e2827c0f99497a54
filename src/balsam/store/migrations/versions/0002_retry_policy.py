"""Retry policy: rules, delays and counts; what a launcher's last lease was.

Revision 0002. Every new column has a default in the database: SQLite copies no table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

FREE = (
    "launcher_id IS NULL AND retry_at IS NULL AND state IN ('READY', 'STAGED_IN', 'PREPROCESSED', "
    "'RUN_DONE', 'POSTPROCESSED', 'RUN_TIMEOUT', 'RUN_ERROR', 'RESTART_READY')"
)
DELAYED = "retry_at IS NOT NULL"


def upgrade() -> None:
    json = sa.JSON()
    for table in ("apps", "jobs"):
        op.add_column(table, sa.Column("retry", json, server_default="[]", nullable=False))
    op.add_column(
        "jobs", sa.Column("timeouts", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("jobs", sa.Column("crashes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("retry_at", sa.Double(), nullable=True))
    op.add_column(
        "launchers",
        sa.Column("lease_number", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.add_column("launchers", sa.Column("leased", json, server_default="[]", nullable=False))
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
        sqlite_where=sa.text(FREE),
        postgresql_where=sa.text(FREE),
    )
    op.create_index(
        "ix_jobs_retry_at",
        "jobs",
        ["retry_at"],
        unique=False,
        sqlite_where=sa.text(DELAYED),
        postgresql_where=sa.text(DELAYED),
    )
