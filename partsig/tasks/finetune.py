"""``partsig finetune``: a store and a pretrained run in, a classifier of sleep stages out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from partsig import config as configs
from partsig import metrics
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import Classifier
from partsig.data.datasets import ScoredEpochs, shuffled_batch
from partsig.data.recordings import EPOCH_S, STAGES
from partsig.data.splits import SplitConfig, split_finetuning
from partsig.data.store import Store, open_store
from partsig.errors import CheckpointError, ConfigError, check_range
from partsig.files import write_json
from partsig.tasks import runs
from partsig.tasks.pretrain import DEFAULT_SOURCE, STORES, load_encoder
from partsig.train import checkpoint, distributed, loop
from partsig.train.optim import OptimConfig
from partsig.train.step import seed_of

SCRATCH = "scratch"
# Windows per forward pass where nothing is learned.
PREDICT_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Everything that decides a fine-tuning run; the defaults are the paper's recipe (DeiT's).

    ``positions``: learned position codes (False is the paper's "without position embeddings").
    ``smoothing``: of the labels. ``encoder`` is used by ``--from scratch`` only; a pretrained run
    brings its own. ``patch_s`` likewise. ``drop_path`` holds for both.
    """

    positions: bool = True
    smoothing: float = 0.1
    drop_path: float = 0.1
    patch_s: float = 1.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(warmup_epochs=5))
    fit: loop.FitConfig = field(default_factory=lambda: loop.FitConfig(epochs=100, batch_size=64))
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        check_range("smoothing", self.smoothing, 0.0, 0.9)
        check_range("drop_path", self.drop_path, 0.0, 0.99)
        check_range("patch_s", self.patch_s, 0.01, EPOCH_S)


