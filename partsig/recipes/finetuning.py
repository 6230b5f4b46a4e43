"""How a classifier is trained on labels, whatever the modality and the task."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from partsig.contracts import Dataset, Examples, LabelBudget, Labels, LabelSplit
from partsig.core.objectives.supervised import SupervisedModule
from partsig.data.shuffling import Shuffled
from partsig.data.store import read_meta
from partsig.errors import ConfigError, DataError
from partsig.files import write_json
from partsig.modalities import registry
from partsig.recipes.enough_labels import check_classes, learns_by_steps, too_weak
from partsig.recipes.starting_encoder import Start, start_from
from partsig.runs import directory as runs
from partsig.runs.encoder_sources import Origin
from partsig.runs.features import folder_of
from partsig.runs.kept import chosen_file, held, is_over
from partsig.runs.models import fill
from partsig.runs.run import Run
from partsig.runs.settings import FROZEN_WAYS, SCRATCH, FinetuneRecipe
from partsig.seeds import Stream, seed_of
from partsig.tasks import frozen, on_features
from partsig.tasks import registry as tasks
from partsig.tasks.classification import Classification
from partsig.tasks.classification_scores import measure_of
from partsig.tasks.distillation import TeacherTargets, predict_targets
from partsig.tasks.frozen import InputShape
from partsig.train import checkpoint, distributed
from partsig.train.distributed import World
from partsig.train.settings import SPEED_KEYS, check_warmup

# What may differ between the parts of a run: speed, where its store lies, what was added there.
MAY_CHANGE_ON_RESUME = (*SPEED_KEYS, "store", "index_sha256", "labels.level")


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest:
    """A fine-tuning run as it was asked for: what each of its processes is told.

    ``given`` are the keys of ``settings`` that were named one by one, by ``--set``. ``run`` None is
    a name made of the rest; see :func:`partsig.verbs.finetune.finetune` for all others.
    """

    origin: Origin
    like: Path | None
    store: Path
    task: str | None
    budget: LabelBudget
    teacher: Path | None
    settings: FinetuneRecipe
    run: Path | None
    seed: int
    given: frozenset[str] = frozenset()


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

    @property
    def labels(self) -> Labels:
        """What is learned of the store's labels."""
        return self.task.learned(self.dataset.labels)

    def open(self) -> tuple[Examples, Examples]:
        """Return the examples to train on and to choose by, with the labels that are learned."""
        train, val = self.split.open()
        return self.task.relabel(train), self.task.relabel(val)

    @property
    def settings(self) -> FinetuneRecipe:
        """All settings, with what the split has settled."""
        return replace(self.start.settings, **self.split.settings)

    def check_processes(self, processes: int) -> None:
        """Raise ConfigError where not each of so many would have a share of every batch."""
        if processes > 1:
            train, _ = self.open()
            self.shuffled(train, (0, processes))

    def shuffled(self, train: Examples, place: tuple[int, int]) -> Shuffled:
        """Return the order of training, and the share of a process in every batch."""
        settings = self.settings
        drawn = self.task.drawn(train, settings)
        return Shuffled(
            len(drawn),
            min(settings.fit.batch_size, len(drawn)),
            self.seed,
            drawn.labels if settings.balanced else None,
            settings.repeats,
            place,
        )

    def facts(self) -> dict[str, object]:
        """Return what the run must not change between its parts."""
        start = self.start
        return {
            "modality": self.dataset.modality,
            "task": self.task.name,
            "seed": int(self.seed),
            **runs.streams_of(self.seed),
            "from": str(start.origin),
            "like": None if start.like is None else str(start.like),
            "teacher": None if self.teacher is None else str(self.teacher),
            **self.dataset.facts(),
            "labels": self.labels.as_facts(),
            "pretraining": start.pretraining,
            "pretraining_subjects": start.seen,
            **start.facts,
            **self.split.facts,
        }


