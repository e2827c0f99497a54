"""Fill a site with the percolation campaign: register the apps, create the jobs.

python campaign.py --site SITE
balsam launcher --site SITE --consume-all
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from balsam.api import Job, Site

WORKFLOW = "percolation"
SIZES = (16, 32, 64, 128)
#: Lattice sites that one simulation job fills: a fraction of a second, whatever the size.
SITES_PER_JOB = 400_000

#: App names and the scripts that they run.
APPS = {
    "percolation-simulate": "simulate.py",
    "percolation-analyse": "analyse.py",
    "percolation-estimate": "estimate.py",
}


def register(site: Site) -> None:
    """Register the apps, as far as they are not there."""
    here = Path(__file__).resolve().parent
    for name, script in APPS.items():
        command = shlex.join([sys.executable, str(here / script)])
        site.apps.get_or_create(name=name, defaults={"executable": command})


def jobs(sizes: list[int], runs: int, seed: int, sites_per_job: int) -> list[Job]:
    """Return the campaign: *runs* simulations and an analysis for each size, one estimate."""
    campaign: list[Job] = []
    analyses: list[Job] = []
    for size in sizes:
        realizations = max(1, sites_per_job // size**2)
        simulations = [
            Job(
                name=f"simulate_{size}_{run}",
                workflow=WORKFLOW,
                application="percolation-simulate",
                args=f"--size {size} --realizations {realizations} --seed {seed}-{size}-{run}",
                tags={"size": str(size), "step": "simulate"},
            )
            for run in range(runs)
        ]
        analysis = Job(
            name=f"analyse_{size}",
            workflow=WORKFLOW,
            application="percolation-analyse",
            parents=simulations,
            tags={"size": str(size), "step": "analyse"},
            priority=1,
        )
        campaign += [*simulations, analysis]
        analyses.append(analysis)
    estimate = Job(
        name="estimate",
        workflow=WORKFLOW,
        application="percolation-estimate",
        parents=analyses,
        tags={"step": "estimate"},
        priority=1,
    )
    return [*campaign, estimate]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", required=True, help="the Balsam site to fill")
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(word) for word in text.split(",")],
        default=list(SIZES),
        metavar="L,L,…",
        help=f"sides of the lattices, at least two (default: {','.join(map(str, SIZES))})",
    )
    parser.add_argument("--runs", type=int, default=60, help="simulation jobs a size (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="another one, another result")
    parser.add_argument(
        "--sites-per-job",
        type=int,
        default=SITES_PER_JOB,
        metavar="N",
        help=f"lattice sites that a simulation job fills (default: {SITES_PER_JOB})",
    )
    args = parser.parse_args()
    if len(set(args.sizes)) < 2 or min(args.sizes) < 2:
        parser.error("--sizes takes at least two different sizes of 2 or more, such as 16,32,64")
    if args.runs < 1:
        parser.error(f"--runs is {args.runs}; it must be 1 or more")
    with Site(args.site) as site:
        register(site)
        made = site.jobs.bulk_create(
            jobs(sorted(set(args.sizes)), args.runs, args.seed, args.sites_per_job)
        )
    print(f"{len(made)} jobs in {site.path}")


if __name__ == "__main__":
    main()
