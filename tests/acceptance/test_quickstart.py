"""The demo campaign, from the empty directory to the report, on the command line alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.conftest import BIN, Balsam, clean_environ, runner

CHECKOUT = Path(__file__).parents[2]
#: One simulation for each size: the smallest campaign there is.
SMALL = ("--jobs", "4")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A demo that ran to its end, and what was printed."""
    directory = tmp_path_factory.mktemp("demo")
    run = runner(clean_environ(directory / "home"), directory)
    done = run("quickstart", "--directory", "demo site", *SMALL, timeout=300)
    return directory / "demo site", done


@pytest.fixture
def on_demo(demo: tuple[Path, object], environ: dict[str, str], tmp_path: Path) -> Balsam:
    """Run `balsam ARGV…` with the demo activated."""
    return runner({**environ, "BALSAM_SITE": str(demo[0])}, tmp_path)


def files_of(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def test_it_ends_well_and_shows_the_result(
    demo: tuple[Path, subprocess.CompletedProcess[str]], on_demo: Balsam
) -> None:
    path, done = demo
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(on_demo("ls", "--by-states", "--json").stdout)
    assert counts == {"JOB_FINISHED": 9}
    (job,) = json.loads(on_demo("ls", "--name", "estimate", "--json").stdout)
    data = job["data"]
    assert f"p_c      = {data['estimate']:.6f} ± {data['error']:.6f}" in done.stdout
    assert abs(data["estimate"] - 0.59274605) <= 3 * data["error"] < 0.02
    assert "in agreement" in done.stdout
    assert "9 of 9 jobs finished" in done.stdout
    assert re.search(r"utilization +\d+\.\d % of \d+ cores", done.stdout)
    assert re.search(r"throughput +[\d.]+ jobs/", done.stdout)
    assert str(path / "report.html") in done.stdout


def test_each_size_was_analysed_from_the_data_of_its_simulations(on_demo: Balsam) -> None:
    jobs = {job["name"]: job for job in json.loads(on_demo("ls", "--json").stdout)}
    for size in (16, 32, 64, 128):
        simulation, analysis = jobs[f"simulate_{size}_0"], jobs[f"analyse_{size}"]
        assert analysis["parents"] == [simulation["id"]]
        assert analysis["data"]["realizations"] == sum(simulation["data"]["counts"].values())
    found = {
        str(job["data"]["size"]): job["data"]["threshold"]
        for job in jobs.values()
        if job["name"].startswith("analyse")
    }
    told = jobs["estimate"]["data"]["thresholds"]
    assert {size: value for size, (value, _) in told.items()} == found


def test_the_report_is_one_file_with_plots_and_jobs(demo: tuple[Path, object]) -> None:
    page = (demo[0] / "report.html").read_text()
    assert page.count('<svg class="plot"') == 3
    assert "simulate_128_0" in page
    assert "http" not in page


def test_the_commands_to_try_next_work(
    demo: tuple[Path, subprocess.CompletedProcess[str]], environ: dict[str, str], tmp_path: Path
) -> None:
    _, told = demo[1].stdout.split("Try next\n")
    script = "set -e\n" + told
    done = subprocess.run(
        ["bash", "-c", script], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "JOB_FINISHED  9" in done.stdout
    assert "standard errors from it" in done.stdout


def test_a_second_demo_is_not_put_over_the_first(
    demo: tuple[Path, object], bare_balsam: Balsam
) -> None:
    done = bare_balsam("quickstart", "--directory", demo[0])
    assert done.returncode == 1
    assert "--keep goes on with it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_keep_shows_the_result_without_running_again(
    demo: tuple[Path, object], on_demo: Balsam
) -> None:
    done = on_demo("quickstart", "--directory", demo[0], "--keep")
    assert done.returncode == 0, done.stderr
    assert "in agreement" in done.stdout
    assert "Running" not in done.stdout
    assert {job["attempt"] for job in json.loads(on_demo("ls", "--json").stdout)} == {1}
    refused = on_demo("quickstart", "--directory", demo[0], "--keep", "--seed", 2)
    assert refused.returncode == 2


def test_an_estimate_that_is_off_is_no_success(demo: tuple[Path, object], on_demo: Balsam) -> None:
    (job,) = json.loads(on_demo("ls", "--name", "estimate", "--json").stdout)
    wrong = {**job["data"], "deviation": -3.2}
    changed = on_demo("modify", job["id"], "data", json.dumps(wrong))
    assert changed.returncode == 0, changed.stderr
    done = on_demo("quickstart", "--directory", demo[0], "--keep")
    restored = on_demo("modify", job["id"], "data", json.dumps(job["data"]))
    assert restored.returncode == 0
    assert done.returncode == 1
    assert "NOT in agreement" in done.stdout
    assert done.stderr.startswith("balsam: error: the demo did not end well")


def test_terminated_it_ends_its_launcher_and_keep_goes_on(
    tmp_path: Path, environ: dict[str, str], bare_balsam: Balsam
) -> None:
    words = [str(BIN / "balsam"), "quickstart", "--directory", "demo", *SMALL]
    with subprocess.Popen(
        words, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        for line in started.stdout:
            if "ended (0.0%)" in line:
                started.send_signal(signal.SIGTERM)
                break
        _, errors = started.communicate(timeout=60)
    assert started.returncode == 128 + signal.SIGTERM, errors
    assert "--keep goes on" in errors
    counts = json.loads(bare_balsam("ls", "--by-states", "--json", "--site", "demo").stdout)
    assert counts.get("RUNNING", 0) == 0
    assert counts.get("JOB_FINISHED", 0) < 9
    done = bare_balsam("quickstart", "--directory", "demo", "--keep", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 jobs finished" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--jobs", "6"), "multiple of 4"),
        (("--jobs", "0"), "multiple of 4"),
        (("--jobs", "many"), "invalid int"),
        (("--site", "x"), "--directory"),
    ],
)
def test_bad_options_make_nothing(
    options: tuple[str, ...], words: str, bare_balsam: Balsam, tmp_path: Path
) -> None:
    done = bare_balsam("quickstart", "--directory", "demo", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_a_directory_with_other_things_is_left_alone(bare_balsam: Balsam, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    done = bare_balsam("quickstart", "--directory", "mine", "--keep")
    assert done.returncode == 1
    assert "is no empty directory" in done.stderr
    assert files_of(tmp_path / "mine") == {"thesis.tex"}
    (tmp_path / "file").touch()
    assert bare_balsam("quickstart", "--directory", "file").returncode == 1


def test_a_site_of_ones_own_is_left_alone(bare_balsam: Balsam, site: Path) -> None:
    before = files_of(site)
    done = bare_balsam("quickstart", "--directory", site, "--keep")
    assert done.returncode == 1
    assert files_of(site) == before


def test_without_room_on_the_disk_nothing_is_left_behind(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    limited = "ulimit -f 8; exec balsam quickstart --directory demo"
    done = subprocess.run(
        ["bash", "-c", limited], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("balsam: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_the_wheel_holds_the_example_and_the_template(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    example = CHECKOUT / "examples" / "percolation"
    wanted = {
        f"balsam/examples/percolation/{file.name}" for file in example.iterdir() if file.is_file()
    }
    assert wanted | {"balsam/report/page.html.jinja"} <= names
