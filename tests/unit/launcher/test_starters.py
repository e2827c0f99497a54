"""The words that start workers on nodes."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable

import pytest

from balsam.errors import CannotStart, InvalidInput
from balsam.launcher.starters import TABLE, Starter, choose
from balsam.mpi.commands import TABLE as MPI_COMMANDS
from balsam.mpi.commands import MpiCommand
from balsam.nodes.this_host import find_this_host, is_this_host

HOSTS = ("h1", "h2", "h3")
COMMAND = ["/opt/my python", "-m", "balsam.launcher.worker", "/site/run/it's"]
SSH = ["ssh", "-F", "config"]


def nowhere(_host: str) -> bool:
    return False


def on_h1(host: str) -> bool:
    return host == "h1"


def of(*programs: str) -> Callable[[str], str | None]:
    return lambda word: f"/bin/{word}" if word in programs else None


def mpi(name: str) -> Callable[[str], tuple[MpiCommand, str]]:
    return lambda _name: (MPI_COMMANDS[name], "/mpi/mpiexec")


def chosen(name: str, *programs: str, source: str = "this machine") -> Starter:
    return choose(name, source, HOSTS, here=on_h1, which=of(*programs))


def words(
    starter: Starter, hosts: tuple[str, ...] = HOSTS, **environ: str
) -> list[tuple[tuple[str, ...], list[str]]]:
    return starter.words(hosts, COMMAND, SSH, environ=environ, here=nowhere)


# which one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "program", "name"),
    [
        ("slurm", "srun", "srun"),
        ("pbs", "pbs_tmrsh", "pbsdsh"),
        ("pbs", "pbsdsh", "pbsdsh"),
        ("flux", "flux", "flux"),
        ("lsf", "jsrun", "jsrun"),
        ("lsf", "blaunch", "blaunch"),
        ("cobalt", "aprun", "aprun"),
        ("sge", "qrsh", "qrsh"),
    ],
)
def test_what_belongs_to_the_allocation_starts_its_workers(
    source: str, program: str, name: str
) -> None:
    found = chosen("auto", program, source=source)
    assert (found.name, found.program) == (name, f"/bin/{program}")
    assert chosen("auto", source=source).name == "ssh"  # it is not there


def test_hosts_of_nobody_are_reached_by_ssh() -> None:
    assert chosen("auto", "srun", "mpiexec").name == "ssh"


def test_this_machine_alone_needs_nothing() -> None:
    for source in ("slurm", "this machine"):
        assert choose("auto", source, ["h1"], here=on_h1, which=of("srun")).name == "plain"


def test_what_is_set_is_used() -> None:
    assert chosen("ssh", "srun", source="slurm").name == "ssh"
    assert chosen("srun", "srun").program == "/bin/srun"


@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_mpiexec_is_the_one_there_is(kind: str) -> None:
    found = choose("mpiexec", "pbs", HOSTS, here=on_h1, find_mpi=mpi(kind))
    assert (found.name, found.program) == ("mpiexec", "/mpi/mpiexec")
    ((hosts, line),) = words(found)
    assert hosts == HOSTS
    assert ("--host" in line) == (kind == "openmpi")


def test_what_cannot_be_used_is_told_with_what_to_do() -> None:
    with pytest.raises(InvalidInput, match=r"nodes\.start is 'shs'; known .* Did you mean 'ssh'"):
        chosen("shs")
    with pytest.raises(InvalidInput, match="'flux', and flux is not in PATH; load its module"):
        chosen("flux")
    with pytest.raises(InvalidInput, match="this machine only, and h2 is another; set it to"):
        chosen("plain")
    with pytest.raises(InvalidInput, match="by which no workers are started"):
        choose("mpiexec", "slurm", HOSTS, here=on_h1, find_mpi=mpi("srun"))

    def none(_name: str) -> tuple[MpiCommand, str]:
        raise CannotStart("neither")

    with pytest.raises(CannotStart, match="neither"):
        choose("mpiexec", "pbs", HOSTS, here=on_h1, find_mpi=none)


# their words ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TABLE if name != "plain"])
def test_every_host_gets_one_worker(name: str) -> None:
    for hosts in (HOSTS, ("h2",)):
        started = words(TABLE[name]._replace(program=f"/bin/{name}"), hosts)
        assert [host for group, _ in started for host in group] == list(hosts)
        assert (len(started) == 1) == (TABLE[name].one_command or hosts == ("h2",))
        for group, line in started:
            if name == "jsrun":  # which chooses the hosts itself
                assert line[line.index("--nrs") + 1] == str(len(group))
            elif name != "aprun":  # which numbers them
                assert all(host in " ".join(line) for host in group)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("plain", "ssh")])
def test_the_worker_s_words_come_last_and_as_they_are(name: str) -> None:
    for _, line in words(TABLE[name]._replace(program=f"/bin/{name}")):
        assert line[-len(COMMAND) :] == COMMAND


def test_ssh_gives_one_text_to_the_far_shell_which_becomes_the_worker() -> None:
    ((_, line),) = words(TABLE["ssh"], ("h2",))
    assert line[:3] == SSH  # the user's options come first: ssh takes the first it sees
    assert line[-2] == "h2"
    assert shlex.split(line[-1]) == ["exec", *COMMAND]


def test_this_machine_s_worker_is_a_plain_process() -> None:
    started = TABLE["ssh"].words(HOSTS, COMMAND, SSH, environ={}, here=on_h1)
    assert started[0] == (("h1",), COMMAND)
    assert [line[0] for _, line in started] == [COMMAND[0], "ssh", "ssh"]


def test_one_command_starts_this_machine_s_worker_too_but_not_that_alone() -> None:
    srun = TABLE["srun"]._replace(program="srun")
    ((hosts, line),) = srun.words(HOSTS, COMMAND, SSH, environ={}, here=on_h1)
    assert hosts == HOSTS
    assert "--nodelist=h1,h2,h3" in line
    assert srun.words(("h1",), COMMAND, SSH, environ={}, here=on_h1) == [(("h1",), COMMAND)]


def test_only_what_the_interpreter_needs_is_in_the_words() -> None:
    environ = {"PYTHONPATH": "/my code", "TOKEN": "secret"}
    ((_, line),) = words(TABLE["ssh"], ("h2",), **environ)
    assert shlex.split(line[-1]) == ["exec", "/usr/bin/env", "PYTHONPATH=/my code", *COMMAND]
    for name in TABLE:
        if name != "plain":
            assert "secret" not in str(words(TABLE[name], **environ))


def test_hydra_has_the_options_of_ssh_in_a_variable() -> None:
    """Fault: `-launcher-exec` takes one word."""
    found = choose("mpiexec", "pbs", HOSTS, here=on_h1, find_mpi=mpi("mpich"))
    ((_, line),) = words(found)
    assert line[:3] == ["/usr/bin/env", "HYDRA_LAUNCHER_EXTRA_ARGS=-F config", "/mpi/mpiexec"]
    ((_, line),) = found.words(HOSTS, COMMAND, ["/bin/ssh"], environ={}, here=nowhere)
    assert line[line.index("-launcher-exec") + 1] == "/bin/ssh"
    assert line[0] == "/mpi/mpiexec"


def test_aprun_takes_numbers_of_nodes() -> None:
    ((_, line),) = words(TABLE["aprun"]._replace(program="aprun"), ("nid00012", "nid00003"))
    assert line[line.index("-L") + 1] == "12,3"


def test_the_two_pbsdsh() -> None:
    for program, named in (("/opt/pbs/bin/pbs_tmrsh", ["h2"]), ("/bin/pbsdsh", ["-h", "h2"])):
        ((_, line),) = words(TABLE["pbsdsh"]._replace(program=program), ("h2",))
        assert line == [program, *named, *COMMAND]


# this host -----------------------------------------------------------------------------------


def named(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: own)


@pytest.mark.parametrize(
    ("own", "name", "same"),
    [
        ("nid001", "nid001", True),
        ("nid001", "NID001.cluster.org", True),
        ("nid001.cluster.org", "nid001", True),
        ("nid001.cluster.org", "nid001.other.invalid", False),
        ("nid001", "nid0011.invalid", False),
        ("nid001", "localhost", True),
        ("nid001", "127.0.0.1", True),
        ("nid001", "192.0.2.1", False),
        ("nid001", "", False),
    ],
)
def test_is_this_host(monkeypatch: pytest.MonkeyPatch, own: str, name: str, same: bool) -> None:
    named(monkeypatch, own)
    assert is_this_host(name) is same


def test_another_name_with_a_loopback_address_is_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named(monkeypatch, "node1")

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not is_this_host("node2")
    assert is_this_host("127.0.0.1")


def test_names_are_compared_before_any_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "nid002")
    looked_up: list[str] = []

    def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
        looked_up.append(name)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert find_this_host(["nid001.org", "nid002.org"]) == "nid002.org"
    assert looked_up == []
    assert find_this_host(["a", "b"]) is None
    assert looked_up == ["a", "b"]


def test_a_command_s_environment_is_this_process_s_unless_another_is_given() -> None:
    ((_, line),) = TABLE["ssh"].words(("h2",), COMMAND, SSH, here=nowhere)
    assert ("PYTHONPATH" in line[-1]) == bool(os.environ.get("PYTHONPATH"))
