"""`balsam quickstart`: a real campaign from the empty directory to the report."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam import config
from balsam.errors import AlreadyExists, BalsamError, InvalidInput, NotFound, SiteError

if TYPE_CHECKING:
    from balsam.client.interface import Client
    from balsam.model.job import Job
    from balsam.report.records import Summary

#: The example within a site that was made here, and the script that fills the site.
EXAMPLE = "percolation"
SCRIPT = "campaign.py"
LOG = Path("log", "quickstart.log")
SIZES = 4
#: Seconds that the launcher gets to end when it is asked to.
PATIENCE = 15.0
#: Beyond so many standard errors an estimate contradicts the literature.
MOST_DEVIATION = 3.0


def add_commands(subparsers: Any) -> None:
    """Add the parser of ``quickstart``."""
    parser = subparsers.add_parser(
        "quickstart",
        help="make a site, run a demo campaign in it, show what came out",
        description="Make a site with a demo campaign: site percolation on a square lattice,"
        " simulated by some hundred jobs, analysed by jobs that depend on them. Runs it on this"
        " machine (about two core-minutes), prints the estimate of the percolation threshold"
        " and writes a report.",
        epilog="example: balsam quickstart --directory demo",
    )
    parser.add_argument(
        "--directory", metavar="DIR", default="demo", help="where to make the site (demo)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help=f"simulation jobs, a multiple of {SIZES}: more give a smaller error (240)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="another one, another sample (1)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="where DIR has an earlier demo: go on with it, and show its result",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0 when all jobs finished and the estimate agrees."""
    from balsam.client.connect import open_client

    _check(args)
    path = Path(args.directory).expanduser().absolute()
    if not _is_demo(path):
        _make(path, args.jobs or 240, 1 if args.seed is None else args.seed)
    elif not args.keep:
        raise AlreadyExists(
            f"{path} has an earlier demo; --keep goes on with it, `rm -r {args.directory}`"
            " removes it, --directory chooses another place"
        )
    elif args.jobs or args.seed is not None:
        raise InvalidInput(f"{path} has its jobs already; leave out --jobs and --seed with --keep")
    with closing(open_client(path)) as client:
        if _left(client):
            print(f"Running the campaign; the launcher's output is in {path / LOG}", flush=True)
            code = _launch(client)
            if code:
                print(f"The launcher ended with exit code {code}; see {path / LOG}")
        return _tell(client)


def _check(args: argparse.Namespace) -> None:
    if args.site is not None:
        raise InvalidInput("quickstart makes a site of its own; name its place with --directory")
    if args.jobs is not None and (args.jobs < SIZES or args.jobs % SIZES):
        raise InvalidInput(
            f"--jobs is {args.jobs}; it must be a multiple of {SIZES}, the number of lattice sizes"
        )


# the site --------------------------------------------------------------------------------


def example_directory() -> Path:
    """Return where the example's files are: in the package, or in the checkout beside it.

    Raises
    ------
    NotFound
        This installation has no examples.
    """
    import balsam

    package = Path(balsam.__file__).resolve().parent
    for root in (package, package.parents[1]):
        directory = root / "examples" / EXAMPLE
        if (directory / SCRIPT).is_file():
            return directory
    raise NotFound(f"this installation lacks examples/{EXAMPLE}; install balsam-flow again")


def _is_demo(path: Path) -> bool:
    return config.is_site(path) and (path / EXAMPLE / SCRIPT).is_file()


def _make(path: Path, jobs: int, seed: int) -> None:
    """Make a site with the campaign's jobs; leave nothing behind when that fails."""
    from balsam.client.connect import create_site

    source = example_directory()
    try:
        occupied = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise SiteError(f"cannot read {path}: {error.strerror}") from error
    if occupied:
        raise SiteError(
            f"{path} exists and is no empty directory; choose another place with --directory"
        )
    try:
        create_site(path)
        _copy(source, path / EXAMPLE)
        print(f"Made the site {path}", flush=True)
        _fill(path, jobs, seed)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    try:
        config.remember_site(path)
    except OSError:
        pass  # a home that cannot be written must not stop the demo


def _copy(source: Path, target: Path) -> None:
    """Copy the example: the site's apps run it, and its user may change it."""
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    except OSError as error:
        raise SiteError(f"cannot copy {source} to {target}: {error}") from error


