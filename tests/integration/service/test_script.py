"""Scripts of batch jobs, read by the real bash: no value becomes syntax."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balsam.errors import InvalidInput, SiteError
from balsam.model.batch_job import BatchJob
from balsam.schedulers.command import SETTINGS
from balsam.schedulers.local import Local
from balsam.service import script, template

HOSTILE = [
    "a b",
    "it's",
    'say "hi"',
    "$HOME ${HOME} $(touch pwned) `touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "a\ntouch pwned\n",
    "\n#X",
    "&& touch pwned #",
    "!!\\",
    "\\'\\\"\\\n",
    "*",
    "~",
    "-x --site=/",
    "<(touch pwned)",
    "{a,b}",
    "ä→\t\x1b",
]
#: Writes its words, with a zero after each.
ECHO = '#!/bin/bash\nprintf \'%s\\0\' "$@" >> "$WORDS"\n'
OLD = """\
#!/bin/bash -x
#COBALT -A {{ project }}
#COBALT -n {{ nodes }}
#COBALT -q {{ queue }}
#COBALT -t {{ time_minutes }}
#COBALT {{ sched_flags }}

export PATH={{ balsam_bin }}:{{ pg_bin }}:$PATH

source balsamactivate {{ balsam_db_path }}
sleep 0

balsam launcher --{{ wf_filter }} --job-mode={{ job_mode }} \\
  --time-limit-minutes={{ time_minutes-2 }}

source balsamdeactivate
"""


class Shell:
    """Runs scripts with programs that only write down the words they are given."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        programs = path / "odd bin"
        programs.mkdir()
        for name in ("python", "balsam"):
            (programs / name).write_text(ECHO)
            (programs / name).chmod(0o755)
        (programs / "balsamactivate").write_text('BALSAM_DB_PATH="$1"\n')
        (programs / "balsamdeactivate").write_text("")
        monkeypatch.setattr(sys, "executable", str(programs / "python"))

    def run(self, text: str, **environ: str) -> list[str]:
        """Return the words that the script's programs were given."""
        words = self.path / "words"
        words.unlink(missing_ok=True)
        done = subprocess.run(
            ["bash"],
            input=text.encode(errors="surrogateescape"),
            cwd=self.path,
            env={**os.environ, "WORDS": str(words), **environ},
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{done.stderr.decode()}\n{text}"
        assert not (self.path / "pwned").exists(), text
        return words.read_bytes().decode().split("\0")[:-1]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, monkeypatch)


def batch_job(**fields: object) -> BatchJob:
    given = {"id": 7, "name": "b7", "num_nodes": 1, "wall_time_minutes": 30.0, "queue": "q"}
    return BatchJob(**{**given, **fields})


def rendered(text: str, site: Path, job: BatchJob, **environ: str) -> str:
    asked = script.submission(site, job)
    return script.render(
        template.check(text, "T"), site, job, Local(), asked, environ={**os.environ, **environ}
    )


@pytest.mark.parametrize("value", HOSTILE)
def test_the_shipped_template(shell: Shell, value: str) -> None:
    site = shell.path / value.replace("/", "_")
    job = batch_job(wf_filter=value, tags={"k": value}, queue=value, project=value, name=value)
    text = rendered(template.default_text(), site, job, BALSAM_HOME=value, LC_ALL="C.UTF-8")
    assert shell.run(text) == script.launcher_words(site, job)[1:]


@pytest.mark.parametrize("value", [each for each in HOSTILE if each.isprintable()])
def test_a_template_of_0x(shell: Shell, value: str) -> None:
    site = shell.path / value.replace("/", "_")
    job = batch_job(wf_filter=value, queue=value, project=value, scheduler_flags="--attrs 'a b'")
    text = rendered(OLD, site, job)
    assert f"#COBALT -q {value}\n" in text
    assert "#COBALT --attrs 'a b'\n" in text
    words = ["launcher", f"--wf-filter={value}", "--job-mode=auto", "--time-limit-minutes=28"]
    assert shell.run(text) == words


def test_a_template_of_0x_for_all_workflows(shell: Shell) -> None:
    text = rendered(OLD, shell.path, batch_job())
    assert "balsam launcher --consume-all --job-mode=auto \\\n" in text
    assert shell.run(text)[1] == "--consume-all"


PLACES = """\
#!/bin/bash
w={{ queue }}; d="{{ queue }}"; s='{{ queue }}'
balsam 0"{{ queue }}"'{{ queue }}'{{ queue }} "$w" "$d" "$s" {{ queue }} # it's a comment
f() { balsam "$1" 'x {{ queue }}' "y {{ queue }}"; }
case {{ queue }} in *) f {{ queue }} ;; esac
cat > /dev/null <<'END'
it's "fine
END
[ {{ queue }} = {{ queue }} ] && balsam {{ queue }} launcher
"""


