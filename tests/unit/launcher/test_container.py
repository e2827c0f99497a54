"""The argument vectors of container runtimes."""

from __future__ import annotations

import shlex

import pytest

from balsam.client.checks import CONTAINER_GPUS, CONTAINER_RUNTIMES
from balsam.errors import CannotStart
from balsam.launcher.container import DEVICES, RUNTIMES, Surroundings, container_words
from balsam.model.app import Container

AROUND = Surroundings("/site/data/w/j 1", ["/site:/site", "/scratch"], 1000, 100)
OCI = (
    "run --rm --network=host --ipc=host --pid=host --entrypoint '' --security-opt label=disable"
    " --workdir '/site/data/w/j 1' --volume /tmp:/tmp --volume /site:/site --volume /scratch"
)
APPTAINER = "exec --pwd '/site/data/w/j 1' --bind /site:/site --bind /scratch"


def ways(container: Container, *, wants_gpus: bool = False) -> list[tuple[str, str, list[str]]]:
    """Return the ways to start it, in order: runtime, the file that must be there, words."""
    bash, option, _, name, image, names, count, *rest = container_words(
        container, AROUND, ["B", "A"], wants_gpus=wants_gpus
    )
    assert (bash, option, name) == ("/bin/bash", "-c", "container")
    assert (image, names) == (container.image, "A B")
    found = []
    for _ in range(int(count)):
        runtime, device, length, *rest = rest
        found.append((runtime, device, rest[: int(length)]))
        rest = rest[int(length) :]
    assert rest == []
    return found


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("apptainer", APPTAINER),
        ("singularity", APPTAINER),
        ("podman", f"{OCI} --userns=keep-id"),
        ("docker", f"{OCI} --user 1000:100"),
    ],
)
def test_what_each_runtime_is_told(runtime: str, words: str) -> None:
    container = Container(image="i", runtime=runtime, options=["--own", "a b"])
    assert ways(container) == [(runtime, "", [*shlex.split(words), "--own", "a b"])]


@pytest.mark.parametrize(
    ("runtime", "nvidia", "amd"),
    [
        ("apptainer", "--nv", "--rocm"),
        ("podman", "--device nvidia.com/gpu=all", "--device /dev/kfd --device /dev/dri"),
        ("docker", "--gpus all", "--device /dev/kfd --device /dev/dri"),
    ],
)
def test_gpus_are_those_of_the_node(runtime: str, nvidia: str, amd: str) -> None:
    """For jobs that ask for GPUs, the first of the ways whose device is there."""
    plain = Container(image="i", runtime=runtime)
    (none,) = ways(plain)
    found = ways(plain, wants_gpus=True)
    assert [(device, words[len(none[2]) :]) for _, device, words in found] == [
        ("/dev/nvidiactl", nvidia.split()),
        ("/dev/kfd", amd.split()),
        ("", []),
    ]
    chosen = Container(image="i", runtime=runtime, gpus="amd")
    for wants_gpus in (True, False):
        ((_, device, words),) = ways(chosen, wants_gpus=wants_gpus)
        assert (device, words) == ("", none[2] + amd.split())


def test_without_a_runtime_all_are_looked_for_in_order() -> None:
    assert [way[0] for way in ways(Container(image="i"))] == list(CONTAINER_RUNTIMES)
    assert tuple(RUNTIMES) == CONTAINER_RUNTIMES
    assert [maker for maker in DEVICES if maker] == list(CONTAINER_GPUS)


@pytest.mark.parametrize("bind", ["/a:/b:ro:x", "/a,b"])
def test_paths_that_no_runtime_takes_are_refused(bind: str) -> None:
    around = AROUND._replace(binds=[bind])
    with pytest.raises(CannotStart, match="cannot be bound"):
        container_words(Container(image="i"), around, [], wants_gpus=False)
