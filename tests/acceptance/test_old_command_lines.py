"""The command lines of scripts for Balsam 0.x, in a shell, as they were written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.batch import batch_jobs, use_local, wait_for
from tests.acceptance.conftest import BIN, Balsam, runner

SESSION = r"""
set -e
PS1=
mkdir work && cd work
yes | balsam init ../db
balsam init ../older --db-type sqlite3
source balsamactivate db
test "$BALSAM_DB_PATH" = "$(cd ../db && pwd)"
test -f "$BALSAM_DB_PATH/balsam.toml"
printf 'import sys\nprint(sys.argv[1:])\n' > app.py
printf '#!/bin/sh\necho post > post.txt\n' > post.sh; chmod +x post.sh
balsam app --name say --exec app.py --desc 'says what it was told' > /dev/null
balsam app --name say2 --exe /bin/echo --preprocess "" --postprocess post.sh > /dev/null
balsam app --name say3 --executable "/bin/echo x" > /dev/null
balsam app --name say3 --executable y && exit 1

EMPTY=
mkdir in out; echo data > in/a.dat
balsam job --name one --workflow W --application say --args "--a 1 --b '{\"k\": [1, 2]}'" \
    --wall-time-minutes 5 --num-nodes 1 --ranks-per-node 1 --yes > /dev/null
balsam job --name two --workflow W --app say2 --args $EMPTY --url-in=local:$PWD/in/* \
    --url-out=local:$PWD/out --stage-out-files="*.out *.txt" --node-packing-count 4 --yes
balsam job --name three --workflow V --app say3 --wall-time-min 2 --yes > /dev/null
echo y | balsam job --name four --workflow V --app say3 > /dev/null
balsam ls; balsam ls apps; balsam ls jobs; balsam ls wf
balsam ls --verbose; balsam ls --verb; balsam ls --history; balsam ls --hist; balsam ls --tree
balsam ls --by-states | grep -E '^ *PREPROCESSED  3$|READY'
balsam ls --state PREPROCESSED; balsam ls --name one; balsam ls --wf W
BALSAM_LS_FIELDS=data:num_nodes balsam ls | head -n 1 | grep 'data.*num_nodes'
BALSAM_LS_FIELDS=environ_vars:working_directory:tick balsam ls | grep 'data/W/one'
id() { balsam show "$(balsam ls --name "$1" --json | grep -om1 '[0-9a-f-]\{36\}')" --field job_id; }
one=$(id one); three=$(id three); four=$(id four)
balsam dep ${three:0:8} ${four:0:8} | grep 'Created link \[three | '
balsam modify ${three:0:8} num_nodes 1
balsam modify $three args 'changed twice'
balsam modify jobs ${three:0:8} --attr wall_time_minutes --value 3
balsam modify 3 description "new" --type apps
balsam launcher --consume-all --job-mode=serial --num-transition=1 --time-limit-minutes=5 \
    --limit-nodes=1 --offset-nodes=0 > launcher.txt
balsam launcher --wf-filter W --job-mode=mpi --num-transition-threads=1 > launcher2.txt
test "$(balsam ls --by-states)" = "    JOB_FINISHED  4"
test "$(cat out/two.out)" = "" ; test "$(cat out/post.txt)" = post
. bcd ${one:0:8}
grep -F "['--a', '1', '--b', '{\"k\": [1, 2]}']" one.out
case "$PWD" in "$BALSAM_DB_PATH/data/W/one_${one:0:8}") ;; *) exit 1;; esac
cd "$BALSAM_DB_PATH/../work"
. bcd ${four:0:8}; grep 'x' four.out; cd -
balsam modify jobs ${one:0:8} --attr state --value CREATED
yes | balsam killjob --id ${one:0:8}
balsam ls --state USER_KILLED | grep one
balsam rm jobs --name two --force
balsam rm apps --name say2 --force
yes | balsam rm jobs --all
balsam rm apps --all --force
balsam ls; balsam ls queues; balsam which; balsam which --list
source balsamdeactivate
test -z "$BALSAM_DB_PATH"
echo end of the session
"""


def test_a_session(bare_balsam: Balsam, environ: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-x", "-c", SESSION],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = "\n".join([*done.stdout.splitlines()[-5:], *done.stderr.splitlines()[-25:]])
    assert done.returncode == 0, said
    assert done.stdout.endswith("end of the session\n"), said


CHILD = """\
balsam mkchild --name child --app plain --args "from $BALSAM_JOB_ID" --wall-min 1 --num-nodes 1 \\
    --ranks-per 1
"""


def test_children_by_the_command_line(balsam: Balsam, tmp_path: Path) -> None:
    """Fault C1."""
    post = tmp_path / "post.sh"
    post.write_text(f"#!/bin/sh\n{CHILD}")
    post.chmod(0o755)
    balsam("app", "--name", "say", "--exec", "/bin/echo", "--postprocess", str(post))
    balsam("app", "--name", "plain", "--exec", "/bin/echo")
    balsam("job", "--name", "parent", "--workflow", "w", "--app", "say", "--yes")
    done = balsam("launcher", "--consume-all", "--job-mode", "serial", "--time-limit", "1")
    assert done.returncode == 0, done.stderr
    (child,) = json.loads(balsam("ls", "--name", "child", "--json").stdout)
    (parent,) = json.loads(balsam("ls", "--name", "parent", "--json").stdout)
    assert child["args"] == f"from {parent['job_id']}"
    assert (child["workflow"], child["application"]) == ("w", "plain")
    assert child["parents"] == [parent["id"]]


SUBMIT = """\
from balsam.core.models import QueuedLaunch
from balsam.service import service
launch = QueuedLaunch(
    project="mine", queue="debug", nodes=1, wall_minutes=5, job_mode="serial", wf_filter="work",
    sched_flags="", prescheduled_only=False,
)
launch.save()
service.submit_qlaunch(launch, verbose=True)
again = QueuedLaunch.objects.get(pk=launch.pk)
print(again.nodes, again.wall_minutes, again.state, again.scheduler_id == launch.scheduler_id)
print(QueuedLaunch.objects.filter(queue="debug").count())
QueuedLaunch.refresh_from_scheduler()
"""


@pytest.mark.parametrize("how", ["python", "command"])
def test_submission(
    bare_balsam: Balsam, environ: dict[str, str], site: Path, tmp_path: Path, how: str
) -> None:
    use_local(tmp_path / "home", site)
    environ["BALSAM_DB_PATH"] = str(site)
    here = runner(environ, tmp_path)
    if how == "python":
        words = [str(BIN / "python"), "-c", SUBMIT]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Submit OK: Qlaunch 1"), done.stdout
    else:
        done = here(
            *("submit-launch", "-n", 1, "-q", "debug", "-t", 5, "-A", "mine", "--job-mode"),
            *("serial", "--wf-filter", "work", "--sched-flags", ""),
        )
        assert done.returncode == 0, done.stderr
        assert "Submit OK" in done.stdout
    (made,) = batch_jobs(here)
    assert (made["num_nodes"], made["queue"], made["project"]) == (1, "debug", "mine")
    wait_for(here, 1, "finished")
