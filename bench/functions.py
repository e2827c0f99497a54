"""Calls of Python functions: how many a second, from `Executor.map` to the last result."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

CALLS = 100_000
PROGRAM = """\
import json, sys, time
import balsam

def noop(x):
    return None

calls, chunksize = int(sys.argv[1]), int(sys.argv[2]) or None
with balsam.Executor(launcher=True) as executor:
    executor.submit(noop, 0).result()  # the launcher is there, and a process is warm
    start = time.perf_counter()
    results = executor.map(noop, range(calls), chunksize=chunksize)
    submitted = time.perf_counter()
    count = sum(1 for result in results)
    ended = time.perf_counter()
    jobs = executor.jobs().count() - 1
assert count == calls, count
print(json.dumps([submitted - start, ended - submitted, jobs]))
"""


FIB = """\
import json, time
import balsam

@balsam.app
def fib(n):
    if n < 2:
        return n
    first, second = fib.submit(n - 1), fib.submit(n - 2)
    return first.result() + second.result()

start = time.perf_counter()
with balsam.Executor(launcher=True) as executor:
    value = executor.submit(fib, 12).result()
    jobs = executor.jobs().count()
assert value == 144, value
print(json.dumps([time.perf_counter() - start, jobs]))
"""


def noop(x: int) -> None:
    return None


def measure(site: Path, environ: dict[str, str], tell: Callable[..., None]) -> None:
    """Have a program call a function that does nothing; beside it, a process pool."""
    program = site / "calls.py"
    program.write_text(PROGRAM)
    for chunksize in (0, 1):
        submit, results, jobs = _run(program, environ, str(CALLS), str(chunksize))
        seconds = submit + results
        pool = _pool(math.ceil(CALLS / jobs))
        tell(
            "functions",
            chunksize=chunksize or "default",
            calls=CALLS,
            jobs=round(jobs),
            calls_per_second=round(CALLS / seconds),
            submit_share=round(submit / seconds, 2),
            pool_calls_per_second=round(CALLS / pool),
            ratio=round(pool / seconds, 3),
            wanted=5000,
        )


def recursion(site: Path, environ: dict[str, str], tell: Callable[..., None]) -> None:
    """Have a function submit itself, and wait for both, to depth 12."""
    program = site / "fib.py"
    program.write_text(FIB)
    seconds, jobs = _run(program, environ)
    tell("functions", recursion_seconds=round(seconds, 1), jobs=round(jobs))


def _run(program: Path, environ: dict[str, str], *words: str) -> list[float]:
    """Return the numbers that *program* prints."""
    done = subprocess.run(
        [sys.executable, str(program), *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(done.stdout)
    return found


def _pool(chunksize: int) -> float:
    """Return the seconds of a process pool, as many processes as processors."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        pool.submit(noop, 0).result()
        start = time.perf_counter()
        assert sum(1 for _ in pool.map(noop, range(CALLS), chunksize=chunksize)) == CALLS
        return time.perf_counter() - start
