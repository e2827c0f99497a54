"""Run times that are learned, warning signals, where attempts ran.

Revision 0003. What earlier attempts tell of run times is learned here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: Mean and squared distances by app and ranks, of attempts that ended well: in two steps, as
#: the difference of two large sums would be no square at all.
LEARN = """
INSERT INTO run_times (application, ranks, count, mean_seconds, m2)
SELECT runs.application, runs.ranks, count(*), means.mean,
       sum((runs.seconds - means.mean) * (runs.seconds - means.mean))
FROM ({runs}) AS runs
JOIN (SELECT application, ranks, avg(seconds) AS mean FROM ({runs}) AS each_run
      GROUP BY application, ranks) AS means
  ON means.application = runs.application AND means.ranks = runs.ranks
GROUP BY runs.application, runs.ranks, means.mean
"""
RUNS = """
SELECT jobs.application, jobs.num_nodes * jobs.ranks_per_node AS ranks,
       attempts.ended_at - attempts.started_at AS seconds
FROM attempts JOIN jobs ON jobs.id = attempts.job
WHERE attempts.outcome = 'done' AND attempts.ended_at >= attempts.started_at
"""


def upgrade() -> None:
    for table in ("apps", "jobs"):
        op.add_column(table, sa.Column("signal", sa.Text(), server_default="", nullable=False))
    op.add_column("attempts", sa.Column("placement", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "run_times",
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("ranks", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("mean_seconds", sa.Double(), nullable=False),
        sa.Column("m2", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "count > 0 AND mean_seconds >= 0 AND m2 >= 0", name=op.f("ck_run_times_moments")
        ),
        sa.PrimaryKeyConstraint("application", "ranks", name=op.f("pk_run_times")),
        sqlite_with_rowid=False,
    )
    op.execute(LEARN.format(runs=RUNS))
