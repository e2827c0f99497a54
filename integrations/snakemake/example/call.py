"""Tell where samples differ from the genome: ``call.py GENOME SORTED…`` → place, bases, count."""

import sys
from collections import Counter
from pathlib import Path

genome = Path(sys.argv[1]).read_text().strip()
samples = Counter()
for name in sys.argv[2:]:
    bases = {}
    for line in Path(name).read_text().splitlines():
        start, read = line.split("\t")
        for n, base in enumerate(read, int(start)):
            bases.setdefault(n, Counter())[base] += 1
    for place, found in bases.items():
        ((base, _),) = found.most_common(1)
        if base != genome[place]:
            samples[place, f"{genome[place]}>{base}"] += 1
for (place, change), count in sorted(samples.items()):
    print(place, change, count, sep="\t")
