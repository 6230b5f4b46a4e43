"""Reads every real hypnogram at hand as the commands do, and by independent means; counts both.

    python benchmarks/read_real_hypnograms.py ../shared/data

EDF+ annotations are held against MNE, DREAMS' text against its lines, the five scorers of the
Dreem Open Datasets (written as the JSON lists that they are published as) against the arrays, the
two of BOAS (written as the columns that they are published as) likewise. The consensus is held
against a count by loops. No signal is needed.
"""

import json
import sys
import time
import warnings
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mne
import numpy as np

from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.scorers import majority
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.files import write_json
from partsig.metrics.agreement import confusion, kappa

RESULTS = Path(__file__).parent / "results" / "real_hypnograms.json"
SLEEP_EDF = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4}
DREAMS = {"5": 0, "3": 1, "2": 2, "1": 3, "0": 3, "4": 4}
LEAST_S = 1e-6


def laid(path: Path, duration_s: float, **options: object) -> np.ndarray:
    """Return the stages (E,) of a file by partsig, from a recording of its own start and length."""
    settings = HypnogramConfig(**options)
    hypnogram = read_hypnogram(path, settings)
    start = hypnogram.start if isinstance(hypnogram.start, datetime) else None
    offset, _ = find_offset(path.stem, hypnogram, start, duration_s, settings)
    return to_epochs(path.stem, hypnogram, offset, duration_s)[0]


def by_mne(path: Path) -> tuple[np.ndarray, float]:
    """Return the stages (E,) of an EDF+ hypnogram by MNE, in plain loops, and its length (s)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = mne.read_annotations(path)
    scored = [t for t in zip(told.onset, told.duration, told.description, strict=True) if t[1] > 0]
    end = max(onset + span for onset, span, _ in scored)
    stages = np.full(int(end // 30), -1, np.int8)
    for onset, span, text in scored:
        code = SLEEP_EDF.get(text.removeprefix("Sleep stage "), -1)
        first, last = round(onset / 30), round((onset + span) / 30)
        if abs(onset / 30 - first) > LEAST_S:
            raise ValueError(f"{path.name}: an onset between epochs")
        stages[first:last] = code
    return stages, float(end)


def counted(stages: np.ndarray) -> tuple[list[int], list[int], int]:
    """Return the consensus (E,) of (S, E) by loops, that of the authors' code, and ties."""
    agreement = []
    for j, own in enumerate(stages):
        votes = [Counter(np.delete(stages[:, e], j).tolist()) for e in range(stages.shape[1])]
        shares = [v[int(c)] / max(v.values()) for v, c in zip(votes, own, strict=True)]
        agreement.append(np.mean(shares))
    ranked = sorted(range(len(stages)), key=lambda j: -agreement[j])
    found, published, ties = [], [], 0
    for column in stages.T:
        votes = Counter(column.tolist())
        most = max(votes.values())
        leading = [code for code, n in votes.items() if n == most]
        ties += len(leading) > 1
        found.append(next(int(column[j]) for j in ranked if int(column[j]) in leading))
        published.append(int(column[ranked[0]]) if len(leading) > 1 else leading[0])
    return found, published, ties