def open_finetuning(request: FinetuneRequest) -> Finetuning:
    """Open what was asked for; whatever is wrong with it is told here, before a run is begun."""
    dataset = registry.of(read_meta(request.store)).open(request.store)
    dataset.check_budget(request.budget)
    task = tasks.get(dataset.task if request.task is None else request.task)
    dataset = dataset.labelled_by(task.target)
    task.check_labels(dataset.labels)
    if request.teacher is not None and not task.can_be_taught:
        raise ConfigError(f"--task {task.name} learns from no teacher: leave out --teacher.")
    asked = task.settled(request.settings)
    start = start_from(request.origin, dataset, asked, request.like, request.given)
    settings = start.settings
    if request.teacher is not None and settings.train in FROZEN_WAYS:
        raise ConfigError(
            f"--teacher is for an encoder that is trained: leave it out, or train={settings.train}."
        )
    split = dataset.split_labels(request.budget, settings, request.seed)
    seen = sorted(set(split.held_out) & set(start.seen))
    if seen:
        raise DataError(
            f"{len(seen)} of those that the protocol holds out were pretrained on by "
            f"{start.origin} ({', '.join(seen[:3])}, …): pretrain with the same --protocol."
        )
    label = start.origin.label or (settings.model if settings.model != "encoder" else SCRATCH)
    label += "" if start.like is None else f"-like-{start.like.name}"
    label += "" if settings.train == "full" else f"-{settings.train}"
    label += "" if task.name == dataset.task else f"-{task.name}"
    run = request.run or runs.RUNS / f"finetune-{label}-{split.label}-s{request.seed}"
    asked = Finetuning(
        dataset=dataset,
        task=task,
        start=start,
        split=split,
        teacher=request.teacher,
        run=run,
        seed=runs.seed_as_begun(run, request.seed),
    )
    if not (run / "run.json").is_file() and learns_by_steps(settings, dataset.modality):
        check_warmup(settings.optim, settings.fit)
    _teacher_run(asked)  # what is refused must not leave a run behind
    return asked


def share_finetuning(request: FinetuneRequest, device_type: str) -> None:
    """Do one process's share of a run; continue it where it was killed."""
    run_finetuning(open_finetuning(request), distributed.start(device_type))


def run_finetuning(asked: Finetuning, world: World) -> None:
    """Train a classifier, or go on with it; nothing is done to a finished run.

    What is not trained step by step, and everything that is judged, is done by the main process.
    Raises BusyError where another call trains the same run.
    """
    with held(asked.run) if world.main else nullcontext():
        _share_finetuning(asked, world)


def _share_finetuning(asked: Finetuning, world: World) -> None:
    settings = asked.settings
    over = is_over(asked.run)
    if not over:  # before the run is begun: what is refused must not leave one behind
        train, val = asked.open()
        check_classes(settings, asked.dataset.modality, train, asked.teacher is not None)
        shuffled = asked.shuffled(train, (world.rank, world.size))
    if world.main:
        _begin(asked, settings, over)
    distributed.wait(world)
    if over:
        return
    if world.main and asked.start.unlike:
        print(asked.start.unlike, flush=True)
    model = _build(asked, settings, train)
    if settings.train != "full":
        model.kept_in = str(folder_of(asked.start.origin.path, asked.run))
    if world.main and (weak := too_weak(val)):
        print(f"validation cannot judge: {weak}; label more of it, of several classes", flush=True)
    task, labels = asked.task, asked.dataset.counted(train, val)
    key = f"val_{task.measured_by(val)}"
    only_head = model.learns_by == "head" or (
        settings.train == "probe" and model.learns_by not in ("nothing", "head_steps")
    )
    by_steps = model.learns_by in ("steps", "head_steps", "features") and not only_head
    results: dict[str, object] = {}
    if world.main and (only_head or settings.train == "probe+full"):
        score = measure_of(val).score
        strength, value = frozen.fit_head(model, train, val, score, world.device)
        results = {"strength": strength, key: value}
    elif world.main and not by_steps:
        if model.learns_by == "examples":
            model.fit_examples(train, asked.seed, world.device)
        results = {key: task.quality(val, task.predict(model, val, world.device))}
    if by_steps:
        if model.learns_by == "steps":
            model.kept_in = None  # from now on it learns
        teacher = _teacher_targets(asked, settings, train, world)
        if teacher is not None:
            labels["n_epochs_pseudo"] = len(teacher.extra)
        best = _train(asked, settings, model, (train, val), shuffled, teacher, world)
    if not world.main:
        return
    if by_steps:
        results |= {"chosen_epoch": best["epoch"], key: best["value"]}
        file = chosen_file(asked.run)
        frozen.put_weights(checkpoint.load(file, "finetune"), model, file)
    else:
        frozen.save_best(asked.run, model, results[key])
    answers = task.predict(model, val, world.device)
    calibration = task.calibrate(answers, train, val, settings.balanced)
    runs.finish(asked.run, **labels, **results, calibration=calibration)


