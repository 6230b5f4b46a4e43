"""``partsig pretrain``: a store in, an encoder out."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from partsig import config as configs
from partsig.data.store import locate, read_meta
from partsig.errors import ConfigError, check_range
from partsig.modalities import registry
from partsig.runs import directory as runs
from partsig.runs.encoder_sources import parse
from partsig.runs.run import Run
from partsig.train.settings import check_warmup


def pretrain(
    store: str | Path | None = None,
    run: str | Path | None = None,
    *,
    modality: str | None = None,
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    from_: str | Path | None = None,
    protocol: str | None = None,
    fold: int | None = None,
    seed: int = 0,
    gpus: str | int = "auto",
    cpu_processes: int = 1,
    profile: bool = False,
    allow_http: bool = False,
) -> Path:
    """Pretrain an encoder on a store and return the run directory.

    ``modality`` is what the store says where none is given; of no store, EEG. ``store`` defaults to
    ``data/store/physionet2018`` (images: cifar100), ``run`` to ``runs/pretrain-CONFIG-sSEED``.
    ``from_`` is a finished pretraining run to start from: a curriculum (short windows first, say),
    or more nights. Its encoder must be of the same shape; what else has the same name and shape is
    taken over, the rest starts anew. Test subjects of the store are never read; a few monitor
    subjects measure the pretext. The same call again continues an interrupted run, and does nothing
    to a finished one. With ``profile`` nothing is trained: a few steps are timed, a table is
    printed and ``RUN/profile`` written.
    ``protocol`` divides subjects as published work does (part; folds5, whose ``fold`` is 0 to 4),
    see :data:`partsig.data.protocols.PROTOCOLS`.
    ``allow_http``: ``store`` may be at http:// or ftp://, which is not encrypted.

    Raises ConfigError, DataError or CheckpointError for whatever the user can mend.
    """
    check_range("--seed", seed, 0)
    place = None if store is None else locate(store, allow_http=allow_http)
    if modality is None:
        modality = registry.name_of({} if place is None else read_meta(place))
    kind = registry.get(modality)
    if place is not None:
        kind.check_store(place)
    for other in registry.others(modality):
        meant = f"{other.plural}: pass --modality {other.name}"
        if place is not None:
            meant = f"{other.plural}; {place} holds {kind.plural}"
        configs.check_meant(kind.pretrain, "pretrain", config, other.pretrain, meant)
    overrides = kind.with_protocol(kind.pretrain, overrides, protocol, fold)
    settings = configs.compose(kind.pretrain, "pretrain", config, overrides)
    name = Path(config).stem if config else "part"
    label = getattr(getattr(settings, "split", None), "label", "")
    name += f"-{label}" if label else ""
    path = Path(run or runs.RUNS / f"pretrain-{name}-s{seed}")
    if not profile and not (path / "run.json").is_file():
        check_warmup(settings.optim, settings.fit)
    # Only now what needs torch: what is wrong with the settings has been told.
    from partsig.recipes.pretraining import Pretraining, run_pretraining
    from partsig.train import distributed

    device, processes = distributed.count_processes(str(gpus), cpu_processes)
    origin = None if from_ is None else parse(from_)
    if origin is not None and origin.path is None:
        raise ConfigError(
            f"--from {origin}: pretraining starts from a pretraining run, or from scratch without "
            "--from; other encoders are for `partsig finetune`."
        )
    if origin is not None:
        Run.finished(origin.path, "pretrain")
    asked = Pretraining(
        settings=settings,
        modality=modality,
        store=place or locate(runs.STORES / kind.default_source),
        run=path,
        origin=None if origin is None else origin.path,
        seed=runs.seed_as_begun(path, seed),
        device=device,
        profile=profile,
    )
    asked.open_data()  # what is wrong with it is told before processes start
    asked.check_batch(processes)
    if processes > 1 and not distributed.inside():
        distributed.launch(run_pretraining, (asked,), processes)
    else:
        run_pretraining(asked)
    return asked.run
