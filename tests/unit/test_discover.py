"""Which hosts an allocation has."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from balsam.errors import InvalidInput
from balsam.nodes.discover import Allocation, discover, parse_hosts, scheduler_id, select

HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("environ", "hosts", "source"),
    [
        ({}, HERE, "this machine"),
        ({"SLURM_JOB_NODELIST": ""}, HERE, "this machine"),
        ({"SLURM_JOB_NODELIST": "nid[001-003]"}, "nid001 nid002 nid003", "slurm"),
        ({"SLURM_NODELIST": "a,b"}, "a b", "slurm"),
        ({"COBALT_PARTNAME": "1-3,7"}, "nid00001 nid00002 nid00003 nid00007", "cobalt"),
        ({"LSB_HOSTS": "b1 h1 h1 h2"}, "b1 h1 h2", "lsf"),
        ({"LSB_MCPU_HOSTS": "b1 1 h1 42 h2 42", "LSB_HOSTS": "x"}, "b1 h1 h2", "lsf"),
        ({"SGE_TASK_ID": "undefined"}, HERE, "sge"),
    ],
)
def test_what_the_environment_says(environ: dict[str, str], hosts: str, source: str) -> None:
    assert discover(environ) == Allocation(tuple(hosts.split()), source)
    assert discover(environ).is_batch is (source != "this machine")


@pytest.mark.parametrize(
    ("variable", "text", "hosts", "source"),
    [
        ("PBS_NODEFILE", "x1.lab.gov\nx2.lab.gov\nx1.lab.gov\n", "x1.lab.gov x2.lab.gov", "pbs"),
        ("COBALT_NODEFILE", "c1\nc2\n", "c1 c2", "cobalt"),
        ("LSB_DJOB_HOSTFILE", "batch1\nh1\nh1\nh2\n", "batch1 h1 h2", "lsf"),
        ("PE_HOSTFILE", "n2 4 all.q@n2 UNDEFINED\nn1 4 all.q@n1 <NULL>\n", "n2 n1", "sge"),
    ],
)
def test_what_the_host_file_says(
    tmp_path: Path, variable: str, text: str, hosts: str, source: str
) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    assert discover({variable: str(file)}) == Allocation(tuple(hosts.split()), source)


def test_a_host_for_the_batch_script_alone_is_left_out_where_the_profile_says_so() -> None:
    environ = {"LSB_MCPU_HOSTS": "batch1 1 h1 42 h2 42"}
    assert discover(environ, batch_host_apart=True).hosts == ("h1", "h2")
    assert discover({"LSB_HOSTS": "h1 h1"}, batch_host_apart=True).hosts == ("h1",)


def flux(directory: Path, script: str) -> dict[str, str]:
    """Return an environment with a `flux` in PATH that does what *script* says."""
    file = directory / "flux"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return {"FLUX_URI": "local:///tmp/flux", "SLURM_NODELIST": "out", "PATH": f"{directory}:/bin"}


def test_flux_is_asked_for_its_hosts(tmp_path: Path) -> None:
    environ = flux(tmp_path, '[ "$*" = "hostlist local" ] && echo "fluke[1-2,1]"')
    assert discover(environ) == Allocation(("fluke1", "fluke2"), "flux")


def test_an_older_flux_is_asked_otherwise(tmp_path: Path) -> None:
    script = """case "$*" in
    "getattr hostlist") echo "a[1-2]" ;;
    "jobs -no {nodelist} f123") echo "a2" ;;
    *) echo "flux: \\`$1' is not a flux command" >&2; exit 1 ;;
    esac"""
    environ = flux(tmp_path, script)
    assert discover(environ).hosts == ("a1", "a2")
    assert discover(environ | {"FLUX_JOB_ID": "f123"}).hosts == ("a2",)


def test_a_flux_that_does_not_answer_is_told(tmp_path: Path) -> None:
    environ = flux(tmp_path, "echo 'broker: no route to host' >&2; exit 1")
    with pytest.raises(InvalidInput, match=r"told no hosts \(broker: no route to host\).*--nodes"):
        discover(environ)
    with pytest.raises(InvalidInput, match="flux cannot be asked for its hosts"):
        discover({"FLUX_URI": "local:///x", "PATH": "/no/such/directory"})


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"SLURM_NODELIST": "n[1-"}, "SLURM_NODELIST: host list 'n\\[1-' .* with --nodes"),
        ({"PBS_NODEFILE": "/no/such"}, "PBS_NODEFILE: cannot read the host file /no/such: No such"),
        ({"LSB_MCPU_HOSTS": "h1 4 h2"}, "LSB_MCPU_HOSTS is 'h1 4 h2', not hosts with their counts"),
        ({"COBALT_PARTNAME": "ALL"}, "COBALT_PARTNAME: .*is no list of numbers"),
        ({"PE_HOSTFILE": "/dev/null"}, "PE_HOSTFILE names no host; give them with --nodes"),
    ],
)
def test_an_allocation_that_cannot_be_read_is_an_error(environ: dict[str, str], told: str) -> None:
    """Else the launcher would take this machine, maybe a login node, for it."""
    with pytest.raises(InvalidInput, match=told):
        discover(environ)


# hosts that the user names ----------------------------------------------------------------


def test_hosts_in_a_list() -> None:
    assert parse_hosts("h1,h[3-5],h1") == ("h1", "h3", "h4", "h5")


def test_hosts_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hosts"
    file.write_text("# all of them\nh1 slots=4\n\nh2:8  # the second\nh3 max_slots=2\nh[4-5]\nh1\n")
    hosts = ("h1", "h2", "h3", "h4", "h5")
    assert parse_hosts(str(file)) == hosts
    monkeypatch.chdir(tmp_path)
    assert parse_hosts("hosts") == hosts


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/no/such", "cannot read the host file /no/such: No such file"),
        ("/dev/null", "there is no host in '/dev/null'"),
        ("h1,--x", "'--x' is no name of a host"),
    ],
)
def test_hosts_that_cannot_be_read_are_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        parse_hosts(text)


def test_a_part_of_the_nodes() -> None:
    hosts = ("a", "b", "c")
    assert select(hosts) == hosts
    assert select(hosts, limit=2) == ("a", "b")
    assert select(hosts, limit=5, offset=1) == ("b", "c")
    for limit, offset in ((0, 0), (None, 3), (None, -1), (-1, 0)):
        with pytest.raises(InvalidInput, match="nodes is"):
            select(hosts, limit, offset)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({"PBS_JOBID": "17.server"}, "17.server"),
        ({"SLURM_JOB_ID": "17", "FLUX_ENCLOSING_ID": "f2x"}, "f2x"),
        ({"BALSAM_LOCAL_REQUEST": "/home/me/.balsam/local/17"}, "17"),
        ({"JOB_ID": "17"}, ""),
        ({"JOB_ID": "17", "SGE_TASK_ID": "undefined"}, "17"),
        ({"SLURM_JOB_ID": ""}, ""),
        ({}, ""),
    ],
)
def test_the_id_of_the_allocation(environ: dict[str, str], expected: str) -> None:
    assert scheduler_id(environ) == expected