class Tally:
    """Nights, epochs, and epochs that differ, of one collection."""

    def __init__(self, against: str) -> None:
        self.told = {"against": against, "nights": 0, "nights_equal": 0, "epochs": 0}
        self.told |= {"epochs_differing": 0, "scored_epochs": 0}

    def add(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Count a night; other lengths are differences."""
        n = max(len(found), len(expected))
        same = sum(int(a == b) for a, b in zip(found, expected, strict=False))
        self.told["nights"] += 1
        self.told["nights_equal"] += n == same
        self.told["epochs"] += n
        self.told["epochs_differing"] += n - same
        self.told["scored_epochs"] += int((np.asarray(expected) >= 0).sum())


def sleep_edf(data: Path) -> dict:
    """Return what the hypnograms of Sleep-EDF give."""
    tally = Tally("mne.read_annotations, epochs in loops")
    for path in sorted((data / "sleep_edf_hypnograms").glob("*-Hypnogram.edf")):
        expected, length = by_mne(path)
        tally.add(laid(path, length), expected)
    return tally.told


def dreams(data: Path) -> dict:
    """Return what the excerpts of DREAMS give: a number every 5 s, of which six make an epoch."""
    lines = Tally("lines of the text, 5 s each")
    epochs = Tally("six lines of one stage from where the 30-s grid begins")
    for path in sorted((data / "dreams" / "spindles").glob("Hypnogram_*.txt")):
        codes = [DREAMS.get(line, -1) for line in path.read_text().split()[1:]]
        settings = HypnogramConfig(codes="dreams", epoch_s=5)
        hypnogram = read_hypnogram(path, settings)
        lines.add(hypnogram.stages, np.array(codes))
        found, begin, _ = to_epochs(path.stem, hypnogram, 0.0, 5.0 * len(codes))
        first = round(begin / 5)
        six = [codes[k : k + 6] for k in range(first, len(codes) - 5, 6)]
        expected = [s[0] if len(set(s)) == 1 else -1 for s in six]
        epochs.add(found, np.array(expected))
    return {"lines": lines.told, "epochs": epochs.told}


def five_scorers(data: Path, folder: Path) -> dict:
    """Return what five scorers of the Dreem Open Datasets give: each, and their consensus."""
    single = Tally("the arrays")
    voted = Tally("a count by loops")
    ties = other = 0
    kappas: dict[str, list[float]] = {"dodh": [], "dodo": []}
    soft: dict[str, list[float]] = {"dodh": [], "dodo": []}
    alike = epochs = 0
    with np.load(data / "scorers" / "dod_five_scorers.npz") as nights:
        for name in nights:
            stages, group = nights[name], name.partition("/")[0]
            raw = folder / "raw.json"
            raw.write_text(json.dumps({f"scorer_{j}": r.tolist() for j, r in enumerate(stages, 1)}))
            length = 30.0 * stages.shape[1]
            for j, row in enumerate(stages, 1):
                single.add(laid(raw, length, codes="yasa", scorer=f"scorer_{j}"), row)
            found = laid(raw, length, codes="yasa", scorer="consensus")
            expected, published, tied = counted(stages)
            voted.add(found, np.array(expected))
            ties += tied
            other += sum(a != b for a, b in zip(expected, published, strict=True))
            told = majority(stages)
            soft[group].append(float(told.agreement.mean()))
            alike += int(told.unanimous.sum())
            epochs += stages.shape[1]
            for j, row in enumerate(stages):
                others = majority(np.delete(stages, j, 0)).stages
                both = (row >= 0) & (others >= 0)
                kappas[group].append(float(kappa(confusion(row[both], others[both], 5))))
    figures = {
        group: {
            "soft_agreement": float(np.mean(soft[group])),
            "kappa_against_the_others_consensus": float(np.mean(kappas[group])),
        }
        for group in kappas
    }
    return {
        "each_scorer": single.told,
        "consensus": voted.told
        | {"ties": ties, "other_than_the_authors_code": other, "unanimous_share": alike / epochs},
        "agreement": figures,
    }


def boas(data: Path, folder: Path) -> dict:
    """Return what BOAS gives: a person's and a machine's stages, as columns of a table."""
    tally = Tally("the arrays; 8 and below 0 are no stages")
    with np.load(data / "scorers" / "boas_hypnograms.npz") as held:
        for name in sorted({key.partition("/psg/")[0] for key in held if "/psg/" in key}):
            onsets = held[f"{name}/psg/onset"]
            own = {who: held[f"{name}/psg/stage_{who}"] for who in ("hum", "ai")}
            path = folder / f"{name}_task-sleep_events.tsv"
            rows = zip(onsets, *own.values(), strict=True)
            path.write_text(
                "onset\tduration\tstage_hum\tstage_ai\n"
                + "".join(f"{float(at):g}\t30\t{hum}\t{ai}\n" for at, hum, ai in rows)
            )
            for who, stages in own.items():
                expected = np.where((stages >= 0) & (stages < 5), stages, -1)
                if not (np.diff(onsets) == 30).all():
                    raise ValueError(f"{name}: onsets are not 30 s apart")
                found = laid(path, float(onsets[-1]) + 30, codes="yasa", scorer=who)
                tally.add(found, np.append(np.full(round(float(onsets[0]) / 30), -1), expected))
    return tally.told


def main() -> None:
    """Print a table, and write the results."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        results = {
            "command": "python benchmarks/read_real_hypnograms.py ../shared/data",
            "date": datetime.now(UTC).date().isoformat(),
            "versions": {name: version(name) for name in ("partsig", "mne", "numpy")},
            "sleep_edf": sleep_edf(data),
            "dreams": dreams(data),
            "dreem_open_datasets": five_scorers(data, Path(folder)),
            "boas": boas(data, Path(folder)),
        }
    results["seconds"] = round(time.perf_counter() - begun, 1)
    write_json(RESULTS, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
