"""The reduction job of one temperature: the point of the equation of state that its runs give.

Exit code 1, so that the job fails, when runs with different numbers of ranks do not agree.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from melt import Run, average, combined, disagreements, read_log

from balsam.api import Job

LOG = re.compile(r"T(?P<temperature>[\d.]+)_r(?P<ranks>\d+)_s(?P<seed>\d+)\.log")


def read_logs(directory: Path) -> dict[tuple[int, int], Run]:
    """Return the runs whose logs are in *directory*, by rank count and seed."""
    runs = {}
    for log in sorted(directory.glob("*.log")):
        named = LOG.fullmatch(log.name)
        if named is None:
            raise ValueError(f"{log}: expected a name such as T1.00_r2_s1.log")
        runs[int(named["ranks"]), int(named["seed"])] = read_log(log)
    return runs


def main(temperature: str, density: str) -> int:
    runs = read_logs(Path())
    point: dict[str, object] = {
        "temperature": float(temperature),
        "density": float(density),
        "runs": len(runs),
        "ranks": sorted({ranks for ranks, _ in runs}),
    }
    for name, quantity in (("pressure", "Press"), ("energy", "PotEng")):
        mean = combined([average(run, quantity) for run in runs.values()])
        point[name], point[f"{name}_error"] = mean
        print(f"{name:8} = {mean.value:.4f} +- {mean.error:.4f}")
    wrong = disagreements(runs)
    point["disagreements"] = wrong
    print("\n".join(wrong) or f"{len(runs)} runs with {point['ranks']} ranks agree")
    Path(f"T{temperature}.json").write_text(json.dumps(point, indent=1) + "\n")
    if job := Job.current():
        job.data.update(point)
        job.save()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
