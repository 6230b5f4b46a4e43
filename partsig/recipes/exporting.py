"""A run as ``export`` writes it, whatever it is: facts, a card, weights, a graph to be checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from partsig.errors import ConfigError
from partsig.recipes import context_export, encoded_export
from partsig.recipes.loading import load_model
from partsig.runs import exported as packing
from partsig.runs import portable_graph
from partsig.runs.model_card import CardWords
from partsig.runs.run import Run
from partsig.seeds import Stream, rng_of
from partsig.tasks.classification import CONTEXT
from partsig.tasks.encoded_stretches import is_longer
from partsig.tasks.networks import settings_of, shape_of

# Epochs that a written graph is held against the run on; their amplitude is that of scalp EEG.
CHECKED, AMPLITUDE_UV = 5, 30.0


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """What is written of a run.

    ``facts`` are its ``config.json``; ``words`` its card's, None: those of its modality. ``write``
    writes weights, card and facts into a folder. ``program`` traces the graph, whose only input is
    called ``given``; ``example`` are inputs to check it with, and ``answer`` what the run itself
    says of them on a device. ``refused`` says of a format why there is none.
    """

    facts: dict
    write: Callable[[Path, str], None]
    program: Callable[[], torch.export.ExportedProgram]
    answer: Callable[[np.ndarray, torch.device], np.ndarray]
    example: np.ndarray
    given: str = "epochs"
    words: CardWords | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

    def check(self, format: str) -> None:
        """Raise ConfigError where there is no such form of it."""
        if format in self.refused:
            raise ConfigError(self.refused[format])


def open_export(path: Path) -> Exportable:
    """Return what can be exported of a run; raise ConfigError or CheckpointError for others."""
    if (path / "run.json").is_file():
        run = Run.read(path)
        if run.kind == "finetune" and run.task == "night-context":
            shape = shape_of(run, settings_of(run))
            takes_signals = run.config["model"] != CONTEXT and not is_longer(shape)
            kind = encoded_export if takes_signals else context_export
            return Exportable(**kind.parts_of(path))
    loaded = load_model(path)
    facts = loaded.facts
    why = f"{path} has no trained head: export it as safetensors, or fine-tune it."
    shape = (CHECKED, len(facts["ch_names"]), *loaded.window)
    rng = rng_of(Stream.TRIAL, 0)

    def program() -> torch.export.ExportedProgram:
        stager = portable_graph.PortableStager(loaded.model, facts["temperature"])
        return portable_graph.exported(stager, len(facts["ch_names"]), loaded.window)

    @torch.inference_mode()
    def answer(x: np.ndarray, device: torch.device) -> np.ndarray:
        model = loaded.model.eval().to(device)
        logits = model.logits(torch.from_numpy(x).to(device)) / facts["temperature"]
        return logits.softmax(-1).cpu().numpy()

    return Exportable(
        facts=facts,
        write=lambda folder, card: packing.write(folder, loaded, card),
        program=program,
        answer=answer,
        example=(AMPLITUDE_UV * rng.standard_normal(shape)).astype(np.float32),
        refused={} if facts["kind"] == "stager" else dict.fromkeys(("onnx", "torch"), why),
    )
