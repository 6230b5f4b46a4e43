"""``partsig finetune`` on a store of images: a pretrained run in, a classifier of images out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from partsig import config as configs
from partsig.contracts import Batch
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import (
    Classifier,
    ClassifierConfig,
    LossConfig,
    SupervisedModule,
)
from partsig.data.images.augment import AugmentConfig, augmented, transform
from partsig.data.images.store import ImageStore, open_images
from partsig.data.signals.windows import Shuffled
from partsig.data.store import index_digest, locate
from partsig.errors import CheckpointError, ConfigError, check_range
from partsig.files import write_json
from partsig.metrics.calibration import log_loss
from partsig.recipes.labelled_images import (
    draw_images,
    in_batches,
    labelled,
    share_right,
)
from partsig.runs import run as runs
from partsig.runs.settings import ImageConfig
from partsig.tasks import frozen
from partsig.train import distributed, loop
from partsig.train.optim import OptimConfig
from partsig.train.step import seed_of
from partsig.verbs.finetune import FREE, SCRATCH, FinetuneConfig
from partsig.verbs.pretrain import DEFAULT_SOURCE, STORES, load_encoder


@dataclass(frozen=True, kw_only=True)
class ImageFinetuneConfig:
    """Everything that decides a fine-tuning run on images; the defaults train without tricks.

    DeiT's recipe, which the paper fine-tunes with, is the configuration ``image-finetune``.
    ``train``: full; probe (logistic regression on the frozen encoder's features); probe+full,
    everything, from the probe's head on; or knn (the votes of the ``neighbours`` nearest training
    images, by the cosine of frozen features). ``positions`` auto, ``pool`` and ``blocks``: as for
    signals.
    ``size``: pixels a side, 0 for what the store holds; larger stored images are cropped at the
    centre where nothing is learned. ``patch_px`` and ``encoder`` are for ``--from
    scratch``; a pretrained run brings its own, and only that may be repeated here.
    ``repeats``: copies of an image in a batch, each augmented anew, so that an epoch sees fewer
    images (Hoffer et al. 2020, arXiv 1901.09335; DeiT: 3).
    """

    train: Literal["full", "probe", "probe+full", "knn"] = "full"
    positions: Literal["auto", "learned", "sincos", "none"] = "auto"
    pool: Literal["cls", "mean", "mean+sd", "mean+sd+spectrum"] = "cls"
    drop_path: float = 0.1
    blocks: int = 0
    size: int = 0
    patch_px: int = 4
    neighbours: int = 20
    repeats: int = 1
    encoder: EncoderConfig = field(default_factory=lambda: ImageConfig().encoder)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(warmup_epochs=5))
    fit: loop.FitConfig = field(default_factory=lambda: loop.FitConfig(epochs=400, batch_size=256))

    def __post_init__(self) -> None:
        check_range("drop_path", self.drop_path, 0.0, 0.99)
        check_range("size", self.size, 0)
        check_range("blocks", self.blocks, 0)
        for name in ("patch_px", "neighbours", "repeats"):
            check_range(name, getattr(self, name), 1)


def finetune_images(
    from_: str | Path | None = None,
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    per_class: int | None = None,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
    refused: Mapping[str, bool] | None = None,
) -> Path:
    """Fine-tune on ``per_class`` labelled images of every class (0 or None: all); return the run.

    ``from_`` is a pretraining run on images (default: the one that finished last) or ``"scratch"``.
    ``store`` defaults to the run's, or ``data/store/cifar100``. The images are drawn by ``seed``
    from the store's training images, a smaller budget's from a larger one's; the epoch is chosen by
    accuracy on all its validation images; its test images are never read here. ``run`` defaults to
    ``runs/finetune-ORIGIN-kN-sSEED``. The same call again continues an interrupted run.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend; ConfigError
    also for a ``refused`` option that was given.
    """
    check_range("--segments-per-class", per_class or 0, 0)
    meant = "signals; the store holds images"
    configs.check_meant(ImageFinetuneConfig, "finetune", config, FinetuneConfig, meant)
    settings = configs.compose(ImageFinetuneConfig, "finetune", config, overrides)
    chosen = distributed.pick_device(device)
    origin = None if str(from_) == SCRATCH else Path(from_) if from_ else runs.last("pretrain")
    if store is None and origin is not None:
        store = runs.finished(origin, "pretrain")["store"]
    store_path = locate(store or STORES / DEFAULT_SOURCE["image"])
    given = [option for option, value in (refused or {}).items() if value]
    if given:
        raise ConfigError(
            f"{store_path} holds images, which {', '.join(given)} is not for; pass "
            "--segments-per-class N for N labelled images of every class, 0 for all."
        )
    opened = open_images(store_path)
    encoder, settings, pretraining = _start(origin, opened, settings, config, overrides, seed)
    drawn = draw_images(opened, per_class or 0, seed)
    label = SCRATCH if origin is None else origin.name
    label += "" if settings.train == "full" else f"-{settings.train}"
    path = Path(run or runs.RUNS / f"finetune-{label}-k{per_class or 0}-s{seed}")
    facts = {
        "modality": "image",
        "seed": seed,
        "images_per_class": per_class or 0,
        "from": SCRATCH if origin is None else str(origin),
        "store": str(store_path),
        "provenance": opened.meta["provenance"],
        "index_sha256": index_digest(opened.path),
        "ch_names": list(opened.ch_names),
        "size": list(opened.size),
        "classes": list(opened.classes),
        "pretraining": pretraining,
        "n_images": {
            **{role: len(index) for role, index in drawn.items()},
            "test": len(labelled(opened, "test")),
        },
    }
    begun = runs.begin(path, "finetune", settings, facts, FREE)
    if begun["state"] == "finished":
        return path
    train, val = drawn["train"], drawn["val"]
    if per_class:
        write_json(path / "split.json", {"train": [opened.names[i] for i in train]})
    torch.manual_seed(seed_of(seed, 8))
    model = _classifier(encoder, settings, begun)
    found = {}
    if settings.train != "full":
        found = _fit_head(model, opened, train, val, settings, chosen)
    if settings.train in ("probe", "knn"):
        frozen.keep(path, model, found["val_accuracy"])
    else:
        best = _fit(model, settings, opened, train, val, seed, path, chosen).best
        found = {"chosen_epoch": best["epoch"], "val_accuracy": best["value"]}
        frozen.load_best(path, model)
    probabilities = frozen.predict(model, in_batches(opened, val, settings.size, chosen), chosen)
    _, calibration = frozen.calibrate(opened.labels[val], probabilities)
    runs.finish(path, **found, calibration=calibration | {"n_images": len(val)})
    return path


def _start(
    origin: Path | None,
    store: ImageStore,
    settings: ImageFinetuneConfig,
    config: str | Path | None,
    overrides: Mapping[str, object] | Iterable[str],
    seed: int,
) -> tuple[Encoder, ImageFinetuneConfig, dict | None]:
    """Return the encoder to start from, the settings it implies, and its pretraining in short."""
    summary, known = None, "none"
    shape, patch = settings.encoder, settings.patch_px
    if origin is None:
        frozen.check_blocks(settings.blocks)
    else:
        record = runs.finished(origin, "pretrain")
        for key, ours in (("modality", "image"), ("ch_names", list(store.ch_names))):
            if record.get(key, "eeg") != ours:
                raise CheckpointError(
                    f"{origin} was pretrained with {key} {record.get(key, 'eeg')}; {store.path} "
                    f"has {ours}."
                )
        pretrained, record, pretraining = load_encoder(origin, settings.blocks)
        _check_shape(settings, pretraining, origin)
        shape, patch = pretrained.config, pretraining.patch_px
        summary = {"objective": pretraining.objective.name, "seed": record["seed"]}
        known = pretraining.positions
    shape = replace(shape, drop_path=settings.drop_path)
    settings = replace(
        settings,
        encoder=shape,
        patch_px=patch,
        size=settings.size or min(store.size),
        positions=frozen.settle_positions(settings.positions, settings.train, known),
    )
    _check_sizes(store, settings)
    torch.manual_seed(seed_of(seed, 9))
    encoder = Encoder(shape, len(store.ch_names), (patch, patch))
    if origin is not None:
        encoder.load_state_dict(pretrained.state_dict())
    return encoder, settings, summary


def _check_shape(settings: ImageFinetuneConfig, theirs: ImageConfig, origin: Path) -> None:
    """Refuse an encoder or a patch that is neither the default nor that of the pretraining."""
    usual = ImageFinetuneConfig()
    mine, wanted, default = (
        {"encoder": configs.to_dict(item.encoder) | {"drop_path": 0}, "patch_px": item.patch_px}
        for item in (settings, theirs, usual)
    )
    given = {line.partition(":")[0] for line in configs.differences(default, mine)}
    wrong = [line for line in configs.differences(wanted, mine) if line.partition(":")[0] in given]
    if wrong:
        raise ConfigError(f"the encoder comes from {origin}; leave out {'; '.join(wrong)}.")


def _check_sizes(store: ImageStore, settings: ImageFinetuneConfig) -> None:
    if settings.size % settings.patch_px:
        raise ConfigError(
            f"size is {settings.size}; it must be a multiple of patch_px ({settings.patch_px})."
        )
    fits = min(store.size) >= settings.size
    if not fits or (settings.augment.crop == "none" and store.size != (settings.size,) * 2):
        raise ConfigError(
            f"size is {settings.size} and {store.path} holds images of {store.size[0]} x "
            f"{store.size[1]}; size can be at most that, and less with an augment.crop."
        )


def _classifier(encoder: Encoder, settings: ImageFinetuneConfig, record: dict) -> SupervisedModule:
    """Return the untrained module; the caller seeds torch."""
    n_classes = len(record["classes"])
    net = Classifier(
        ClassifierConfig(positions=settings.positions, pool=settings.pool),
        encoder,
        window=(settings.size, settings.size),
        patch=(settings.patch_px, settings.patch_px),
        n_classes=n_classes,
        loss=settings.loss,
    )
    if settings.train == "knn":
        return frozen.Neighbours(net, record["n_images"]["train"], settings.neighbours, n_classes)
    return net


def _fit_head(
    model: Classifier | frozen.Neighbours,
    store: ImageStore,
    train: np.ndarray,
    val: np.ndarray,
    settings: ImageFinetuneConfig,
    device: torch.device,
) -> dict[str, float]:
    """Fit what stands on the frozen features, or remember them; return how good that is."""
    truth = store.labels[val]
    seen, unseen = (in_batches(store, index, settings.size, device) for index in (train, val))
    if isinstance(model, frozen.Neighbours):
        model.fit(frozen.features(model.net, seen, device), store.labels[train])
        predicted = frozen.predict(model, unseen, device).argmax(1)
        return {"val_accuracy": share_right(truth, predicted)}
    x, x_val = (frozen.features(model, batches, device) for batches in (seen, unseen))
    weight, bias, strength, value = frozen.fit_logistic(
        x, store.labels[train], x_val, truth, len(store.classes), share_right
    )
    frozen.put_linear(model.head, weight, bias)
    return {"strength": strength, "val_accuracy": value}


def _fit(
    model: Classifier,
    settings: ImageFinetuneConfig,
    store: ImageStore,
    train: np.ndarray,
    val: np.ndarray,
    seed: int,
    path: Path,
    device: torch.device,
) -> loop.State:
    size = min(settings.fit.batch_size, len(train))
    change = transform(settings.augment, settings.size)
    shuffled = Shuffled(len(train), size, seed, repeats=settings.repeats)
    batches = _Batches(store=store, train=train, shuffled=shuffled, change=change)

    def choose(_epoch: int) -> dict[str, float]:
        p = frozen.predict(model, in_batches(store, val, settings.size, device), device)
        truth = store.labels[val]
        return {
            "val_accuracy": share_right(truth, p.argmax(1)),
            "val_log_loss": log_loss(truth, p),
        }

    return frozen.train(
        model,
        batches,
        shuffled.steps,
        settings.fit,
        settings.optim,
        seed=seed,
        run=path,
        device=device,
        choose=choose,
        best="val_accuracy",
        # torchvision draws from torch's own generator, as drop path and mixing do: in a thread
        # beside them the draws would depend on timing.
        prefetch="thread" if change is None else "processes",
    )


@dataclass(frozen=True, kw_only=True)
class _Batches:
    """Images and their labels by step; a worker process may have a copy of it."""

    store: ImageStore
    train: np.ndarray
    shuffled: Shuffled
    change: Callable | None

    def __call__(self, step: int) -> Batch:
        index = self.train[self.shuffled(step)]
        x = torch.from_numpy(self.store.batch(index))
        if self.change is not None:
            epoch, within = divmod(step, self.shuffled.steps)
            first = within * self.shuffled.size
            x = augmented(x, self.change, [self.shuffled.seed, epoch], first)
        return Batch(x, torch.from_numpy(self.store.labels[index]))


def load_classifier(run: Path) -> tuple[SupervisedModule, ImageFinetuneConfig, dict]:
    """Return the classifier of a finished run at its chosen epoch, its settings, its ``run.json``.

    Raises CheckpointError when the run is not one on images, or not complete.
    """
    record = runs.finished(run, "finetune", "image")
    settings = configs.build(ImageFinetuneConfig, record["config"])
    patch = (settings.patch_px, settings.patch_px)
    encoder = Encoder(settings.encoder, len(record["ch_names"]), patch)
    model = _classifier(encoder, settings, record)
    frozen.load_best(run, model)
    return model, settings, record
