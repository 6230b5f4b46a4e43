"""Choose the hypnograms that ship in partsig/data/sample, from those of PhysioNet-2018.

Run: ``python benchmarks/make_sample_nights.py NIGHTS`` with ``pc18_hypnograms_30s.npz``, the 30-s
hypnograms of the challenge's labelled nights (arrays RECORD/stage: 0 W, 1 N1, 2 N2, 3 N3, 4 REM,
5 undefined).

The rule: the first 24 records by name of 850 to 1,000 epochs of which each stage has 3 % at least,
and none is undefined but before the first stage (which the challenge's marks cannot tell).
Writes hypnograms.csv: a line a record, a digit an epoch.
"""

import sys
from pathlib import Path

import numpy as np

SAMPLE = Path(__file__).parents[1] / "partsig" / "data" / "sample"
NUMBER, LENGTHS, SHARE, STAGES = 24, (850, 1000), 0.03, 5


def main(file: Path) -> None:
    """Write hypnograms.csv."""
    chosen = []
    with np.load(file) as every:
        for key in sorted(key for key in every if key.endswith("/stage")):
            stages = every[key]
            counts = np.bincount(stages, minlength=STAGES)[:STAGES]
            fits = LENGTHS[0] <= len(stages) <= LENGTHS[1]
            scored = stages[np.argmax(stages < STAGES) :]
            if fits and (scored < STAGES).all() and (counts >= SHARE * len(stages)).all():
                chosen.append((key.removesuffix("/stage"), "".join(map(str, stages.tolist()))))
    lines = ["record,stages", *(",".join(line) for line in chosen[:NUMBER])]
    (SAMPLE / "hypnograms.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(chosen[:NUMBER])} of {len(chosen)} that fit")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
