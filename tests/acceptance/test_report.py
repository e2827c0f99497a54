"""`balsam report` on a campaign with jobs that ended well and badly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Balsam


def test_the_page_goes_to_the_named_file(campaign: Balsam, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    done = campaign("report", "-o", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {file} (11 jobs)\n"
    page = file.read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    for text in ("grain0", "broken", "hello 3", "Failures", "FAILED <b>1</b>", "Utilization"):
        assert text in page
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_the_default_is_report_html_here(campaign: Balsam, tmp_path: Path) -> None:
    done = campaign("report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()


def test_a_dash_is_standard_output(campaign: Balsam, tmp_path: Path) -> None:
    done = campaign("report", "-o", "-", cwd=tmp_path)
    assert done.stdout.startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_numbers(campaign: Balsam) -> None:
    done = campaign("report", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["jobs"] == 11
    assert found["states"]["JOB_FINISHED"] == 7
    assert found["outcomes"] == {"done": 7, "error": 1}
    assert found["error_rate"] == 0.125
    assert 0 < found["utilization"] <= 1
    assert found["finished_per_second"] > 0
    assert found["started_at"].endswith("Z")
    (failure,) = found["failures"]
    assert (failure["exit_code"], failure["jobs"]) == (3, [6])
    (launcher,) = found["launchers"]
    assert launcher["runs"] == 8
    assert {app["name"]: app["runs"] for app in found["apps"]} == {"say": 7, "fail": 1}
    course = found["course"]
    assert course["phases"]["finished"][-1] == 7
    assert course["phases"]["failed"][-1] == 2
    assert course["phases"]["waiting"][-1] == 1
    assert course["phases"]["ready"][-1] == 1


def test_a_selection_counts_only_its_jobs(campaign: Balsam, tmp_path: Path) -> None:
    found = json.loads(campaign("report", "--wf", "alloys", "--json").stdout)
    assert found["jobs"] == 6
    assert found["runs"] == 6
    assert found["selection"] == "workflow alloys"
    assert found["course"]["phases"]["finished"][-1] == 5
    campaign("report", "--name", "grain", "-o", tmp_path / "g.html")
    page = (tmp_path / "g.html").read_text()
    assert "grain4" in page
    assert "broken" not in page


def test_a_site_without_jobs_has_a_report(balsam: Balsam, tmp_path: Path) -> None:
    done = balsam("report", "-o", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    assert "Nothing has run yet." in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "no/such/place.html"), "there is no directory"),
        (("-o", "."), "it is a directory"),
        (("--json", "-o", "x.html"), "leave one out"),
        (("--state", "DONE"), "there is no state 'DONE'"),
    ],
)
def test_bad_options_write_nothing(
    options: tuple[str, ...], words: str, campaign: Balsam, tmp_path: Path
) -> None:
    done = campaign("report", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_such_job_is_an_error(campaign: Balsam, tmp_path: Path) -> None:
    done = campaign("report", "4711", cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no job '4711'" in done.stderr
    assert list(tmp_path.iterdir()) == []
