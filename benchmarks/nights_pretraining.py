"""What a night-scale encoder adds to the features of epochs: stores of both, side by side.

Encoders are pretrained on the nights of all sleepers but those of the test (and a few by which the
pretext is watched), without labels, by each way with three seeds; of what they make of each epoch,
the first principal components stand beside its band powers. ``random`` is an encoder of that shape
as it was drawn (of all but ``relative``, whose patches attend to themselves alone). How many
components of a way is chosen on validation sleepers, with three labelled sleepers, three draws, the
first seed, and a GRU over 21 epochs, and taken for the other networks too.
"""

import json
import os
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# 1,000 steps of 48 stretches of two hours: four minutes of a core.
STEPS = {"fit.epochs": 10}
CONFIGS = Path(__file__).parents[1] / "configs"
SEEDS = (0, 1, 2)
WAYS = {
    "part": ("night-part", {}),
    "part-masked": ("night-part-masked", {}),
    "masked": ("night-masked", {}),
    "contrast": ("night-contrast", {}),
    "mp3": ("night-mp3", {}),
    "droppos": ("night-droppos", {}),
    "relative": ("night-relative", {}),
    # One step at no rate: the encoder is as it was drawn.
    "random": ("night-part", {"fit.epochs": 1, "windows_per_epoch": 48, "optim.warmup_epochs": 0,
                              "optim.lr": 1e-12, "optim.min_lr": 0.0, "optim.warmup_lr": 0.0}),
}  # fmt: skip
# Whose encoder is not that of ``random``: its patches attend to themselves alone.
OTHER_ENCODERS = ("relative",)
NUMBERS = (4, 8, 16)
CHOSEN_ON = (3, (0, 1, 2))  # labelled sleepers, draws


FOLDS = 5


@dataclass(frozen=True)
class Place:
    """Where runs are, and which fifth of the sleepers they are tested on; 0 is the usual one."""

    work: Path
    fold: int = 0

    @property
    def runs(self) -> Path:
        """The folder of the runs."""
        return self.work / f"fold-{self.fold}" if self.fold else self.work

    def store(self) -> Path:
        """Return the store of nights; of another fold, one that says by itself who is tested."""
        from partsig.data.protocols import by_hash
        from partsig.data.signals.store import open_store

        usual, store = self.work / "store", self.runs / "store"
        if self.fold and not (store / "split.csv").is_file():
            shutil.copytree(usual, store, copy_function=os.link, dirs_exist_ok=True)
            names = by_hash(open_store(usual).labelled_subjects)
            tested = np.array_split(names, FOLDS)[self.fold]  # the usual test is the first part
            lines = ["subject,role", *(f"{name},test" for name in tested)]
            (store / "split.csv").write_text("\n".join(lines) + "\n")
        return store


def encoder(place: Place, way: str, seed: int) -> Path:
    """Return the run that is pretrained in a way with a seed, pretraining it if it is not yet."""
    from partsig import pretrain

    config, changes = WAYS[way]
    return pretrain(
        place.store(), place.runs / f"encoder-{way}-{seed}", config=CONFIGS / f"{config}.yaml",
        overrides=STEPS | changes, seed=seed, gpus="0",
    )  # fmt: skip


def beside(place: Place, way: str, seed: int, n: int) -> Path:
    """Return the store of ``n`` components of an encoder's tokens beside the band powers."""
    from partsig import embed

    store = place.runs / f"store-{way}-{seed}-{n}"
    if not (store / "done").is_file():
        embed(encoder(place, way, seed), place.store(), as_store=True, features_of="both",
              components=n, output=store, device="cpu")  # fmt: skip
        (store / "done").write_text("")
    return store


def choose(place: Place, way: str, train) -> int:
    """Return how many components of a way are best on validation; ``train(store, name, draw)``
    returns a run of the usual network with the labelled sleepers of :data:`CHOSEN_ON`.
    """
    file = place.runs / f"components-{way}.json"
    if not file.is_file():
        found = {}
        for n in NUMBERS:
            store = beside(place, way, SEEDS[0], n)
            runs = [train(store, f"choice-{way}-{n}-s{draw}", draw) for draw in CHOSEN_ON[1]]
            kappas = [json.loads((run / "run.json").read_text())["val_kappa"] for run in runs]
            found[n] = statistics.mean(kappas)
        chosen = max(found, key=found.__getitem__)
        file.write_text(json.dumps({"validation_kappa": found, "chosen": chosen}))
    return json.loads(file.read_text())["chosen"]


def pretext(work: Path) -> dict[str, object]:
    """Return what the encoders that are pretrained have learned of their task, on validation."""
    told = {}
    for file in sorted(work.glob("encoder-*/metrics.jsonl")):
        lines = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
        )
        last = [line for line in lines if any(key.startswith("val_") for key in line)]
        if last:
            told[file.parent.name] = {
                k: v for k, v in last[-1].items() if k == "step" or k[:4] == "val_"
            }
    return told
