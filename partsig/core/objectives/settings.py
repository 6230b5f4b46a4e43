"""The settings of every objective, and of learning from labels; they need no torch."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """PART. Defaults are the paper's (section 3), the number of heads excepted.

    ``positions`` is about the paper's "we randomly mask out 20 % of the position embeddings".
    Reading A, none, is what its section 3.1 says of PART; reading B, sincos, gives the encoder
    continuous positions, ``position_mask`` of which are replaced by a learned token.
    """

    name: Literal["part"] = "part"
    patches: Annotated[
        int,
        "patches of a window, N; 0 takes the modality's (EEG: 40, paper section 3.4), else the "
        "grid's number",
    ] = 0
    sampling: Annotated[
        Literal["off-grid", "grid", "sizes"],
        "where patches lie: anywhere (the paper's), on the grid (PART-grid), or anywhere from "
        "half to twice their size, which is then predicted too (eq. 5)",
    ] = "off-grid"
    span: Annotated[
        float,
        "patches lie within a stretch of so many patches, anywhere in the window (ours: near "
        "pairs first); 0 is the whole window, as published",
    ] = 0.0
    stretches: Annotated[
        int,
        "stretches of a window (see span), each with its share of the patches; pairs are of one "
        "stretch (ours); above 1 it needs span",
    ] = 1
    focus: Annotated[
        Literal["none", "amplitude", "change", "object"],
        "what patches lie at more often: nothing (as published), what deviates from the window's "
        "mean, what changes from sample to sample (events, edges), or objects, by the masks of a "
        "store of images (ours)",
    ] = "none"
    focus_share: Annotated[
        float, "share of the patches that focus draws; the others lie anywhere"
    ] = 0.5
    pairs: Annotated[
        float,
        "share of the N² ordered pairs in the loss of a step; below 1 it only regularises (for "
        "EEG the paper gives none)",
    ] = 1.0
    loss: Annotated[
        Literal["mse", "laplace", "histogram"],
        "mse (the paper's), or a Laplace likelihood or a histogram of the translation (ours, "
        "core/target.py)",
    ] = "mse"
    target_scale: Annotated[
        Literal["patch", "unit"],
        "what translations are counted in: patches (the paper's), or the largest possible one",
    ] = "patch"
    relative: Annotated[
        Literal["cross-attention", "pairwise-mlp", "mlp"],
        "head that relates patches: cross-attention (the paper's), or its ablations",
    ] = "cross-attention"
    heads: Annotated[int, "heads of the cross-attention; 1 as published"] = 4
    hidden: Annotated[int, "width of a GELU layer in the pairwise MLP; 0, none, as published"] = 0
    head_impl: Annotated[
        Literal["auto", "factorised", "gather", "naive"],
        "how the cross-attention is computed; speed and memory only",
    ] = "auto"
    positions: Annotated[
        Literal["none", "sincos"],
        "positions the encoder is given: none (reading A of the paper), or sine-cosine codes "
        "(reading B)",
    ] = "none"
    position_mask: Annotated[
        float, "share of the positions that is hidden, with positions=sincos"
    ] = 0.2
    loss_on: Annotated[
        Literal["all", "masked", "apart"],
        "pairs in the loss: all; those with a hidden position; or those that do not overlap, so "
        "that no waveform can be matched (ours)",
    ] = "all"
    jitter: Annotated[
        float,
        "SD of the log of a gain per patch and channel, half of it the SD of white noise added, so "
        "that overlapping patches are no copies of each other (ours)",
    ] = 0.0
    context: Annotated[
        float,
        "weight of a contrastive loss between the halves of a window, which is then twice as long, "
        "or between two views of an image, changed by augment.… (core/contrast.py); the rest of "
        "the batch are the negatives",
    ] = 0.0
    relate: Annotated[
        float, "weight of PART's own loss, of pairs of one stretch; 0 leaves the others alone"
    ] = 1.0
    between: Annotated[
        float,
        "weight of pairs of patches in two stretches (see stretches): how far apart windows of a "
        "recording lie that are minutes apart (ours); 0: there are none",
    ] = 0.0

    def __post_init__(self) -> None:
        check_range("objective.patches", self.patches, 0)
        if self.loss == "histogram" and (self.sampling == "sizes" or self.target_scale == "unit"):
            raise ConfigError(
                "objective.loss=histogram counts translations in patches: it goes neither with "
                "sampling=sizes nor with target_scale=unit."
            )
        if self.target_scale == "unit" and self.sampling == "sizes":
            raise ConfigError(
                "objective.target_scale=unit counts translations in the window's reach, which the "
                "size ratios of sampling=sizes have nothing to do with; leave it at patch."
            )
        if self.span:
            check_range("objective.span", self.span, 1.0)
            if self.sampling != "off-grid":
                raise ConfigError(
                    f"objective.span is for off-grid patches, not for {self.sampling}."
                )
        check_range("objective.stretches", self.stretches, 1)
        if self.stretches > 1 and (not self.span or self.patches % self.stretches):
            raise ConfigError(
                f"objective.stretches={self.stretches} needs objective.span, and objective.patches "
                f"(here {self.patches}) to be a multiple of it."
            )
        check_range("objective.focus_share", self.focus_share, 0.0, 1.0)
        if self.focus != "none" and self.sampling != "off-grid":
            raise ConfigError(f"objective.focus is for off-grid patches, not for {self.sampling}.")
        if self.focus != "none" and self.loss_on == "apart":
            raise ConfigError(
                "objective.focus does not go with objective.loss_on=apart: how many pairs of a "
                "batch lie apart is not known before all its windows are seen."
            )
        check_range("objective.pairs", self.pairs, 1e-6, 1.0)
        check_range("objective.heads", self.heads, 1)
        check_range("objective.hidden", self.hidden, 0)
        check_range("objective.position_mask", self.position_mask, 0.0, 1.0)
        check_range("objective.jitter", self.jitter, 0.0)
        check_range("objective.context", self.context, 0.0)
        check_range("objective.relate", self.relate, 0.0)
        check_range("objective.between", self.between, 0.0)
        if self.between and self.stretches < 2:
            raise ConfigError(
                "objective.between is of pairs in two stretches: it needs objective.stretches of 2 "
                "or more, and objective.span."
            )
        if not self.context and not self.relate and not self.between:
            raise ConfigError(
                "objective.relate, objective.context and objective.between are all 0: nothing to "
                "learn."
            )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of the decoder. Published for images: width 512, 16 heads, depth 8 (MAE), 2 (DropPos).

    Nothing is published for signals.
    """

    width: Annotated[int, "size of a token in the decoder; a multiple of its heads"] = 256
    depth: Annotated[int, "transformer blocks of the decoder; published: 8 (MAE), 2 (DropPos)"] = 2
    heads: Annotated[int, "attention heads of a block of the decoder"] = 8

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads"):
            check_range(f"objective.decoder.{name}", getattr(self, name), 1)
        if self.width % self.heads:
            raise ConfigError(
                f"objective.decoder.width ({self.width}) must be a multiple of "
                f"objective.decoder.heads ({self.heads})."
            )


