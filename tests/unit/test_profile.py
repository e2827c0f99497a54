"""What is known of machines, as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsam.errors import InvalidInput
from balsam.model.cpus import cpu_numbers, cpu_text
from balsam.nodes import profile

PERLMUTTER = {"NERSC_HOST": "perlmutter"}


@pytest.mark.parametrize("name", profile.names())
def test_each_profile_says_what_it_is_of(name: str) -> None:
    known = profile.load(name)
    assert known.name == name
    assert known.description
    assert known.sources or name == "laptop"
    devices = [gpu.device for gpu in known.gpus]
    assert len(set(devices)) == len(devices)
    near = [cpu for gpu in known.gpus for cpu in cpu_numbers(gpu.cpus)]
    assert len(set(near)) == len(near), "no core is nearest to two GPUs"


@pytest.mark.parametrize(
    ("environ", "host", "name"),
    [
        ({"PBS_JOBID": "12.polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov"}, "x3004c0", "polaris"),
        ({}, "polaris-login-02", "polaris"),
        ({"PBS_JOBID": "1.aurora-pbs-0001.hostmgmt.cm.aurora.alcf.anl.gov"}, "x4", "aurora"),
        (PERLMUTTER, "login01", "perlmutter-cpu"),
        (PERLMUTTER | {"SLURM_JOB_PARTITION": "gpu_ss11"}, "nid001", "perlmutter-gpu"),
        (PERLMUTTER | {"SLURM_JOB_PARTITION": "regular_milan_ss11"}, "nid5", "perlmutter-cpu"),
        ({"LMOD_SYSTEM_NAME": "frontier"}, "login05", "frontier"),
        ({"LMOD_SYSTEM_NAME": "summit"}, "batch3", "summit"),
        ({}, "laptop", None),
        ({"PBS_JOBID": "12.other"}, "x3004c0", None),
    ],
)
def test_the_machine_is_known_by_its_surroundings(
    environ: dict[str, str], host: str, name: str | None
) -> None:
    found = profile.match(environ, host)
    assert (found and found.name) == name
    assert profile.choose("auto", environ, host) == found
    assert profile.choose("none", environ, host) is None
    chosen = profile.choose("summit", environ, host)
    assert chosen is not None
    assert chosen.batch_host_apart


def test_a_user_has_a_file_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('reserved_cpus = "0"\nstart = "ssh"\n[[match]]\nhost = "mine*"\n')
    known = profile.load(str(file))
    assert (known.name, known.reserved_cpus, known.start) == ("mine", "0", "ssh")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reserved_cpu = '0'", "there is no key 'reserved_cpu'. Did you mean 'reserved_cpus'"),
        ("[[match]]\nhots = 'x'", "there is no key 'hots'. Did you mean 'host'"),
        ("[[gpus]]\ndevise = '0'", "there is no key 'devise'. Did you mean 'device'"),
        ("reserved_cpus = 0", "Expected `str`, got `int` - at `$.reserved_cpus`"),
        ("reserved_cpus = '0-'", "'0-' is no list of CPUs"),
        ("gpu_vendor = 'nvidea'", "gpu_vendor is 'nvidea'; give nvidia, amd, intel. Did you mean"),
        ("[[gpus]]\ndevice = '0'", "gpu_vendor is ''; give nvidia"),
        ("[[match]]", "would fit every machine"),
        ("name = ", "cannot read the profile"),
    ],
)
def test_what_is_wrong_in_a_profile_is_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as error:
        profile.load(str(file))
    assert told in str(error.value)
    assert str(file) in str(error.value)


def test_a_profile_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"no profile 'poloris'.*Did you mean 'polaris'"):
        profile.load("poloris")
    with pytest.raises(InvalidInput, match=r"cannot read the profile /no/such\.toml: No such"):
        profile.load("/no/such.toml")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("8,0-1", [8, 0, 1])],
)
def test_lists_of_cpus(text: str, numbers: list[int]) -> None:
    assert list(cpu_numbers(text)) == numbers
    assert cpu_text(numbers) == text


@pytest.mark.parametrize("text", ["a", "3-1", "1,,2", "-1", "1-2-3", "0-99999999"])
def test_what_is_no_list_of_cpus(text: str) -> None:
    with pytest.raises(InvalidInput, match="CPUs"):
        cpu_numbers(text)
