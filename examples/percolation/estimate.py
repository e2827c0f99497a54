"""The last job: extrapolate the thresholds of its parents to the infinite lattice.

Exit code 1, so that the job fails, when the estimate is more than three standard errors off.
"""

from __future__ import annotations

import os
import sys

from percolation import LITERATURE_THRESHOLD, Estimate, extrapolate

from balsam.api import Job


def main() -> int:
    job = Job.objects.get(job_id=os.environ["BALSAM_JOB_ID"])
    thresholds = {
        parent.data["size"]: Estimate(parent.data["threshold"], parent.data["error"])
        for parent in Job.objects.filter(id__in=job.parents)
    }
    fit = extrapolate(thresholds)
    deviation = (fit.threshold - LITERATURE_THRESHOLD) / fit.error
    job.data.update(
        estimate=fit.threshold,
        error=fit.error,
        literature=LITERATURE_THRESHOLD,
        deviation=deviation,
        chi_squared=fit.chi_squared,
        degrees_of_freedom=fit.degrees_of_freedom,
        thresholds={str(size): list(found) for size, found in sorted(thresholds.items())},
    )
    job.save()
    for size, found in sorted(thresholds.items()):
        print(f"L = {size:4}: {found.value:.6f} +- {found.error:.6f}")
    print(
        f"fit:      chi^2 = {fit.chi_squared:.2f} for {fit.degrees_of_freedom} degrees of freedom"
    )
    print(f"p_c     = {fit.threshold:.6f} +- {fit.error:.6f}")
    print(f"known:    {LITERATURE_THRESHOLD:.8f}, {deviation:+.2f} standard errors from it")
    return 0 if abs(deviation) <= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
