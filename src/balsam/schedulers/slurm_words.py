"""The words of Slurm: states of requests and of nodes, and why a request waits.

Sources: squeue(1) "JOB STATE CODES" and "JOB REASON CODES", sinfo(1) "NODE STATE CODES" of Slurm
22.05 and 24.11; what 22.05.8 wrote.
"""

from __future__ import annotations

import re

from balsam.model.batch_job import BatchState

STATES = {
    "PENDING": BatchState.QUEUED,
    "REQUEUED": BatchState.QUEUED,
    "REQUEUE_FED": BatchState.QUEUED,
    "REQUEUE_HOLD": BatchState.HELD,
    "SPECIAL_EXIT": BatchState.HELD,
    "RESV_DEL_HOLD": BatchState.HELD,
    "CONFIGURING": BatchState.RUNNING,
    "POWER_UP_NODE": BatchState.RUNNING,
    "RUNNING": BatchState.RUNNING,
    "RESIZING": BatchState.RUNNING,
    "SIGNALING": BatchState.RUNNING,
    "STOPPED": BatchState.RUNNING,
    "SUSPENDED": BatchState.RUNNING,
    "COMPLETING": BatchState.ENDING,
    "STAGE_OUT": BatchState.ENDING,
    "UPDATE_DB": BatchState.ENDING,
    "COMPLETED": BatchState.FINISHED,
    "BOOT_FAIL": BatchState.FAILED,
    "FAILED": BatchState.FAILED,
    "LAUNCH_FAILED": BatchState.FAILED,
    "NODE_FAIL": BatchState.FAILED,
    "OUT_OF_MEMORY": BatchState.FAILED,
    "RECONFIG_FAIL": BatchState.FAILED,
    "DEADLINE": BatchState.TIMEOUT,
    "TIMEOUT": BatchState.TIMEOUT,
    "CANCELLED": BatchState.CANCELLED,
    "PREEMPTED": BatchState.CANCELLED,
    "REVOKED": BatchState.CANCELLED,
}

#: Reasons that say that somebody has to let the request go.
_HELD = re.compile(r"JobHeld|JobHoldMaxRequeue|launch_failed_requeued_held|ReqHold", re.IGNORECASE)

_REASONS = {
    "Resources": "waits for nodes to become free",
    "Priority": "others with higher priority come before it",
    "Dependency": "waits for another request to end",
    "DependencyNeverSatisfied": "the request it waits for ended so that this will never start",
    "BeginTime": "its time to begin has not come",
    "JobHeldUser": "was held by its user; `scontrol release` lets it go",
    "JobHeldAdmin": "was held by an administrator",
    "JobHoldMaxRequeue": "was given back too often and is held",
    "PartitionDown": "its queue is down",
    "PartitionInactive": "its queue is inactive",
    "PartitionNodeLimit": "asks for more nodes than its queue allows, or too few",
    "PartitionTimeLimit": "asks for more time than its queue allows",
    "PartitionConfig": "asks for what its queue cannot give",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for a license",
    "BadConstraints": "no node has what it asks for",
    "InvalidAccount": "its project is not valid",
    "InvalidQOS": "its quality of service is not valid",
    "QOSNotAllowed": "its quality of service is not allowed here",
    "Cleaning": "was given back, and is being cleaned up after",
    "NodeDown": "a node that it needs is down",
}
#: What limits are on, by parts of the word: AssocGrpCPUMinutesLimit, QOSMaxJobsPerUserLimit, ….
_WHOSE = {"Assoc": "the project", "QOS": "the quality of service", "Max": "the user"}
_LIMITS = {
    "Submit": "may have no more requests",
    "Jobs": "may have no more running requests",
    "RunMinutes": "has as much running as its hours allow",
    "Minutes": "has used up its hours",
    "Wall": "may not have this much time",
    "Node": "may have no more nodes",
    "CPU": "may have no more cores",
    "Cpu": "may have no more cores",
    "GRES": "may have no more GPUs",
    "Mem": "may have no more memory",
    "Billing": "has used up what it may be billed",
}


def state(word: str, reason: str) -> tuple[BatchState, str]:
    """Return the state of a word of Slurm, and the word alone.

    ``CANCELLED by 1000`` and ``CANCELLED+`` are CANCELLED; unknown ones are kept as they are.
    """
    match = re.match(r"[A-Z_]+", word)
    alone = match[0] if match else word
    found = STATES.get(alone, BatchState.UNKNOWN)
    if found is BatchState.UNKNOWN:
        return found, word
    if found is BatchState.QUEUED and _HELD.search(reason):
        found = BatchState.HELD
    return found, alone


def reason(word: str) -> str:
    """Return the word for why a request waits, or ended, with what it means if that is known."""
    if word in ("", "None", "N/A"):
        return ""
    first = re.split(r"[,(]", word)[0].strip()
    meaning = _REASONS.get(first) or _limit(first)
    return f"{word}: {meaning}" if meaning else word


def _limit(word: str) -> str:
    if not (whose := [text for start, text in _WHOSE.items() if word.startswith(start)]):
        return ""
    if not (limits := [text for part, text in _LIMITS.items() if part in word]):
        return ""
    return f"{whose[0]} {limits[0]}"


def is_up(node_state: str) -> bool:
    """Tell whether nodes of this state take requests now, or will when they are free."""
    return node_state.rstrip("~#+%^-@!") in {
        "allocated",
        "completing",
        "idle",
        "mixed",
        "planned",
        "reserved",
    }


def is_free(node_state: str) -> bool:
    """Tell whether nodes of this state are free now; '~' are asleep, and woken when needed."""
    return node_state in ("idle", "idle~")


def gpus(gres: str) -> int:
    """Return the GPUs of a node from its generic resources: ``gpu:a100:4(S:0-1),nvme:1``."""
    items = re.findall(r"(?:^|,)(?:gres[/:])?gpu(?::[^:,(]*[^:,(\d][^:,(]*)?(?::(\d+))?", gres)
    return sum(int(count or 1) for count in items)