def finetune(
    from_: str | Path | None = None,
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    subjects: int = 10,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Fine-tune on N labelled subjects drawn by ``seed`` and return the run directory.

    ``from_`` is a pretraining run (default: the one that finished last) or ``"scratch"``, the
    supervised baseline. The epoch is chosen by kappa on ``split.val_subjects`` further labelled
    subjects; test subjects are the store's own and never read here. ``run`` defaults to
    ``runs/finetune-ORIGIN-nN-sSEED``.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_range("--subjects", subjects, 1)
    settings = configs.compose(FinetuneConfig, "finetune", config, overrides)
    store_path = Path(store or STORES / DEFAULT_SOURCE["eeg"])
    chosen = distributed.pick_device(device)
    opened = open_store(store_path)
    origin = None if str(from_) == SCRATCH else Path(from_) if from_ else runs.last("pretrain")
    encoder, settings, seen = _start(origin, opened, settings, config, overrides, seed)
    label = SCRATCH if origin is None else origin.name
    path = Path(run or runs.RUNS / f"finetune-{label}-n{subjects}-s{seed}")
    split = split_finetuning(opened.labelled_subjects, subjects, seed, settings.split)
    facts = {
        "seed": seed,
        "subjects": subjects,
        "from": SCRATCH if origin is None else str(origin),
        "store": str(store_path),
        "provenance": opened.meta["provenance"],
        "ch_names": list(opened.ch_names),
        "sfreq": opened.sfreq,
        "stages": list(STAGES),
        "pretraining_subjects": seen,
        "split": split,
    }
    if (
        runs.begin(path, "finetune", settings, facts, (*loop.SPEED_KEYS, "store"))["state"]
        == "finished"
    ):
        return path
    write_json(path / "split.json", split)
    torch.manual_seed(seed_of(seed, 8))
    model = _classifier(encoder, settings, opened.sfreq)
    best = _fit(model, settings, opened, split, seed, path, chosen).best
    runs.finish(path, chosen_epoch=best["epoch"], val_kappa=best["value"])
    return path


def _start(
    origin: Path | None,
    store: Store,
    settings: FinetuneConfig,
    config: str | Path | None,
    overrides: Mapping[str, object] | Iterable[str],
    seed: int,
) -> tuple[Encoder, FinetuneConfig, list[str]]:
    """Return the encoder to start from, the settings it implies, and the subjects it has seen."""
    if origin is None:
        shape = replace(settings.encoder, drop_path=settings.drop_path)
        torch.manual_seed(seed_of(seed, 9))
        patch = (round(settings.patch_s * store.sfreq),)
        encoder = Encoder(shape, len(store.ch_names), patch)
        return encoder, replace(settings, encoder=shape), []
    defaults = configs.compose(FinetuneConfig, "finetune")
    if settings.encoder != defaults.encoder:
        given, usual = configs.to_dict(settings.encoder), configs.to_dict(defaults.encoder)
        changed = "; ".join(configs.differences(usual, given, "encoder."))
        raise ConfigError(f"the encoder comes from {origin}; leave out {changed}.")
    pretrained, record, pretraining = load_encoder(origin)
    for key, ours in (("ch_names", list(store.ch_names)), ("sfreq", store.sfreq)):
        if record[key] != ours:
            raise CheckpointError(
                f"{origin} was pretrained with {key} {record[key]}; {store.path} has {ours}."
            )
    shape = replace(pretraining.encoder, drop_path=settings.drop_path)
    patch = (round(pretraining.patch_s * store.sfreq),)
    encoder = Encoder(shape, len(store.ch_names), patch)
    encoder.load_state_dict(pretrained.state_dict())
    settings = replace(settings, encoder=shape, patch_s=pretraining.patch_s)
    return encoder, settings, record["subjects_seen"]


def _classifier(encoder: Encoder, settings: FinetuneConfig, sfreq: float) -> Classifier:
    return Classifier(
        encoder,
        window=(round(EPOCH_S * sfreq),),
        patch=(round(settings.patch_s * sfreq),),
        n_classes=len(STAGES),
        positions=settings.positions,
        smoothing=settings.smoothing,
    )


def _fit(
    model: Classifier,
    settings: FinetuneConfig,
    store: Store,
    split: dict[str, list[str]],
    seed: int,
    path: Path,
    device: torch.device,
) -> loop.State:
    train = ScoredEpochs(store, split["train"])
    val = ScoredEpochs(store, split["val"])
    size = min(settings.fit.batch_size, len(train))

    def batch_at(step: int) -> tuple[torch.Tensor, ...]:
        index = shuffled_batch(len(train), size, seed, step)
        return torch.from_numpy(train.windows(index)), torch.from_numpy(train.stages[index])

    def choose(_epoch: int) -> dict[str, float]:
        predicted = predict(model, val, device).argmax(1)
        table = metrics.confusion(val.stages, predicted, len(STAGES))
        # A classifier that gives one class only on one-class nights has no kappa: worth nothing.
        return {
            "val_kappa": float(np.nan_to_num(metrics.kappa(table))),
            "val_macro_f1": float(metrics.macro_f1(table)),
        }

    job = loop.Fit(
        model=model,
        batch_at=batch_at,
        steps_per_epoch=-(-len(train) // size),
        config=settings.fit,
        optim=settings.optim,
        seed=seed,
        run=path,
        kind="finetune",
        identity={},
        world=distributed.World(rank=0, size=1, device=device),
        label=f"finetune {path.name}",
        shown=("loss", "accuracy", "val_kappa"),
        on_epoch=choose,
        best="val_kappa",
    )
    return loop.fit(job)


@torch.inference_mode()
def predict(model: Classifier, epochs: ScoredEpochs, device: torch.device) -> np.ndarray:
    """Return stage probabilities (n, 5) of scored epochs."""
    model.eval()
    found = []
    for first in range(0, len(epochs), PREDICT_BATCH):
        index = range(first, min(first + PREDICT_BATCH, len(epochs)))
        x = torch.from_numpy(epochs.windows(index)).to(device)
        found.append(model.logits(x).float().softmax(-1).cpu().numpy())
    return np.concatenate(found)


def load_classifier(run: Path) -> tuple[Classifier, dict]:
    """Return the classifier of a finished run at its chosen epoch, and the run's ``run.json``."""
    record = runs.finished(run, "finetune")
    settings = configs.build(FinetuneConfig, record["config"])
    patch = (round(settings.patch_s * record["sfreq"]),)
    encoder = Encoder(settings.encoder, len(record["ch_names"]), patch)
    model = _classifier(encoder, settings, record["sfreq"])
    content = checkpoint.load(run / loop.BEST, "finetune")
    try:
        model.load_state_dict(content["model"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{run / loop.BEST} does not fit its run ({reason}).") from None
    return model, record
