"""``partsig finetune``: a store and a pretrained run in, a classifier out."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from partsig.data.store import locate, read_meta
from partsig.errors import check_range
from partsig.modalities import registry
from partsig.modalities.modality import LabelBudget
from partsig.recipes.finetuning import Finetuning, prepare, run_finetuning
from partsig.runs import directory as runs
from partsig.runs.encoder_sources import parse
from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH
from partsig.tasks import registry as tasks
from partsig.train import distributed


def finetune(
    from_: str | Path | None = None,
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    task: str | None = None,
    subjects: int | None = None,
    segments_per_class: int | None = None,
    teacher: str | Path | None = None,
    weights: str | Path | None = None,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Fine-tune on N labelled ``subjects`` (default 10) drawn by ``seed``; return the run.

    ``from_`` is a pretraining run (default: the one that finished last), ``"scratch"``, the
    supervised baseline, or ``"timm:NAME"``, a ViT of timm with the weights of a file, ``weights``,
    or timm's cache; ``store`` defaults to the run's, or ``data/store/physionet2018``. ``task``
    is what is learned; by default what the store's labels are for. ``segments_per_class`` replaces
    ``subjects`` where recordings are short and of one class each: so many recordings of every
    class, of any training subject; of images so many of every class. 0 takes all, of either. The
    epoch is chosen by kappa on ``split.val_subjects`` further labelled subjects (of images by
    accuracy on those of role val); what is tested on is the store's own and never read here.
    ``teacher``: a finished fine-tuning run whose opinion of unlabelled epochs is learned from as
    well, see ``pseudo``. ``run`` defaults to ``runs/finetune-ORIGIN-nN-sSEED``. The same call again
    continues an interrupted run.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_range("--subjects", subjects or 0, 0)
    check_range("--seed", seed, 0)
    origin = parse(from_ or runs.last("pretrain"), weights)
    if store is None and origin.path is not None:
        store = Run.finished(origin.path, "pretrain").store
    place = locate(store or runs.STORES / registry.of({}).default_source)
    dataset = registry.of(read_meta(place)).open(place)
    budget = LabelBudget(
        subjects=subjects, per_class=segments_per_class, teacher=teacher is not None
    )
    dataset.check_budget(budget)
    chosen = distributed.pick_device(device)
    learned = tasks.get(task or dataset.task)
    learned.check_labels(dataset.labels)
    start = prepare(origin, dataset, config, overrides, seed)
    settings = start.settings
    split = dataset.split_labels(budget, settings, seed)
    label = origin.label or (settings.model if settings.model != "encoder" else SCRATCH)
    label += "" if settings.train == "full" else f"-{settings.train}"
    asked = Finetuning(
        dataset=dataset,
        task=learned,
        start=start,
        split=split,
        teacher=None if teacher is None else Path(teacher),
        run=Path(run or runs.RUNS / f"finetune-{label}-{split.label}-s{seed}"),
        seed=seed,
        device=chosen,
    )
    run_finetuning(asked)
    return asked.run
