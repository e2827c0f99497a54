"""What is known of batch jobs, the service, and the tags and memory of launchers.

Revision 0004. Batch jobs are recorded in full from here on; nothing made any before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TEXTS = (
    *("scheduler", "name", "output_file", "scheduler_state", "owner", "host"),
    *("cancel_reason", "nodes"),
)
TIMES = ("submitted_at", "starts_at", "started_at", "ended_at", "seen_at")


def upgrade() -> None:
    for name in TEXTS:
        op.add_column("batch_jobs", sa.Column(name, sa.Text(), server_default="", nullable=False))
    for name in TIMES:
        op.add_column("batch_jobs", sa.Column(name, sa.Double(), nullable=True))
    for name in ("service_id", "exit_code"):
        op.add_column("batch_jobs", sa.Column(name, sa.BigInteger(), nullable=True))
    for table in ("batch_jobs", "launchers"):
        op.add_column(table, sa.Column("tags", sa.JSON(), server_default="{}", nullable=False))
    op.add_column(
        "launchers", sa.Column("scheduler_id", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("launchers", sa.Column("jobs_of", sa.Text(), server_default="", nullable=False))
    op.add_column("launchers", sa.Column("ends_at", sa.Double(), nullable=True))
    op.add_column(
        "launchers", sa.Column("memory_mib", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_table(
        "services",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host", sa.Text(), server_default="", nullable=False),
        sa.Column("pid", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pid_started", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("expires_at", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("stop_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.JSON(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
    )
