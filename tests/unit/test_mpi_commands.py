"""The words that start parallel programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from balsam.errors import CannotStart, InvalidInput
from balsam.model.affinity import check_affinity
from balsam.model.job import Job, check_job
from balsam.mpi.commands import TABLE, command_line
from balsam.mpi.find import check_name, find, find_all
from balsam.mpi.start import Start

HYDRA = "HYDRA build details:\n    Version:                                 4.0.2"
ROOT = ["--allow-run-as-root"] if os.geteuid() == 0 else []


def start(**fields: Any) -> Start:
    given: dict[str, Any] = {
        "ranks": 6,
        "ranks_per_node": 3,
        "threads_per_rank": 2,
        "flags": "",
        "environ": {},
        "hosts": ("h1", "h2"),
        "in_allocation": True,
    }
    return Start(**(given | fields))


def words(name: str, **fields: Any) -> str:
    """Return the command line of a start as text, without its program."""
    line = command_line(TABLE[name], "mpi", start(**fields), ["prog", "a  b"])
    assert line[-2:] == ["prog", "a  b"]
    return " ".join(line[line.index("mpi") + 1 : -2])


def one_node(**fields: Any) -> dict[str, Any]:
    return {"ranks": 2, "ranks_per_node": 2, "hosts": ("h1",), **fields}


SRUN = "--overlap --mem=0 --export=ALL --kill-on-bad-exit=1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mpich", "-n 6 -ppn 3 -genvall -hosts h1,h2 -bind-to user:0-1,2-3,4-5"),
        (
            "intel",
            "-n 6 -ppn 3 -genvall -hosts h1,h2 -genv I_MPI_PIN_DOMAIN [3,c,30]",
        ),
        (
            "srun",
            "--nodes=2 --ntasks=6 --ntasks-per-node=3 --nodelist=h1,h2"
            f" {SRUN} --cpu-bind=mask_cpu:0x3,0xc,0x30",
        ),
        ("aprun", "-n 6 -N 3 -d 2 -j 1 -cc 0-1:2-3:4-5 -L h1,h2"),
        ("pals", "-n 6 --ppn 3 --envall --hosts h1,h2 --cpu-bind list:0-1:2-3:4-5"),
        (
            "flux",
            "run --ntasks=6 --nodes=2 --cores-per-task=2 --requires=host:h1,h2"
            " -o cpu-affinity=map:0-1;2-3;4-5 -o gpu-affinity=off",
        ),
        (
            "jsrun",
            "--nrs 6 --rs_per_host 3 --tasks_per_rs 1 --cpu_per_rs 2 --gpu_per_rs 0"
            " --bind packed:2",
        ),
    ],
)
def test_ranks_are_bound_to_the_cpus_that_the_job_was_granted(name: str, expected: str) -> None:
    assert words(name, cpus=range(6)) == expected


@pytest.mark.parametrize(
    ("name", "unbound"),
    [
        ("openmpi", "--bind-to none"),
        ("mpich", "-bind-to none"),
        ("intel", "-genv I_MPI_PIN 0"),
        ("srun", "--cpu-bind=none"),
        ("aprun", "-cc none"),
        ("pals", "--cpu-bind none"),
        ("flux", "-o cpu-affinity=off"),
        ("jsrun", "--bind none"),
    ],
)
def test_without_cpus_of_its_own_a_job_is_not_bound(name: str, unbound: str) -> None:
    """Else the ranks of all jobs of a node would share its first cores."""
    if name != "jsrun":  # which keeps its steps apart itself
        assert unbound in words(name)
    assert unbound in words(name, cpus=range(6), cpu_affinity="none")


def test_all_ranks_can_have_all_cores_of_the_job() -> None:
    assert "-bind-to user:0-5,0-5,0-5 " in f"{words('mpich', cpus=range(6), cpu_affinity='job')} "
    few = words("mpich", cpus=[4, 9])
    assert "-bind-to user:4+9,4+9,4+9" in few, "fewer CPUs than ranks"


def test_open_mpi_is_told_what_to_forward() -> None:
    """Fault L6: it starts remote ranks without the environment unless each name is given."""
    line = words("openmpi", environ={"A": "b c", "D": ""})
    expected = ["-n 6 --map-by ppr:3:node --oversubscribe --bind-to none --host h1:3,h2:3"]
    assert line == " ".join([*expected, *ROOT, "-x A -x D"])


def test_open_mpi_ranks_bind_themselves() -> None:
    """Its own ways count cores in ways of their own, and need a file where ranks have threads."""
    line = command_line(TABLE["openmpi"], "mpi", start(cpus=range(6)), ["prog"])
    assert line[-5:-2] == ["/bin/sh", "-c", line[-3]]
    assert "$((OMPI_COMM_WORLD_LOCAL_RANK))" in line[-3]


@pytest.mark.parametrize("name", ["openmpi", "mpich", "intel"])
def test_jobs_of_one_node_stay_on_it(name: str) -> None:
    """Fault: in an allocation, mpiexec starts its ranks on the allocation's first node."""
    there, here = words(name, **one_node()), words(name, **one_node(hosts=()))
    if name == "openmpi":
        assert "--host h1:2" in there
        assert "--host localhost:2" in here
        assert "--host" not in words(name, **one_node(hosts=(), in_allocation=False))
    else:
        assert "-launcher fork -hosts h1" in there
        assert "-launcher fork -hosts localhost" in here


