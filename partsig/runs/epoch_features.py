"""How features of epochs were made: all that is needed to make the same of any other recording.

It stands in a store of features, and in a run that was trained on one, which takes a copy of it and
so needs neither the store nor the run whose encoder made them::

    FOLDER/ epoch_features.json  the signals (channels, rate, filter), and what is taken of them
            epoch_encoder.pt     the encoder's weights; none for band powers alone
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import torch

from partsig import __version__, regular
from partsig.errors import CheckpointError
from partsig.files import atomic, read_json, write_json
from partsig.runs.exported import HEAD, POOLS, LoadedModel, build, fault_of_model
from partsig.runs.models import built
from partsig.schema import (
    FILTER,
    Schema,
    count,
    fault_of,
    maybe,
    names,
    number,
    one_of,
    section,
    text,
    texts,
)
from partsig.train import checkpoint

FORMAT, KIND = 1, "epoch-features"
FILE, WEIGHTS = "epoch_features.json", "epoch_encoder.pt"
# What features are scaled by: all of their recording, as an earlier partsig did, or what is usable.
WHOLE, USABLE = "recording", "usable epochs"
SCHEMA: Schema = {
    "format": one_of(FORMAT),
    "partsig": text,
    **dict.fromkeys(("ch_names", "names"), names),
    "sfreq": number(0, 1e6),
    "unit_s": number(0, 1e6),
    "filter": FILTER,
    "dtype": one_of("float32", "float16"),
    "normalise": one_of("none", "recording"),
    "scaling": one_of("none", WHOLE, USABLE),
    "trim_wake_min": maybe(number(-1e-9, 1e6)),
    "bands": count(0, 1_000_000),
    "encoder": maybe(section),
    "pool": maybe(one_of(*POOLS)),
    "blocks": count(0, 10_000),
    "weights_sha256": maybe(text),
    **dict.fromkeys(("subjects_pretraining", "subjects_labelled"), maybe(texts)),
}
# What says who wrote it, and when, and not how features are made.
APART = ("partsig", "subjects_pretraining", "subjects_labelled")
AGAIN = (
    "make a store of features of signals with `partsig embed --as-store`, without --components, "
    "and fine-tune on that"
)


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe:
    """How features (F,) of an epoch of ``unit_s`` seconds are made.

    Of signals with the channels ``ch_names`` at ``sfreq`` Hz, filtered as ``filter`` says, stored
    as ``dtype`` and, where ``normalise`` is recording, scaled by themselves: what an encoder makes
    of them, pooled by ``pool`` after ``blocks`` blocks (0: all), and then so many ``bands``, log
    band powers. ``scaling`` usable epochs: each feature is scaled by those of its recording
    afterwards, as signals are; recording: by all of it.
    ``encoder`` are the facts of an exported model, whose weights have the digest
    ``weights_sha256``. ``trim_wake_min``: minutes of wake about sleep that recordings were trimmed
    to; None: they were not.
    """

    names: tuple[str, ...]
    ch_names: tuple[str, ...]
    sfreq: float
    unit_s: float
    filter: Mapping
    dtype: str = "float32"
    normalise: str = "none"
    trim_wake_min: float | None = None
    scaling: str = USABLE
    bands: int = 0
    encoder: Mapping | None = None
    pool: str | None = None
    blocks: int = 0
    weights_sha256: str | None = None
    subjects_pretraining: list[str] | None = None
    subjects_labelled: list[str] | None = None
    folder: Path = field(default_factory=Path, compare=False)

    @property
    def facts(self) -> dict:
        """All of it as plain values, but where it lies."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.compare}
        return {"format": FORMAT, "partsig": __version__, **json.loads(json.dumps(told))}

    @property
    def digest(self) -> str:
        """The SHA-256 of what decides the features."""
        told = {key: value for key, value in self.facts.items() if key not in APART}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def in_words(self) -> str:
        """What the features are, in a few words."""
        own = len(self.names) - self.bands
        told = [] if self.encoder is None else [f"{own} numbers of an encoder ({self.pool})"]
        return " and ".join(told + ([f"{self.bands} band powers"] if self.bands else []))

    @cached_property
    def loaded(self) -> LoadedModel | None:
        """The encoder with its weights; None where features are band powers alone.

        Raises CheckpointError where the weights are lost, damaged, or of another encoder.
        """
        if self.encoder is None:
            return None
        file = self.folder / WEIGHTS
        state = checkpoint.load(file, KIND).get("model", {})
        model = built(lambda: build(self.encoder), file)
        try:
            unmatched = model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{file} does not fit its {FILE} ({reason}); {AGAIN}.") from None
        fits = set(unmatched.missing_keys) <= HEAD and not unmatched.unexpected_keys
        if not fits or digest_of(state) != self.weights_sha256:
            raise CheckpointError(f"{file} is not the encoder that its {FILE} tells of; {AGAIN}.")
        return LoadedModel(model=model, facts=dict(self.encoder))

    def write(self, folder: Path) -> None:
        """Write it into a folder, the weights first."""
        if self.encoder is not None:
            checkpoint.save(folder / WEIGHTS, {"kind": KIND, "model": weights_of(self.loaded)})
        write_json(folder / FILE, self.facts)

    def copy_to(self, folder: Path) -> None:
        """Copy it from where it lies into another folder, byte by byte, the weights first."""
        for name in (WEIGHTS, FILE) if self.encoder is not None else (FILE,):
            source = regular.open_bytes(self.folder / name)
            with source, atomic(folder / name) as temporary, open(temporary, "wb") as own:
                shutil.copyfileobj(source, own)


