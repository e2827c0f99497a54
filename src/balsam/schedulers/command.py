"""The only place that runs commands of batch systems."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from balsam.errors import NoScheduler, SchedulerAway
from balsam.schedulers.scheduler import Answer

#: What commands are told, so that they write what we read: words and dates that we know, times
#: as seconds (Slurm), each value on one line (Grid Engine).
SETTINGS = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", "SGE_SINGLE_LINE": "1"}
#: Variables by which users change what commands write, for themselves.
_HABITS = ("SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_", "LSB_BJOBS_", "FLUX_JOBS_FORMAT")


class Command:
    """Runs commands of the batch system, one at a time, each with a time limit.

    Parameters
    ----------
    seconds
        How long a command may take.
    environ
        Its variables; those that change what it writes are set (`SETTINGS`), or left out.
    """

    def __init__(self, seconds: float, environ: Mapping[str, str] = os.environ) -> None:
        self._seconds = seconds
        kept = {name: text for name, text in environ.items() if not name.startswith(_HABITS)}
        self._environ = kept | SETTINGS

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Answer:
        """Run *argv* and return what it said, whatever its exit code.

        Raises
        ------
        SchedulerAway
            There is no such program, or it took too long (it was killed).
        """
        program = shutil.which(argv[0], path=self._environ.get("PATH"))
        if program is None:
            raise NoScheduler(f"there is no program {argv[0]!r} in PATH")
        try:
            process = subprocess.Popen(
                [program, *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environ,
                start_new_session=True,  # Ctrl-C is the user's word to us, not to it
            )
        except OSError as error:
            raise SchedulerAway(f"cannot run {program}: {error.strerror}") from error
        try:
            out, err = self._talk(process, stdin)
        except subprocess.TimeoutExpired as error:
            raise SchedulerAway(
                f"{' '.join(argv)!r} did not end within {self._seconds:g} s"
            ) from error
        return Answer(
            argv=tuple(argv),
            code=process.returncode,
            out=out.decode(errors="replace"),
            err=err.decode(errors="replace"),
        )

    def _talk(self, process: subprocess.Popen[bytes], stdin: str) -> tuple[bytes, bytes]:
        with process:
            try:
                return process.communicate(
                    stdin.encode(errors="surrogateescape"), timeout=self._seconds
                )
            except BaseException:
                # Sites wrap the commands: what a wrapper has started is of its session.
                os.killpg(process.pid, signal.SIGKILL)
                raise