def _fill(path: Path, jobs: int, seed: int) -> None:
    """Run the example's own script, as its user would."""
    words = [sys.executable, str(path / EXAMPLE / SCRIPT), "--site", str(path)]
    words += ["--runs", str(jobs // SIZES), "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise BalsamError(f"{path / EXAMPLE / SCRIPT} could not create the jobs: {lines[-1]}")
    print(f"Registered its apps and created {jobs} simulations, {SIZES} analyses, 1 estimate")


# the run ---------------------------------------------------------------------------------


def _left(client: Client) -> int:
    """Return how many jobs have not ended."""
    from balsam.model.query import ALL
    from balsam.model.states import LIVE_STATES

    counts = client.state_counts(ALL)
    return sum(counts.get(state, 0) for state in LIVE_STATES)


def _launch(client: Client) -> int:
    """Run a launcher until it ends, showing progress; return its exit code.

    When we are interrupted or terminated, the launcher is asked to end, and has ended when
    this returns.
    """
    words = [sys.executable, "-m", "balsam.cli.main", "launcher", "--consume-all"]
    with open(client.path / LOG, "ab") as log:
        launcher = subprocess.Popen(
            [*words, "--site", str(client.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,  # the terminal's Ctrl-C is for us: the launcher gets one signal
        )
    try:
        with _terminable():
            _watch(client, launcher)
    finally:
        if launcher.poll() is None:
            print("\nEnding the launcher; --keep goes on with the campaign", file=sys.stderr)
            _end(launcher)
    return launcher.wait()


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Ask *launcher* to end, ask again, and end it; what it ran ends with it."""
    for ask in (launcher.terminate, launcher.terminate, launcher.kill):
        ask()
        try:
            launcher.wait(timeout=PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _terminable() -> Iterator[None]:
    """Leave by `SystemExit` on SIGTERM and SIGHUP, so that what was started is ended."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(client: Client, launcher: subprocess.Popen[bytes]) -> None:
    """Show progress until *launcher* has ended."""
    from balsam.model.wire import Topic

    show = _bar if sys.stdout.isatty() else _lines
    with closing(client.watch(Topic.ENDS)) as watch:

        def changes() -> Iterator[None]:
            while launcher.poll() is None:
                watch.clear()
                yield
                watch.wait(1.0)
            yield

        show(client, changes())


def _lines(client: Client, changes: Iterator[None]) -> None:
    """Print a line for each tenth of the campaign."""
    from balsam.cli.progress import line, measure
    from balsam.model.query import ALL

    shown = -1
    for _ in changes:
        progress = measure(client, ALL, time.time())
        tenth = 10 * progress.ended // max(progress.total, 1)
        if tenth > shown:
            shown = tenth
            print(f"  {line(progress)}", flush=True)


def _bar(client: Client, changes: Iterator[None]) -> None:
    """Draw a bar that lives as long as the launcher."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from balsam.cli.progress import measure
    from balsam.model.query import ALL

    words = TextColumn("{task.fields[words]}")
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words) as bar:
        task = bar.add_task("", total=None, words="")
        for _ in changes:
            now = measure(client, ALL, time.time())
            rate = f", {now.rate_per_second:.3g} jobs/s" if now.rate_per_second else ""
            told = f"{now.running} running, {now.waiting} waiting{rate}"
            told += f", [red]{now.failed} failed" if now.failed else ""
            bar.update(task, total=now.total, completed=now.ended, words=told)


# the result ------------------------------------------------------------------------------


def _tell(client: Client) -> int:
    """Print what came out, write the report; return the exit code."""
    from balsam.cli.report import write_page
    from balsam.model.query import ALL
    from balsam.model.states import State
    from balsam.report.job_rows import job_rows
    from balsam.report.page import render
    from balsam.report.summary import summarize

    estimate = _estimate(client)
    summary = summarize(client, ALL)
    page = client.path / "report.html"
    write_page(page, render(summary, job_rows(client, ALL)))
    agrees = _tell_estimate(estimate)
    _tell_campaign(summary)
    _tell_next(client.path, page, estimate)
    finished = summary.states.get(State.JOB_FINISHED, 0)
    if finished == summary.jobs and agrees:
        return 0
    what = "the estimate is off" if finished == summary.jobs else "not all jobs finished"
    print(f"balsam: error: the demo did not end well: {what}", file=sys.stderr)
    return 1


def _estimate(client: Client) -> Job:
    from balsam.model.query import ALL

    found = client.jobs(ALL.where(workflow=EXAMPLE, name="estimate"))
    if not found:
        raise NotFound(f"{client.path} has no job 'estimate'; remove the site and start again")
    return found[-1]


def _tell_estimate(job: Job) -> bool:
    """Print the estimate; return whether there is one that agrees with the literature."""
    print("\nSite percolation threshold of the square lattice")
    data = job.data
    if "estimate" not in data:
        print(f"  no estimate: job {job.id} is {job.state}")
        return False
    for size, (value, error) in data["thresholds"].items():
        print(f"  L = {size:>4}: {value:.6f} ± {error:.6f}")
    deviation = data["deviation"]
    print(f"  p_c      = {data['estimate']:.6f} ± {data['error']:.6f}")
    print(
        f"  literature {data['literature']:.8f}: {abs(deviation):.2f} standard errors away,"
        f" {'in agreement' if abs(deviation) <= MOST_DEVIATION else 'NOT in agreement'}"
    )
    return bool(abs(deviation) <= MOST_DEVIATION)


def _tell_campaign(summary: Summary) -> None:
    from balsam.model.states import State
    from balsam.report import quantities

    print("\nCampaign")
    finished = summary.states.get(State.JOB_FINISHED, 0)
    wall = quantities.duration(summary.wall_seconds)
    print(f"  {finished} of {summary.jobs} jobs finished in {wall}")
    print(f"  throughput  {quantities.rate(summary.finished_per_second)}")
    cores = max((launcher.cores for launcher in summary.launchers), default=0)
    print(f"  utilization {quantities.share(summary.utilization)} of {cores} cores")


def _tell_next(path: Path, page: Path, estimate: Job) -> None:
    print("\nWhere to look")
    print(f"  report          {page}")
    print(f"  job directories {path / 'data' / EXAMPLE}")
    print(f"  the example     {path / EXAMPLE / 'README.md'}")
    print("\nTry next")
    own = Path(sys.executable).parent
    if not _on_path(own):
        print(f"  export PATH={shlex.quote(str(own))}:$PATH")
    print(f"  source balsamactivate {shlex.quote(str(path))}")
    print("  balsam ls --by-states")
    print("  balsam ls --name analyse --history")
    print(f"  balsam show {estimate.id}")
    print(f"  balsam logs {estimate.id}")


def _on_path(directory: Path) -> bool:
    """Tell whether `balsam` is the one in *directory*."""
    found = shutil.which("balsam")
    return found is not None and os.path.realpath(found) == os.path.realpath(directory / "balsam")
