"""Do parts of EEG, found without labels, add to a spectrum when labels are few?

    python benchmarks/discovery_few_labels.py WORK     (after discovery_eeg.py; WORK is its)

Sleep stages of 30-s epochs of ``pc18_segments`` by multinomial logistic regression (penalty by
cross-validation over the subjects of the labelled epochs) on: the spectrum, log band powers of the
three channels; the share of each discovered part over the epoch's 30 seconds; both; and as a
control the shares of clusters by k-means on the same frozen maps, alone and beside the spectrum.
20 and 100 labelled epochs per class, drawn by segments of a minute from training subjects, three
draws, nested; discovery (PART, then parts on it, K = 5 and 8) by three seeds, on training subjects
without labels. Kappa on the store's test subjects, who are in neither; mean and SD over draws and
seeds, 95 % interval of the mean by a bootstrap over test subjects, and the same of the difference
from the spectrum alone. Nothing is chosen on test subjects.

Added to ``results/discovery_signals.json`` as ``few_labels``. One core, some minutes.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from partsig.data.signals.bands import band_powers
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.data.splits import SplitConfig, draw_segments, split_finetuning
from partsig.metrics.agreement import confusions, kappa
from partsig.metrics.resampling import BOOTSTRAP_DRAWS
from partsig.runs import directory as runs
from partsig.runs.perceiving import load_perceiving
from partsig.runs.run import Run
from partsig.seeds import Stream, rng_of
from partsig.tasks.part_baselines import PartMaps, kmeans_parts

RESULTS = Path(__file__).parent / "results" / "discovery_signals.json"
SEEDS, PARTS, DRAWS = (0, 1, 2), (5, 8), (0, 1, 2)
SEGMENTS = {20: 10, 100: 50}  # of a class, by epochs of a class: two a segment
CS, FOLDS = (1e-3, 1e-2, 1e-1, 1.0), 5
WINDOWS = 500  # that k-means is fitted to: as many seconds as it takes at most
ALONE = "spectrum"
Features = dict[str, np.ndarray]


def drawn(store, seed: int, segments: int) -> list[str]:
    """Return the labelled recordings of a draw, so many of each class, of training subjects."""
    split = split_finetuning(
        store.labelled_subjects, 0, seed, config=SplitConfig(), roles=store.roles,
        twins=store.twins,
    )  # fmt: skip
    of_class: dict[str, list[str]] = {name: [] for name in store.classes}
    for name in store.recordings_of(split["train"]):
        for number in store.classes_of(name):
            of_class[store.classes[number]].append(name)
    return draw_segments(of_class, segments, seed)


def inputs_of(store, names: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return epochs (n, C, T) of recordings, their classes, and their subjects by number (n,)."""
    epochs = LabelledWindows(store, names)
    x = epochs.windows(np.arange(len(epochs)))
    return x, epochs.labels, epochs.units()[1]


@torch.no_grad()
def maps_of(model, x: np.ndarray) -> np.ndarray:
    """Return the frozen maps (n, F, 30) of epochs."""
    return np.concatenate([model.phi(torch.from_numpy(part)).numpy() for part in batches(x)])


@torch.no_grad()
def parts_of(model, maps: np.ndarray) -> np.ndarray:
    """Return the part (n, 30) of every second, by the frozen maps."""
    found = [model.logits(None, torch.from_numpy(part)).argmax(1) for part in batches(maps)]
    return torch.cat(found).numpy()


def batches(rows: np.ndarray, size: int = 64) -> list[np.ndarray]:
    """Return rows in pieces."""
    return [np.ascontiguousarray(rows[at : at + size]) for at in range(0, len(rows), size)]


def shares(labels: np.ndarray, n: int) -> np.ndarray:
    """Return how much of each row has each label, (n rows, n).

    >>> shares(np.array([[0, 0, 1, 3]]), 4).tolist()
    [[0.5, 0.25, 0.0, 0.25]]
    """
    return (labels[:, :, None] == np.arange(n)).mean(1)