def _begin(asked: Finetuning, settings: FinetuneRecipe, over: bool) -> None:
    """Begin the run, or go on with it where it is the same."""
    runs.begin(asked.run, "finetune", settings, asked.facts(), MAY_CHANGE_ON_RESUME, over)
    if not over:
        asked.dataset.keep_with(asked.run)
    if not over and asked.split.written is not None:
        write_json(asked.run / runs.SPLIT, asked.split.written)


def _build(asked: Finetuning, settings: FinetuneRecipe, train: Examples) -> SupervisedModule:
    dataset = asked.dataset
    window, patch = settings.extents(dataset.samples_per_unit, dataset.labels.unit_s)
    shape = InputShape(
        ch_names=dataset.ch_names,
        samples_per_unit=dataset.samples_per_unit,
        window=window,
        patch=patch,
        classes=asked.labels.classes,
        n_train=len(train),
    )
    encoder = asked.start.encoder(asked.seed) if settings.has_encoder else None
    torch.manual_seed(seed_of(Stream.HEAD_WEIGHTS, asked.seed))
    model = asked.task.build(encoder, settings, shape, dataset.modality)
    if asked.start.code is not None:
        net = getattr(model, "net", model)
        with torch.no_grad():
            net.positions.copy_(asked.start.code)
        net.has_codes = True
    if asked.start.projection:
        fill(getattr(model, "net", model).project, asked.start.projection, asked.start.origin.path)
    return model


def _train(
    asked: Finetuning,
    settings: FinetuneRecipe,
    model: SupervisedModule,
    labelled: tuple[Examples, Examples],
    shuffled: Shuffled,
    teacher: TeacherTargets | None,
    world: World,
) -> dict:
    """Train step by step; return the epoch that was chosen, and its score."""
    if model.learns_by == "features":
        where = {"seed": asked.seed, "run": asked.run, "world": world}
        return on_features.train(model, labelled, shuffled, asked.task, settings, **where)
    train, val = labelled
    model.look_at(train)
    drawn = asked.task.drawn(train, settings)
    batches = asked.task.batches(asked.dataset, drawn, shuffled, settings, teacher)
    return frozen.train(
        model,
        batches,
        settings,
        seed=asked.seed,
        run=asked.run,
        world=world,
        choose=asked.task.watch(model, val, world.device),
        best=f"val_{asked.task.measured_by(val)}",
    )


def _teacher_targets(
    asked: Finetuning, settings: FinetuneRecipe, train: Examples, world: World
) -> TeacherTargets | None:
    """Return what the teacher thinks of the training epochs and of those without a label."""
    if asked.teacher is None:
        return None
    teacher, split = _teacher_run(asked), asked.split.facts["split"]
    model = tasks.get(teacher.task).load(teacher)
    epochs = asked.dataset.without_labels(split)
    return predict_targets(model, epochs, train, settings.pseudo, world.device)


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
    if teacher.labels != asked.labels:
        raise DataError(
            f"{asked.teacher} tells {', '.join(teacher.labels.classes)} apart; what is learned "
            f"here is {', '.join(asked.labels.classes)}."
        )
    return teacher
