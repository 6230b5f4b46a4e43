"""An encoder of epochs with the network around, as ``export`` writes it: it takes signals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from partsig.modalities import registry
from partsig.recipes.context_export import facts_of, graph_of, network_in_words, use_of
from partsig.recipes.loading import load_classifier
from partsig.runs.model_card import CardWords, describe_encoder
from partsig.runs.portable_graph import PortableStager
from partsig.runs.run import Run
from partsig.seeds import Stream, rng_of
from partsig.tasks.encoded_nights import EncodedNights

# Stretches that a written graph is held against the run on; their amplitude is that of scalp EEG.
CHECKED, AMPLITUDE_UV = 2, 30.0
ONLY = (
    "{path} labels epochs by an encoder and a network around it, for which safetensors has no "
    "form here: pass --format onnx or torch, or pass the run itself on, which needs nothing else."
)
TAKES = """\
The graph takes `epochs` (n, {epochs}, {channels}, {samples}) float32, n stretches of {epochs}
epochs that follow one another with nothing missing between, as *Input* has them."""
WITH_RUN = "`partsig stage` with the run itself reads raw recordings, and minds their gaps."


class PortableNights(nn.Module):
    """Stretches of epochs (B, N, C, T) as recorded, float32, to probabilities (B, N, K)."""

    def __init__(self, model: EncodedNights) -> None:
        super().__init__()
        self.encoder = PortableStager(model.net, 1.0)
        self.around = model.around.float().cpu().eval()

    def forward(self, epochs: Tensor) -> Tensor:
        n, channels, n_times = epochs.shape[1:]
        features = self.encoder.features(epochs.reshape(-1, channels, n_times))
        stretches = features.reshape(-1, n, features.shape[-1])
        return self.around.context_logits(stretches).softmax(-1)


def parts_of(path: Path) -> dict[str, object]:
    """Return what :class:`~partsig.recipes.exporting.Exportable` has of such a run."""
    model, run = load_classifier(path)
    module = PortableNights(model)
    told = graph_of(path, model, module, model.epoch, "epochs", ONLY.format(path=path))
    shape = (CHECKED, model.context.epochs, *model.epoch)
    example = AMPLITUDE_UV * rng_of(Stream.TRIAL, 0).standard_normal(shape)
    return told | {
        "facts": _facts(run, model),
        "example": example.astype(np.float32),
        "words": _words(run),
    }


def _facts(run: Run, model: EncodedNights) -> dict:
    return facts_of(run, model) | {
        "input": "signals",
        "unit": run.facts.get("unit", registry.get(run.modality).amplitude),
        "filter": run.facts.get("filter"),
        "n_times": model.epoch[1],
        "encoder": run.config["encoder"],
        "pool": model.net.config.pool,
        "training": {
            "data": run.store.name,
            **registry.get(run.modality).training_facts(run),
            "pretraining": run.pretraining.get("objective"),
        },
    }


def _words(run: Run) -> CardWords:
    """Return what a card says of it, where that is not as of any stager."""
    usual = registry.get(run.modality).card

    def what(facts: Mapping) -> str:
        return (
            f"An encoder of EEG ({describe_encoder(facts)}), pooled by `{facts['pool']}`, and a "
            f"network over {network_in_words(facts)}, trained together for the classes "
            f"{', '.join(facts['classes'])}. Written by partsig {facts['partsig']}."
        )

    def given(facts: Mapping) -> str:
        return usual.input(dict(facts) | {"window": facts["n_times"]})

    def use(facts: Mapping) -> str:
        channels, samples = len(facts["ch_names"]), facts["n_times"]
        takes = TAKES.format(epochs=facts["window"], channels=channels, samples=samples)
        told = f"(E, {channels}, {samples}) float32, a recording's epochs"
        return use_of(facts, "epochs", takes, told, WITH_RUN)

    return replace(usual, what=what, input=given, use=use)
