"""The analysis job of one size: put together what its parents, the simulations, found."""

from __future__ import annotations

import os

from percolation import pool, solve

from balsam.api import Job


def main() -> None:
    job = Job.objects.get(job_id=os.environ["BALSAM_JOB_ID"])
    simulations = [parent.data for parent in Job.objects.filter(id__in=job.parents)]
    size = simulations[0]["size"]
    counts = pool([{int(n): k for n, k in data["counts"].items()} for data in simulations])
    threshold = solve(counts, size)
    job.data.update(
        size=size,
        realizations=sum(counts.values()),
        threshold=threshold.value,
        error=threshold.error,
    )
    job.save()
    print(f"L = {size}: p_L = {threshold.value:.6f} +- {threshold.error:.6f}")


if __name__ == "__main__":
    main()
