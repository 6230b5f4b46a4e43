"""A model and all that is needed to use it, from a run or from a folder that ``export`` wrote.

::

    FOLDER/ config.json         channels, rate, filter, classes, shape, temperature
            model.safetensors   weights; model.onnx or model.pt2 in the other formats
            README.md           model card
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from partsig import __version__
from partsig import config as configs
from partsig.core.crop import crop_grid
from partsig.core.encoder import Encoder, EncoderConfig, log_spectrum
from partsig.core.normalise import instance_normalise
from partsig.core.objectives.supervised import (
    Classifier,
    ClassifierConfig,
    pooled,
    pooled_width,
)
from partsig.data.signals.recordings import EPOCH_S, STAGES
from partsig.data.store import read_meta
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.files import atomic, write_json, write_text
from partsig.runs import run as runs
from partsig.verbs.finetune import load_stager
from partsig.verbs.pretrain import load_encoder

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
POOLS = ("cls", "mean", "mean+sd", "mean+sd+spectrum")
# Weights that an encoder without a trained head leaves out.
HEAD = {"head.weight", "head.bias"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A classifier and its facts; of kind ``encoder`` its head is untrained.

    ``record`` is the ``run.json`` it came from, None for an exported folder: who it was trained on
    is in the former only.
    """

    model: Classifier
    facts: dict
    record: dict | None = None

    @property
    def pool(self) -> str:
        """What a classifier on top sees best: what its own head sees; else as few-labels has it."""
        return self.facts["pool"] if self.facts["kind"] == "stager" else POOLS[-1]


def load(path: Path) -> Packed:
    """Return the model of a finished run, pretrained or fine-tuned, or of an exported folder.

    Raises CheckpointError when there is neither, ConfigError for a run without an encoder.
    """
    if not (path / "run.json").is_file() and (path / CONFIG).is_file():
        return read(path)
    record = runs.read(path)
    if record["kind"] == "pretrain":
        return _of_pretraining(path)
    model, record = load_stager(path)
    if not isinstance(model, Classifier):
        kind = record["config"]["model"]
        raise ConfigError(f"{path} is a run of model={kind}, which has no encoder; name another.")
    settings = record["config"]
    facts = _facts(
        record,
        kind="stager",
        classes=record["stages"],
        window=round(EPOCH_S * record["sfreq"]),
        patch=model.patch[0],
        encoder=settings["encoder"],
        positions=model.config.positions,
        pool=model.config.pool,
        temperature=record.get("calibration", {}).get("temperature", 1.0),
        training={
            "data": Path(record["store"]).name,
            "labelled_subjects": len(record["split"]["train"]),
            "validation_subjects": len(record["split"]["val"]),
            "labelled_epochs": record["n_epochs_train"],
            "pretraining_subjects": len(record["pretraining_subjects"]),
            "pretraining": (record["pretraining"] or {}).get("objective"),
        },
    )
    return Packed(model=model, facts=facts, record=record)


def _of_pretraining(path: Path) -> Packed:
    runs.finished(path, "pretrain", "eeg")
    encoder, record, settings = load_encoder(path)
    objective = settings.objective
    (window,), (patch,) = settings.extents(record["sfreq"])
    if getattr(objective, "context", 0.0):
        window //= 2  # PART looks at each half of such a window by itself
    facts = _facts(
        record,
        kind="encoder",
        classes=[],
        window=min(window, round(EPOCH_S * record["sfreq"])),
        patch=patch,
        encoder=configs.to_dict(settings.encoder),
        positions=settings.positions,  # what a linear probe is given, too
        pool="cls",
        temperature=1.0,
        training={
            "data": Path(record["store"]).name,
            "pretraining_subjects": len(record["subjects_seen"]),
            "pretraining": objective.name,
        },
    )
    model = build(facts)
    model.encoder.load_state_dict(encoder.state_dict())
    return Packed(model=model, facts=facts, record=record)


def _facts(record: Mapping, **own: object) -> dict:
    return {
        "format": FORMAT,
        "library_name": "partsig",
        "partsig": __version__,
        "ch_names": record["ch_names"],
        "sfreq": record["sfreq"],
        "unit": "µV",
        "filter": _filter_of(record),
        **own,
    }


