"""What is pretrained on, signals or images, as whatever learns from it sees it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from partsig.contracts import Windows
from partsig.data import splits
from partsig.data.images import store as images
from partsig.data.images.augment import Augmented
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import RandomWindows, ResidentWindows
from partsig.data.store import read_meta
from partsig.errors import ConfigError, DataError
from partsig.modalities.modality import Modality
from partsig.runs.settings import ImageConfig, PretrainConfig, Recipe, Shape
from partsig.train.distributed import World

# Windows on which the pretext is measured, and their batch.
MONITOR_WINDOWS, MONITOR_BATCH = 512, 128
Derive = Callable[[dict[str, float]], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Windows (C, *L) to train on and to measure the pretext on, their shape, and whose they are.

    ``per_unit`` samples are a unit of the modality (a second, a pixel). ``facts`` are what a run
    must not change between its parts; ``identity`` is what a checkpoint remembers.
    """

    modality: Modality
    channels: int
    window: Shape
    patch: Shape
    per_unit: float
    train: Windows
    monitor: Windows | None
    facts: dict
    augmented: bool = False
    identity: dict = field(default_factory=dict)


def gather(store: Path, modality: Modality, settings: Recipe, seed: int) -> Material:
    """Open a store as the modality's material.

    Raises DataError for a store of another modality, and what opening it raises.
    """
    found = read_meta(store)["modality"]
    if found != modality.name:
        raise DataError(
            f"{store} holds {found}, not {modality.name}: pass --modality {found}, or another "
            "--store."
        )
    if isinstance(settings, ImageConfig):
        return _of_images(store, modality, settings, seed)
    return _of_signals(store, modality, settings, seed)


def _of_signals(path: Path, modality: Modality, settings: PretrainConfig, seed: int) -> Material:
    store = open_store(path)
    split = splits.split_pretraining(
        list(store.subjects), store.labelled_subjects, settings.split, store.roles
    )
    window, patch = settings.extents(store.sfreq)
    seen = split["train"] + split["monitor"]
    monitor = None
    if split["monitor"]:
        monitor = RandomWindows(store, split["monitor"], window[0], 0, MONITOR_WINDOWS)
    return Material(
        modality=modality,
        channels=len(store.ch_names),
        window=window,
        patch=patch,
        per_unit=store.sfreq,
        train=RandomWindows(store, split["train"], window[0], seed, settings.windows_per_epoch),
        monitor=monitor,
        facts={
            "modality": modality.name,
            "provenance": store.meta["provenance"],
            "ch_names": list(store.ch_names),
            "sfreq": store.sfreq,
            "subjects_seen": seen,
            "subjects_trained": split["train"],
            "subjects_held_out": split["test"],
        },
        identity={"subjects_seen": seen},
    )


def _of_images(path: Path, modality: Modality, settings: ImageConfig, seed: int) -> Material:
    store = images.open_images(path)
    cropped = settings.augment.crop != "none"
    if min(store.size) < settings.size or (not cropped and store.size != (settings.size,) * 2):
        raise ConfigError(
            f"{path} holds images of {store.size[0]} x {store.size[1]}, and size is "
            f"{settings.size}; pass --set size={min(store.size)}, or less with an augment.crop."
        )
    window, patch = settings.extents(1.0)
    train = images.RandomImages(store, store.members("train"), seed, settings.windows_per_epoch)
    val = store.members("val")
    monitor = None
    if len(val):
        monitor = images.RandomImages(store, val, 0, MONITOR_WINDOWS, settings.size)
    own = Augmented(train, settings.augment, settings.size, seed)
    return Material(
        modality=modality,
        channels=len(store.ch_names),
        window=window,
        patch=patch,
        per_unit=1.0,
        train=own,
        augmented=own.changes,
        monitor=monitor,
        facts={
            "modality": modality.name,
            "provenance": store.meta["provenance"],
            "ch_names": list(store.ch_names),
            "size": list(store.size),
            "images_trained": len(store.members("train")),
            "subjects_seen": [],
        },
    )


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """Windows that a run was not trained on: whose they are (n_subjects, say), and how many."""

    windows: Windows
    role: str
    whose: str
    number: int
    per_unit: float


