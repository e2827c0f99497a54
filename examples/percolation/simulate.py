"""One simulation job: sweep some lattices of one size and keep when they wrapped."""

from __future__ import annotations

import argparse
import os

from percolation import sweep

from balsam.api import Job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, required=True, help="sites along one side")
    parser.add_argument("--realizations", type=int, required=True, help="lattices to fill")
    parser.add_argument("--seed", required=True, help="any text; the same gives the same result")
    args = parser.parse_args()

    counts = sweep(args.size, args.realizations, args.seed)
    job = Job.objects.get(job_id=os.environ["BALSAM_JOB_ID"])
    job.data["size"] = args.size
    job.data["counts"] = counts
    job.save()
    sites = args.size**2
    mean = sum(n * times for n, times in counts.items()) / args.realizations / sites
    print(f"{args.realizations} lattices of {args.size}^2 sites wrapped at {mean:.5f} on average")


if __name__ == "__main__":
    main()
