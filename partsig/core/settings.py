"""The shape of an encoder: settings, which need no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of the encoder. The defaults are the paper's 12.9-M one for EEG (section 3.4).

    The paper gives the number only; with 600 values per patch, MLP ratio 4 and a width that is a
    multiple of 32, depth 4 and width 512 is the one shape that has it: 12,918,784 parameters.
    *Differs from the paper*: tokens may know a patch's spectrum as well (:func:`log_spectrum`).
    """

    width: Annotated[int, "size of a token; a multiple of heads"] = 512
    depth: Annotated[int, "transformer blocks"] = 4
    heads: Annotated[int, "attention heads of a block"] = 8
    mlp_ratio: Annotated[float, "width of a block's MLP, in widths of the token"] = 4.0
    drop_path: Annotated[
        float, "chance that a block is skipped in training, in the last block; less in those before"
    ] = 0.1
    tokens: Annotated[
        Literal["linear", "linear+spectrum"],
        "what is made of a patch: a linear map of its samples (the paper's), or also one of its "
        "log power spectrum (ours)",
    ] = "linear"
    attention: Annotated[
        Literal["window", "patch"],
        "what a patch's token attends to: the whole window (the paper's), or itself alone (ours), "
        "so that of what surrounds it only the window's scale tells; [CLS] attends to all",
    ] = "window"

    def __post_init__(self) -> None:
        # Far above what anybody trains: a configuration from elsewhere must not fill the memory.
        check_range("encoder.width", self.width, 1, 16_384)
        check_range("encoder.depth", self.depth, 1, 256)
        check_range("encoder.heads", self.heads, 1, 1024)
        check_range("encoder.mlp_ratio", self.mlp_ratio, 0.1, 64)
        check_range("encoder.drop_path", self.drop_path, 0.0, 0.99)
        if self.width % self.heads:
            raise ConfigError(
                f"encoder.width ({self.width}) must be a multiple of encoder.heads ({self.heads})."
            )