def test_daemons_are_started_by_ssh_where_no_batch_system_does(tmp_path: Path) -> None:
    ssh = program(tmp_path, "ssh")
    given = start(ssh=(ssh, "-F", "cfg"), in_allocation=False)
    line = command_line(TABLE["mpich"], "mpi", given, ["prog"])
    assert line[:3] == ["/usr/bin/env", "HYDRA_LAUNCHER_EXTRA_ARGS=-F cfg", "mpi"]
    assert f"-launcher ssh -launcher-exec {ssh}" in " ".join(line)
    line = command_line(TABLE["openmpi"], "mpi", given, ["prog"])
    agent = f"{ssh} -F cfg"
    assert line[:4] == [
        "/usr/bin/env",
        f"OMPI_MCA_plm_rsh_agent={agent}",
        f"PRTE_MCA_plm_ssh_agent={agent}",
        "mpi",
    ]
    for name in ("mpich", "openmpi"):
        line = command_line(TABLE[name], "mpi", start(), ["prog"])
        assert line[:5] == ["/usr/bin/env", "-u", "SLURM_MEM_PER_CPU", "-u", "SLURM_MEM_PER_GPU"]
        assert line[5:7] == ["SLURM_MEM_PER_NODE=0", "SLURM_OVERLAP=1"]
        assert "ssh" not in " ".join(line)


def test_cray_nodes_are_named_by_their_numbers() -> None:
    assert words("aprun", hosts=("nid00012", "nid00100")).endswith("-L 12,100")


@pytest.mark.parametrize(
    ("share", "sets"),
    [
        (1, "--nrs 8 --rs_per_host 4 --tasks_per_rs 1 --cpu_per_rs 2 --gpu_per_rs 1"),
        (2, "--nrs 8 --rs_per_host 4 --tasks_per_rs 1 --cpu_per_rs 2 --gpu_per_rs 2"),
        (0.5, "--nrs 4 --rs_per_host 2 --tasks_per_rs 2 --cpu_per_rs 4 --gpu_per_rs 1"),
        (0.3, "--nrs 4 --rs_per_host 2 --tasks_per_rs 2 --cpu_per_rs 4 --gpu_per_rs 1"),
    ],
)
def test_ranks_that_share_a_gpu_share_a_resource_set(share: float, sets: str) -> None:
    given = {"ranks": 8, "ranks_per_node": 4, "gpus_per_rank": share}
    line = words("jsrun", **given, environ={"A": "", "CUDA_VISIBLE_DEVICES": "0"})
    assert line == f"{sets} --bind packed:2 -E A"


# what each rank gets ----------------------------------------------------------------------


