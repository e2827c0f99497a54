"""Jobs whose files are to be moved: who does, and how far it is. Pure."""

from __future__ import annotations

from balsam.model.states import State
from balsam.model.transfer import Transfer, TransferState
from balsam.model.wire import LauncherInfo
from balsam.report.reasons.facts import Facts, Subject
from balsam.report.reasons.findings import Finding
from balsam.report.reasons.reason import Reason

_START = "`balsam service start`"


def files(subject: Subject, facts: Facts) -> Finding:
    """Say who will move the files of a job that nobody has in hand."""
    job = subject.waiting
    if not job.to_stage:
        return Finding(layer="files", found="no files are to be moved now")
    mover = facts.mover_for(job.owner)
    if mover is not None and facts.stage_files != "always":
        text = f"waits for {_files(job.state)}, which the service on {mover.host} moves in its turn"
        help = (
            "nothing is needed: see what is moved now, `balsam ls transfers --state running`; so"
            " many are brought ahead as service.files_ahead says"
        )
        return Finding(layer="files", found=text, reason=Reason.FILES, help=help)
    if facts.stage_files == "never":
        text = (
            f"waits for {_files(job.state)}: no service moves files, and launchers do not"
            " (launcher.stage_files is never)"
        )
        return Finding(layer="files", found=text, reason=Reason.FILES_UNMOVED, help=_START)
    if facts.live or facts.coming or facts.has_service:
        return Finding(layer="files", found=f"a launcher moves {_files(job.state)}")
    text = f"waits for {_files(job.state)}: the service is down and no launcher runs"
    help = f"{_START}, or a launcher: `balsam launcher --consume-all`"
    return Finding(layer="files", found=text, reason=Reason.FILES_UNMOVED, help=help)


def in_hand(subject: Subject, mover: LauncherInfo) -> Finding:
    """Say how far the service is with the files of a job."""
    own = subject.own
    progress = _progress(own.transfers) if own is not None else ""
    text = f"waits for {_files(subject.waiting.state)}, which the service on {mover.host} moves"
    help = f"follow it: `balsam ls transfers --id {subject.ref}`" if own is not None else ""
    return Finding(layer="lease", found=f"{text}{progress}", reason=Reason.FILES, help=help)


def _files(state: State) -> str:
    return "its results to be taken away" if state == State.POSTPROCESSED else "its files"


def _progress(transfers: list[Transfer]) -> str:
    """Return how many of its URLs are done, and how far the one is that is moved now."""
    if not transfers:
        return ""
    done = sum(each.state is TransferState.DONE for each in transfers)
    parts = [f"{done} of {len(transfers)} done"]
    for each in transfers:
        if each.state is TransferState.RUNNING and each.bytes_total:
            parts.append(f"the next {100 * each.bytes_done // each.bytes_total} %")
        if each.state is TransferState.WAITING and each.error:
            parts.append(f"to be tried again: {each.error}")
    return f" ({', '.join(parts[:2])})"
