"""``partsig finetune``: a store and a pretrained run in, a classifier of sleep stages out."""

from collections.abc import Iterable, Mapping, Sequence
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
from partsig.data.signals.recordings import EPOCH_S, STAGES
from partsig.data.signals.store import Store, open_store
from partsig.data.signals.windows import Epochs, Shuffled
from partsig.data.splits import SplitConfig
from partsig.data.store import index_digest, locate, read_meta
from partsig.errors import CheckpointError, ConfigError, DataError, check_range
from partsig.files import write_json
from partsig.metrics.agreement import confusion, macro_f1
from partsig.recipes.label_budget import draw_labels
from partsig.runs import run as runs
from partsig.sleep import review
from partsig.tasks import baselines, distillation, frozen
from partsig.tasks.distillation import PseudoConfig
from partsig.train import distributed, loop
from partsig.train.optim import OptimConfig
from partsig.train.step import seed_of
from partsig.verbs.pretrain import DEFAULT_SOURCE, STORES, load_encoder

SCRATCH = "scratch"
# What may differ between the parts of a run: speed, and where its store lies or what was added.
FREE = (*loop.SPEED_KEYS, "store", "index_sha256")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Everything that decides a fine-tuning run; the defaults are the paper's recipe (DeiT's).

    ``model``: encoder, partsig's own; or a baseline, which is trained ``--from scratch``: logistic
    and boosting see band powers, chambon2018 and usleep are braindecode's, yasa is YASA as it comes
    off the shelf, which no label changes.
    ``train``: full; probe (a linear classifier on the frozen encoder's features, by logistic
    regression); or probe+full, everything, from the probe's head on (Kumar et al. 2022, arXiv
    2202.10054). ``positions`` auto: the kind the encoder was pretrained with; where there was none,
    learned, or none where there is a probe. ``pool``: see ClassifierConfig. ``balanced``: every
    stage is drawn equally often. ``shift_s``: windows start up to this much before or after their
    epoch, in training only. ``encoder`` and ``patch_s`` are used ``--from scratch`` only; a
    pretrained run brings its own, or the first ``blocks`` of its blocks (0: all; the last ones know
    most of the pretext, those before may know more of anything else). ``drop_path`` holds for both.
    ``pseudo`` needs a teacher.
    """

    model: baselines.Model = "encoder"
    train: Literal["full", "probe", "probe+full"] = "full"
    positions: Literal["auto", "learned", "sincos", "none"] = "auto"
    pool: Literal["cls", "mean", "mean+sd", "mean+sd+spectrum"] = "cls"
    drop_path: float = 0.1
    blocks: int = 0
    balanced: bool = False
    shift_s: float = 0.0
    patch_s: float = 1.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(warmup_epochs=5))
    fit: loop.FitConfig = field(default_factory=lambda: loop.FitConfig(epochs=100, batch_size=64))
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        check_range("drop_path", self.drop_path, 0.0, 0.99)
        check_range("blocks", self.blocks, 0)
        check_range("shift_s", self.shift_s, 0.0, EPOCH_S)
        check_range("patch_s", self.patch_s, 0.01, EPOCH_S)
        if self.train != "full" and self.model != "encoder":
            raise ConfigError(f"train={self.train} is for model=encoder, not for {self.model}.")


def finetune(
    from_: str | Path | None = None,
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    subjects: int | None = None,
    segments_per_class: int | None = None,
    teacher: str | Path | None = None,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Fine-tune on N labelled ``subjects`` (default 10) drawn by ``seed``; return the run.

    ``from_`` is a pretraining run (default: the one that finished last) or ``"scratch"``, the
    supervised baseline; ``store`` defaults to the run's, or ``data/store/physionet2018``.
    ``segments_per_class`` replaces ``subjects`` where recordings are short and of one stage each:
    so many recordings of every stage, of any training subject. 0 takes all, of
    either. The epoch is chosen by kappa on ``split.val_subjects`` further labelled subjects; test
    subjects are the store's own and never read here. ``teacher``: a finished fine-tuning run whose
    opinion of unlabelled epochs is learned from as well, see ``pseudo``. ``run`` defaults to
    ``runs/finetune-ORIGIN-nN-sSEED``.

    Where the store holds images, see :func:`~partsig.recipes.image_finetuning.finetune_images`.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_range("--subjects", subjects or 0, 0)
    check_range("--seed", seed, 0)
    origin = None if str(from_) == SCRATCH else Path(from_) if from_ else runs.last("pretrain")
    if store is None and origin is not None:
        store = runs.finished(origin, "pretrain")["store"]
    store_path = locate(store or STORES / DEFAULT_SOURCE["eeg"])
    from partsig.recipes.image_finetuning import ImageFinetuneConfig, finetune_images

    if read_meta(store_path).get("modality") == "image":
        options = {"config": config, "overrides": overrides, "seed": seed, "device": device}
        refused = {"--subjects": subjects is not None, "--teacher": teacher is not None}
        where = (SCRATCH if origin is None else origin, store_path, run)
        return finetune_images(*where, per_class=segments_per_class, refused=refused, **options)
    subjects = 10 if subjects is None else subjects
    meant = "images; the store holds signals"
    configs.check_meant(FinetuneConfig, "finetune", config, ImageFinetuneConfig, meant)
    settings = configs.compose(FinetuneConfig, "finetune", config, overrides)
    chosen = distributed.pick_device(device)
    opened = open_store(store_path)
    encoder, settings, seen = _start(origin, opened, settings, config, overrides, seed)
    split, recordings = draw_labels(opened, subjects, segments_per_class, seed, settings.split)
    label = settings.model if settings.model != "encoder" else SCRATCH
    label = label if origin is None else origin.name
    label += "" if settings.train == "full" else f"-{settings.train}"
    amount = f"n{subjects}" if segments_per_class is None else f"k{segments_per_class}"
    path = Path(run or runs.RUNS / f"finetune-{label}-{amount}-s{seed}")
    facts = {
        "seed": seed,
        "subjects": subjects if segments_per_class is None else None,
        "segments_per_class": segments_per_class,
        "from": SCRATCH if origin is None else str(origin),
        "teacher": None if teacher is None else str(teacher),
        "store": str(store_path),
        "provenance": opened.meta["provenance"],
        "index_sha256": index_digest(opened.path),
        "ch_names": list(opened.ch_names),
        "sfreq": opened.sfreq,
        "filter": opened.meta["filter"],
        "stages": list(STAGES),
        "pretraining": _summary(origin),
        "pretraining_subjects": seen,
        "split": split,
        "recordings": recordings,
    }
    begun = runs.begin(path, "finetune", settings, facts, FREE)
    if begun["state"] == "finished":
        return path
    write_json(path / "split.json", split)
    torch.manual_seed(seed_of(seed, 8))
    model = _stager(encoder, settings, opened.ch_names, opened.sfreq)
    train = Epochs(opened, recordings or opened.recordings_of(split["train"]))
    val = Epochs(opened, opened.recordings_of(split["val"]))
    labels = {"n_epochs_train": len(train), "n_epochs_val": len(val)}
    if settings.train == "probe" or settings.model == "logistic":
        found = baselines.fit_linear(model, train, val, chosen)
        frozen.keep(path, model, found["val_kappa"])
    elif settings.model in ("boosting", "yasa"):
        if settings.model == "boosting":
            model.fit(train, seed)
        predicted = baselines.predict(model, val, chosen).argmax(1)
        found = {"val_kappa": baselines.kappa_or_zero(val.stages, predicted)}
        frozen.keep(path, model, found["val_kappa"])
    else:
        if settings.train == "probe+full":
            baselines.fit_linear(model, train, val, chosen)
        guide = None
        if teacher is not None:
            guide = _guide(Path(teacher), opened, split, train, settings, chosen)
            labels["n_epochs_pseudo"] = len(guide.extra)
        best = _fit(model, settings, train, val, guide, seed, path, chosen).best
        found = {"chosen_epoch": best["epoch"], "val_kappa": best["value"]}
        frozen.load_best(path, model)
    found["calibration"] = _calibrate(model, train, val, settings, chosen)
    runs.finish(path, **labels, **found)
    return path


def _calibrate(
    model: SupervisedModule,
    train: Epochs,
    val: Epochs,
    settings: FinetuneConfig,
    device: torch.device,
) -> dict[str, object]:
    """Return the temperature of the model's confidence on validation subjects, and what it mends.

    ``prior``: how often the model saw each stage in training. ``review_by``: whether an epoch's
    confidence or its context tells errors better there. These subjects chose the epoch as well, so
    the errors after it are optimistic; ``evaluate`` measures them on test subjects.
    """
    before = baselines.predict(model, val, device)
    after, found = frozen.calibrate(val.stages, before)
    seen = np.bincount(train.stages, minlength=len(STAGES)) + 1.0
    if settings.balanced:
        seen = np.ones(len(STAGES))
    prior = seen / seen.sum()
    wrong = after.argmax(1) != val.stages
    told = {
        by: review.find_errors(review.of_nights(val, after, prior, by), wrong)
        for by in ("confidence", "context")
    }
    # Fewer epochs than a night has cannot tell which is better.
    enough = len(val) >= review.EPOCHS_PER_NIGHT and None not in told.values()
    better = enough and told["context"] > told["confidence"]
    return found | {
        "prior": prior.tolist(),
        "review_by": "context" if better else "confidence",
        "finds_errors": told,
        "n_epochs": len(val),
    }


def _summary(origin: Path | None) -> dict | None:
    """Return what a comparison has to know of the pretraining: its objective and seed."""
    if origin is None:
        return None
    record = runs.finished(origin, "pretrain")
    return {"objective": record["config"]["objective"]["name"], "seed": record["seed"]}


def _start(
    origin: Path | None,
    store: Store,
    settings: FinetuneConfig,
    config: str | Path | None,
    overrides: Mapping[str, object] | Iterable[str],
    seed: int,
) -> tuple[Encoder, FinetuneConfig, list[str]]:
    """Return the encoder to start from, the settings it implies, and the subjects it has seen."""
    if settings.model != "encoder" and origin is not None:
        raise ConfigError(f"model={settings.model} is trained from scratch: add --from scratch.")
    if origin is None:
        frozen.check_blocks(settings.blocks)
        settings = _with_positions(settings, "none")
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
    pretrained, record, pretraining = load_encoder(origin, settings.blocks)
    for key, ours in (("ch_names", list(store.ch_names)), ("sfreq", store.sfreq)):
        if record[key] != ours:
            raise CheckpointError(
                f"{origin} was pretrained with {key} {record[key]}; {store.path} has {ours}."
            )
    shape = replace(pretrained.config, drop_path=settings.drop_path)
    patch = (round(pretraining.patch_s * store.sfreq),)
    encoder = Encoder(shape, len(store.ch_names), patch)
    encoder.load_state_dict(pretrained.state_dict())
    settings = replace(settings, encoder=shape, patch_s=pretraining.patch_s)
    settings = _with_positions(settings, pretraining.positions)
    return encoder, settings, record["subjects_seen"]


def _with_positions(settings: FinetuneConfig, pretrained_with: str) -> FinetuneConfig:
    """Settle ``positions`` auto."""
    found = frozen.settle_positions(settings.positions, settings.train, pretrained_with)
    return replace(settings, positions=found)


def _stager(
    encoder: Encoder, settings: FinetuneConfig, ch_names: Sequence[str], sfreq: float
) -> SupervisedModule:
    """Return the untrained module; the caller seeds torch."""
    channels = len(ch_names)
    if settings.model == "yasa":
        return baselines.YasaStager(ch_names, sfreq)
    if settings.model == "logistic":
        return baselines.LogisticStager(channels, sfreq)
    if settings.model == "boosting":
        return baselines.BoostingStager(sfreq)
    if settings.model != "encoder":
        return baselines.BraindecodeStager(settings.model, channels, sfreq, settings.loss)
    return Classifier(
        ClassifierConfig(positions=settings.positions, pool=settings.pool),
        encoder,
        window=(round(EPOCH_S * sfreq),),
        patch=(round(settings.patch_s * sfreq),),
        n_classes=len(STAGES),
        loss=settings.loss,
    )


def _guide(
    teacher: Path,
    store: Store,
    split: dict[str, list[str]],
    train: Epochs,
    settings: FinetuneConfig,
    device: torch.device,
) -> distillation.Guide:
    """Return what the teacher thinks of the training epochs and of those without a label."""
    model, record = load_stager(teacher)
    kept = set(split["val"]) | set(split["test"])
    taught = set(record["split"]["train"]) | set(record["split"]["val"])
    if taught & set(split["test"]) or set(record["split"]["train"]) & set(split["val"]):
        raise DataError(
            f"{teacher} was trained on subjects that this run validates or tests on; fine-tune the "
            "teacher with the same --seed and split."
        )
    names = [name for name, row in store.recordings.items() if row["subject"] not in kept]
    return distillation.ask(
        model, Epochs(store, names, scored=False), train, settings.pseudo, device
    )


def _fit(
    model: SupervisedModule,
    settings: FinetuneConfig,
    train: Epochs,
    val: Epochs,
    guide: distillation.Guide | None,
    seed: int,
    path: Path,
    device: torch.device,
) -> loop.State:
    size = min(settings.fit.batch_size, len(train))
    balance = train.stages if settings.balanced else None
    reach = round(settings.shift_s * train.n_times / EPOCH_S)
    baselines.set_scale(model, train)
    shuffled = Shuffled(len(train), size, seed, balance)

    def batch_at(step: int) -> Batch:
        index = shuffled(step)
        rng = np.random.default_rng([seed, step, 33])
        x = train.windows(index, rng.integers(-reach, reach + 1, len(index)))
        if guide is None:
            return Batch(torch.from_numpy(x), torch.from_numpy(train.stages[index]))
        more, opinions = guide.draw(rng, index, reach)
        return Batch(torch.from_numpy(np.concatenate([x, more])), torch.from_numpy(opinions))

    def choose(_epoch: int) -> dict[str, float]:
        predicted = baselines.predict(model, val, device).argmax(1)
        table = confusion(val.stages, predicted, len(STAGES))
        return {
            "val_kappa": baselines.kappa_or_zero(val.stages, predicted),
            "val_macro_f1": float(macro_f1(table)),
        }

    return frozen.train(
        model,
        batch_at,
        shuffled.steps,
        settings.fit,
        settings.optim,
        seed=seed,
        run=path,
        device=device,
        choose=choose,
        best="val_kappa",
    )


def load_stager(run: Path) -> tuple[SupervisedModule, dict]:
    """Return the stager of a finished run at its chosen epoch, and the run's ``run.json``."""
    record = runs.finished(run, "finetune", "eeg")
    settings = configs.build(FinetuneConfig, record["config"])
    patch = (round(settings.patch_s * record["sfreq"]),)
    encoder = Encoder(settings.encoder, len(record["ch_names"]), patch)
    model = _stager(encoder, settings, record["ch_names"], record["sfreq"])
    frozen.load_best(run, model)
    return model, record