def rank_of(name: str, local_rank: int, tell: str, **fields: Any) -> str:
    """Run what the start command would run as one rank, and return what *tell* says there."""
    line = command_line(TABLE[name], "mpi", start(**fields), ["/bin/sh", "-c", tell])
    words = line[line.index("/bin/sh") :]
    variable = TABLE[name].local_rank.partition(" ")[0]
    environ = {**os.environ, **fields.get("environ", {}), variable: str(local_rank)}
    answer = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


@pytest.mark.parametrize("name", [name for name in TABLE if name != "jsrun"])
@pytest.mark.parametrize(
    ("share", "given", "seen"),
    [
        (1, "3,2,1", ["3", "2", "1"]),
        (2, "5,4,3,2,1,0", ["5,4", "3,2", "1,0"]),
        (0.5, "0,1", ["0", "0", "1"]),
        (0.25, "7", ["7", "7", "7"]),
        (0, "", ["", "", ""]),
        (1, "0.0,0.1,1.0", ["0.0", "0.1", "1.0"]),
    ],
)
def test_each_rank_sees_its_gpus(name: str, share: float, given: str, seen: list[str]) -> None:
    variable = "ZE_AFFINITY_MASK" if "." in given else "ROCR_VISIBLE_DEVICES"
    fields = {"gpus_per_rank": share, "environ": {variable: given}}
    tell = f"echo ${variable}"
    assert [rank_of(name, rank, tell, **fields) for rank in range(3)] == seen


