"""How the processes of a job are bound to the cores that it was granted: words for it."""

from __future__ import annotations

from balsam.errors import InvalidInput, nearest

#: Words of the field cpu_affinity, and what each rank is bound to.
AFFINITIES = {
    "": "the profile's, else as depth",
    "depth": "to cores of its own",
    "job": "to all cores of the job",
    "none": "to none",
}


def check_affinity(word: str) -> None:
    """Raise `InvalidInput` unless *word* is one for cpu_affinity."""
    if word not in AFFINITIES:
        known = [name for name in AFFINITIES if name]
        raise InvalidInput(
            f"cpu_affinity is {word!r}; known are {', '.join(known)} and '' (the default)."
            f"{nearest(word, known)}"
        )
