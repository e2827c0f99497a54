"""Whatever happens to an answer, it is read, or is an error with a line: never a crash."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balsam.errors import SchedulerError
from balsam.schedulers.cobalt import Cobalt
from balsam.schedulers.cobalt_log import read_log
from balsam.schedulers.flux import Flux
from balsam.schedulers.lsf import Lsf
from balsam.schedulers.pbs import Pbs
from balsam.schedulers.scheduler import Answer
from tests.unit.schedulers import test_cobalt, test_flux, test_lsf

PBS = Path(__file__).parent / "data" / "pbs"


def captured(name):
    return (PBS / f"{name}.json").read_text()


_LITE = [{"rank": "0-3", "children": {"core": "0-7", "gpu": "0,1"}}]
FLUX_R = json.dumps({"version": 1, "execution": {"R_lite": _LITE}})
LSF_JOBS = test_lsf.records(
    test_lsf.record(START_TIME="Jan  2 11:58", FINISH_TIME="Jan  2 13:58 L"),
    test_lsf.record(JOBID="2", STAT="EXIT", EXIT_CODE="140", EXIT_REASON="TERM_OWNER: …"),
)
LSF_QUEUES = {"bqueues": test_lsf.QUEUES, "bhosts": test_lsf.HOSTS, "bmgroup": test_lsf.GROUPS}
PBS_QUEUES = {
    "qstat -B": captured("qstat-B"),
    "qstat -Q": captured("qstat-Q"),
    "pbsnodes": captured("pbsnodes"),
}

#: Of each question: the answers of its commands, of which one is damaged.
QUESTIONS = {
    "pbs-status": (lambda run: Pbs().status(run, ["1.h1"]), {"": captured("qstat-f-running")}),
    "pbs-history": (lambda run: Pbs().history(run, ["1.h1"]), {"": captured("qstat-f-finished")}),
    "pbs-queues": (lambda run: Pbs().queues(run), PBS_QUEUES),
    "pbs-windows": (lambda run: Pbs().windows(run), PBS_QUEUES),
    "flux-status": (
        lambda run: Flux().status(run, ["fiFkbMhFM", "fiFsPiQD5"]),
        {"": f'{{"jobs": [{test_flux.CANCELED}, {test_flux.HELD}]}}'},
    ),
    "flux-find": (
        lambda run: Flux().find(run, "sleep"),
        {"": f'{{"jobs": [{test_flux.RUNNING}, {test_flux.HELD}]}}'},
    ),
    "flux-queues": (
        lambda run: Flux().queues(run),
        {"flux queue": "queue=batch*|enabled|started|7200.0|1|3|end\n", "flux resource": FLUX_R},
    ),
    "lsf-status": (lambda run: Lsf(False, lambda: 0).status(run, ["771278", "2"]), {"": LSF_JOBS}),
    "lsf-history": (
        lambda run: Lsf(False, lambda: 0).history(run, ["289263", "771278"]),
        {"bjobs": test_lsf.records(), "bhist": test_lsf.DONE + test_lsf.KILLED},
    ),
    "lsf-queues": (lambda run: Lsf(False).queues(run), LSF_QUEUES),
    "lsf-windows": (lambda run: Lsf(False).windows(run), LSF_QUEUES | {"bslots": test_lsf.SLOTS}),
    "cobalt-status": (lambda run: Cobalt().status(run, ["347106"]), {"": test_cobalt.jobs()}),
    "cobalt-queues": (
        lambda run: Cobalt().queues(run),
        {"qstat": test_cobalt.QUEUES, "nodelist": test_cobalt.NODES},
    ),
    "cobalt-windows": (lambda run: Cobalt().windows(run), {"": test_cobalt.NODES}),
}
WORDS = ("", "0", "-7", "null", '"a"', "[]", "{}", "unknown", "∞", "\x00", "1:2:3:4", "NaN")


@st.composite
def damaged(draw, text):
    """Return *text* with a part of it cut out, or something else in its place."""
    if draw(st.booleans()):
        tokens = [i for i, c in enumerate(text) if c in ' \t\n:,"|<=']
        start = draw(st.sampled_from(tokens)) + 1
        end = next((i for i in tokens if i > start), len(text))
    else:
        start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    return text[:start] + draw(st.sampled_from(WORDS)) + text[end:]


def complaint(ask):
    """Return what is said of an answer that cannot be read; '' of one that can."""
    try:
        ask()
    except SchedulerError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("question", QUESTIONS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_answer_is_a_crash(question, data):
    ask, answers = QUESTIONS[question]
    which = data.draw(st.sampled_from(sorted(answers)))
    said = answers | {which: data.draw(damaged(answers[which]))}

    def run(argv, stdin=""):
        known = [name for name in said if " ".join(argv).startswith(name)]
        return Answer(argv=tuple(argv), code=0, out=said[known[0]], err="")

    assert "\n" not in complaint(lambda: ask(run))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_log_is_a_crash(tmp_path_factory, data):
    log = tmp_path_factory.getbasetemp() / "cobaltlog"
    text = test_cobalt.HEAD + test_cobalt.DELETE + test_cobalt.DONE.format(143)
    log.write_text(data.draw(damaged(text)))
    assert "\n" not in complaint(lambda: read_log(str(log), "347106"))
