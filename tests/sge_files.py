"""The files of a small Grid Engine of its own, as Debian has it (8.1.9)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

#: Where Debian has its programs, and what it knows at first.
PROGRAMS = Path("/usr/lib/gridengine")
DEFAULTS = Path("/usr/share/gridengine")

# All runs as root, without the user that Debian makes for it.
_BOOTSTRAP = """\
admin_user              none
default_domain          none
ignore_fqdn             false
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {path}/spool
binary_path             /usr/sbin
qmaster_spool_dir       {path}/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
_ENVIRONMENT = """\
pe_name            {name}
slots              999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    {rule}
control_slaves     TRUE
job_is_first_task  FALSE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
"""
#: What makes it answer within seconds.
_SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}


def spool(path: Path) -> Iterator[list[object]]:
    """Write a cell into a folder; yield the commands that make its database."""
    for folder in ("default/common", "spool", "qmaster", "execd"):
        (path / folder).mkdir(parents=True)
    # Its programs look below the folder of the cell for libraries and others of them.
    for name in ("bin", "lib", "util", "utilbin"):
        (path / name).symlink_to(Path("/var/lib/gridengine") / name)
    common = path / "default" / "common"
    (common / "bootstrap").write_text(_BOOTSTRAP.format(path=path))
    (common / "act_qmaster").write_text("h1\n")
    conf = path / "conf"
    conf.write_text(_changed((DEFAULTS / "default-configuration").read_text(), _global(path)))
    yield [PROGRAMS / "spoolinit", "berkeleydb", "libspoolb", path / "spool", "init"]
    default = PROGRAMS / "spooldefaults"
    yield [default, "configuration", conf]
    yield [default, "complexes", DEFAULTS / "util/resources/centry"]
    yield [default, "usersets", DEFAULTS / "util/resources/usersets"]
    yield [default, "managers", "root"]


def objects(path: Path, slots: int, shown: Callable[[str], str]) -> Iterator[tuple[str, object]]:
    """Yield options of qconf, each with its value, that make host, environments and queue.

    *shown* returns what qconf writes for an option.
    """
    yield "-as", "h1"
    for name, rule in (("smp", "$pe_slots"), ("mpi", "$round_robin")):
        (path / name).write_text(_ENVIRONMENT.format(name=name, rule=rule))
        yield "-Ap", path / name
    queue = {
        "qname": "all.q",
        "hostlist": "h1",
        "load_thresholds": "NONE",
        "pe_list": "smp mpi",
        "slots": str(slots),
        "tmpdir": str(path),
        "shell": "/bin/bash",
        "shell_start_mode": "unix_behavior",
    }
    (path / "queue").write_text(_changed(shown("-sq"), queue))
    yield "-Aq", path / "queue"
    (path / "scheduler").write_text(_changed(shown("-ssconf"), _SCHEDULER))
    yield "-Msconf", path / "scheduler"


def _global(path: Path) -> dict[str, str]:
    # Its jobs are told from others by a group each: those of several cells here must differ.
    groups = random.randrange(20_000, 60_000, 100)
    reporting = "accounting=true reporting=false joblog=false sharelog=00:00:00"
    return {
        "execd_spool_dir": f"{path}/execd",
        "mailer": "/bin/true",
        "login_shells": "none",  # the profile of whoever runs the tests is not to run
        "min_uid": "0",
        "min_gid": "0",
        "load_report_time": "00:00:02",
        "gid_range": f"{groups}-{groups + 99}",
        "reporting_params": f"{reporting} flush_time=00:00:01 accounting_flush_time=00:00:00",
    }


def _changed(text: str, values: Mapping[str, str]) -> str:
    """Return its configuration with other values of lines that are there."""
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^({name}\s+).*$", rf"\g<1>{value}", text)
        assert count == 1, (name, text)
    return text