def _filter_of(record: Mapping) -> dict | None:
    """Return the filter of a run's signals: as it says, else as its store does, else None."""
    if "filter" in record:
        return record["filter"]
    try:
        meta = read_meta(Path(record["store"]))
    except DataError:
        return None
    return meta["filter"] if meta["provenance"] == record["provenance"] else None


def build(facts: Mapping) -> Classifier:
    """Return the untrained classifier that facts describe; raise CheckpointError if they do not."""
    try:
        shape = configs.build(EncoderConfig, facts["encoder"])
        patch, window = (facts["patch"],), (facts["window"],)
        settings = {"positions": facts["positions"], "pool": facts["pool"]}
        return Classifier(
            configs.build(ClassifierConfig, settings),
            Encoder(shape, len(facts["ch_names"]), patch),
            window=window,
            patch=patch,
            n_classes=len(facts["classes"]) or len(STAGES),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{CONFIG} is damaged ({error!r}); export the run again.") from None


def write(folder: Path, packed: Packed, card: str) -> None:
    """Write weights, card and, last, facts; what was there under these names is replaced."""
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ConfigError("safetensors needs more: pip install 'partsig[hub]'.") from None
    left_out = HEAD if packed.facts["kind"] == "encoder" else set()
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in packed.model.state_dict().items()
        if name not in left_out
    }
    (folder / CONFIG).unlink(missing_ok=True)
    with atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt", "partsig": __version__})
    write_text(folder / CARD, card)
    write_json(folder / CONFIG, packed.facts)


def read(folder: Path) -> Packed:
    """Return the model of an exported folder; raise CheckpointError when it is damaged."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise ConfigError("an exported folder needs more: pip install 'partsig[hub]'.") from None
    try:
        facts = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        known = facts.get("library_name") == "partsig" and facts["format"] == FORMAT
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read ({error!r}).") from None
    if not known:
        raise CheckpointError(
            f"{folder} is no folder that `partsig export` (format {FORMAT}) wrote; export it again."
        )
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}: run `partsig export` without --format.")
    model = build(facts)
    try:
        found = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({reason}).") from None
    expected = HEAD if facts["kind"] == "encoder" else set()
    if set(found.missing_keys) != expected or found.unexpected_keys:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its {CONFIG}; export it again.")
    return Packed(model=model, facts=facts)


def check_pool(pool: str | None, packed: Packed) -> str:
    """Return the pool that is meant; None and ``auto`` are the model's own."""
    if pool in (None, "auto"):
        return packed.pool
    if pool not in POOLS:
        raise ConfigError(f"pool is {pool!r}; it can be auto, {', '.join(POOLS)}.")
    return pool


def width_of(model: Classifier, pool: str) -> int:
    """Return how many numbers :func:`embed_windows` gives."""
    return pooled_width(model.encoder, model.patch, pool)


def starts(n_times: int, window: int) -> list[int]:
    """Return where windows begin that cover ``n_times`` samples, as few as will do.

    >>> starts(3000, 500), starts(3000, 3000), starts(3000, 700)
    ([0, 500, 1000, 1500, 2000, 2500], [0], [0, 575, 1150, 1725, 2300])
    """
    n = -(-n_times // window)
    return [round(i * (n_times - window) / max(n - 1, 1)) for i in range(n)]


def embed_windows(model: Classifier, window: int, x: Tensor, pool: str) -> Tensor:
    """Return embeddings (B, F) of signals (B, C, T) in µV, T at least ``window`` samples.

    Longer signals are encoded in the windows of :func:`starts`, each normalised by itself as in
    training; patch tokens of all are pooled together, [CLS] tokens are averaged.
    """
    first = starts(x.shape[-1], window)
    pieces = torch.stack([x[..., at : at + window] for at in first], dim=1)  # (B, n, C, window)
    normal, level = instance_normalise(pieces.flatten(0, 1))
    patches = crop_grid(normal, model.patch)
    tokens, cls = model.encoder(patches, level, model.positions)
    together = (-1, len(first))
    spectrum = None
    if pool == "mean+sd+spectrum":
        spectrum = log_spectrum(patches, level).mean(1).unflatten(0, together).mean(1).flatten(1)
    cls = cls.unflatten(0, together).mean(1)
    return pooled(pool, tokens.unflatten(0, together).flatten(1, 2), cls, spectrum)