def places(value: str) -> list[str]:
    """Return the words that PLACES gives to balsam."""
    first = ["0" + 3 * value, *[value] * 4]
    return [*first, value, f"x {value}", f"y {value}", value, "launcher"]


@pytest.mark.parametrize("value", HOSTILE)
def test_wherever_a_value_stands(shell: Shell, value: str) -> None:
    text = "export PATH={{ balsam_bin }}:$PATH\n"
    text = PLACES.replace("#!/bin/bash\n", f"#!/bin/bash\n{text}")
    assert shell.run(rendered(text, shell.path, batch_job(queue=value))) == places(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_launcher_that_another_shell_starts(shell: Shell, value: str) -> None:
    job = batch_job(wf_filter=value)
    for command in ('bash -c "{{ launcher }}"', "bash -c '{{ launcher }}'", "x=$({{ launcher }})"):
        text = rendered(f"#!/bin/bash\n{command}\n", shell.path, job)
        assert shell.run(text) == script.launcher_words(shell.path, job)[1:]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=st.text("ab '\"\\$`!#&;|<>(){}[]*?~=-\n\t", max_size=12))
def test_any_value_wherever_it_stands(shell: Shell, value: str) -> None:
    text = PLACES.replace("#!/bin/bash\n", "#!/bin/bash\nexport PATH={{ balsam_bin }}:$PATH\n")
    text = text.replace("[ {{ queue }} = {{ queue }} ]", "true")  # '(' is a word of its own to [
    assert shell.run(rendered(text, shell.path, batch_job(queue=value))) == places(value)


def test_the_environment_is_the_submitters(shell: Shell) -> None:
    text = '#!/bin/bash\n{{ environment }}\n{{ python }} "$BALSAM_HOME" "${LC_ALL-none}" launcher'
    text = text.replace("{{ python }}", "balsam").replace(
        "{{ environment }}", "export PATH={{ balsam_bin }}:$PATH\n{{ environment }}"
    )
    site, job = shell.path, batch_job()
    with_it = rendered(text, site, job, BALSAM_HOME="/a 'b'", LC_ALL="POSIX")
    assert shell.run(with_it, LC_ALL="C")[:2] == ["/a 'b'", "POSIX"]
    asked = script.submission(site, job)
    without = script.render(template.check(text, "T"), site, job, Local(), asked, environ={})
    assert shell.run(without, LC_ALL="C", BALSAM_HOME="x")[:2] == ["x", "none"]
    assert shell.run(without, LC_ALL="C.UTF-8", BALSAM_HOME="x")[:2] == ["x", "C.UTF-8"]


def test_jobs_get_times_from_slurm_as_the_submitter_does(shell: Shell) -> None:
    """Scripts that ask for the end of their allocation read what `scontrol` and `squeue` write."""
    text = (
        "#!/bin/bash\nexport PATH={{ balsam_bin }}:$PATH\n{{ environment }}\n"
        'balsam "${SLURM_TIME_FORMAT-none}" launcher'
    )
    site, job = shell.path, batch_job()
    asked = script.submission(site, job)
    without = script.render(template.check(text, "T"), site, job, Local(), asked, environ={})
    assert shell.run(without, **SETTINGS)[0] == "none"
    with_it = rendered(text, site, job, SLURM_TIME_FORMAT="%H:%M %d")
    assert shell.run(with_it, **SETTINGS)[0] == "%H:%M %d"


def test_the_shipped_template_is_clean(shell: Shell) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck (`apt-get install shellcheck`)")
    job = batch_job(wf_filter="a b", tags={"k": "v"})
    text = rendered(template.default_text(), shell.path, job, BALSAM_HOME="/h")
    done = subprocess.run(["shellcheck", "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_file_is_written_for_its_owner(tmp_path: Path) -> None:
    asked = script.submission(tmp_path, batch_job())
    script.write(asked, "#!/bin/sh\n")
    script.write(asked, "#!/bin/sh\ntrue\n")
    (file,) = (tmp_path / "qsubmit").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("qlaunch7.sh", 0o700)
    assert file.read_text() == "#!/bin/sh\ntrue\n"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "qsubmit").write_text("")
    asked = script.submission(tmp_path, batch_job())
    with pytest.raises(SiteError, match=r"qlaunch7\.sh: (Not a directory|File exists)"):
        script.write(asked, "#!/bin/sh\n")


def test_flags_are_words_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No closing quotation"):
        script.submission(tmp_path, batch_job(scheduler_flags='-x "'))
