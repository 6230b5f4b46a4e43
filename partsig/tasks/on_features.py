"""Training a head step by step on features that are computed once: of an encoder as it is."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from partsig.contracts import Batch, Examples, Order, Task, TrainingBatches
from partsig.core.objectives.supervised import SupervisedModule
from partsig.errors import ConfigError
from partsig.runs.settings import FinetuneRecipe
from partsig.tasks import frozen
from partsig.tasks.around import Around
from partsig.train import checkpoint, distributed
from partsig.train.kept import BEST

IN_MEMORY = 2 << 30  # bytes of features; more of them are held in a file while they are used


class WithFeatures(Around):
    """Examples whose inputs are features (n, …) of them; everything else is theirs."""

    def __init__(self, examples: Examples, features: np.ndarray) -> None:
        super().__init__(examples)
        self.features = features

    def in_order(self, size: int) -> Iterator[np.ndarray]:
        """Yield the features of all items, (b, …) with b up to ``size``."""
        for first in range(0, len(self), size):
            yield np.array(self.features[first : first + size])


@dataclass(frozen=True, kw_only=True)
class FeatureBatches:
    """A process's share of the features and the labels of a step."""

    given: WithFeatures
    shuffled: Order

    def __call__(self, step: int) -> Batch:
        every = self.shuffled(step)
        mine = self.shuffled.share(len(every))
        x = torch.from_numpy(np.array(self.given.features[every[mine]]))
        labels = torch.from_numpy(self.given.labels[every[mine]].astype(np.int64))
        return Batch(x, labels, first=mine.start, total=len(every))


def computed(
    model: SupervisedModule, examples: Examples, folder: Path, device: torch.device
) -> WithFeatures:
    """Return examples with what a model's head sees of them, (n, …) float32.

    Where they need more than 2 GB they lie in a nameless file in ``folder``, which is gone when
    they are; raises ConfigError where there is no room for it.
    """
    held, at = None, 0
    for block in frozen.network_of(model).features(examples, device):
        if held is None:
            held = _room((len(examples), *block.shape[1:]), folder, examples.item)
        held[at : at + len(block)] = block
        at += len(block)
    return WithFeatures(examples, held)


def _room(shape: tuple[int, ...], folder: Path, item: str) -> np.ndarray:
    """Return an array of this shape, in memory or, where it is large, in a file."""
    nbytes = 4 * int(np.prod(shape))
    if nbytes <= IN_MEMORY:
        return np.empty(shape, np.float32)
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise ConfigError(
            f"what the encoder makes of {shape[0]:,} {item}s takes {nbytes / 1e9:.1f} GB, and "
            f"{folder} has room for {free / 1e9:.1f} GB: use fewer labels, or a run elsewhere."
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def train(
    model: SupervisedModule,
    labelled: tuple[Examples, Examples],
    shuffled: Order,
    task: Task,
    settings: FinetuneRecipe,
    *,
    seed: int,
    run: Path,
    world: distributed.World,
) -> dict:
    """Train the head of a model whose encoder does not learn; return the epoch that was chosen.

    Items are given as they are: what augments or shifts them is not used, since every item is
    encoded once. The run keeps the whole model, at the epoch that is best on validation.
    """
    given, val = (computed(model, examples, run, world.device) for examples in labelled)
    head = model.on_features()
    batches = TrainingBatches(
        batch_at=FeatureBatches(given=given, shuffled=shuffled), steps_per_epoch=shuffled.steps
    )
    best = frozen.train(
        head,
        batches,
        settings,
        seed=seed,
        run=run,
        world=world,
        choose=task.watch(head, val, world.device),
        best=f"val_{task.measured_by(val)}",
    )
    if world.main:
        content = checkpoint.load(run / BEST, "finetune")
        whole = model.state_dict() | content["model"]  # of the head; or all, if it was over before
        checkpoint.save(run / BEST, content | {"model": whole})
    return best
