"""What happened to a job, by the names of 0.x."""

from __future__ import annotations

from datetime import datetime

from balsam.client.jobs import Job
from balsam.compat.texts import entered, history_text, local_time
from balsam.model.states import State


class Past:
    """The part of a `BalsamJob` that knows its states and their times."""

    _real: Job

    @property
    def state_history(self) -> str:
        """All states of the job, a line each, ``[MM-DD-YYYY HH:MM:SS.ffffff STATE] message``."""
        return "" if self._real.id is None else history_text(self._real.events())

    @state_history.setter
    def state_history(self, _value: str) -> None:
        pass

    def get_recent_state_str(self) -> str:
        """Return the last line of `state_history`."""
        return self.state_history.rpartition("\n")[2].strip()

    def get_state_times(self) -> dict[str, datetime]:
        """Return when the job last entered each of its states.

        The times have no zone, and are such that ``datetime.now() - time`` is right.
        """
        return {state: local_time(time) for state, time, _ in entered(self._real.events())}

    @property
    def runtime_seconds(self) -> float | None:
        """Seconds from the start of the last run to its good end; None when there was none."""
        times: dict[str, float] = {e.to_state: e.time for e in self._real.events()}
        if State.RUNNING not in times or State.RUN_DONE not in times:
            return None
        return times[State.RUN_DONE] - times[State.RUNNING]
