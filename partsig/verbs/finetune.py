"""``partsig finetune``: a store and a pretrained run in, a classifier out."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from partsig import config as configs
from partsig.contracts import LabelBudget
from partsig.data.store import locate, read_meta
from partsig.errors import check_range
from partsig.modalities import registry
from partsig.runs import directory as runs
from partsig.runs.encoder_sources import parse
from partsig.runs.run import Run


def finetune(
    from_: str | Path | None = None,
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    like: str | Path | None = None,
    task: str | None = None,
    subjects: int | None = None,
    segments_per_class: int | None = None,
    teacher: str | Path | None = None,
    weights: str | Path | None = None,
    channels: Mapping[str, str] | None = None,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    protocol: str | None = None,
    fold: int | None = None,
    seed: int = 0,
    device: str = "auto",
    gpus: str | int | None = None,
    cpu_processes: int = 1,
    allow_http: bool = False,
) -> Path:
    """Fine-tune on N labelled ``subjects`` (default 10) drawn by ``seed``; return the run.

    ``from_`` is a pretraining run (default: the one that finished last), ``"scratch"``, the
    supervised baseline, or an encoder by name: ``"timm:NAME"``, with the weights of a file,
    ``weights``, or timm's cache; ``"official:NAME"``, a published checkpoint ``weights``;
    ``"packaged:NAME"``. By train=probe and knn these are used as their makers use them; trained
    further are plain ViTs of timm alone. ``like``: from scratch, but with the encoder, tokens,
    patches and positions of this run, untrained: what a gain of its pretraining is measured on.
    ``store`` defaults to the run's, or ``data/store/physionet2018``. ``task`` is what is learned;
    by default what the store's labels are for; ``config`` is by default the one that is usual for
    it, if any. ``segments_per_class`` replaces ``subjects`` where recordings are short and of one
    class each: so many recordings of every class, of any training subject; of images so many of
    every class. 0 takes all, of either. The epoch is chosen by kappa on ``split.val_subjects``
    further labelled subjects (of images by accuracy on those of role val); what is tested on is the
    store's own and never read here. ``teacher``: a finished fine-tuning run whose opinion of
    unlabelled epochs is learned from as well, see ``pseudo``. ``run`` defaults to ``runs/finetune-
    ORIGIN-nN-sSEED``. The same call again continues an interrupted run.

    One process trains, on ``device``; or so many as ``gpus`` (auto: those visible) or
    ``cpu_processes`` say, each on its share of every batch. What is drawn for a batch is the same
    whatever their number; drop path and mixing are drawn by each process for its own share.
    ``channels`` says of a store of other channels than the run's which of the run's each is taken
    for; ``adapt=channels`` among the settings trains weights of their own for the others.
    ``protocol`` divides subjects as published work does (part; folds5, whose ``fold`` is 0 to 4),
    see :data:`partsig.data.protocols.PROTOCOLS`.
    ``allow_http``: ``store`` may be at http:// or ftp://, which is not encrypted.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_range("--subjects", subjects or 0, 0)
    check_range("--seed", seed, 0)
    origin = parse(from_ or runs.last("pretrain"), weights)
    default: object = runs.STORES / registry.of({}).default_source
    if store is None and origin.path is not None:
        default = Run.finished(origin.path, "pretrain").facts["store"]
    if store is None and like is not None:
        default = Run.read(like).facts["store"]
    place = locate(store, recorded=default, allow_http=allow_http)
    kind = registry.of(read_meta(place))
    for other in registry.others(kind.name):
        meant = f"{other.plural}; the store holds {kind.plural}"
        configs.check_meant(kind.finetune, "finetune", config, other.finetune, meant)
    if config is None and task is not None:
        config = kind.usual_configs.get(task)
    overrides = kind.with_protocol(kind.finetune, overrides, protocol, fold)
    overrides = kind.with_channels(kind.finetune, overrides, channels)
    settings = configs.compose(kind.finetune, "finetune", config, overrides)
    given = configs.named(kind.finetune, overrides)
    # Only now what needs torch: what is wrong with the settings has been told.
    from partsig.recipes.finetuning import (
        FinetuneRequest,
        open_finetuning,
        run_finetuning,
        share_finetuning,
    )
    from partsig.train import distributed

    request = FinetuneRequest(
        origin=origin,
        like=None if like is None else Path(like),
        store=place,
        task=task,
        budget=LabelBudget(
            subjects=subjects, per_class=segments_per_class, teacher=teacher is not None
        ),
        teacher=None if teacher is None else Path(teacher),
        settings=settings,
        given=given,
        run=None if run is None else Path(run),
        seed=seed,
    )
    gpus = None if gpus is None else str(gpus)
    chosen, processes = distributed.choose(device, gpus, cpu_processes)
    asked = open_finetuning(request)  # what is wrong with it is told before processes start
    asked.check_processes(processes)
    if processes > 1 and not distributed.inside():
        distributed.launch(share_finetuning, (request, chosen), processes)
    else:
        run_finetuning(asked, distributed.start(chosen))
    return asked.run
