"""How a classifier is trained on labels, whatever the modality and the task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from partsig import config as configs
from partsig.contracts import Dataset, Examples
from partsig.core.encoder import Encoder, EncoderConfig, check_blocks
from partsig.core.objectives.supervised import SupervisedModule
from partsig.data.shuffling import Shuffled
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.files import write_json
from partsig.modalities import registry
from partsig.modalities.modality import LabelSplit
from partsig.runs import directory as runs
from partsig.runs.encoder_sources import Origin
from partsig.runs.models import PretrainedEncoder, load_encoder
from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH, FinetuneRecipe
from partsig.tasks import frozen
from partsig.tasks import registry as tasks
from partsig.tasks.classification import Classification
from partsig.tasks.classification_scores import measure_of
from partsig.tasks.distillation import TeacherTargets, predict_targets
from partsig.tasks.frozen import InputShape
from partsig.train.job import SPEED_KEYS
from partsig.train.step import seed_of

# What may differ between the parts of a run: speed, where its store lies, what was added there.
MAY_CHANGE_ON_RESUME = (*SPEED_KEYS, "store", "index_sha256")


@dataclass(frozen=True, kw_only=True)
class Start:
    """What fine-tuning starts from: an encoder, the settings it implies, and what it has seen.

    ``code`` are position codes (N + 1, E) that the encoder was trained with, where it brings them.
    """

    encoder: Encoder
    settings: FinetuneRecipe
    origin: Origin
    pretraining: dict | None
    seen: list[str]
    code: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """One fine-tuning run as it was asked for."""

    dataset: Dataset
    task: Classification
    start: Start
    split: LabelSplit
    teacher: Path | None
    run: Path
    seed: int
    device: torch.device

    def facts(self) -> dict[str, object]:
        """Return what the run must not change between its parts."""
        start = self.start
        return {
            "modality": self.dataset.modality,
            "task": self.task.name,
            "seed": self.seed,
            "from": str(start.origin),
            "teacher": None if self.teacher is None else str(self.teacher),
            **self.dataset.facts(),
            "pretraining": start.pretraining,
            "pretraining_subjects": start.seen,
            **start.origin.facts(),
            **self.split.facts,
        }


def prepare(
    origin: Origin,
    dataset: Dataset,
    config: str | Path | None,
    overrides: Mapping[str, object] | Iterable[str],
    seed: int,
) -> Start:
    """Return what to start from.

    Raises ConfigError for settings that are for something else, CheckpointError for a run that does
    not fit the store.
    """
    modality = registry.get(dataset.modality)
    for other in registry.others(modality.name):
        meant = f"{other.plural}; the store holds {modality.plural}"
        configs.check_meant(modality.finetune, "finetune", config, other.finetune, meant)
    settings = configs.compose(modality.finetune, "finetune", config, overrides)
    if settings.model != "encoder" and str(origin) != SCRATCH:
        raise ConfigError(f"model={settings.model} is trained from scratch: add --from scratch.")
    if origin.source:
        return _from_source(origin, dataset, settings)
    pretrained = None if origin.path is None else _pretrained(origin.path, dataset, settings)
    if pretrained is None:
        if settings.blocks:
            raise ConfigError(
                f"blocks={settings.blocks} is for a pretrained encoder; from scratch, set "
                "encoder.depth."
            )
        known, shape, patch = "none", settings.encoder, {}
    else:
        known, shape = pretrained.settings.positions, pretrained.encoder.config
        patch = settings.patch_of(pretrained.settings)
    settings = replace(
        settings,
        encoder=replace(shape, drop_path=settings.drop_path),
        positions=frozen.settle_positions(settings.positions, settings.train, known),
        **patch,
    )
    _, extent = settings.extents(dataset.samples_per_unit, dataset.labels.unit_s)
    torch.manual_seed(seed_of(seed, 9))
    encoder = Encoder(settings.encoder, len(dataset.ch_names), extent)
    if pretrained is not None:
        encoder.load_state_dict(pretrained.encoder.state_dict())
    return Start(
        encoder=encoder,
        settings=settings,
        origin=origin,
        pretraining=None if pretrained is None else _in_short(pretrained),
        seen=[] if pretrained is None else pretrained.run.seen_unlabelled,
    )


def _from_source(origin: Origin, dataset: Dataset, settings: FinetuneRecipe) -> Start:
    """Return an encoder that no run of ours has trained; all of its blocks, or the first ones."""
    size = dataset.window_for(settings)
    foreign = origin.open(size)
    if foreign.n_channels != len(dataset.ch_names):
        raise CheckpointError(
            f"{origin} takes {foreign.n_channels} channels; {dataset.path} has "
            f"{', '.join(dataset.ch_names)}."
        )
    whole = foreign.encoder.config
    own = settings.patch_from(foreign.patch, dataset.samples_per_unit)
    _check_shape(settings, whole, own, str(origin))
    check_blocks(settings.blocks, whole.depth)
    shape = replace(whole, depth=settings.blocks or whole.depth, drop_path=settings.drop_path)
    encoder = Encoder(shape, foreign.n_channels, foreign.patch)
    kept = encoder.state_dict().keys()
    encoder.load_state_dict(
        {key: value for key, value in foreign.encoder.state_dict().items() if key in kept}
    )
    known = "none" if foreign.code is None else "learned"
    if foreign.code is not None and settings.positions == "auto":
        settings = replace(settings, positions=known)
    settings = replace(
        settings,
        encoder=shape,
        positions=frozen.settle_positions(settings.positions, settings.train, "none"),
        **own,
    )
    return Start(
        encoder=encoder,
        settings=settings,
        origin=origin,
        pretraining={"objective": foreign.method, "seed": None},
        seen=[],
        code=foreign.code if settings.positions == "learned" else None,
    )


def _in_short(pretrained: PretrainedEncoder) -> dict[str, object]:
    """Return what a comparison has to know of the pretraining: its objective and seed."""
    return {"objective": pretrained.settings.objective.name, "seed": pretrained.run.seed}


def _pretrained(origin: Path, dataset: Dataset, settings: FinetuneRecipe) -> PretrainedEncoder:
    run = Run.finished(origin, "pretrain")
    if run.modality != dataset.modality:
        raise CheckpointError(
            f"{origin} was pretrained on {registry.get(run.modality).plural}; {dataset.path} "
            f"holds {registry.get(dataset.modality).plural}."
        )
    dataset.check_pretrained(run)
    pretrained = load_encoder(origin, settings.blocks)
    patch = settings.patch_of(pretrained.settings)
    _check_shape(settings, pretrained.encoder.config, patch, str(origin))
    return pretrained


def _check_shape(
    settings: FinetuneRecipe, theirs: EncoderConfig, patch: Mapping[str, object], origin: str
) -> None:
    """Refuse an encoder or a patch that is neither the default nor that of the origin."""
    usual = type(settings)()
    mine, wanted, default = (
        {"encoder": configs.to_dict(encoder) | {"drop_path": 0}} | own
        for encoder, own in (
            (settings.encoder, {key: getattr(settings, key) for key in patch}),
            (theirs, dict(patch)),
            (usual.encoder, {key: getattr(usual, key) for key in patch}),
        )
    )
    given = {line.partition(":")[0] for line in configs.differences(default, mine)}
    wrong = [line for line in configs.differences(wanted, mine) if line.partition(":")[0] in given]
    if wrong:
        raise ConfigError(f"the encoder comes from {origin}; leave out {'; '.join(wrong)}.")


def run_finetuning(asked: Finetuning) -> None:
    """Train a classifier, or go on with it; nothing is done to a finished run."""
    settings = replace(asked.start.settings, **asked.split.settings)
    _teacher_run(asked)  # before the run is begun: what is refused must not leave one behind
    begun = runs.begin(asked.run, "finetune", settings, asked.facts(), MAY_CHANGE_ON_RESUME)
    if begun["state"] == "finished":
        return
    if asked.split.written is not None:
        write_json(asked.run / runs.SPLIT, asked.split.written)
    train, val = asked.split.open()
    model = _build(asked, settings, train)
    measure = measure_of(val)
    key = f"val_{measure.name}"
    labels = asked.dataset.counted(train, val)
    only_head = settings.train == "probe" or model.learns_by == "head"
    results: dict[str, object] = {}
    if only_head or settings.train == "probe+full":
        strength, value = frozen.fit_head(model, train, val, measure.score, asked.device)
        results = {"strength": strength, key: value}
    elif model.learns_by != "steps":
        if model.learns_by == "examples":
            model.fit_examples(train, asked.seed, asked.device)
        predicted = asked.task.predict(model, val, asked.device).argmax(1)
        results = {key: measure.score(val.labels, predicted)}
    if only_head or model.learns_by != "steps":
        frozen.save_best(asked.run, model, results[key])
    else:
        teacher = _teacher_targets(asked, settings, train)
        if teacher is not None:
            labels["n_epochs_pseudo"] = len(teacher.extra)
        best = _train(asked, settings, model, train, val, teacher)
        results |= {"chosen_epoch": best["epoch"], key: best["value"]}
        frozen.load_best(asked.run, model)
    probabilities = asked.task.predict(model, val, asked.device)
    calibration = asked.task.calibrate(probabilities, train, val, settings.balanced)
    runs.finish(asked.run, **labels, **results, calibration=calibration)


def _build(asked: Finetuning, settings: FinetuneRecipe, train: Examples) -> SupervisedModule:
    dataset = asked.dataset
    window, patch = settings.extents(dataset.samples_per_unit, dataset.labels.unit_s)
    shape = InputShape(
        ch_names=dataset.ch_names,
        samples_per_unit=dataset.samples_per_unit,
        window=window,
        patch=patch,
        classes=dataset.labels.classes,
        n_train=len(train),
    )
    torch.manual_seed(seed_of(asked.seed, 8))
    model = asked.task.build(asked.start.encoder, settings, shape, dataset.modality)
    if asked.start.code is not None:
        with torch.no_grad():
            getattr(model, "net", model).positions.copy_(asked.start.code)
    return model


def _train(
    asked: Finetuning,
    settings: FinetuneRecipe,
    model: SupervisedModule,
    train: Examples,
    val: Examples,
    teacher: TeacherTargets | None,
) -> dict:
    """Train step by step; return the epoch that was chosen, and its score."""
    model.look_at(train)
    size = min(settings.fit.batch_size, len(train))
    balance = train.labels if settings.balanced else None
    shuffled = Shuffled(len(train), size, asked.seed, balance, settings.repeats)
    batches = asked.dataset.training_batches(train, shuffled, settings, teacher)
    return frozen.train(
        model,
        batches,
        settings,
        seed=asked.seed,
        run=asked.run,
        device=asked.device,
        choose=asked.task.watch(model, val, asked.device),
        best=f"val_{measure_of(val).name}",
    )


def _teacher_targets(
    asked: Finetuning, settings: FinetuneRecipe, train: Examples
) -> TeacherTargets | None:
    """Return what the teacher thinks of the training epochs and of those without a label."""
    if asked.teacher is None:
        return None
    teacher, split = _teacher_run(asked), asked.split.facts["split"]
    model = tasks.get(teacher.task).load(teacher)
    epochs = asked.dataset.without_labels(split)
    return predict_targets(model, epochs, train, settings.pseudo, asked.device)


def _teacher_run(asked: Finetuning) -> Run | None:
    """Return the teacher; raise DataError where it knows what this run validates or tests on."""
    if asked.teacher is None:
        return None
    split = asked.split.facts["split"]
    teacher = Run.finished(asked.teacher, "finetune", asked.dataset.modality)
    if set(teacher.seen_labelled) & set(split["test"]) or set(teacher.split["train"]) & set(
        split["val"]
    ):
        raise DataError(
            f"{asked.teacher} was trained on subjects that this run validates or tests on; "
            "fine-tune the teacher with the same --seed and split."
        )
    return teacher
