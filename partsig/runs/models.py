"""The one loader of encoders: a run's, with its settings; and the untrained model of settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from partsig import config as configs
from partsig.core.encoder import Encoder, check_blocks
from partsig.core.objectives.part import Part, PartConfig
from partsig.errors import CheckpointError
from partsig.modalities import registry
from partsig.runs.kept import last_file, last_state
from partsig.runs.objectives import module_of
from partsig.runs.run import Run
from partsig.runs.settings import PretrainRecipe, Shape

PREFIX, PROJECTION = "encoder.", "project."
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedEncoder:
    """An encoder, the run it is of, and the settings that run was made with."""

    encoder: Encoder
    run: Run
    settings: PretrainRecipe


def pretraining_settings(run: Run) -> PretrainRecipe:
    """Return the settings that a pretraining run tells."""
    return configs.build(registry.get(run.modality).pretrain, run.config)


def build_objective(
    channels: int, window: Shape, patch: Shape, settings: PretrainRecipe, n_patches: int = 0
) -> nn.Module:
    """Return the untrained model; the caller seeds torch.

    ``n_patches`` is what an objective off the grid takes where nothing is said (``patches`` is 0);
    0: as many as the grid has.
    """
    objective = settings.objective
    if getattr(objective, "patches", None) == 0:
        objective = replace(objective, patches=n_patches)
    encoder = Encoder(settings.encoder, channels, patch)
    model = module_of(type(objective))(objective, encoder, window, patch)
    if getattr(model, "encoder", None) is not encoder or not callable(
        getattr(model, "compilable", None)
    ):
        raise TypeError(
            f"{type(model).__name__} must keep its encoder as self.encoder, and name what is worth "
            "compiling by compilable(): see CONTRIBUTING, Add an objective."
        )
    return model


def built(build: Callable[[], M], file: Path) -> M:
    """Return the untrained model whose weights are in ``file``.

    What it is built from may be of somebody else: it is first built without memory, and one of more
    weights than ``file`` has bytes, which cannot hold them, raises CheckpointError.
    """
    try:
        with torch.device("meta"):
            needed = sum(parameter.numel() for parameter in build().parameters())
    except (NotImplementedError, RuntimeError):  # of a plug-in, say, that computes while it builds
        needed = 0
    if needed > file.stat().st_size:
        raise CheckpointError(
            f"{file} has {file.stat().st_size:,} bytes, and the model that stands beside it "
            f"{needed:,} weights: they do not belong together."
        )
    return build()


def fill(model: nn.Module, state: Mapping[str, torch.Tensor], where: Path) -> None:
    """Give a model these weights; raise CheckpointError where one is missing or left over."""
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{where} does not fit its settings ({reason}).") from None


def load_encoder(path: str | Path, blocks: int = 0) -> PretrainedEncoder:
    """Return the encoder of a finished pretraining run.

    ``blocks``: an encoder of its first so many blocks, which can be trained on; 0 is all. To see
    what all of it makes after some blocks, tell its ``forward``. Raises ConfigError where it has
    fewer, CheckpointError for what is no such run, or has lost its checkpoints.
    """
    run = Run.finished(Path(path), "pretrain")
    settings = pretraining_settings(run)
    if getattr(settings.objective, "brings_encoder", False):
        raise CheckpointError(
            f"{path} is of {settings.objective.name}, which trains no encoder: look at its parts "
            "with `partsig evaluate` and `partsig inspect --what parts`."
        )
    _, patch = settings.extents(run.samples_per_unit)
    check_blocks(blocks, settings.encoder.depth)
    shape = replace(settings.encoder, depth=blocks or settings.encoder.depth)
    file = last_file(run.path)
    encoder = built(lambda: Encoder(shape, len(run.ch_names), patch), file)
    state = {
        key.removeprefix(PREFIX): value
        for key, value in read_state(run.path).items()
        if key.startswith(PREFIX)
    }
    cut = tuple(f"blocks.{number}." for number in range(shape.depth, settings.encoder.depth))
    fill(encoder, {k: v for k, v in state.items() if not k.startswith(cut)}, file)
    return PretrainedEncoder(encoder=encoder, run=run, settings=settings)


def projection_of(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the weights of the projection head of a pretraining run; {} where it has none.

    They are :class:`~partsig.core.contrast.Projection`'s.
    """
    state = read_state(Path(path))
    return {
        key.removeprefix(PROJECTION): value
        for key, value in state.items()
        if key.startswith(PROJECTION)
    }


@dataclass(frozen=True, eq=False)
class LoadedPart:
    """A finished PART pretraining run, ready to be asked."""

    model: Part
    run: Run
    settings: PretrainRecipe

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz of the signals it was trained on."""
        return self.run.samples_per_unit

    @property
    def ch_names(self) -> list[str]:
        """The channels it was trained on, in their order."""
        return self.run.ch_names


def load_part(path: str | Path) -> LoadedPart:
    """Load a finished pretraining run of the PART objective, on the CPU, for inference.

    Raises CheckpointError for a run of another kind or objective, or an unfinished one.
    """
    run = Run.finished(path, "pretrain")
    settings = pretraining_settings(run)
    if not isinstance(settings.objective, PartConfig):
        raise CheckpointError(
            f"{path} was pretrained with {settings.objective.name}, which places no patches; give "
            "a run with objective.name=part or part-masked."
        )
    window, patch = settings.extents(run.samples_per_unit)
    n_patches = registry.get(run.modality).n_patches
    file, channels = last_file(run.path), len(run.ch_names)
    model = built(lambda: build_objective(channels, window, patch, settings, n_patches), file)
    fill(model, read_state(run.path), file)
    return LoadedPart(model.eval(), run, settings)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights a pretraining run ended with, averaged ones where it averaged."""
    content = last_state(Run.read(path))
    model, average = content["model"], content.get("average", {})
    return {name: average.get(name, value) for name, value in model.items()}
