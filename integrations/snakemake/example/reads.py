"""Write a genome, and reads of two samples that differ from it: ``reads.py DIRECTORY``."""

import random
import sys
from pathlib import Path

#: Where each sample has another base.
VARIANTS = {"B": [300], "C": [300, 777]}
NEXT = {"A": "C", "C": "G", "G": "T", "T": "A"}
LENGTH, READS = 40, 400

directory = Path(sys.argv[1])
directory.mkdir(exist_ok=True)
chance = random.Random(1)
genome = "".join(chance.choice("ACGT") for _ in range(1000))
(directory / "genome.txt").write_text(f"{genome}\n")
for sample, places in VARIANTS.items():
    own = list(genome)
    for place in places:
        own[place] = NEXT[own[place]]
    starts = [chance.randrange(len(genome) - LENGTH) for _ in range(READS)]
    reads = ["".join(own[start : start + LENGTH]) for start in starts]
    (directory / f"{sample}.txt").write_text("\n".join(reads) + "\n")
