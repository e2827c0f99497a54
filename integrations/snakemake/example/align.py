"""Find where reads belong, by their first or last bases: ``align.py GENOME READS``."""

import sys
from pathlib import Path

SEED = 15

genome, reads = (Path(name).read_text().split() for name in sys.argv[1:])
for read in reads:
    place = genome[0].find(read[:SEED])
    if place < 0:
        place = genome[0].find(read[-SEED:]) - len(read) + SEED
    print(place, read, sep="\t")
print(len(reads), "reads", file=sys.stderr)
