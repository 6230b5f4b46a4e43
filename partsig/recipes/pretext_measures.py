"""What is logged of a pretext: the core's numbers in the modality's units, on the unseen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from partsig.contracts import PretrainingData, Windows
from partsig.errors import DataError
from partsig.modalities.modality import MONITOR_WINDOWS, Modality
from partsig.runs.models import pretraining_settings
from partsig.runs.objectives import module_of
from partsig.runs.run import Run
from partsig.seeds import Stream, fixed, seed_of
from partsig.train.distributed import World
from partsig.train.journal import read_metrics

MONITOR_BATCH = 128
Derive = Callable[[dict[str, float]], dict[str, float]]


def units(data: PretrainingData, modality: Modality) -> Derive:
    """Return a function that turns the core's samples and axes into the modality's."""

    def derive(values: dict[str, float]) -> dict[str, float]:
        kept = {name: v for name, v in values.items() if not name.endswith(("distance", "l2"))}
        if values.get("chance") and "mse" in values:  # 0 where a window has room for one patch only
            kept["mse/chance"] = values["mse"] / values["chance"]
            kept["r2"] = 1 - kept["mse/chance"]
        for before in ("", "chance_"):
            if f"{before}distance" in values:
                distance = values[f"{before}distance"] / data.samples_per_unit
                kept[f"{before}error_{modality.unit}"] = distance
            if f"{before}l2" in values:
                kept[f"{before}error_patches"] = values[f"{before}l2"]
        for number, axis in enumerate(modality.axes):
            for name in ("mse", "chance"):
                value = kept.pop(f"{name}_{number}", None)
                if value is not None and len(modality.axes) > 1:  # of one axis it is the whole
                    kept[f"{name}_{axis}"] = value
        return kept

    return derive


def measure(
    data: PretrainingData,
    model: nn.Module,
    world: World,
    batch: int,
    derive: Derive,
    seed: int,
) -> Callable[[int], dict[str, float]] | None:
    """Return the measure of the pretext on fixed unseen windows and draws, if there are any.

    They are the same whatever the ``seed``, which tells only the version that they are drawn by.
    """
    windows = data.monitor
    if windows is None or not world.main:
        return None
    size = min(MONITOR_BATCH, batch)
    number = min(MONITOR_WINDOWS, windows.per_epoch)

    @torch.inference_mode()
    def measured(_epoch: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for first in range(0, number, size):  # the last batch may be smaller
            count = min(size, number - first)
            x = windows.batch(0, first, count)
            if not np.isfinite(x).all():
                told = windows.describe_batch(0, first, count)
                raise DataError(f"the pretext cannot be measured{told}; leave that recording out.")
            generator = torch.Generator(world.device)
            generator.manual_seed(seed_of(Stream.MONITOR, fixed(seed), first))
            known = extras_of(windows, 0, first, count)
            known = {name: rows.to(world.device) for name, rows in known.items()}
            inputs = torch.from_numpy(x).to(world.device)
            for key, value in model(inputs, generator, **known).items():
                sums[key] = sums.get(key, 0.0) + value.item() * len(x) / number
        return {f"val_{key}": value for key, value in derive(sums).items()}

    return measured


def extras_of(windows: Windows, epoch: int, first: int, count: int) -> dict[str, torch.Tensor]:
    """Return what is known of windows besides, see MarkedWindows; {} of such as tell nothing."""
    told = getattr(windows, "extras", None)
    found = {} if told is None else told(epoch, first, count)
    return {name: torch.from_numpy(rows) for name, rows in found.items()}


def learned(path: Path) -> list[str]:
    """Return what a pretraining run has learned of its pretext, in a sentence; nothing of one that
    was never read.

    Of windows that it was not trained on, where it was measured on any.
    """
    readings = read_metrics(path)
    unseen = [
        {key.removeprefix("val_"): value for key, value in line.items() if key.startswith("val_")}
        for line in readings
        if "val_loss" in line
    ]
    told = unseen or readings
    if not told:
        return []
    whose = "unseen" if unseen else "its own training"
    settings = pretraining_settings(Run.read(path))
    say = getattr(module_of(type(settings.objective)), "in_words", None)
    if say is None:  # a plug-in that does not say it
        return [f"loss {told[-1]['loss']:.3g} on {whose} windows"]
    return [say(told[-1], whose)]
