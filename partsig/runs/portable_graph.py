"""A classifier as one portable graph: windows in, calibrated probabilities out; ONNX, torch.export.

The same numbers as :class:`~partsig.core.objectives.supervised.Classifier`, in operations that
both formats know: no Fourier transform, no views with steps, nothing that depends on the batch.
"""

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from partsig.core.encoder import SILENCE
from partsig.core.normalise import FLAT
from partsig.core.objectives.supervised import PROJECTED, Classifier, pooled
from partsig.errors import ConfigError
from partsig.files import atomic

if TYPE_CHECKING:
    from google.protobuf.message import Message


# What torch keeps of each operation's origin: files and lines, modules, functions.
SOURCES = {"stack_trace", "source_fn_stack", "nn_module_stack", "torch_fn", "from_node"}


class LogSpectrum(nn.Module):
    """:func:`~partsig.core.encoder.log_spectrum` of 1-D patches by products with sines, cosines."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        n, k = torch.arange(patch), torch.arange(patch // 2 + 1)
        # The product is reduced first, so that the angle keeps its digits.
        angle = 2 * math.pi * (n[:, None] * k % patch).double() / patch  # (p, bins)
        taper = torch.hann_window(patch, dtype=torch.float64)[:, None]
        self.register_buffer("cos", (taper * angle.cos()).float())
        self.register_buffer("sin", (taper * angle.sin()).float())

    def forward(self, patches: Tensor, level: Tensor) -> Tensor:
        """Return (B, N, C, bins) of patches (B, N, C, p) and the level (B, C) of their window."""
        power = (patches @ self.cos).square() + (patches @ self.sin).square() + SILENCE
        return (power.log() + 2 * level[:, None, :, None]) / 3


class PortableStager(nn.Module):
    """Windows (B, C, *L) as recorded, float32, to probabilities (B, K) at the run's temperature."""

    def __init__(self, model: Classifier, temperature: float) -> None:
        super().__init__()
        if not isinstance(model, Classifier):
            raise ConfigError(
                "an encoder of elsewhere has no portable form here: export it as safetensors."
            )
        self.model = model.float().cpu().eval()
        self.temperature = temperature
        spectral = model.encoder.spectrum is not None or model.config.pool == "mean+sd+spectrum"
        if spectral and len(model.patch) > 1:
            raise ConfigError(
                "spectra of images have no portable form: export this run as safetensors."
            )
        self.spectrum = LogSpectrum(model.patch[0]) if spectral else None

    def forward(self, epochs: Tensor) -> Tensor:
        return (self.model.head(self.features(epochs)) / self.temperature).softmax(-1)

    def features(self, epochs: Tensor) -> Tensor:
        """Return what the head sees, (B, F)."""
        pool = self.model.config.pool
        tokens, cls, spectrum = self.encode(epochs)
        told = spectrum.mean(1).flatten(1) if pool == "mean+sd+spectrum" else None
        if pool == PROJECTED:
            cls = self.model.project(tokens.mean(1))
        return pooled(pool, tokens, cls, told)

    def encode(self, epochs: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return patch tokens (B, N, E), [CLS] (B, E) and spectra (B, N, C, bins), if any."""
        batch, channels, *extent = epochs.shape
        axes = tuple(range(2, epochs.ndim))
        centred = epochs - epochs.mean(axes, keepdim=True)
        spread = centred.square().mean(axes, keepdim=True).sqrt()
        normal = centred * torch.where(spread > FLAT, 1 / spread, torch.zeros_like(spread))
        level = spread.clamp(min=FLAT).log().flatten(1)  # (B, C)
        patch = self.model.patch
        n = [length // p for length, p in zip(extent, patch, strict=True)]
        for axis, (count, p) in enumerate(zip(n, patch, strict=True), start=2):
            normal = normal.narrow(axis, 0, count * p)
        split = [size for pair in zip(n, patch, strict=True) for size in pair]
        rank = len(patch)
        order = [0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2)]
        cut = normal.reshape(batch, channels, *split).permute(order)
        patches = cut.reshape(batch, math.prod(n), channels, *patch)
        return self._tokens(patches, level)

    def _tokens(self, patches: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        encoder = self.model.encoder
        spectrum = None if self.spectrum is None else self.spectrum(patches, level)
        tokens = encoder.embed(patches.flatten(2))  # (B, N, E)
        if encoder.spectrum is not None:
            tokens = tokens + encoder.spectrum(spectrum.flatten(2))
        cls = encoder.cls.expand(patches.shape[0], 1, -1)
        tokens = torch.cat([tokens, cls], dim=1)  # (B, N + 1, E)
        if self.model.positions is not None:
            tokens = tokens + self.model.positions
        tokens = encoder.norm(encoder.blocks(tokens))
        return tokens[:, :-1], tokens[:, -1], spectrum


def exported(
    stager: PortableStager, channels: int, window: tuple[int, ...]
) -> torch.export.ExportedProgram:
    """Return the traced stager, for any number of epochs."""
    # Two epochs: a batch of one would be taken for a constant.
    return exported_as(stager, torch.zeros(2, channels, *window), "epochs")


def exported_as(module: nn.Module, example: Tensor, given: str) -> torch.export.ExportedProgram:
    """Return a module's trace, for any number of rows of its one argument, called ``given``."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), warnings.catch_warnings():
        # A GRU has a list of its own weights, which are among its parameters all the same.
        warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights", UserWarning)
        program = torch.export.export(module, (example,), dynamic_shapes={given: {0: batch}})
    _forget_sources(program.graph_module)
    return program


def _forget_sources(module: torch.fx.GraphModule) -> None:
    """Take out of a graph which files of this machine it was traced from."""
    for part in module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            for key in SOURCES & node.meta.keys():
                del node.meta[key]


def write_torch(path: Path, program: torch.export.ExportedProgram, facts: Mapping) -> None:
    """Write what ``torch.export.load`` reads; the facts are in it as ``config.json``."""
    # Through a file object: a path without its own suffix is complained about.
    with atomic(path) as temporary, open(temporary, "wb") as handle:
        torch.export.save(program, handle, extra_files={"config.json": json.dumps(facts)})


def write_onnx(
    path: Path, program: torch.export.ExportedProgram, facts: Mapping, given: str = "epochs"
) -> None:
    """Write an ONNX file, weights inside, the facts among its metadata (texts, JSON each).

    ``given`` is what its input is called.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - which the file is tried with, once it is written
        import onnxscript  # noqa: F401
    except ImportError:
        raise ConfigError("--format onnx needs more: pip install 'partsig[onnx]'.") from None
    names = {"input_names": [given], "output_names": ["probabilities"]}
    proto = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]  # shapes inside, by another name of the same dimension
    _forget_origins(proto)
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(proto)
    with atomic(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def _forget_origins(message: "Message") -> None:
    """Take out of an ONNX model, at any depth, what tells which code it was made from."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _forget_origins(part)
