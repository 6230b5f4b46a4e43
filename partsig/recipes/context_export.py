"""A network over the features of epochs, as ``export`` writes it: it takes features, no signal."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from partsig import __version__
from partsig.errors import ConfigError
from partsig.modalities import registry
from partsig.recipes.loading import load_classifier
from partsig.runs import portable_graph
from partsig.runs.epoch_features import read_recipe
from partsig.runs.exported import FORMAT
from partsig.runs.model_card import CardWords, describe_encoder
from partsig.runs.portable_graph import PortableStager
from partsig.runs.run import Run
from partsig.seeds import Stream, rng_of
from partsig.tasks.classification import CONTEXT
from partsig.tasks.encoded_nights import EncodedNights
from partsig.tasks.encoded_stretches import EncodedStretches
from partsig.tasks.networks import settings_of, shape_of
from partsig.tasks.night_context import OVERLAP, ContextNetwork

# Stretches that a written graph is held against the run on.
CHECKED = 5
ONLY = (
    "{path} labels features of epochs, and has no encoder for safetensors: pass --format onnx or "
    "torch, or pass the run itself on, which needs nothing else."
)
DECODED = (
    "{path} decodes whole nights (context.model viterbi), which no graph does: export a gru or a "
    "transformer, or pass the run itself on."
)
AT_ONCE = (
    "{path} labels whole nights at once (context.whole), and a graph takes stretches of one "
    "length: fine-tune without it, or pass the run itself on."
)
TAKES = """\
The graph takes **features of epochs, not a signal**: `features` (n, {epochs}, {width}) float32, n
stretches of {epochs} epochs that follow one another with nothing missing between. `config.json`
tells what they are (`ch_names`{made}). {scaled}"""
MADE = ", and how they are made, `features`"
SCALED = """\
Of each recording every feature is less its median, over its interquartile range, both of the epochs
that are there and, where features are made of signals, neither flat nor out of range."""
AS_THEY_ARE = "No feature is scaled by its recording: each is as the store had it."
SCALED_UNIT = "interquartile range"  # as a store says that its values are in
WITH_RUN = (
    "`partsig stage` with the run itself makes features of raw recordings, and minds their gaps."
)
USE = """\
## Use

{takes}
What comes out, `probabilities` (n, {epochs}, {classes}), is not calibrated.

```python
import numpy as np, onnxruntime

graph = onnxruntime.InferenceSession("model.onnx")
N, T = {epochs}, {temperature:.6g}

def stage(x):  # {given} -> (E, {classes})
    n = len(x)
    if n < N:  # partsig shortens the stretch, which a graph of one length cannot
        raise ValueError(f"{{n}} epochs: the graph takes {{N}} or more, partsig stage any number")
    begins = sorted({{*range(0, n - N, max(1, N // {overlap})), n - N}})
    p, count = np.zeros((n, {classes})), np.zeros((n, 1))
    for at in begins:
        p[at : at + N] += graph.run(None, {{"{name}": x[None, at : at + N]}})[0][0]
        count[at : at + N] += 1
    p = np.log(np.clip(p / count, 1e-12, None)) / T
    p = np.exp(p - p.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)
```