def test_slurm_s_own_choice_of_gpus_is_set_aright() -> None:
    """It shows a step all that the job has."""
    line = command_line(TABLE["srun"], "srun", start(environ={"CUDA_VISIBLE_DEVICES": "2"}), ["x"])
    environ = {**os.environ, "SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    words = [*line[line.index("/bin/sh") : -1], "/bin/sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
    answer = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert answer.stdout == "2\n"


def test_each_rank_of_open_mpi_is_bound() -> None:
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:
        pytest.skip("needs two CPUs")
    fields = one_node(cpus=ours[:2])
    tell = "grep Cpus_allowed_list /proc/self/status"
    seen = [rank_of("openmpi", rank, tell, **fields).split()[1] for rank in range(2)]
    assert seen == [str(cpu) for cpu in ours[:2]]


def test_local_ranks_of_alps_are_computed() -> None:
    fields = {"gpus_per_rank": 1, "environ": {"CUDA_VISIBLE_DEVICES": "0,1,2"}}
    assert rank_of("aprun", 4, "echo $CUDA_VISIBLE_DEVICES", **fields) == "1"


def test_words_for_affinity() -> None:
    for word in ("", "depth", "job", "none"):
        check_affinity(word)
    told = r"cpu_affinity is 'dept'; known are depth, .*Did you mean 'depth'"
    with pytest.raises(InvalidInput, match=told):
        check_affinity("dept")
    with pytest.raises(InvalidInput, match=told):
        check_job(Job(name="x", workflow="x", application="x", cpu_affinity="dept"))


def test_the_user_s_flags_come_last_before_the_program() -> None:
    line = command_line(TABLE["mpich"], "m", start(flags="-l  -wdir '/a b'"), ["prog"])
    assert line[-4:] == ["-l", "-wdir", "/a b", "prog"]
    with pytest.raises(InvalidInput, match="cannot split"):
        command_line(TABLE["mpich"], "m", start(flags="'"), ["prog"])


# which one there is -----------------------------------------------------------------------


def program(directory: Path, name: str, version: str = "") -> str:
    """Put a program there that tells a *version*, as the real ones do."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_text(f"#!/bin/sh\necho '{version}'\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (HYDRA, "mpich"),
        ("mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/", "openmpi"),
        ("mpirun (Open MPI) 5.0.3", "openmpi"),
        ("prterun (PRRTE) 3.0.5", "openmpi"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005", "intel"),
    ],
)
def test_the_kind_is_asked_of_the_program(tmp_path: Path, version: str, kind: str) -> None:
    path = program(tmp_path, "mpiexec", version)
    command, found = find("auto", str(tmp_path))
    assert (command.name, found) == (kind, path)


def test_that_of_pals_is_known_by_its_place(tmp_path: Path) -> None:
    path = program(tmp_path / "opt/cray/pals/1.2/bin", "mpiexec", "mpiexec version 1.2.12")
    assert find("auto", str(Path(path).parent))[0].name == "pals"


def test_an_mpi_that_nobody_knows_is_told(tmp_path: Path) -> None:
    path = program(tmp_path, "mpiexec", "mpiexec: of my own make")
    told = rf"cannot tell to which MPI {path} belongs .*of my own make.*set mpi\.command to one of"
    with pytest.raises(CannotStart, match=told):
        find("auto", str(tmp_path))


def test_a_named_command_is_found_by_its_names(tmp_path: Path) -> None:
    general = program(tmp_path, "mpiexec")
    assert find("mpich", str(tmp_path)) == (TABLE["mpich"], general), "it may be a site's own"
    special = program(tmp_path, "mpiexec.hydra", HYDRA)
    assert find("mpich", str(tmp_path)) == (TABLE["mpich"], special)
    with pytest.raises(CannotStart, match="'srun': none of srun is in PATH"):
        find("srun", str(tmp_path))


def test_a_named_command_is_not_taken_for_another_s(tmp_path: Path) -> None:
    path = program(tmp_path, "mpiexec", HYDRA)
    told = f"'pals': none of mpiexec is in PATH; {path} is of mpich"
    with pytest.raises(CannotStart, match=told):
        find("pals", str(tmp_path))
    assert find("mpich", str(tmp_path)) == (TABLE["mpich"], path)


def test_there_may_be_none(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="neither mpiexec nor mpirun is in PATH"):
        find("auto", str(tmp_path))


def test_that_of_the_batch_system_is_taken_in_its_allocation(tmp_path: Path) -> None:
    srun = program(tmp_path, "srun", "slurm 22.05.8")
    assert find("auto", str(tmp_path), {"SLURM_JOB_ID": "1"}) == (TABLE["srun"], srun)
    with pytest.raises(CannotStart):
        find("auto", str(tmp_path), {})


def test_all_that_there_are(tmp_path: Path) -> None:
    here = program(tmp_path, "mpiexec", HYDRA)
    (tmp_path / "mpiexec.hydra").symlink_to(here)
    program(tmp_path, "mpirun", "of my own make")
    other = program(tmp_path, "mpirun.openmpi", "mpirun (Open MPI) 5.0.3")
    srun = program(tmp_path, "srun", "slurm 22.05.8")
    assert [
        (each.command.name, each.program, each.version) for each in find_all(str(tmp_path))
    ] == [
        ("mpich", here, "4.0.2"),
        ("openmpi", other, "5.0.3"),
        ("srun", srun, "22.05.8"),
    ]


def test_a_name_that_is_not_in_the_table_is_refused() -> None:
    for check in (check_name, find):
        with pytest.raises(InvalidInput, match=r"no MPI command 'opnmpi'.*Did you mean 'openmpi'"):
            check("opnmpi")
    for name in ("auto", *TABLE):
        check_name(name)


def test_the_order_of_path_goes_before_the_order_of_names(tmp_path: Path) -> None:
    """What a user has loaded stands before what the system has."""
    loaded = program(tmp_path / "loaded", "mpirun", HYDRA)
    program(tmp_path / "system", "mpirun.mpich", HYDRA)
    path = f"{tmp_path}/loaded:{tmp_path}/system"
    assert find("mpich", path) == (TABLE["mpich"], loaded)


def test_a_program_can_be_named_by_its_path_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path, "my-mpirun", HYDRA)
    monkeypatch.setenv("PATH", str(tmp_path))
    check_name(path)
    assert find(path) == (TABLE["mpich"], path)
    assert find("my-mpirun") == (TABLE["mpich"], path)
    with pytest.raises(InvalidInput, match="'/no/such/mpirun'; known are auto, openmpi"):
        check_name("/no/such/mpirun")
