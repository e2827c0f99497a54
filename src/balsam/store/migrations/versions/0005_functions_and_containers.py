"""Python functions as jobs, containers and environments of apps, handlers of their own.

Revision 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name in ("error_handler", "timeout_handler", "conda"):
        op.add_column("apps", sa.Column(name, sa.Text(), server_default="", nullable=False))
    for name in ("environ", "parameters", "container", "function"):
        op.add_column("apps", sa.Column(name, sa.JSON(), server_default="{}", nullable=False))
    op.add_column("apps", sa.Column("modules", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("jobs", sa.Column("payload", sa.Text(), server_default="", nullable=False))
    op.add_column("attempts", sa.Column("result", sa.Text(), server_default="", nullable=False))