def predicted(train: np.ndarray, y: np.ndarray, subjects: np.ndarray, test: np.ndarray):
    """Return the classes of test rows by the penalty that does best on subjects left out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fit(c: float, rows: np.ndarray):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=3000))
        return model.fit(train[rows], y[rows])

    folds = list(GroupKFold(FOLDS).split(train, y, subjects))
    right = [sum((fit(c, a).predict(train[b]) == y[b]).sum() for a, b in folds) for c in CS]
    return fit(CS[int(np.argmax(right))], np.arange(len(y))).predict(test)


def feature_sets(spectrum: np.ndarray, parts: np.ndarray, clusters: np.ndarray) -> Features:
    """Return what is asked, by name, each (n, F)."""
    return {
        "spectrum + parts": np.hstack([spectrum, parts]),
        "spectrum + k-means": np.hstack([spectrum, clusters]),
        "parts": parts,
        "k-means": clusters,
    }


def measure(work: Path, counts: list[int]) -> dict[str, list[np.ndarray]]:
    """Return confusion matrices (subjects, 5, 5) of every run, by features, K and budget."""
    store = open_store(work / "pc18")
    test_names = store.recordings_of(sorted(store.roles["test"]))
    test_x, truth, units = inputs_of(store, test_names)
    names = sorted({n for draw in DRAWS for n in drawn(store, draw, max(SEGMENTS.values()))})
    train_x, classes, subjects = inputs_of(store, names)
    place = {name: 2 * at for at, name in enumerate(names)}  # of its first epoch
    spectra = band_powers(train_x, store.sfreq), band_powers(test_x, store.sfreq)
    found: dict[str, list[np.ndarray]] = {}

    def judge(key: str, features: tuple[np.ndarray, np.ndarray], budget: int, draw: int) -> None:
        chosen = drawn(store, draw, SEGMENTS[budget])
        rows = np.concatenate([[place[name], place[name] + 1] for name in chosen])
        told = predicted(features[0][rows], classes[rows], subjects[rows], features[1])
        matrices = confusions(truth, told, len(store.classes), units)
        found.setdefault(f"{key}|{budget}", []).append(matrices)
        print(key, budget, draw, round(float(kappa(matrices.sum(0))), 3), flush=True)

    every = [(budget, draw) for budget in SEGMENTS for draw in DRAWS]
    for budget, draw in every:
        judge(f"{ALONE}|-", spectra, budget, draw)
    for seed in SEEDS:
        models = {k: load_perceiving(run_of(work, k, seed)).eval() for k in counts}
        model = models[counts[0]]  # they look through the same frozen maps
        maps = maps_of(model, train_x), maps_of(model, test_x)
        seen = maps_of(model, unlabelled(store, run_of(work, counts[0], seed)))
        for n_parts in counts:
            parts = [shares(parts_of(models[n_parts], side), n_parts) for side in maps]
            clusters = kmeans_parts(
                PartMaps(maps=seen), PartMaps(maps=np.concatenate(maps)), n_parts, seed
            )
            clusters = np.split(shares(clusters, n_parts), [len(train_x)])
            sides = [feature_sets(*side) for side in zip(spectra, parts, clusters, strict=True)]
            for name in sides[0]:
                for budget, draw in every:
                    judge(f"{name}|{n_parts}", (sides[0][name], sides[1][name]), budget, draw)
    return found


def run_of(work: Path, n_parts: int, seed: int) -> Run:
    """Return the run of discovery_eeg.py."""
    return Run.finished(work / "runs" / f"parts-pc18-{n_parts}-{seed}", "pretrain")


def unlabelled(store, run: Run) -> np.ndarray:
    """Return some epochs (n, C, T) of the subjects that the run was trained on."""
    names = store.recordings_of(run.facts["subjects_trained"])
    names = names[:: max(len(names) // WINDOWS, 1)][:WINDOWS]
    length = round(store.unit_s * store.sfreq)
    return np.stack([store.signal(name)[:, :length] for name in names])


def table(found: dict[str, list[np.ndarray]]) -> list[dict]:
    """Return kappa and its difference from the spectrum alone, with intervals over subjects."""
    n = len(next(iter(found.values()))[0])
    counts = rng_of(Stream.BOOTSTRAP, 0).multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_DRAWS)

    def resampled(matrices: list[np.ndarray]) -> np.ndarray:
        """Return the mean kappa of runs in each resampling of subjects, (draws,)."""
        return np.mean([kappa(np.tensordot(counts, m, axes=1)) for m in matrices], axis=0)

    rows = []
    for key, matrices in found.items():
        name, n_parts, budget = key.split("|")
        values = np.array([kappa(m.sum(0)) for m in matrices])
        base = found[f"{ALONE}|-|{budget}"]
        gain = resampled(matrices) - resampled(base)
        rows.append({
            "features": name, "n_parts": None if n_parts == "-" else int(n_parts),
            "epochs_per_class": int(budget), "runs": len(values),
            "kappa": round(float(values.mean()), 4), "sd": round(float(values.std(ddof=1)), 4),
            "interval_95": ends(resampled(matrices)),
            "gain": round(float(values.mean() - np.mean([kappa(m.sum(0)) for m in base])), 4),
            "gain_interval_95": ends(gain),
        })  # fmt: skip
    return rows


def ends(values: np.ndarray) -> list[float]:
    """Return the middle 95 % of values."""
    return [round(float(end), 4) for end in np.nanpercentile(values, [2.5, 97.5])]


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--parts", nargs="+", type=int, choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    began = time.process_time()
    found = measure(asked.work, asked.parts)
    matrices = next(iter(found.values()))[0]
    content = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    content["few_labels"] = {
        "what": __doc__.partition("\n")[0],
        "command": "python benchmarks/discovery_few_labels.py WORK",
        "date": runs.now(), "environment": runs.environment(), "seeds": SEEDS, "draws": DRAWS,
        "split_unit": "subject (group)", "n_test_subjects": len(matrices),
        "n_test_epochs": int(matrices.sum()), "cpu_s": round(time.process_time() - began, 1),
        "rows": table(found),
    }  # fmt: skip
    asked.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for row in content["few_labels"]["rows"]:
        print(row)


if __name__ == "__main__":
    main()
