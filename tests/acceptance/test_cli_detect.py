"""`balsam site detect`."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from balsam import config
from tests.acceptance.conftest import Balsam

HOST = socket.gethostname()
MPICH = "HYDRA build details:\n    Version:    4.0.2"
OPENMPI = "mpiexec (OpenRTE) 4.1.4"


@pytest.fixture
def programs(tmp_path: Path, environ: dict[str, str]) -> Path:
    """A folder that is all of PATH, so that nothing of this machine is found."""
    folder = tmp_path / "programs"
    folder.mkdir()
    environ["PATH"] = str(folder)
    for name in [name for name in environ if name.startswith(("SLURM_", "PBS_", "LSB_", "FLUX_"))]:
        del environ[name]
    return folder


def put(folder: Path, name: str, said: str) -> str:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{said}'\n")
    file.chmod(0o755)
    return str(file)


def test_what_this_machine_has(bare_balsam: Balsam, programs: Path) -> None:
    first = put(programs, "mpiexec", OPENMPI)
    second = put(programs, "mpirun.mpich", MPICH)
    done = bare_balsam("site", "detect", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["allocation"] == {"hosts": [HOST], "source": "this machine"}
    assert (found["profile"], found["workers"]) == (None, "plain")
    assert found["mpi"] == [
        {"name": "openmpi", "program": first, "version": "4.1.4", "used": True},
        {"name": "mpich", "program": second, "version": "4.0.2", "used": False},
    ]
    assert found["node"]["host"] == HOST
    assert 1 <= found["node"]["cores"] <= (os.cpu_count() or 1)
    assert (found["problems"], found["saved"]) == ([], {})
    assert (found["scheduler"], found["queues"][0]["name"]) == ("local", "local")
    text = bare_balsam("site", "detect").stdout
    assert f"allocation   | this machine, 1 host: {HOST}" in text
    assert f"MPI          | openmpi 4.1.4, {first} (used)" in text
    assert "profile      | none fits" in text
    assert "batch system | local\nqueue local  | the default, up to 1 node\n" in text


def test_in_an_allocation_it_is_known_and_saved(balsam: Balsam, site: Path, programs: Path) -> None:
    put(programs, "srun", "slurm 22.05.8")
    allocation = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "nid[001-003]",
        "LMOD_SYSTEM_NAME": "perlmutter",
        "NERSC_HOST": "perlmutter",
    }
    settings = site / "balsam.toml"
    settings.write_text(settings.read_text().replace("# cores = 0", "cores = 4  # of mine"))
    done = balsam("site", "detect", "--save", env=allocation)
    assert (done.returncode, done.stderr) == (0, "")
    assert "allocation   | slurm, 3 hosts: nid[001-003]" in done.stdout
    assert f"workers      | srun {programs / 'srun'}" in done.stdout
    assert "profile      | perlmutter-cpu: Perlmutter at NERSC, CPU nodes" in done.stdout
    assert "cores        | 4, with 4 hardware threads (jobs are not bound to any)" in done.stdout
    assert f"set mpi.command = 'srun' in {settings}" in done.stdout
    loaded = config.load(site, {"BALSAM_HOME": "/no/such"})
    assert (loaded.nodes.profile, loaded.nodes.start) == ("perlmutter-cpu", "srun")
    assert (loaded.mpi.command, loaded.nodes.cores) == ("srun", 4)
    before = settings.read_text()
    again = balsam("site", "detect", "--save", env=allocation)
    assert f"nothing to change in {settings}" in again.stdout
    assert settings.read_text() == before


def test_what_the_user_has_set_stays(balsam: Balsam, site: Path, programs: Path) -> None:
    put(programs, "mpiexec", OPENMPI)
    put(programs, "mpirun.mpich", MPICH)
    settings = site / "balsam.toml"
    settings.write_text('[mpi]\ncommand = "mpich"\n')
    done = balsam("site", "detect", "--save", "--json")
    assert [mpi["used"] for mpi in json.loads(done.stdout)["mpi"]] == [False, True]
    assert settings.read_text() == '[mpi]\ncommand = "mpich"\n'


def test_what_cannot_be_told_is_a_problem(balsam: Balsam, site: Path, programs: Path) -> None:
    done = balsam("site", "detect", env={"PBS_NODEFILE": "/no/such"})
    assert done.returncode == 1
    assert "problem: PBS_NODEFILE: cannot read the host file /no/such: No such file" in done.stdout
    assert "MPI          | none in PATH" in done.stdout
    (site / "balsam.toml").write_text('[nodes]\nprofile = "poloris"\n[mpi]\ncommand = "opnmpi"\n')
    found = json.loads(balsam("site", "detect", "--json").stdout)
    assert [text.partition(";")[0] for text in found["problems"]] == [
        "there is no profile 'poloris'",
        "there is no MPI command 'opnmpi'",
    ]


def test_the_batch_system_is_found_and_saved(balsam: Balsam, site: Path, programs: Path) -> None:
    put(programs, "sbatch", "slurm-wlm 22.05.8")
    done = balsam("site", "detect", "--save")
    assert done.returncode == 0
    said = "slurm (it does not answer: there is no program 'scontrol' in PATH)"
    assert f"batch system | {said}\n" in done.stdout
    assert f"set scheduler.name = 'slurm' in {site}/balsam.toml" in done.stdout
    assert config.load(site).scheduler.name == "slurm"


def test_to_save_needs_a_site(bare_balsam: Balsam) -> None:
    done = bare_balsam("site", "detect", "--save")
    assert done.returncode == 1
    assert "no Balsam site at" in done.stderr
    assert bare_balsam("site", "detect").returncode in (0, 1)


def test_help_has_an_example(bare_balsam: Balsam) -> None:
    assert "example:\n  balsam site detect" in bare_balsam("site", "--help").stdout
    assert "balsam site detect --save" in bare_balsam("site", "detect", "--help").stdout
    assert bare_balsam("site").returncode == 2
