"""Transfers of files.

Revision 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "transfers",
        sa.Column("job", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("files", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_total", sa.BigInteger()),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("launcher_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job", "direction", "number", name="pk_transfers"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_transfers_open",
        "transfers",
        ["launcher_id"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
