"""How the walltime of a batch job is divided: its start, its jobs' time, its end."""

from __future__ import annotations

#: Minutes from the start of a batch job until its launcher has started.
START_MINUTES = 1.0
#: Seconds, beside the time of grace, that a launcher keeps of its time for its own end.
LAST_SECONDS = 2.0
_SHORT_MINUTES = 20.0


def time_limit(minutes: float) -> float:
    """Return the launcher's time limit within a walltime, both in minutes.

    It ends what runs by itself: 1 minute before the end, 2 in requests of more than 20 minutes;
    but no less than half of the time is the jobs'.
    """
    margin = 1.0 if minutes <= _SHORT_MINUTES else 2.0
    return max(minutes - margin, minutes / 2)
