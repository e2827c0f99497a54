"""In a real shell: activation, completion, pipes, interrupts, and logs that are followed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def bash(environ: dict[str, str], cwd: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("by", ["name", "path"])
def test_activate_and_deactivate(environ, site, tmp_path, by):
    target = site.name if by == "name" else str(site)
    script = f"""
        set -e
        PS1='$ '
        source balsamactivate {target}
        echo "$BALSAM_DB_PATH"; echo "$PS1"
        cd /
        balsam which | head -1
        source balsamdeactivate
        echo "${{BALSAM_DB_PATH-unset}}"; echo "$PS1"
    """
    done = bash(environ, tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(site),
        f"[BalsamDB: {site.name}] $ ",
        f"Current Balsam DB: {site}",
        "unset",
        "$ ",
    ]


def test_activating_another_site_replaces_the_prompt(environ, site, tmp_path, bare_balsam):
    bare_balsam("init", "other")
    script = f"PS1='$ '; source balsamactivate {site}; source balsamactivate other; echo \"$PS1\""
    assert bash(environ, tmp_path, script).stdout == "[BalsamDB: other] $ \n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("source balsamactivate", "usage"),
        ("source balsamactivate a b", "usage"),
        ("source balsamactivate nowhere", "'nowhere'"),
        ("source balsamdeactivate", "No Balsam DB is currently active"),
    ],
)
def test_activation_fails_with_code_1_and_leaves_the_shell_alone(environ, tmp_path, script, words):
    done = bash(environ, tmp_path, f"{script}; echo $? ${{BALSAM_DB_PATH-unset}}")
    assert done.stdout == "1 unset\n"
    assert words in done.stderr


def test_bash_completes_verbs_and_options(bare_balsam, environ, tmp_path):
    script = """
        eval "$(balsam completion bash)"
        complete -p balsam
        COMP_WORDS=(balsam prog) COMP_CWORD=1
        "$(complete -p balsam | sed 's/.*-F \\([^ ]*\\).*/\\1/')" balsam prog balsam
        echo "${COMPREPLY[@]}"
    """
    done = bash(environ, tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "progress"


def test_reader_that_leaves_is_no_error(environ, site, tmp_path):
    environ["BALSAM_SITE"] = str(site)
    script = "set -o pipefail; balsam config show --json | true; balsam ls --help | head -1"
    done = bash(environ, tmp_path, script)
    assert done.stderr == ""


def test_interrupt_is_quiet(environ, site):
    environ["BALSAM_SITE"] = str(site)
    process = subprocess.Popen(
        ["balsam", "log", "--follow"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log = site / "log" / "launcher_1.log"
    log.write_text("begun\n")
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(2)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == b""


def test_launcher_logs(balsam, site):
    assert "no launcher" in balsam("log").stdout
    (site / "log" / "launcher_1.log").write_text("".join(f"line {n}\n" for n in range(1, 31)))
    assert balsam("log").stdout.splitlines() == [f"line {n}" for n in range(21, 31)]
    (site / "log" / "launcher_2.log").write_text("other")
    assert balsam("log", "--tail", "1").stdout.splitlines() == [
        *("==> launcher_1.log <==", "line 30"),
        *("==> launcher_2.log <==", "other"),
    ]
