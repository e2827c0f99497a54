"""Programs in containers: from an app's image to the argument vector of its runtime.

The runtime is looked for on the node that runs the program, when modules and the envscript have
had their say; so are its GPUs. Each rank of a parallel job starts a container of its own, below
the MPI start command.

Read: apptainer 1.3 (`apptainer exec --help`, user guide "Bind Paths", "GPU Support"),
podman 4.3 and Docker 24 (manual pages of `run`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from balsam.errors import CannotStart
from balsam.launcher.prelude import FAIL
from balsam.model.app import Container

#: Variables that go into containers, besides the job's: of Balsam, the node's GPUs, threads,
#: batch systems and MPI start commands.
PASSED = (
    *("BALSAM_", "CUDA_VISIBLE_", "ROCR_VISIBLE_", "HIP_VISIBLE_", "ZE_AFFINITY_", "OMP_"),
    *("SLURM_", "PBS_", "COBALT_", "LSB_", "FLUX_"),
    *("PMI_", "PMI2_", "PMIX_", "OMPI_", "PRTE_", "MPI_", "MPIR_", "HYDRA_", "HYDI_", "PALS_"),
)
# Words: image, names of variables to pass (one word), how many ways there are; of each: runtime,
# file that shows that it is meant, how many words, these; then the program.
_TEXT = f"""\
{FAIL}
balsam_image=$1 balsam_names=$2 balsam_ways=$3 balsam_tried=()
shift 3
balsam_way=()
while ((balsam_ways--)); do
  if [[ ! ${{balsam_way[0]}} ]]; then
    if ! type -P -- "$1" >/dev/null; then
      balsam_tried+=("$1")
    elif [[ ! $2 || -e $2 ]]; then
      balsam_way=("$1" "${{@:4:$3}}")
    fi
  fi
  shift $((3 + $3))
done
[[ ${{balsam_way[0]}} ]] || balsam_fail "there is no program for containers\\
 ($(printf '%s\\n' "${{balsam_tried[@]}}" | uniq | paste -sd ' ')) in PATH, for $balsam_image:\\
 load its module, or let the app's envscript set PATH"
if [[ $balsam_image == [/~.]* && ! -e $balsam_image ]]; then
  balsam_fail "there is no container image $balsam_image"
fi
for balsam_name in $(compgen -e); do
  if [[ " $balsam_names " != *" $balsam_name "* ]]; then
    case $balsam_name in
      {"|".join(f"{prefix}*" for prefix in PASSED)}) ;;
      *) continue ;;
    esac
  fi
  case ${{balsam_way[0]##*/}} in
    apptainer) export "APPTAINERENV_$balsam_name=${{!balsam_name}}" ;;
    singularity) export "SINGULARITYENV_$balsam_name=${{!balsam_name}}" ;;
    *)
      # By its variables it is known what belongs to a job: the program, not who watches it.
      if [[ $balsam_name == BALSAM_* ]]; then
        balsam_way+=(--env "$balsam_name=${{!balsam_name}}")
        unset "$balsam_name"
      else
        balsam_way+=(--env "$balsam_name")
      fi
      ;;
  esac
done
exec "${{balsam_way[@]}}" "$balsam_image" "$@"
"""


class Surroundings(NamedTuple):
    """What a container is to have of the node: the same for all runtimes."""

    cwd: str
    binds: Sequence[str]  #: ``SOURCE[:TARGET[:OPTIONS]]``
    uid: int
    gid: int


class Runtime(NamedTuple):
    """How one runtime is told what to do."""

    #: The words between the program and the image, but for its variables.
    words: Callable[[Surroundings], list[str]]
    gpus: dict[str, list[str]]  #: words for GPUs of each maker


def _apptainer(around: Surroundings) -> list[str]:
    binds = [word for bind in around.binds for word in ("--bind", bind)]
    return ["exec", "--pwd", around.cwd, *binds]


def _oci(around: Surroundings) -> list[str]:
    """Return what makes a container of podman or docker a program like any other.

    It has the node's network, memory and processes, as MPI needs, and its /tmp, as apptainer's
    have; signals for it do what they do outside; files that it makes are the user's.
    """
    words = ["run", "--rm", "--network=host", "--ipc=host", "--pid=host", "--entrypoint", ""]
    words += ["--security-opt", "label=disable", "--workdir", around.cwd]
    binds = ["/tmp:/tmp", *around.binds]
    return words + [word for bind in binds for word in ("--volume", bind)]


def _podman(around: Surroundings) -> list[str]:
    return _oci(around) + (["--userns=keep-id"] if around.uid else [])


def _docker(around: Surroundings) -> list[str]:
    return [*_oci(around), "--user", f"{around.uid}:{around.gid}"]


_AMD = ["--device", "/dev/kfd", "--device", "/dev/dri"]
_APPTAINER = Runtime(_apptainer, {"nvidia": ["--nv"], "amd": ["--rocm"]})
RUNTIMES = {
    "apptainer": _APPTAINER,
    "singularity": _APPTAINER,
    "podman": Runtime(_podman, {"nvidia": ["--device", "nvidia.com/gpu=all"], "amd": _AMD}),
    "docker": Runtime(_docker, {"nvidia": ["--gpus", "all"], "amd": _AMD}),
}
#: The file that a node has whose GPUs are of this maker.
DEVICES = {"nvidia": "/dev/nvidiactl", "amd": "/dev/kfd", "": ""}


def container_words(
    container: Container, around: Surroundings, names: Iterable[str], *, wants_gpus: bool
) -> list[str]:
    """Return the words that come before a program to have it run in *container*.

    Parameters
    ----------
    names
        Variables that the program is to have, besides `PASSED`.
    wants_gpus
        Whether the job has GPUs. Which ones, the node tells.

    Raises
    ------
    CannotStart
        A path cannot be written as the runtimes want it.
    """
    for bind in around.binds:
        if bind.count(":") > 2 or "," in bind.partition(":")[0]:
            raise CannotStart(f"{bind!r} cannot be bound into a container: ':' or ',' is in a path")
    makers = [container.gpus] if container.gpus or not wants_gpus else list(DEVICES)
    ways = [
        way
        for name in ([container.runtime] if container.runtime else RUNTIMES)
        for maker in makers
        for way in _way(name, maker, container, around, chosen=maker == container.gpus)
    ]
    runtimes = len(makers) * (1 if container.runtime else len(RUNTIMES))
    words = [container.image, " ".join(sorted(names)), str(runtimes), *ways]
    return ["/bin/bash", "-c", _TEXT, "container", *words]


def _way(
    name: str, maker: str, container: Container, around: Surroundings, *, chosen: bool
) -> list[str]:
    runtime = RUNTIMES[name]
    words = [*runtime.words(around), *runtime.gpus.get(maker, []), *container.options]
    return [name, "" if chosen else DEVICES[maker], str(len(words)), *words]
