"""The jobs of a batch job are found without a look at all jobs.

Revision 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

RAN_IN_ONE = "batch_job_id IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "ix_jobs_batch_job_id",
        "jobs",
        ["batch_job_id"],
        unique=False,
        sqlite_where=sa.text(RAN_IN_ONE),
        postgresql_where=sa.text(RAN_IN_ONE),
    )
