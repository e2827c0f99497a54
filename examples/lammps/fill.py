"""Fill a site with the campaign: melts at several temperatures, each with several rank counts.

python fill.py --site SITE
balsam launcher --site SITE --consume-all
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from balsam.api import Job, Site

WORKFLOW = "melt"
#: All of them liquid at DENSITY: its triple point is near 0.69, its critical one near 1.31.
TEMPERATURES = (0.85, 1.0, 1.2, 1.5, 2.0)
DENSITY = 0.8442
RANKS = (1, 2)
SEEDS = 2

HERE = Path(__file__).resolve().parent
Number = TypeVar("Number", int, float)


def register(site: Site, lammps: str) -> None:
    """Register the apps, as far as they are not there."""
    apps = {
        "lammps-melt": shlex.join([lammps, "-in", str(HERE / "in.melt"), "-log"])
        + " {{log}} -var temperature {{temperature}} -var density {{density}}"
        " -var seed {{seed}} -var cells {{cells}} -var settle {{settle}} -var steps {{steps}}",
        "lammps-reduce": shlex.join([sys.executable, str(HERE / "reduce.py")]),
        "lammps-plot": shlex.join([sys.executable, str(HERE / "plot.py")]),
    }
    for name, command in apps.items():
        site.apps.get_or_create(name=name, defaults={"executable": command})


def melt(temperature: str, ranks: int, seed: int, **variables: object) -> Job:
    """Return one simulation; *variables* are those of `in.melt`."""
    given = {"temperature": temperature, "seed": seed, **variables}
    name = f"T{temperature}_r{ranks}_s{seed}"
    return Job(
        name=f"melt_{name}",
        workflow=WORKFLOW,
        application="lammps-melt",
        parameters={"log": f"{name}.log", **{key: str(value) for key, value in given.items()}},
        ranks_per_node=ranks,
        tags={"step": "melt", "T": temperature, "ranks": str(ranks)},
    )


def jobs(
    temperatures: list[float], ranks: list[int], seeds: int, density: float, **variables: int
) -> list[Job]:
    """Return the campaign: the melts and a reduction for each temperature, one plot."""
    campaign: list[Job] = []
    reductions: list[Job] = []
    for number in temperatures:
        temperature = f"{number:.2f}"
        melts = [
            melt(temperature, count, seed, density=density, **variables)
            for count in ranks
            for seed in range(1, seeds + 1)
        ]
        reduction = Job(
            name=f"reduce_T{temperature}",
            workflow=WORKFLOW,
            application="lammps-reduce",
            args=f"{temperature} {density}",
            parents=melts,
            input_files="T*.log",
            tags={"step": "reduce", "T": temperature},
            priority=1,
        )
        campaign += [*melts, reduction]
        reductions.append(reduction)
    plot = Job(
        name="plot",
        workflow=WORKFLOW,
        application="lammps-plot",
        parents=reductions,
        input_files="T*.json",
        tags={"step": "plot"},
    )
    return [*campaign, plot]


def several(kind: type[Number]) -> Callable[[str], list[Number]]:
    """Return the reader of an option that takes numbers with commas between them."""

    def read(text: str) -> list[Number]:
        return sorted({kind(word) for word in text.split(",")})

    read.__name__ = f"list of {kind.__name__}s"
    return read


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--site", required=True, help="the Balsam site to fill")
    options.add_argument("--lammps", default="lmp", help="the program (default: lmp)")
    options.add_argument(
        "--temperatures", type=several(float), default=TEMPERATURES, metavar="T,T,…"
    )
    options.add_argument("--ranks", type=several(int), default=RANKS, metavar="N,N,…")
    options.add_argument("--seeds", type=int, default=SEEDS, help="runs of each (default: 2)")
    options.add_argument("--density", type=float, default=DENSITY)
    options.add_argument("--cells", type=int, default=5, help="4 N^3 atoms (default: 5)")
    options.add_argument("--settle", type=int, default=2000, help="steps that do not count")
    options.add_argument("--steps", type=int, default=6000, help="steps that count")
    return options


def main() -> None:
    args = parser().parse_args()
    with Site(args.site) as site:
        register(site, args.lammps)
        made = site.jobs.bulk_create(
            jobs(
                args.temperatures,
                args.ranks,
                args.seeds,
                args.density,
                cells=args.cells,
                settle=args.settle,
                steps=args.steps,
            )
        )
    print(f"{len(made)} jobs in {site.path}")


if __name__ == "__main__":
    main()