def unseen(path: Path, record: dict, window: Shape, seed: int, per_epoch: int) -> Unseen:
    """Return windows of a store that a run has held out; else those its pretext was measured on.

    Raises DataError for a store that does not fit the run or has none of them.
    """
    if record.get("modality") == "image":
        store = images.open_images(path)
        _check_alike(path, record, {"ch_names": list(store.ch_names), "size": list(store.size)})
        for role in ("test", "val"):
            members = store.members(role)
            if len(members):
                windows = images.RandomImages(store, members, seed, per_epoch, window[-1])
                return Unseen(
                    windows=windows, role=role, whose="n_images", number=len(members), per_unit=1.0
                )
        raise DataError(f"{path} has no test or validation images to look at.")
    store = open_store(path)
    _check_alike(path, record, {"ch_names": list(store.ch_names), "sfreq": store.sfreq})
    trained = set(record["subjects_trained"])
    monitor = [subject for subject in record["subjects_seen"] if subject not in trained]
    for role, members in (("test", record["subjects_held_out"]), ("monitor", monitor)):
        found = sorted(set(members) & set(store.subjects))
        if found:
            windows = RandomWindows(store, found, window[-1], seed, per_epoch)
            return Unseen(
                windows=windows,
                role=role,
                whose="n_subjects",
                number=len(found),
                per_unit=store.sfreq,
            )
    raise DataError(
        f"{path} has none of the run's held-out subjects; give the store it was trained on."
    )


def _check_alike(path: Path, record: dict, facts: dict) -> None:
    for key, mine in facts.items():
        if record[key] != mine:
            raise DataError(
                f"{path} has {key} {mine}, the run was trained on {record[key]}; give a store that "
                "was preprocessed alike."
            )


def resident(material: Material, world: World, wish: str) -> ResidentWindows | None:
    """Load signals onto the device once, where that is asked for or fits in half its memory."""
    windows = material.train
    if not isinstance(windows, RandomWindows):
        return None
    if wish == "never" or (wish == "auto" and world.device.type != "cuda"):
        return None
    gib = windows.nbytes / 2**30
    if world.device.type == "cuda":
        free = torch.cuda.mem_get_info(world.device)[0] / 2**30
        fits = windows.nbytes < 0.5 * free * 2**30
        if wish == "auto" and not fits:
            if world.main:
                print(
                    f"signals ({gib:.1f} GiB) exceed half of the free GPU memory ({free:.1f} GiB): "
                    "windows are streamed; a float16 store takes half",
                    flush=True,
                )
            return None
    if world.main:
        print(f"signals ({gib:.1f} GiB) are loaded onto {world.device} once", flush=True)
    try:
        return ResidentWindows(windows, world.device)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"the memory of {world.device} does not suffice for the signals ({gib:.1f} GiB): pass "
            "--set resident=never, and windows are streamed."
        ) from None


def units(material: Material) -> Derive:
    """Return a function that turns the core's samples and axes into the modality's."""
    modality = material.modality

    def derive(values: dict[str, float]) -> dict[str, float]:
        kept = {name: v for name, v in values.items() if not name.endswith(("distance", "l2"))}
        if values.get("chance"):  # 0 where a window has room for one patch only
            kept["mse/chance"] = values["mse"] / values["chance"]
            kept["r2"] = 1 - kept["mse/chance"]
        for before in ("", "chance_"):
            if f"{before}distance" in values:
                distance = values[f"{before}distance"] / material.per_unit
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
    material: Material, model: nn.Module, world: World, batch: int
) -> Callable[[int], dict[str, float]] | None:
    """Return the measure of the pretext on fixed unseen windows and draws, if there are any."""
    windows = material.monitor
    if windows is None or not world.main:
        return None
    size, derive = min(MONITOR_BATCH, batch), units(material)
    number = min(MONITOR_WINDOWS, windows.per_epoch)

    @torch.inference_mode()
    def measured(_epoch: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for first in range(0, number, size):  # the last batch may be smaller
            x = windows.batch(0, first, min(size, number - first))
            generator = torch.Generator(world.device).manual_seed(first)
            for key, value in model(torch.from_numpy(x).to(world.device), generator).items():
                sums[key] = sums.get(key, 0.0) + value.item() * len(x) / number
        return {f"val_{key}": value for key, value in derive(sums).items()}

    return measured
