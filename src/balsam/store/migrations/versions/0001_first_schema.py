"""The first schema.

Revision 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

FREE = (
    "launcher_id IS NULL AND state IN ('READY', 'STAGED_IN', 'PREPROCESSED', "
    "'RUN_DONE', 'POSTPROCESSED', 'RUN_TIMEOUT', 'RUN_ERROR', 'RESTART_READY')"
)
STATES = (
    "state IN ('CREATED', 'AWAITING_PARENTS', 'READY', 'STAGED_IN', 'PREPROCESSED', "
    "'RUNNING', 'RUN_DONE', 'POSTPROCESSED', 'JOB_FINISHED', 'RUN_TIMEOUT', "
    "'RUN_ERROR', 'RESTART_READY', 'FAILED', 'USER_KILLED')"
)


def upgrade() -> None:
    op.create_table(
        "apps",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("executable", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("preprocess", sa.Text(), server_default="", nullable=False),
        sa.Column("postprocess", sa.Text(), server_default="", nullable=False),
        sa.Column("envscript", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_apps")),
        sa.UniqueConstraint("name", name=op.f("uq_apps_name")),
    )
    op.create_table(
        "attempts",
        sa.Column("job", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("launcher_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.Text(), server_default="", nullable=False),
        sa.Column("pid", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), server_default="running", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("peak_memory_mib", sa.Double(), nullable=True),
        sa.Column("cpu_seconds", sa.Double(), nullable=True),
        sa.Column("output_file", sa.Text(), server_default="", nullable=False),
        sa.Column("output_offset", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_size", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job", "number", "launcher_id", name=op.f("pk_attempts")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_attempts_open",
        "attempts",
        ["launcher_id"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "batch_jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("scheduler_id", sa.Text(), server_default="", nullable=False),
        sa.Column("project", sa.Text(), server_default="", nullable=False),
        sa.Column("queue", sa.Text(), server_default="", nullable=False),
        sa.Column("num_nodes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("wall_time_minutes", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("job_mode", sa.Text(), server_default="auto", nullable=False),
        sa.Column("wf_filter", sa.Text(), server_default="", nullable=False),
        sa.Column("scheduler_flags", sa.Text(), server_default="", nullable=False),
        sa.Column("script", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="pending_submission", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0.0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_jobs")),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_job"), "events", ["job"], unique=False)
    op.create_table(
        "jobs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("workflow", sa.Text(), server_default="", nullable=False),
        sa.Column("application", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("args", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "parameters",
            sa.JSON(),
            server_default="{}",
            nullable=False,
        ),
        sa.Column(
            "environ",
            sa.JSON(),
            server_default="{}",
            nullable=False,
        ),
        sa.Column(
            "tags",
            sa.JSON(),
            server_default="{}",
            nullable=False,
        ),
        sa.Column(
            "data",
            sa.JSON(),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("num_nodes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("ranks_per_node", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("threads_per_rank", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("threads_per_core", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("cores_per_rank", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gpus_per_rank", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("memory_mib", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("node_packing_count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("cpu_affinity", sa.Text(), server_default="", nullable=False),
        sa.Column("mpi_flags", sa.Text(), server_default="", nullable=False),
        sa.Column("wall_time_minutes", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("user_workdir", sa.Text(), server_default="", nullable=False),
        sa.Column("input_files", sa.Text(), server_default="", nullable=False),
        sa.Column("stage_in_url", sa.Text(), server_default="", nullable=False),
        sa.Column("stage_out_url", sa.Text(), server_default="", nullable=False),
        sa.Column("stage_out_files", sa.Text(), server_default="", nullable=False),
        sa.Column("post_error_handler", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("post_timeout_handler", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("auto_timeout_retry", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("max_retries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="CREATED", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("updated_at", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("pending_parents", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("retries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("launcher_id", sa.BigInteger(), nullable=True),
        sa.Column("batch_job_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            STATES,
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint("pending_parents >= 0", name=op.f("ck_jobs_pending_parents")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_launcher_id",
        "jobs",
        ["launcher_id"],
        unique=False,
        sqlite_where=sa.text("launcher_id IS NOT NULL"),
        postgresql_where=sa.text("launcher_id IS NOT NULL"),
    )
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
    op.create_index(op.f("ix_jobs_state_id"), "jobs", ["state", "id"], unique=False)
    op.create_index(op.f("ix_jobs_workflow_state"), "jobs", ["workflow", "state"], unique=False)
    op.create_table(
        "launchers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("pid_started", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("workflow_filter", sa.Text(), server_default="", nullable=False),
        sa.Column("job_mode", sa.Text(), server_default="auto", nullable=False),
        sa.Column("nodes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("cores", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("gpus", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("expires_at", sa.Double(), server_default="0.0", nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("batch_job_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_launchers")),
    )
    op.create_index(op.f("ix_launchers_ended_at"), "launchers", ["ended_at"], unique=False)
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "dependencies",
        sa.Column("parent", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("child", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('ok', 'fail', 'any')", name=op.f("ck_dependencies_kind")),
        sa.ForeignKeyConstraint(
            ["child"], ["jobs.id"], name=op.f("fk_dependencies_child"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["jobs.id"], name=op.f("fk_dependencies_parent"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("parent", "child", name=op.f("pk_dependencies")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_dependencies_child"), "dependencies", ["child"], unique=False)
