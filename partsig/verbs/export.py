"""``partsig export``: a run in, a folder for others out: safetensors, ONNX or torch.export."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from partsig.errors import ConfigError, check_option
from partsig.files import check_replaceable, read_json, remove_leftovers, write_json, write_text
from partsig.recipes.exporting import open_export
from partsig.runs import directory as runs
from partsig.runs import exported as packing
from partsig.runs import portable_graph
from partsig.runs.model_card import about_people, read_measured, write_card
from partsig.train import distributed

FORMATS = {"safetensors": packing.WEIGHTS, "onnx": "model.onnx", "torch": "model.pt2"}
# What shows that a card or a configuration was written here, and may be replaced.
CARD_MARK = b"library_name: partsig\n"
# Largest difference of a probability between the written graph and the run.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The folder and the model in it; how far its probabilities are from the run's at most.

    ``difference`` is None for safetensors, which holds the very weights. ``people`` are sentences
    on all that the folder tells of people, for who is about to pass it on.
    """

    path: Path
    file: Path
    difference: float | None = None
    people: tuple[str, ...] = ()


def export(
    run: str | Path | None = None,
    output: str | Path | None = None,
    *,
    format: str = "safetensors",
    device: str = "cpu",
) -> Exported:
    """Write a run as a folder that describes itself, and return where.

    ``run`` defaults to the fine-tuning run that finished last; a pretraining run gives an encoder
    without a head (safetensors only). ``output`` defaults to ``RUN/export``. Written are the
    weights, ``config.json`` (channels, rate, filter, classes, shape, temperature) and a model card,
    ``README.md``, with the figures of ``RUN/evaluation`` where there is one. **No names of subjects
    are written**, only how many they were, and no path of this machine; what the folder does tell
    of people is in the card, and in ``people`` of what is returned.

    ``format``: safetensors, which ``PartStager.from_pretrained`` and ``PartEmbedder`` read; onnx
    or torch (``torch.export``), whose input is (n, C, T) float32 in µV, any n, and whose output
    are calibrated probabilities (n, K); neither needs partsig to be run. Both are held against the
    run before they are kept, within 1e-4, on ``device``. Of a network over features of epochs the
    graph takes these, a stretch at a time, as its card says; it has no safetensors.

    Raises ConfigError or CheckpointError for whatever the user can mend.
    """
    check_option("--format", format, FORMATS)
    where = distributed.pick_device(device)
    path = Path(run) if run else runs.last("finetune")
    found = open_export(path)
    folder = Path(output) if output else path / "export"
    if folder.resolve() == path.resolve():
        raise ConfigError(f"--output {folder} is the run itself; choose another folder.")
    _check_ours(folder)
    facts, file = found.facts, folder / FORMATS[format]
    found.check(format)
    remove_leftovers(folder)
    _drop_others(folder, facts)
    measured = read_measured(path)
    people = tuple(about_people(facts, measured))
    card = write_card(facts, measured, found.words)
    if format == "safetensors":
        found.write(folder, card)
        return Exported(path=folder, file=file, people=people)
    program = found.program()
    if format == "onnx":
        portable_graph.write_onnx(file, program, facts, found.given)
    else:
        portable_graph.write_torch(file, program, facts)
    difference = float(
        np.abs(run_file(file, found.example) - found.answer(found.example, where)).max()
    )
    if not difference <= TOLERANCE:  # pragma: no cover - no model was found that fails
        file.unlink()
        raise RuntimeError(f"{file.name} gave probabilities {difference:.1e} off; nothing is kept.")
    write_text(folder / packing.CARD, card)
    write_json(folder / packing.CONFIG, facts)
    return Exported(path=folder, file=file, difference=difference, people=people)


def _check_ours(folder: Path) -> None:
    """Raise ConfigError for a file, DataError for a folder with somebody else's card or weights."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file; name a folder.")
    card, config = folder / packing.CARD, folder / packing.CONFIG
    check_replaceable(card, CARD_MARK)
    check_replaceable(config, packing.is_ours)
    for name in FORMATS.values():
        known = (packing.is_ours, config) if config.exists() else (CARD_MARK, card)
        check_replaceable(folder / name, *known)


def _drop_others(folder: Path, facts: dict) -> None:
    """Remove a model of other facts from a folder: its formats must all be of one model."""
    try:
        same = read_json(folder / packing.CONFIG) == facts
    except (OSError, ValueError):
        same = False
    if not same and (folder / packing.CONFIG).is_file():
        for name in (packing.CONFIG, *FORMATS.values()):
            (folder / name).unlink(missing_ok=True)


def run_file(file: Path, x: np.ndarray) -> np.ndarray:
    """Return the probabilities (n, …, K) that an exported graph gives.

    Of its inputs: epochs (n, C, T) in µV, or what its ``config.json`` tells.
    """
    if file.suffix == ".pt2":
        with torch.inference_mode():
            return torch.export.load(file).module()(torch.from_numpy(x)).numpy()
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("--format onnx needs more: pip install 'partsig[onnx]'.") from None
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]