@dataclass(frozen=True, kw_only=True)
class MaeConfig:
    """MAE. The mask is the published one; MAE gives no decoder for signals."""

    name: Literal["mae"] = "mae"
    positions: ClassVar[str] = "sincos"  # what the encoder is told of places
    mask_ratio: Annotated[float, "share of the grid's patches that the encoder does not see"] = 0.75
    target: Annotated[
        Literal["patch", "channel", "raw"],
        "what is reconstructed: each patch at mean 0 and variance 1 (MAE's norm_pix_loss), the "
        "same per channel of a patch, or as given",
    ] = "patch"
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        check_range("objective.mask_ratio", self.mask_ratio, 0.01, 0.99)


@dataclass(frozen=True, kw_only=True)
class PartMaskedConfig(PartConfig):
    """PART and MAE on one encoder (ours): the paper's outlook, "reconstruct and relate"."""

    name: Literal["part-masked"] = "part-masked"
    reconstruct: Annotated[float, "weight of MAE's loss beside PART's"] = 1.0
    mask_ratio: Annotated[float, "share of the grid's patches that MAE hides"] = 0.5
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("objective.reconstruct", self.reconstruct, 0.0)
        check_range("objective.mask_ratio", self.mask_ratio, 0.01, 0.99)


@dataclass(frozen=True, kw_only=True)
class Mp3Config:
    """MP3. Published for images; nothing is for signals."""

    name: Literal["mp3"] = "mp3"
    positions: ClassVar[str] = "none"  # what the encoder is told of places
    mask_ratio: Annotated[
        float,
        "share of the patches that are never attended to (eta); published: 0.5 for CIFAR, 0.75 "
        "for ImageNet",
    ] = 0.5

    def __post_init__(self) -> None:
        check_range("objective.mask_ratio", self.mask_ratio, 0.0, 0.99)


