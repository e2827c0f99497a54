"""What `balsam why` says: of one job, of each layer that was looked at, of jobs alike."""

from __future__ import annotations

import msgspec

from balsam.model.states import State
from balsam.report.reasons.reason import Reason


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer has to do with a job."""

    layer: str
    found: str  #: in words
    reason: Reason = Reason.NONE  #: NONE: the job does not wait for this
    help: str = ""  #: what would help, with a command where there is one


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Why one job is where it is."""

    id: int
    job_id: str
    name: str
    workflow: str
    state: State
    waits_for: str  #: one sentence
    reason: Reason
    help: str
    layers: list[Finding]


class Group(msgspec.Struct, kw_only=True):
    """Jobs that have not ended, and for which the same reason and the same help hold."""

    count: int
    reason: Reason
    waits_for: str  #: the sentence for the example
    help: str
    example: int  #: the lowest id


#: Further kinds of waiting are counted together: what is printed must not grow with the jobs.
MOST_GROUPS = 200


class Groups:
    """Counts jobs by reason and help, in bounded memory."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Reason, str], Group] = {}

    def add(self, finding: Finding, count: int, example: int) -> None:
        """Count *count* jobs, *example* the first of them."""
        key = finding.reason, finding.help
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            text = "ask one by one: `balsam why JOB`"
            finding = Finding(
                layer="", found="waits for something else", reason=Reason.OTHER, help=text
            )
            key = Reason.OTHER, text
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = Group(
                count=count,
                reason=finding.reason,
                waits_for=finding.found,
                help=finding.help,
                example=example,
            )
            return
        group.count += count
        if example < group.example:
            group.example, group.waits_for = example, finding.found

    def largest_first(self) -> list[Group]:
        """Return the groups, those of most jobs first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.example))
