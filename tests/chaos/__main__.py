"""`python -m tests.chaos --seed N`: rounds of random faults, each to be had again by its number."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from balsam.model.query import Query
from tests import postgres
from tests.chaos.campaign import Campaign
from tests.chaos.faults import Round, schedule
from tests.chaos.oracle import verdict
from tests.chaos.service import ServiceRound
from tests.chaos.service import schedule as service_schedule

#: Launchers without faults that may follow until all is done.
LAST_LAUNCHERS = 3


def run(
    seed: int,
    number: int,
    database: str,
    server: postgres.Server | None,
    seen: Counter[str],
    *,
    service: bool,
) -> list[str]:
    """Run one round; return what is wrong at its end, and count in *seen* what happened."""
    chance = random.Random(f"{seed}/{number}/{database}")
    folder = Path(tempfile.mkdtemp(prefix="balsam-chaos-"))
    os.environ["BALSAM_HOME"] = str(folder / "none")
    campaign = Campaign(folder, chance, server)
    faults = service_schedule(chance) if service else schedule(chance, server=server is not None)
    wrong: list[str] = []
    try:
        at_work = (
            ServiceRound(campaign) if service else Round(campaign, launchers=chance.randint(2, 3))
        )
        try:
            for fault in faults:
                at_work.inflict(fault)
        finally:
            at_work.end()
        for _ in range(LAST_LAUNCHERS):
            campaign.balsam("launcher", "--consume-all", "--idle-seconds", "2").wait(timeout=120)
            wrong = verdict(campaign)
            if not any("is stuck" in line for line in wrong):
                break
        if isinstance(at_work, ServiceRound):
            wrong += at_work.verdict()
            seen["batch jobs"] += len(at_work.batch_jobs())
        jobs = [job.id or 0 for job in campaign.client.jobs(Query(), ["id"])]
        seen["jobs"] += len(jobs)
        seen.update(str(attempt.outcome) for attempt in campaign.client.attempts(jobs))
    finally:
        campaign.close()
        if wrong:
            told = ", ".join(f"{f.kind} ({f.which:.2f}) after {f.after}" for f in faults)
            print(f"  what went wrong: {told}\n  all is kept in {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--round", type=int, default=None, help="only this one")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument(
        "--service", action="store_true", help="a service submits the launchers, and is the target"
    )
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    chosen = ["sqlite", "postgresql"] if args.database == "both" else [args.database]
    numbers = range(1, args.rounds + 1) if args.round is None else [args.round]
    options = f"DATABASE={args.database}" + (" SERVICE=yes" if args.service else "")
    print(f"make chaos SEED={seed} ROUNDS={args.rounds} {options}", flush=True)
    failed = 0
    for database in chosen:
        server = None
        if database == "postgresql":
            server = postgres.Server(postgres.require(), postgres.DURABLE)
        began = time.monotonic()
        bad, seen = 0, Counter[str]()
        try:
            for number in numbers:
                wrong = run(seed, number, database, server, seen, service=args.service)
                bad += bool(wrong)
                if wrong:
                    again = f"make chaos SEED={seed} ROUND={number} {options}"
                    print("\n    ".join([f"round {number} FAILED ({again}):", *wrong]), flush=True)
        finally:
            if server:
                server.stop()
        rounds = len(numbers)
        seconds = (time.monotonic() - began) / rounds
        print(
            f"{database}: {rounds - bad} of {rounds} rounds good, {seconds:.1f} s each;",
            ", ".join(f"{n} {what}" for what, n in seen.most_common()),
            flush=True,
        )
        failed += bad
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
