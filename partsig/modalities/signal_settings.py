"""What decides a run on signals."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from partsig.core.objectives.settings import ChannelConfig
from partsig.data.splits import SplitConfig
from partsig.errors import CheckpointError, ConfigError, check_range
from partsig.runs.settings import FROZEN_WAYS, FinetuneRecipe, PretrainRecipe, Shape
from partsig.tasks.settings import ContextConfig, PseudoConfig

# Seconds of a window at most: a day.
LONGEST_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class SignalPretrainConfig(PretrainRecipe):
    """Everything that decides a run on signals; the defaults are the paper's EEG experiment.

    What is not of signals alone is :class:`PretrainRecipe`'s.
    """

    window_s: Annotated[float, "length of a window in seconds; at least patch_s"] = 30.0
    patch_s: Annotated[float, "length of a patch in seconds"] = 1.0
    loss: Annotated[ChannelConfig, "what of a window is not shown in training"] = field(
        default_factory=ChannelConfig
    )
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("patch_s", self.patch_s, 0.01)
        check_range("window_s", self.window_s, self.patch_s)
        if self.window_s > LONGEST_S:
            raise ConfigError(f"window_s is {self.window_s:g}; a window is of a day at most.")
        if getattr(self.objective, "focus", "none") == "object":
            raise ConfigError(
                "objective.focus=object follows masks of objects, which signals have none of: set "
                "it to amplitude, change, or none."
            )

    @property
    def compared_parts(self) -> int:
        """How many parts of a window are told by each other: its halves, or it is one."""
        return 2 if getattr(self.objective, "context", 0) else 1

    def extents(self, samples_per_unit: float) -> tuple[Shape, Shape]:
        window, patch = (round(s * samples_per_unit) for s in (self.window_s, self.patch_s))
        if not patch:
            raise ConfigError(
                f"patch_s={self.patch_s:g} is no sample at {samples_per_unit:.3g} Hz: pass "
                f"patch_s of {1 / samples_per_unit:g} or more, and a longer window_s."
            )
        return (window,), (patch,)


@dataclass(frozen=True, kw_only=True)
class SignalFinetuneConfig(FinetuneRecipe):
    """Everything that decides a fine-tuning run; the defaults are the paper's recipe (DeiT's).

    ``model`` may be a baseline, which is trained ``--from scratch``: logistic and boosting see band
    powers, chambon2018 and usleep are braindecode's, yasa is YASA as it comes off the shelf, which
    no label changes. What is not of signals alone is :class:`FinetuneRecipe`'s.
    """

    model: Annotated[
        Literal["encoder", "logistic", "boosting", "chambon2018", "usleep", "yasa", "context"],
        "partsig's encoder; or a baseline, from scratch: logistic or boosting on band powers, "
        "chambon2018 or usleep of braindecode, yasa as it comes; context is what --task "
        "night-context trains",
    ] = "encoder"
    shift_s: Annotated[
        float, "windows start up to so many seconds before or after their epoch, in training only"
    ] = 0.0
    patch_s: Annotated[
        float,
        "length of a patch in seconds, a sample at least; --from scratch only, since a "
        "pretrained run brings its own",
    ] = 1.0
    adapt: Annotated[
        Literal["none", "channels"],
        "channels: of a pretrained encoder that knows other channels, those of the store that it "
        "does not know get weights of their own, which are trained",
    ] = "none"
    channels: Annotated[
        dict[str, str],
        "whose weights of a pretrained encoder a channel of the store takes, such as "
        "{Fpz-Cz: C4-M1}; a channel of the encoder's own name takes its own",
    ] = field(default_factory=dict)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("shift_s", self.shift_s, 0.0, 30.0)
        check_range("patch_s", self.patch_s, 0.01, LONGEST_S if self.context.through else 30.0)
        if self.adapt == "channels" and (self.train in FROZEN_WAYS or self.frozen_first):
            what = f"train={self.train}" if self.train in FROZEN_WAYS else "frozen_first"
            raise ConfigError(
                f"{what} leaves the encoder as it is, and adapt=channels gives it "
                "weights that have to be trained: take train=full or probe+full, or leave adapt "
                "out and say with channels whose weights each channel takes."
            )

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder is part of what is trained, or used as it is."""
        return super().has_encoder or self.context.through

    @property
    def other_channels(self) -> bool:
        """Whether a pretrained encoder may meet other channels than its own."""
        return self.adapt == "channels" or bool(self.channels)

    def extents(self, samples_per_unit: float, unit_s: float | None) -> tuple[Shape, Shape]:
        patch = max(1, round(self.patch_s * samples_per_unit))
        return (round(unit_s * samples_per_unit),), (patch,)

    def patch_of(self, pretrained: SignalPretrainConfig) -> dict[str, object]:
        return {"patch_s": pretrained.patch_s}

    def unlike(self, pretrained: SignalPretrainConfig, unit_s: float | None) -> str:
        if not self.context.through or unit_s is None or pretrained.patch_s <= unit_s:
            return ""
        stretch, usual = self.context.epochs, pretrained.window_s / unit_s
        if stretch == round(usual):
            return ""
        return (
            f"the encoder was pretrained on windows of {usual:g} epochs and is given stretches of "
            f"{stretch}: set context.epochs={round(usual)} to have it see what it is used to"
        )

    def patch_from(self, patch: Shape, samples_per_unit: float) -> dict[str, object]:
        if len(patch) != 1:
            raise CheckpointError(f"this encoder takes patches of {patch}; signals have one axis.")
        return {"patch_s": patch[0] / samples_per_unit}
