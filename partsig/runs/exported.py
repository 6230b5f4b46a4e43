"""A model and all that is needed to use it, from a run or from a folder that ``export`` wrote.

::

    FOLDER/ config.json         channels, rate, filter, classes, shape, temperature
            model.safetensors   weights; model.onnx or model.pt2 in the other formats
            README.md           model card
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from partsig import __version__
from partsig import config as configs
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.frozen_classifier import FrozenClassifier
from partsig.core.objectives.supervised import (
    Classifier,
    ClassifierConfig,
    EncoderClassifier,
)
from partsig.errors import CheckpointError, ConfigError
from partsig.files import atomic, has_keys, read_json, write_json, write_text
from partsig.runs.encoder_sources import FROZEN, rebuild
from partsig.runs.models import built
from partsig.runs.run import Run, check_temperature
from partsig.schema import (
    FILTER,
    Schema,
    count,
    each,
    fault_of,
    maybe,
    names,
    number,
    one_of,
    section,
    text,
    texts,
)

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
POOLS = ("cls", "mean", "mean+sd", "mean+sd+spectrum", "projection")
# Samples, or pixels, of a window: those of a day at 100 Hz.
MOST_SAMPLES = 10_000_000
SCHEMA: Schema = {
    **dict.fromkeys(("partsig", "modality", "unit", "positions"), text),
    "pool": one_of(*POOLS),
    "kind": one_of("stager", "encoder"),
    "ch_names": names,
    "classes": texts,
    "sfreq": maybe(number(0, 1e6)),
    "filter": FILTER,
    **dict.fromkeys(("window", "patch"), lambda value: _is_extent(value)),
    "encoder": section,
    "training": each(maybe(lambda value: text(value) or number(-1e18, 1e18)(value))),
}
# What is told besides of an encoder that is used as it is.
OF_FROZEN: Schema = {FROZEN: section, "blocks": count(0, 10_000)}
# Weights that an encoder without a trained head leaves out.
HEAD = {"head.weight", "head.bias"}
UNTRAINED = 1  # classes of a head that has learned nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A classifier and its facts; of kind ``encoder`` its head is untrained.

    ``run`` is the run it came from, None for an exported folder: who it was trained on is in the
    former only.
    """

    model: EncoderClassifier
    facts: dict
    run: Run | None = None

    @property
    def pool(self) -> str:
        """What a classifier on top sees best: what its own head sees; else as few-labels has it."""
        if self.facts["kind"] == "stager" or (self.run and self.run.kind == "finetune"):
            return self.facts["pool"]
        return "mean+sd+spectrum" if isinstance(self.facts["window"], int) else "mean+sd"

    @property
    def kind(self) -> str:
        """What it is: an encoder, or a classifier; of signals partsig calls that a stager."""
        signals = isinstance(self.facts["window"], int)
        return (
            "classifier" if self.facts["kind"] == "stager" and not signals else self.facts["kind"]
        )

    @property
    def window(self) -> tuple[int, ...]:
        """The extent of the windows it is given, in samples."""
        return _extent(self.facts["window"])

    @property
    def patch(self) -> tuple[int, ...]:
        """The extent of its patches, in samples."""
        return _extent(self.facts["patch"])


def _is_extent(value: object) -> bool:
    axes = [value] if isinstance(value, int) else value
    fits = isinstance(axes, list) and 1 <= len(axes) <= 3 and all(map(count(1, MOST_SAMPLES), axes))
    return fits and math.prod(axes) <= MOST_SAMPLES


def fault_of_model(facts: Mapping) -> str | None:
    """Return what a model cannot be built or used by."""
    fault = fault_of(
        {k: v for k, v in facts.items() if (k, v) != ("filter", None)}, SCHEMA | OF_FROZEN
    )
    if fault:
        return fault
    missing = [key for key in (*SCHEMA, "temperature") if key not in facts]
    if missing:
        return f"it does not tell {missing[0]!r}"
    window, patch = _extent(facts["window"]), _extent(facts["patch"])
    if len(window) != len(patch) or any(w < p for w, p in zip(window, patch, strict=True)):
        return f"windows of {facts['window']} have no patches of {facts['patch']}"
    if isinstance(facts["window"], int) and facts["sfreq"] is None:
        return "it does not tell the rate of its signals"
    return None


def _extent(extent: int | Sequence[int]) -> tuple[int, ...]:
    """Return an extent as the core has it; of signals a folder holds a number."""
    return (extent,) if isinstance(extent, int) else tuple(extent)


def build(facts: Mapping) -> EncoderClassifier:
    """Return the untrained classifier that facts describe; raise CheckpointError if they do not."""
    try:
        n_classes = len(facts["classes"]) or UNTRAINED
        if FROZEN in facts:
            encoder = rebuild(facts[FROZEN], len(facts["ch_names"]))
            return FrozenClassifier(encoder, facts["pool"], n_classes, facts["blocks"])
        shape = configs.build(EncoderConfig, facts["encoder"])
        patch, window = _extent(facts["patch"]), _extent(facts["window"])
        settings = {"positions": facts["positions"], "pool": facts["pool"]}
        return Classifier(
            configs.build(ClassifierConfig, settings),
            Encoder(shape, len(facts["ch_names"]), patch),
            window=window,
            patch=patch,
            n_classes=n_classes,
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{CONFIG} is damaged ({error!r}); export the run again.") from None


def write(folder: Path, packed: LoadedModel, card: str) -> None:
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
    write_text(folder / CARD, card)  # first: it tells whose the weights beside it are
    with atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt", "partsig": __version__})
    write_json(folder / CONFIG, packed.facts)


def is_ours(facts: object) -> bool:
    """Tell whether this is what partsig writes beside a model, and no other library."""
    return has_keys("format", "ch_names", "encoder")(facts) and facts["library_name"] == "partsig"


def read(folder: Path) -> LoadedModel:
    """Return the model of an exported folder; raise CheckpointError when it is damaged."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise ConfigError("an exported folder needs more: pip install 'partsig[hub]'.") from None
    try:
        facts = read_json(folder / CONFIG)
        known = facts.get("library_name") == "partsig" and facts["format"] == FORMAT
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read ({error!r}).") from None
    if not known:
        raise CheckpointError(
            f"{folder} is no folder that `partsig export` (format {FORMAT}) wrote; export it again."
        )
    if facts.get("kind") == "context":
        of = "features of epochs" if facts.get("input") == "features" else "stretches of signals"
        raise CheckpointError(
            f"{folder} holds a graph over {of}, and no model to load: its {CARD} says how it is "
            "run; with partsig use the run it was exported from."
        )
    fault = fault_of_model(facts)
    if fault:
        raise CheckpointError(f"{folder / CONFIG} is damaged ({fault}); export the run again.")
    check_temperature(facts.get("temperature"), folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}: run `partsig export` without --format.")
    model = built(lambda: build(facts), folder / WEIGHTS)
    try:
        unmatched = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({reason}).") from None
    expected = HEAD if facts["kind"] == "encoder" else set()
    if set(unmatched.missing_keys) != expected or unmatched.unexpected_keys:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its {CONFIG}; export it again.")
    return LoadedModel(model=model, facts=facts)
