"""Files that are brought to jobs and taken away."""

from __future__ import annotations

import os
from pathlib import Path

from balsam.model.states import State
from tests.integration.conftest import Campaign, Run

S = State


def test_files_of_parents_are_linked_and_urls_copied(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    """Fault D: directories are moved, and equal names do not clash."""
    source, target = tmp_path / "source dir", tmp_path / "results"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("deep")
    (source / "given.dat").write_text("given")
    campaign.app("make", "#\necho $BALSAM_JOB_ID > out.txt; mkdir -p more; echo m > more/one")
    campaign.app("use", "#\ncat out.txt out.txt_* given.dat deep/file > all; mkdir d; touch d/x")
    parents = campaign.jobs("make", "a", "b")
    job = campaign.job(
        "use",
        parents=parents,
        input_files="out* more",
        stage_in_url=f"local:{source}/*",
        stage_out_url=str(target),
        stage_out_files="all d *.out",
    )
    run()
    assert campaign.path(job) == (
        "CREATED AWAITING_PARENTS READY STAGED_IN PREPROCESSED RUNNING RUN_DONE POSTPROCESSED"
        " JOB_FINISHED"
    ), campaign.tell(job)
    ids = [campaign.get(parent).job_id for parent in parents]
    assert (target / "all").read_text() == f"{ids[0]}\n{ids[1]}\ngivendeep"
    assert sorted(path.name for path in target.iterdir()) == ["all", "d", "job.out"]
    assert (target / "d" / "x").is_file()
    workdir = Path(campaign.get(job).workdir)
    assert (workdir / "out.txt").is_symlink()
    assert not (workdir / "given.dat").is_symlink()
    note = campaign.message(job, S.STAGED_IN)
    assert "deep" in note
    assert "given.dat" in note
    assert f"out.txt_{ids[1][:8]}" in note


def test_names_of_files_are_never_syntax(campaign: Campaign, run: Run, tmp_path: Path) -> None:
    """Fault D: neither a second colon, nor a blank, nor what a shell would take for a command."""
    source, target = tmp_path / "a:b; touch 'c\" $(id)", tmp_path / "out:1 & :2"
    source.write_text("whole")
    job = campaign.job(
        "true",
        stage_in_url=f"local:{source}",
        stage_out_url=f"local:{target}",
        stage_out_files="a:*",
    )
    run()
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    assert [path.name for path in target.iterdir()] == [source.name]
    assert (target / source.name).read_text() == "whole"


def test_names_of_files_need_not_be_utf8(campaign: Campaign, run: Run, tmp_path: Path) -> None:
    """Fault L1: the launcher does not die of what it has to tell of them."""
    campaign.app("make", "#\necho made > $(printf 'odd\\377')")
    parent = campaign.job("make")
    job = campaign.job(
        "true",
        parents=[parent],
        input_files="odd*",
        stage_out_url=str(tmp_path / "out"),
        stage_out_files="odd*",
    )
    run()
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    assert campaign.message(job, S.STAGED_IN) == "linked odd?"
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"odd\xff"]


def test_what_cannot_be_moved_fails_its_job_and_no_other(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    campaign.app("remove", "#\ntouch wanted; rm -r $PWD")
    jobs = {
        campaign.job("true", stage_in_url=f"local:{tmp_path}/none*"): "nothing matches",
        campaign.job("true", stage_out_url="/x", stage_out_files="none*"): "matches 'none*'",
        campaign.job(
            "true", stage_out_url=str(tmp_path / "file"), stage_out_files="*.out"
        ): "staging out",
        campaign.job(
            "remove", stage_out_url=str(tmp_path / "to"), stage_out_files="wanted"
        ): "matches 'wanted'",
    }
    good = campaign.job("true", "good")
    run()
    for job, reason in jobs.items():
        assert campaign.state(job) == S.FAILED, campaign.tell(job)
        assert reason in campaign.message(job, S.FAILED)
    assert campaign.state(good) == S.JOB_FINISHED


def test_a_directory_of_the_user_s_is_used_as_it_is(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "job.out").write_text("earlier\n")
    campaign.app("pwd", "/bin/pwd")
    job = campaign.job("pwd", user_workdir=str(mine))
    run()
    assert (mine / "job.out").read_text() == f"earlier\n{mine}\n"
    assert sorted(os.listdir(mine)) == ["job.out"]
    assert not any((campaign.site / "data").rglob("*"))
    (attempt,) = campaign.attempts(job)
    assert (attempt.output_file, attempt.output_offset) == (str(mine / "job.out"), 8)
