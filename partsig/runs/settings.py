"""What decides a pretraining run: one set of settings per modality, one model for all of them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from partsig import config as configs
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.droppos import DropPos, DropPosConfig
from partsig.core.objectives.mae import Mae, MaeConfig
from partsig.core.objectives.mp3 import Mp3, Mp3Config
from partsig.core.objectives.part import Part, PartConfig
from partsig.data.images.augment import AugmentConfig
from partsig.data.splits import SplitConfig
from partsig.errors import ConfigError, check_range
from partsig.modalities.modality import Modality
from partsig.train import loop
from partsig.train.optim import OptimConfig

OBJECTIVES = {PartConfig: Part, MaeConfig: Mae, Mp3Config: Mp3, DropPosConfig: DropPos}
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every modality's pretraining has.

    ``objective.name``: part, or its rivals mae, mp3 and droppos; each has its own keys.
    ``windows_per_epoch`` 0 means as many as there are: as the training signal is long, or as there
    are images. ``resident``: keep the signals in device memory and cut windows there (auto: on a
    GPU, where they fit); it does not change the result.
    """

    windows_per_epoch: int = 0
    resident: Literal["auto", "always", "never"] = "auto"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: configs.one_of(*OBJECTIVES) = field(default_factory=PartConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    fit: loop.FitConfig = field(default_factory=loop.FitConfig)

    def __post_init__(self) -> None:
        check_range("windows_per_epoch", self.windows_per_epoch, 0)

    def extents(self, per_unit: float) -> tuple[Shape, Shape]:
        """Return window and patch in samples, where a unit of the settings has ``per_unit``."""
        raise NotImplementedError

    @property
    def positions(self) -> str:
        """Position codes the encoder is given: sincos or none. MAE and DropPos always give them."""
        always = "none" if self.objective.name == "mp3" else "sincos"
        return getattr(self.objective, "positions", always)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Recipe):
    """Everything that decides a run on signals; the defaults are the paper's EEG experiment.

    ``window_s`` and ``patch_s`` are in seconds; the rest is :class:`Recipe`'s.
    """

    window_s: float = 30.0
    patch_s: float = 1.0
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("patch_s", self.patch_s, 0.01)
        check_range("window_s", self.window_s, self.patch_s)

    def extents(self, per_unit: float) -> tuple[Shape, Shape]:
        window, patch = (round(s * per_unit) for s in (self.window_s, self.patch_s))
        return (window,), (patch,)


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Recipe):
    """Everything that decides a run on images; the defaults are the paper's CIFAR experiment.

    ``size`` and ``patch_px`` are in pixels; ViT-S/4 at 32² (METHOD: width 384, depth 12, 6 heads).
    ``augment``: see :class:`~partsig.data.images.augment.AugmentConfig`; the rest is
    :class:`Recipe`'s.
    """

    size: int = 32
    patch_px: int = 4
    encoder: EncoderConfig = field(
        default_factory=lambda: EncoderConfig(width=384, depth=12, heads=6)
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("patch_px", self.patch_px, 1)
        check_range("size", self.size, self.patch_px)
        if self.size % self.patch_px:
            raise ConfigError(
                f"size is {self.size}; it must be a multiple of patch_px ({self.patch_px})."
            )
        if getattr(self.objective, "context", 0):
            raise ConfigError(
                "objective.context is for signals, whose windows have neighbours; leave it at 0."
            )

    def extents(self, per_unit: float) -> tuple[Shape, Shape]:
        return (self.size, self.size), (self.patch_px, self.patch_px)


RECIPES = {"eeg": PretrainConfig, "image": ImageConfig}


def recipe_of(record: dict) -> Recipe:
    """Return the settings that a pretraining run's ``run.json`` tells."""
    return configs.build(RECIPES[record.get("modality", "eeg")], record["config"])


def build(
    channels: int, window: Shape, patch: Shape, settings: Recipe, modality: Modality
) -> nn.Module:
    """Return the untrained model; the caller seeds torch."""
    objective = settings.objective
    if isinstance(objective, PartConfig) and not objective.patches:
        objective = replace(objective, patches=modality.n_patches)
    encoder = Encoder(settings.encoder, channels, patch)
    return OBJECTIVES[type(objective)](objective, encoder, window, patch)