@dataclass(frozen=True, kw_only=True)
class DropPosConfig:
    """DropPos. The defaults are published for images; nothing is for signals.

    The decoder has no positions.
    """

    name: Literal["droppos"] = "droppos"
    positions: ClassVar[str] = "sincos"  # what the encoder is told of places
    mask_ratio: Annotated[float, "share of the grid's patches that are not seen at all"] = 0.75
    position_ratio: Annotated[float, "share of the seen patches whose position is dropped"] = 0.75
    sigma: Annotated[
        float, "width of the smoothed target at the start, in patches; falls linearly to 0"
    ] = 1.0
    temperature: Annotated[
        float, "of the softmax that weights patches by their likeness to [CLS]; 0 weights all alike"
    ] = 0.1
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        check_range("objective.mask_ratio", self.mask_ratio, 0.0, 0.99)
        check_range("objective.position_ratio", self.position_ratio, 0.01, 1.0)
        check_range("objective.sigma", self.sigma, 0.0)
        check_range("objective.temperature", self.temperature, 0.0)


@dataclass(frozen=True, kw_only=True)
class RelativePositioningConfig:
    """Relative positioning (Banville et al. 2019, 2021). The defaults of the bounds are ours."""

    name: Literal["relative-positioning"] = "relative-positioning"
    positions: ClassVar[str] = "none"  # what the encoder is told of places
    patches: Annotated[
        int,
        "patches of a window, N, all pairs of which are looked at; 0 takes the modality's, else "
        "the grid's number",
    ] = 0
    near: Annotated[
        float, "patches so far apart or less, in patches from middle to middle, are near (tau_pos)"
    ] = 3.0
    far: Annotated[
        float, "patches farther apart than this are far (tau_neg); those between are left out"
    ] = 10.0

    def __post_init__(self) -> None:
        check_range("objective.patches", self.patches, 0)
        check_range("objective.near", self.near, 1.0)
        check_range("objective.far", self.far, 1.0)
        if self.far < self.near:
            raise ConfigError(
                f"objective.far ({self.far:g}) must not be below objective.near ({self.near:g})."
            )


Pool = Annotated[
    Literal["cls", "mean", "mean+sd", "mean+sd+spectrum", "projection"],
    "what the head sees: the [CLS] token (the paper's); the patch tokens' mean; and SD; and the "
    "patches' mean log spectrum as it comes in (ours); or what the projection head makes that the "
    "encoder was trained with, where it has one and is left as it is",
]


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The classifier on top of an encoder."""

    positions: Annotated[
        Literal["learned", "sincos", "none"],
        "codes of the patches' positions: learned anew (the paper's), learned from sine-cosine "
        "codes on (those of MAE and DropPos), or none (the paper's supervised without)",
    ] = "learned"
    pool: Pool = "cls"


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """What of its channels a model is not shown in training, with labels or without."""

    channel_dropout: Annotated[
        float,
        "chance that a channel of a window is silenced in training, so that a model learns to do "
        "without it; one at least is left",
    ] = 0.0

    def __post_init__(self) -> None:
        check_range("loss.channel_dropout", self.channel_dropout, 0.0, 0.9)


@dataclass(frozen=True, kw_only=True)
class LossConfig(ChannelConfig):
    """How labels are used in training; everything is off by default but the paper's smoothing."""

    smoothing: Annotated[
        float, "share of a label that is spread over all classes (Szegedy et al. 2016)"
    ] = 0.1
    mixup: Annotated[
        float,
        "alpha of the Beta distribution by which inputs and labels of a batch are mixed in pairs "
        "(Zhang et al. 2018); 0 is off",
    ] = 0.0
    cutmix: Annotated[
        float,
        "alpha of the Beta distribution of the share of an input that a box from another one "
        "replaces, labels mixed by volume (Yun et al. 2019); 0 is off; with mixup either as often",
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("loss.smoothing", self.smoothing, 0.0, 0.9)
        check_range("loss.mixup", self.mixup, 0.0)
        check_range("loss.cutmix", self.cutmix, 0.0)