def recipe_of(loaded: LoadedModel | None, **own: object) -> FeatureRecipe:
    """Return the recipe of features of an encoder, or of none, that is written nowhere yet."""
    if loaded is None:
        return FeatureRecipe(**own)
    digest = digest_of(weights_of(loaded))
    recipe = FeatureRecipe(encoder=loaded.facts, weights_sha256=digest, **own)
    recipe.__dict__["loaded"] = loaded  # what is there need not be read
    return recipe


def read_recipe(folder: Path) -> FeatureRecipe | None:
    """Return the recipe that stands in a store or a run; None where there is none.

    Raises CheckpointError where it is damaged, or the weights that it tells of are missing.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        told = read_json(file)
        if not isinstance(told, dict):
            raise ValueError("it is no section")
        fault = fault_of(told, SCHEMA) or _unlike(told)
        if fault:
            raise ValueError(fault)
        own = {key: value for key, value in told.items() if key not in ("format", "partsig")}
        own |= {key: tuple(own[key]) for key in ("names", "ch_names")}
        recipe = FeatureRecipe(**own, folder=folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); {AGAIN}.") from None
    if recipe.encoder is not None and not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder / WEIGHTS} is missing, the encoder that makes features of epochs: put it "
            f"back, or {AGAIN}."
        )
    return recipe


def weights_of(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """Return an encoder's weights by name, without the head, which features have no use for."""
    state = loaded.model.state_dict()
    return {name: value.detach().cpu() for name, value in state.items() if name not in HEAD}


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of weights by name, the same however they were written."""
    told = hashlib.sha256()
    for name, value in sorted(state.items()):
        told.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        told.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return told.hexdigest()


def _unlike(told: Mapping) -> str | None:
    """Return what of a recipe does not belong together."""
    missing = [key for key in SCHEMA if key not in told]
    if missing:
        return f"it does not tell {missing[0]!r}"
    encoder, own = told["encoder"], len(told["names"]) - told["bands"]
    if own < 0 or (own > 0) != (encoder is not None):
        return f"{len(told['names'])} features are not {told['bands']} band powers and an encoder's"
    if encoder is None:
        return None
    if told["pool"] is None or told["weights_sha256"] is None:
        return "it does not tell what is taken of its encoder"
    fault = fault_of_model(encoder)
    if fault:
        return f"encoder: {fault}"
    if encoder["ch_names"] != told["ch_names"] or encoder["sfreq"] != told["sfreq"]:
        return "its encoder is for other channels, or another rate"
    return None
