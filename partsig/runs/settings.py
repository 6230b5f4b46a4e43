"""What decides a run, whatever the modality; a modality adds what it alone has.

The defaults live here, beside what they decide; ``config.yaml`` of a run holds them all.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from partsig import config as configs
from partsig.contracts import Shape
from partsig.core.objectives.settings import LossConfig, PartConfig, Pool
from partsig.core.settings import EncoderConfig
from partsig.errors import ConfigError, check_range
from partsig.runs.objectives import BROKEN, OBJECTIVES
from partsig.train.settings import FitConfig, OptimConfig

SCRATCH = "scratch"
# Ways of training that leave the encoder as it is.
FROZEN_WAYS = ("probe", "knn", "attentive")


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(ABC):
    """What every modality's pretraining has."""

    windows_per_epoch: Annotated[
        int,
        "windows or images per epoch; 0: as many as the training signal is long, or as there are "
        "images",
    ] = 0
    resident: Annotated[
        Literal["auto", "always", "never"],
        "keep the signals in device memory and cut windows there (auto: on a GPU, where they "
        "fit); speed only",
    ] = "auto"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: Annotated[
        configs.one_of(*OBJECTIVES, broken=BROKEN),
        "what is learned without labels; each has its own keys",
    ] = field(default_factory=PartConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        check_range("windows_per_epoch", self.windows_per_epoch, 0)
        least = getattr(self.objective, "least_batch", 1)
        if self.fit.batch_size < least:
            raise ConfigError(
                f"fit.batch_size is {self.fit.batch_size}; objective.name={self.objective.name} "
                f"holds the parts of different windows against each other, and needs {least} or "
                "more."
            )

    @abstractmethod
    def extents(self, samples_per_unit: float) -> tuple[Shape, Shape]:
        """Return window and patch in samples; a unit (a second, a pixel) has so many of them."""

    @property
    def positions(self) -> str:
        """Position codes the encoder is given: sincos or none, as the objective says."""
        return getattr(self.objective, "positions", "none")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(ABC):
    """What every modality's fine-tuning has.

    ``encoder`` is used ``--from scratch`` only; a pretrained run brings its own, or the first
    ``blocks`` of its blocks: the last ones know most of the pretext, those before may know more of
    anything else. ``drop_path`` holds for both.
    """

    train: Annotated[
        Literal["full", "probe", "probe+full", "knn", "attentive"],
        "full; probe: logistic regression on the frozen encoder's features; probe+full: "
        "everything, from the probe's head on (arXiv 2202.10054); knn: votes of the nearest "
        "training items; attentive: a learned query that asks all tokens of the frozen encoder",
    ] = "full"
    positions: Annotated[
        Literal["auto", "learned", "sincos", "none"],
        "position codes; auto: the kind the encoder was pretrained with; where there was none, "
        "learned, or none where there is a probe",
    ] = "auto"
    pool: Pool = "cls"
    drop_path: Annotated[
        float, "chance that a block is skipped in training, whatever the encoder is from"
    ] = 0.1
    blocks: Annotated[int, "use the first so many blocks of a pretrained encoder; 0 is all"] = 0
    frozen_first: Annotated[
        float,
        "share of the steps, the first ones, in which the encoder stays as it is and all else "
        "learns",
    ] = 0.0
    balanced: Annotated[bool, "draw every class equally often"] = False
    neighbours: Annotated[
        int, "training items that vote with train=knn, nearest by the cosine of frozen features"
    ] = 20
    encoder: Annotated[EncoderConfig, "--from scratch only"] = field(default_factory=EncoderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(warmup_epochs=5))
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=100, batch_size=64))
    # Copies of an item in a batch, and what is trained in place of an encoder: a modality may have
    # settings of these names, of the next, too.
    repeats: ClassVar[int] = 1
    model: ClassVar[str] = "encoder"
    # Whether a pretrained encoder may meet other channels than its own.
    other_channels: ClassVar[bool] = False

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder is part of what is trained, or used as it is."""
        return self.model == "encoder"

    def __post_init__(self) -> None:
        check_range("drop_path", self.drop_path, 0.0, 0.99)
        check_range("blocks", self.blocks, 0)
        check_range("neighbours", self.neighbours, 1)
        check_range("frozen_first", self.frozen_first, 0.0, 1.0)
        if self.frozen_first and (self.train in FROZEN_WAYS or self.model != "encoder"):
            what = f"train={self.train}" if self.model == "encoder" else f"model={self.model}"
            raise ConfigError(
                "frozen_first is of an encoder that learns afterwards, and none does here "
                f"({what}): leave frozen_first out."
            )
        if self.train != "full" and self.model != "encoder":
            raise ConfigError(f"train={self.train} is for model=encoder, not for {self.model}.")
        if self.train == "attentive":
            self._check_attentive()

    def _check_attentive(self) -> None:
        """Raise ConfigError for what an attentive probe has no use for."""
        if self.pool != "cls":
            raise ConfigError(
                f"train=attentive asks every token, and pools none: leave out pool={self.pool}."
            )
        given = [n for n in ("mixup", "cutmix", "channel_dropout") if getattr(self.loss, n)]
        if given:
            raise ConfigError(
                f"train=attentive learns from items as they are, each encoded once: leave out "
                f"loss.{given[0]}."
            )

    @abstractmethod
    def extents(self, samples_per_unit: float, unit_s: float | None) -> tuple[Shape, Shape]:
        """Return a labelled window and a patch in samples.

        ``unit_s`` is how long the window is that has a label, where the store says so.
        """

    @abstractmethod
    def patch_of(self, pretrained: PretrainRecipe) -> dict[str, object]:
        """Return the setting that gives patches of the size an encoder was pretrained on."""

    def unlike(self, pretrained: PretrainRecipe, unit_s: float | None) -> str:
        """Return in what an encoder will be given other inputs than in pretraining; "": in nothing.

        A sentence, where both work and one may not have been meant. ``unit_s`` as in
        :meth:`extents`.
        """
        return ""

    @abstractmethod
    def patch_from(self, patch: Shape, samples_per_unit: float) -> dict[str, object]:
        """Return the setting that gives patches of this extent in samples."""
