"""A model and all that is needed to use it, from a run, or from a folder that ``export`` wrote."""

from collections.abc import Mapping
from pathlib import Path

from partsig import __version__
from partsig import config as configs
from partsig.core.objectives.supervised import EncoderClassifier, SupervisedModule
from partsig.data.store import read_meta
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities import registry
from partsig.runs.encoder_sources import FROZEN
from partsig.runs.exported import CONFIG, FORMAT, LoadedModel, build, read
from partsig.runs.models import load_encoder
from partsig.runs.run import Run
from partsig.runs.settings import Shape
from partsig.tasks import registry as tasks
from partsig.tasks.encoded_stretches import EncodedStretches, stretch_of
from partsig.tasks.networks import settings_of, shape_of

# What is told of weights that are somebody else's.
WEIGHTS = ("weights_licence", "weights_sha256")


def load_model(path: str | Path, modality: str | None = None, *, amid: bool = False) -> LoadedModel:
    """Return the model of a finished run, pretrained or fine-tuned, or of an exported folder.

    ``modality``: where one of another is refused. ``amid``: a pretrained encoder of patches longer
    than what is labelled is welcome, and keeps its window (:mod:`partsig.runs.amid`). Raises
    CheckpointError for another modality, and when there is neither, ConfigError for a run without
    an encoder.
    """
    path = Path(path)
    if not (path / "run.json").is_file() and (path / CONFIG).is_file():
        loaded = read(path)
    else:
        run = Run.read(path)
        loaded = _pretrained(path, amid) if run.kind == "pretrain" else _finetuned(path, amid)
    theirs = registry.of(loaded.facts)
    if modality not in (None, theirs.name):
        needed = registry.get(modality).plural
        raise CheckpointError(f"{path} is on {theirs.plural}; a model of {needed} is needed here.")
    return loaded


def load_classifier(path: str | Path) -> tuple[SupervisedModule, Run]:
    """Return the classifier of a finished fine-tuning run at its chosen epoch, and the run.

    Raises CheckpointError when the run is not complete.
    """
    run = Run.finished(path, "finetune")
    return tasks.get(run.task).load(run), run


def _finetuned(path: Path, amid: bool) -> LoadedModel:
    classifier, run = load_classifier(path)
    model = getattr(classifier, "net", classifier)
    if not isinstance(model, EncoderClassifier):
        kind = run.config.get("model", "encoder")
        what = f"model={kind}, which has no encoder"
        if kind == "encoder":
            what = f"--task {run.task}, which gives no vector for an item"
        raise ConfigError(f"{path} is a run of {what}; name another.")
    settings = settings_of(run)
    shape = shape_of(run, settings)
    window = shape.window
    if isinstance(classifier, EncodedStretches):
        if not amid:
            raise _longer(path, run, shape.patch, run.labels.unit_s, " `partsig stage` uses it.")
        window = stretch_of(shape, settings.context).window
    facts = _facts(
        run,
        # Neighbours vote with the labels they know, which no folder holds; rankings tell none.
        kind="stager" if model is classifier else "encoder",
        classes=list(run.labels.classes),
        window=_plain(window),
        patch=_plain(shape.patch),
        encoder=run.config["encoder"],
        positions=model.config.positions,
        pool=model.config.pool,
        temperature=run.temperature,
        training={
            "data": run.store.name,
            **registry.get(run.modality).training_facts(run),
            "pretraining": run.pretraining.get("objective"),
            **{key: run.facts[key] for key in WEIGHTS if run.facts.get(key)},
        },
        **({FROZEN: run.facts[FROZEN], "blocks": settings.blocks} if FROZEN in run.facts else {}),
    )
    return LoadedModel(model=model, facts=facts, run=run)


def _pretrained(path: Path, amid: bool) -> LoadedModel:
    pretrained = load_encoder(path)
    run, settings = pretrained.run, pretrained.settings
    modality = registry.get(run.modality)
    window, patch = settings.extents(run.samples_per_unit)
    if getattr(settings.objective, "context", 0.0):
        window = (*window[:-1], window[-1] // 2)  # PART looks at each half of it by itself
    labels = modality.usual_labels
    if labels is not None:  # no longer than what is labelled, where it is to be
        unit = (min(window[0], round(labels.unit_s * run.samples_per_unit)),)
        if unit < patch and not amid:
            raise _longer(path, run, patch, labels.unit_s)
        window = unit if unit >= patch else window
    facts = _facts(
        run,
        kind="encoder",
        classes=[],
        window=_plain(window),
        patch=_plain(patch),
        encoder=configs.to_dict(settings.encoder),
        positions=settings.positions,  # what a linear probe is given, too
        pool="cls",
        temperature=1.0,
        training={
            "data": run.store.name,
            **modality.training_facts(run),
            "pretraining": settings.objective.name,
        },
    )
    model = build(facts)
    model.encoder.load_state_dict(pretrained.encoder.state_dict())
    return LoadedModel(model=model, facts=facts, run=run)


def _longer(path: Path, run: Run, patch: Shape, unit_s: float, more: str = "") -> ConfigError:
    """Return what says that an encoder's patches are longer than what is embedded."""
    return ConfigError(
        f"{path} takes patches of {patch[0] / run.samples_per_unit:g} s, longer than the "
        f"{unit_s:g} s that are embedded: name a run with shorter ones, or have its tokens amid "
        f"the epochs around each by `partsig embed --as-store`.{more}"
    )


def _plain(extent: Shape) -> int | list[int]:
    return extent[0] if len(extent) == 1 else list(extent)


def _facts(run: Run, **own: object) -> dict:
    modality = registry.get(run.modality)
    return {
        "format": FORMAT,
        "library_name": "partsig",
        "partsig": __version__,
        "modality": modality.name,
        "ch_names": run.ch_names,
        "sfreq": run.facts.get("sfreq"),
        "unit": run.facts.get("unit", modality.amplitude),
        "filter": _filter_of(run.facts),
        **own,
    }


def _filter_of(facts: Mapping) -> dict | None:
    """Return the filter of a run's signals: as it says, else as its store does, else None."""
    if "filter" in facts:
        return facts["filter"]
    try:
        meta = read_meta(Path(facts["store"]))
    except DataError:
        return None
    return meta.get("filter") if meta["provenance"] == facts["provenance"] else None