{with_run}"""


class PortableContext(nn.Module):
    """Stretches of features (B, N, F), scaled by recording, to probabilities (B, N, K)."""

    def __init__(self, model: ContextNetwork) -> None:
        super().__init__()
        self.model = model.float().cpu().eval()

    def forward(self, features: Tensor) -> Tensor:
        return self.model.context_logits(features).softmax(-1)


class PortableStretches(nn.Module):
    """As :class:`PortableContext`, with the encoder of whole nights that gives each a token."""

    def __init__(self, model: EncodedStretches) -> None:
        super().__init__()
        self.encoder = PortableStager(model.net, 1.0)
        self.model = model.float().cpu().eval()

    def forward(self, features: Tensor) -> Tensor:
        given = self.model.with_tokens(features, None, lambda x: self.encoder.encode(x)[0])
        return self.model.around.context_logits(given).softmax(-1)


def parts_of(path: Path) -> dict[str, object]:
    """Return what :class:`~partsig.recipes.exporting.Exportable` has of a run on features."""
    model, run = load_classifier(path)
    extent = (len(run.ch_names) * shape_of(run, settings_of(run)).window[-1],)
    encoded = isinstance(model, EncodedStretches)
    module = PortableStretches(model) if encoded else PortableContext(model)
    told = graph_of(path, model, module, extent, "features", ONLY.format(path=path))
    example = rng_of(Stream.TRIAL, 0).standard_normal((CHECKED, model.context.epochs, *extent))
    return told | {
        "facts": _facts(run, model, extent[0]),
        "example": example.astype(np.float32),
        "words": _words(run),
    }


def graph_of(
    path: Path,
    model: ContextNetwork | EncodedNights,
    module: nn.Module,
    extent: tuple[int, ...],
    given: str,
    only: str,
) -> dict[str, object]:
    """Return of :class:`~partsig.recipes.exporting.Exportable` what makes and checks a graph.

    ``module`` takes stretches (B, N, *extent) that are called ``given``; ``only`` says why there is
    no safetensors.
    """
    refused = {"safetensors": only}
    if model.context.model == "viterbi":
        refused = dict.fromkeys(("safetensors", "onnx", "torch"), DECODED.format(path=path))
    elif model.context.whole:
        refused = dict.fromkeys(("safetensors", "onnx", "torch"), AT_ONCE.format(path=path))

    @torch.inference_mode()
    def answer(x: np.ndarray, device: torch.device) -> np.ndarray:
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=device)
        stretches = torch.from_numpy(x).to(device).flatten(2)
        logits = model.eval().to(device).context_logits(stretches, there)
        return logits.softmax(-1).cpu().numpy()

    def write(_folder: Path, _card: str) -> None:
        raise ConfigError(only)

    example = torch.zeros(2, model.context.epochs, *extent)
    return {
        "write": write,
        "program": lambda: portable_graph.exported_as(module, example, given),
        "answer": answer,
        "given": given,
        "refused": refused,
    }


def use_of(facts: Mapping, name: str, takes: str, given: str, with_run: str) -> str:
    """Return how a graph over stretches is used, in Markdown."""
    return USE.format(
        takes=takes,
        name=name,
        given=given,
        with_run=with_run,
        epochs=facts["window"],
        classes=len(facts["classes"]),
        temperature=facts["temperature"],
        overlap=OVERLAP,
    )


def _facts(run: Run, model: ContextNetwork | EncodedStretches, n_features: int) -> dict:
    recipe = read_recipe(run.path) if run.facts.get("epoch_features") else None
    made, pretraining = None, run.pretraining.get("objective")
    if recipe is not None:  # but for whom its encoder has seen, by name
        made = {k: v for k, v in recipe.facts.items() if not k.startswith("subjects")}
        encoder = recipe.encoder or {}
        theirs = encoder.get("training", {}).get("pretraining")
        pretraining = " on features of ".join(one for one in (pretraining, theirs) if one) or None
    counted = registry.get(run.modality).training_facts(run)
    if recipe is not None and recipe.subjects_pretraining is not None:
        seen = {*run.seen_unlabelled, *recipe.subjects_pretraining}
        counted |= {"pretraining_subjects": len(seen)}
    return facts_of(run, model) | {
        "input": "features",
        "unit": run.facts.get("unit", registry.get(run.modality).amplitude),
        "n_features": n_features,
        "encoder": None if run.config["model"] == CONTEXT else run.config["encoder"],
        "features": made,
        "training": {"data": run.store.name, **counted, "pretraining": pretraining},
    }


def facts_of(run: Run, model: ContextNetwork | EncodedNights) -> dict:
    """Return what any graph over stretches tells of itself."""
    return {
        "format": FORMAT,
        "library_name": "partsig",
        "partsig": __version__,
        "modality": run.modality,
        "kind": "context",
        "ch_names": run.ch_names,
        "sfreq": run.samples_per_unit,
        "classes": list(run.labels.classes),
        "window": model.context.epochs,
        "context": asdict(model.context),
        "temperature": run.temperature,
    }


def network_in_words(facts: Mapping) -> str:
    """Return how many epochs a network over features sees, and its shape."""
    context = facts["context"]
    layers = f"{context['layers']} layer{'s' if context['layers'] > 1 else ''}"
    return f"{context['epochs']} epochs ({context['model']}, width {context['width']}, {layers})"


def _words(run: Run) -> CardWords:
    """Return what a card says of a network over features: where it is not as of any stager."""

    def what(facts: Mapping) -> str:
        own = facts["encoder"]
        amid = f"An encoder of whole nights ({describe_encoder(facts)}) and a" if own else "A"
        return (
            f"{amid} network over the features of {network_in_words(facts)}, for the classes "
            f"{', '.join(facts['classes'])}. **It takes features, not a signal.** Written by "
            f"partsig {facts['partsig']}."
        )

    def given(facts: Mapping) -> str:
        made = facts["features"]
        if made is None:
            return "## Input\n\nFeatures that partsig did not make: ask who made them."
        ends = [f"{made['filter'][key] or 'none'}" for key in ("l_freq", "h_freq")]
        kinds = [f"{made['bands']} log band powers"] if made["bands"] else []
        own = len(made["names"]) - made["bands"]
        kinds = ([f"{own} numbers of an encoder, pooled by {made['pool']}"] if own else []) + kinds
        scaled = made["normalise"] == "recording"
        unit = "each less its median, over its interquartile range" if scaled else "in microvolts"
        return (
            f"## Input\n\n{' and '.join(kinds)} of each {made['unit_s']:g}-s epoch of "
            f"{', '.join(made['ch_names'])} at {made['sfreq']:g} Hz {unit}, band-pass "
            f"{ends[0]} to {ends[1]} Hz, each scaled by its recording. The encoder is not in here."
        )

    def use(facts: Mapping) -> str:
        width = facts["n_features"]
        scaled = facts["unit"] == SCALED_UNIT
        takes = TAKES.format(
            epochs=facts["window"],
            width=width,
            made="" if facts["features"] is None else MADE,
            scaled=SCALED if scaled else AS_THEY_ARE,
        )
        given = f"(E, {width}) float32, {'scaled ' if scaled else ''}features of a recording"
        return use_of(facts, "features", takes, given, WITH_RUN)

    return replace(registry.get(run.modality).card, what=what, input=given, use=use)
