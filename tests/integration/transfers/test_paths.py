"""What holds for all URLs with paths: of this machine, by sftp, by rsync."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from balsam.errors import InvalidInput, TransferError
from tests.integration.transfers.conftest import Mover, fill, tree

UrlOf = Callable[[Path], str]
#: What a shell, an option parser, or a program with commands of its own could take for more.
HOSTILE = (
    "-o",
    "--delete",
    "$(touch x)",
    "; touch x #",
    "a b",
    "#comment",
    "it's",
    'say "x"',
    "back\\slash",
    "ünï 漢",
    "%20",
    "a:b",
    "~",
    "[a]",
    "*",
    "{x}",
    "!x",
    "x" * 250,
)


def test_a_file(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    fill(tmp_path / "far", "in.dat", "other")
    assert mover.fetch(url_of(tmp_path / "far" / "in.dat")) == ["in.dat"]
    assert tree(mover.here) == {"in.dat": "in.dat"}
    assert (mover.progress.files, mover.progress.bytes_done) == (1, 6)


def test_wildcards_and_directories(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    fill(tmp_path / "far", "a.dat", "b.dat", "c.txt", "d.dat/deep/x", "d.dat/.hidden")
    (tmp_path / "far" / "d.dat" / "empty").mkdir()
    assert mover.fetch(url_of(tmp_path / "far" / "*.dat")) == ["a.dat", "b.dat", "d.dat"]
    assert tree(mover.here) == {
        "a.dat": "a.dat",
        "b.dat": "b.dat",
        "d.dat/deep/x": "d.dat/deep/x",
        "d.dat/.hidden": "d.dat/.hidden",
        "d.dat/empty/": "",
    }


def test_what_is_not_there(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name in ("none", "none*"):
        with pytest.raises(TransferError, match="none") as caught:
            mover.fetch(url_of(tmp_path / "far" / name))
        assert not caught.value.retryable
        assert all(name.startswith(".") for name in tree(mover.here))


def test_names_are_never_syntax(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    """Fault D: neither a shell's, nor those of the programs that move."""
    far, back = tmp_path / "far", tmp_path / "back"
    fill(mover.here, *HOSTILE)
    wanted = tree(mover.here)
    assert sorted(mover.deliver(url_of(far), *HOSTILE)) == sorted(HOSTILE)
    assert tree(far) == wanted
    mover.here = back
    back.mkdir()
    for name in HOSTILE:
        mover.fetch(url_of(far / name))
    assert tree(back) == wanted


def test_a_line_break_in_a_name(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    """sftp's commands are lines: it says so, and moves nothing."""
    fill(mover.here, "two\nlines")
    url = url_of(tmp_path / "far")
    if url.startswith("s"):
        with pytest.raises(TransferError, match="line break"):
            mover.deliver(url, "two\nlines")
        assert not (tmp_path / "far").exists()
    else:
        mover.deliver(url, "two\nlines")
        assert tree(tmp_path / "far") == {"two\nlines": "two\nlines"}


def test_results_of_one_name_keep_their_directories(
    mover: Mover, url_of: UrlOf, tmp_path: Path
) -> None:
    fill(mover.here, "a/out", "b/out", "b/other", "deep/d/x")
    far = tmp_path / "made" / "on the way"
    mover.deliver(url_of(far), "a/out", "b/out", "b/other", "deep/d")
    assert tree(far) == {
        "a/out": "a/out",
        "b/out": "b/out",
        "other": "b/other",
        "d/x": "deep/d/x",
    }
    assert mover.progress.files == 4


def test_what_is_there_is_replaced_and_the_rest_stays(
    mover: Mover, url_of: UrlOf, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    fill(far, "d/earlier", "theirs")
    (far / "out").write_text("longer than the new one")
    fill(mover.here, "out", "d/new")
    mover.deliver(url_of(far), "out", "d")
    assert tree(far) == {
        "d/earlier": "d/earlier",
        "d/new": "d/new",
        "out": "out",
        "theirs": "theirs",
    }


def test_links_are_followed(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    """A result may be a link to an input, which is not there on the far side."""
    fill(tmp_path, "elsewhere/x", "elsewhere/d/y")
    (mover.here / "x").symlink_to(tmp_path / "elsewhere" / "x")
    (mover.here / "d").symlink_to(tmp_path / "elsewhere" / "d")
    mover.deliver(url_of(tmp_path / "far"), "x", "d")
    assert tree(tmp_path / "far") == {"x": "elsewhere/x", "d/y": "elsewhere/d/y"}
    assert not (tmp_path / "far" / "x").is_symlink()


def test_where_nothing_may_be_written(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    fill(mover.here, "out")
    (tmp_path / "far").write_text("a file")
    with pytest.raises(TransferError, match="far") as caught:
        mover.deliver(url_of(tmp_path / "far"), "out")
    assert not caught.value.retryable


def test_wildcards_in_directories(mover: Mover, url_of: UrlOf, tmp_path: Path) -> None:
    """Two of one name would clash where nobody sees it; here it is seen."""
    far = tmp_path / "far"
    fill(far, "a/x", "b/x", "b/y")
    if not url_of(far).startswith("local"):
        with pytest.raises(InvalidInput, match="only the last name"):
            mover.fetch(url_of(far / "*" / "x"))
        return
    mover.fetch(url_of(far / "**"))
    assert tree(mover.here) == {"a/x": "a/x", "b/x": "b/x", "y": "b/y"}
