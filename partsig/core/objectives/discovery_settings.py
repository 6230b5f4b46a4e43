"""The settings of objectives that discover parts; they need no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from partsig.errors import ConfigError, check_range

Weight = Annotated[float | None, "weight of this loss; 0 leaves it out, null takes the weighting's"]


@dataclass(frozen=True, kw_only=True)
class DiscoveryConfig:
    """What every discovery of parts has: what is looked through, what learns, and known changes.

    Through the frozen network ``phi`` windows are looked at; the segmenter says of every place
    which of the parts it is.
    """

    # Such an objective trains no encoder of ours: it brings what it looks through.
    brings_encoder: ClassVar[bool] = True
    judged_by: ClassVar[str] = "part-discovery"
    positions: ClassVar[str] = "none"
    least_batch: ClassVar[int] = 3

    parts: Annotated[int, "parts that are told apart, K"] = 4
    phi: Annotated[
        str | None,
        "frozen network through which windows are looked at, as in --from: a pretraining run, "
        "timm:…, torchvision:…, official:…, packaged:…, or scratch, an untrained one of the shape "
        "of encoder.…; it must be named",
    ] = None
    phi_weights: Annotated[str | None, "file of its weights, where it needs one"] = None
    taps: Annotated[
        tuple[int, ...], "after which of its blocks, from 0, maps are taken; [] is the last map"
    ] = ()
    tap_weights: Annotated[
        tuple[float, ...], "factors of these maps in the losses; [] is 1 for all"
    ] = ()
    segmenter: Annotated[
        str,
        "what learns: maps, two layers on the frozen maps (the form for few cores); or a network "
        "of timm, such as resnet50, at an output stride of 8, on the windows themselves",
    ] = "maps"
    segmenter_weights: Annotated[
        str | None,
        "what such a network begins with: a file of weights, or pretrained, which timm fetches; "
        "null: drawn at random",
    ] = None
    hidden: Annotated[int, "width of the layer between, with segmenter=maps"] = 96
    foreground: Annotated[
        Literal["whole", "mask", "box", "file", "none"],
        "places that count: whole, all; mask, the store's, of all classes but background; box, the "
        "store's; file, the masks of foreground_file; none, told apart by two-means of the maps "
        "and a vote of the border",
    ] = "whole"
    foreground_file: Annotated[
        str | None, "with foreground=file: a .npz with a mask (H, W) for each item, by its name"
    ] = None
    views: Annotated[
        int,
        "known changes of every item, made and looked at once (segmenter=maps); 0: drawn anew "
        "each time, as published",
    ] = 0
    warp: Annotated[
        Literal["affine", "thin-plate", "both"],
        "what moves: turn, shift and stretch; a thin plate bent at 25 points of a square; or both",
    ] = "affine"
    turn: Annotated[float, "largest turn in degrees, of two axes or more; published: 60"] = 60.0
    shift: Annotated[float, "largest shift, as a share of the window; published: 0.1"] = 0.1
    stretch: Annotated[float, "largest stretch or shrinkage, as a share"] = 0.1
    bend: Annotated[
        float, "SD of the shift of a thin plate's points, as a share of half the longest axis"
    ] = 0.05
    jitter: Annotated[
        float,
        "largest change of brightness, contrast, saturation and hue, or of a signal's gain and "
        "noise, as a share; of the segmenter's input alone; published: 0.3",
    ] = 0.3
    drop: Annotated[
        float, "chance that an image loses its colour, or a signal a channel; published: 0.2"
    ] = 0.2

    def __post_init__(self) -> None:
        check_range("objective.parts", self.parts, 2, 256)
        check_range("objective.hidden", self.hidden, 1, 16_384)
        check_range("objective.views", self.views, 0, 64)
        check_range("objective.turn", self.turn, 0.0, 180.0)
        check_range("objective.shift", self.shift, 0.0, 0.9)
        check_range("objective.stretch", self.stretch, 0.0, 0.9)
        check_range("objective.bend", self.bend, 0.0, 0.5)
        check_range("objective.jitter", self.jitter, 0.0, 1.0)
        check_range("objective.drop", self.drop, 0.0, 1.0)
        for tap in self.taps:
            check_range("objective.taps", tap, 0)
        for weight in self.tap_weights:
            check_range("objective.tap_weights", weight, 0.0)
        if self.tap_weights and len(self.tap_weights) != max(len(self.taps), 1):
            raise ConfigError(
                f"objective.tap_weights has {len(self.tap_weights)} factors, and objective.taps "
                f"{max(len(self.taps), 1)} maps: give one for each."
            )
        if self.tap_weights and not any(self.tap_weights):
            raise ConfigError("objective.tap_weights are all 0: nothing would be looked at.")
        if self.views and self.segmenter != "maps":
            raise ConfigError(
                f"objective.views={self.views} keeps maps for segmenter=maps; with "
                f"segmenter={self.segmenter} leave it at 0."
            )
        if (self.foreground == "file") != (self.foreground_file is not None):
            raise ConfigError(
                "objective.foreground=file and objective.foreground_file belong together: give "
                "both, or neither."
            )


# Weights of the losses: on raw maps and colours as published (Choudhury et al. 2021, for CUB and
# DeepFashion; PASCAL-Part takes 5.7e4 in the end), and where both have unit variance (ours).
WEIGHTS = {
    "published": {"feature": 5.0, "contrast": 2.3e3, "visual": 30.0, "equivariance": 5.7e3},
    "unit": {"feature": 1.0, "contrast": 0.3, "visual": 0.3, "equivariance": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class PartDiscoveryConfig(DiscoveryConfig):
    """Part discovery from contrastive reconstruction (Choudhury et al. 2021)."""

    name: Literal["part-discovery"] = "part-discovery"
    weighting: Annotated[
        Literal["unit", "published"],
        "unit: maps and colours at unit variance over the foreground, so that the losses are "
        "shares of unexplained variance and weights mean the same for every network (ours); "
        "published: raw ones, with the published weights",
    ] = "unit"
    feature: Weight = None
    contrast: Annotated[
        Literal["images", "views", "l2", "none"],
        "what makes a part alike: images, the same part of another image against all other parts "
        "(the paper's); its ablations: views, of the same image changed; l2, a squared distance in "
        "place of a contrast; none",
    ] = "images"
    contrast_weight: Weight = None
    temperature: Annotated[float, "of the contrast; published: 0.19"] = 0.19
    visual: Weight = None
    equivariance: Weight = None
    directions: Annotated[
        Literal["one", "both"],
        "divergence of the two views' parts: one way, the first view as a fixed target, which is "
        "what was run; or both ways, as the paper writes it",
    ] = "one"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("objective.temperature", self.temperature, 1e-3, 10.0)
        for name in ("feature", "contrast_weight", "visual", "equivariance"):
            if (value := getattr(self, name)) is not None:
                check_range(f"objective.{name}", value, 0.0)
        if not any(self.weights().values()):
            raise ConfigError("all losses of the objective have the weight 0: nothing to learn.")

    def weights(self) -> dict[str, float]:
        """Return the weights of feature, contrast, visual and equivariance, as they are meant."""
        own = {
            "feature": self.feature,
            "contrast": 0.0 if self.contrast == "none" else self.contrast_weight,
            "visual": self.visual,
            "equivariance": self.equivariance,
        }
        usual = WEIGHTS[self.weighting]
        return {name: usual[name] if value is None else value for name, value in own.items()}


@dataclass(frozen=True, kw_only=True)
class ScopsConfig(DiscoveryConfig):
    """SCOPS, self-supervised co-part segmentation (Hung et al. 2019).

    Weights are those of the published code's settings for faces in the wild.
    """

    name: Literal["scops"] = "scops"
    concentration: Annotated[float, "weight of the spread of each part about its centre"] = 10.0
    equivariance: Annotated[float, "weight of the divergence of the two views' parts"] = 1e3
    centres: Annotated[float, "weight of the distance of the two views' centres"] = 100.0
    semantic: Annotated[float, "weight of the maps' distance from the parts' vectors"] = 1e4
    orthogonality: Annotated[float, "weight of the likeness of the parts' vectors"] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("concentration", "equivariance", "centres", "semantic", "orthogonality"):
            check_range(f"objective.{name}", getattr(self, name), 0.0)
