"""Reads what Grid Engine writes of requests: qstat in XML, and qacct."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, ParseError, fromstring, tostring

from balsam.errors import UnreadableAnswer
from balsam.model.batch_job import BatchState
from balsam.schedulers import sge_words as words
from balsam.schedulers.answers import unreadable
from balsam.schedulers.scheduler import Answer, Status
from balsam.schedulers.times import moment

#: What XML 1.0 cannot have, and names of other people's requests do.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
#: So many reasons are told of those that are the same for all requests.
_REASONS = 3
_FIELDS = ("jobnumber", "jobname", "failed", "exit_status", "qsub_time", "start_time", "end_time")
#: ``failed`` of a run after which the request went back into the queue.
_RESCHEDULED = re.compile(r"2[45]\b")


def document(answer: Answer, text: str, tag: str) -> Element:
    """Return the root of the XML in *text*; what comes before it is chatter.

    Raises
    ------
    UnreadableAnswer
        There is none, or not of this *tag*, or it is cut off.
    """
    start = text.find("<?xml")
    if start < 0:
        raise unreadable(answer, text.strip(), f"XML of {tag}")
    text = _CONTROL.sub("\ufffd", text[start:])
    try:
        root = fromstring(text)
    except ParseError as error:
        line = text.splitlines()[min(error.position[0], text.count("\n") + 1) - 1]
        raise unreadable(answer, line, f"XML of {tag}") from error
    if root.tag != tag:
        raise unreadable(answer, root.tag, tag)
    return root


def status_of(job: Element) -> Status:
    """Read a `job_list` of qstat."""
    word = job.findtext("state", "")
    state = words.state(word)
    queue, _, host = job.findtext("queue_name", "").partition("@")
    try:
        if not word:
            raise UnreadableAnswer("there is no state")
        started = moment(job.findtext("JAT_start_time", "-"))
    except UnreadableAnswer as error:
        line = " ".join(tostring(job, encoding="unicode").split())
        answer = Answer(argv=("qstat",), code=0, out="", err="")
        raise unreadable(answer, line, "a state and a time") from error
    return Status(
        scheduler_id=job.findtext("JB_job_number", ""),
        state=state,
        word=word,
        queue=queue,
        nodes=host,  # the first; the others are told only slot by slot
        started_at=started,
    )


def reasons(text: str, ids: Iterable[str]) -> dict[str, str]:
    """Return why requests wait, from ``qstat -j … -xml``; {} if that says nothing.

    That command fails when one of the requests has just gone, and its schedulers are often told
    (``schedd_job_info``) to give no reasons.
    """
    start = text.find("<?xml")
    try:
        root = fromstring(_CONTROL.sub("\ufffd", text[max(start, 0) :]))
    except ParseError:
        return {}
    general = [each.text or "" for each in root.findall(".//SME_global_message_list//MES_message")]
    more = f"; and {len(general) - _REASONS} more" if len(general) > _REASONS else ""
    found = {number: "; ".join(general[:_REASONS]) + more for number in ids if general}
    for message in root.findall(".//SME_message_list/element"):
        said = message.findtext("MES_message", "")
        for number in message.findall(".//MES_job_number_list//ULNG_value"):
            found[number.text or ""] = said
    for job in root.findall("djob_info/element"):
        errors = [each.text or "" for each in job.findall(".//JAT_message_list//QIM_message")]
        if errors:
            found[job.findtext("JB_job_number", "")] = errors[-1]
    wanted = set(ids)
    return {number: reason for number, reason in found.items() if number in wanted}


def deleted(zombies: Iterable[Element]) -> dict[str, Status]:
    """Return those of ``qstat -s z`` that have never run; of others qacct will tell."""
    numbers = [
        job.findtext("JB_job_number", "") for job in zombies if job.find("JAT_start_time") is None
    ]
    return {
        number: Status(
            scheduler_id=number,
            state=BatchState.CANCELLED,
            word="z",
            reason="it was deleted while it waited",
        )
        for number in numbers
    }


def records(answer: Answer, text: str) -> list[dict[str, str]]:
    """Return the records of qacct, in their order.

    Raises
    ------
    UnreadableAnswer
        There is none, or one without its number, times or end.
    """
    found = []
    for block in re.split(r"^=+\s*$", text, flags=re.MULTILINE)[1:]:
        pairs = (line.partition(" ") for line in block.splitlines())
        record = {name: value.strip() for name, _, value in pairs}
        if any(not record.get(name) for name in _FIELDS):
            raise unreadable(answer, " ".join(block.split()), f"a record with {_FIELDS}")
        found.append(record)
    if not found:
        raise unreadable(answer, text.strip(), "=====")
    return found


def end_of(number: str, found: Sequence[dict[str, str]]) -> Status | None:
    """Return how a request ended; None if no record tells yet."""
    ours = [each for each in found if not _RESCHEDULED.match(each["failed"])]
    if not ours:
        return None
    # Records of the workers that it started are among them; it was submitted before they were.
    first = min(_time(each, "qsub_time") or 0.0 for each in ours)
    last = [each for each in ours if (_time(each, "qsub_time") or 0.0) == first][-1]
    answer = Answer(argv=("qacct",), code=0, out="", err="")
    try:
        state, exit_code, reason = words.end_of(last)
    except ValueError as error:
        line = f"failed {last['failed']}, exit_status {last['exit_status']}"
        raise unreadable(answer, line, "numbers") from error
    started = _time(last, "start_time")
    return Status(
        scheduler_id=number,
        state=state,
        word=f"failed {last['failed'].split()[0]}",
        reason=reason,
        queue=last.get("qname", ""),
        nodes=last.get("hostname", "") if started else "",
        exit_code=exit_code,
        started_at=started,
        ended_at=_time(last, "end_time"),
    )


def _time(record: dict[str, str], name: str) -> float | None:
    return moment(record[name])
