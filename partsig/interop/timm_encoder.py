"""Any encoder of timm whose ``forward_intermediates`` works, as one that does not learn.

Images are given as a store holds them, 0 to 255, and are brought to the size, the mean and the SD
that the weights were made with (``timm.get_pretrained_cfg``). *Differs from timm's own transform*:
the whole image is resized, none of its margin is cut off (``crop_pct``), since stored images were
cropped when they were preprocessed; and one channel is taken for three equal ones.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from partsig.core.frozen_encoder import Encoded, FrozenEncoder, on_grid
from partsig.core.normalise import widened
from partsig.errors import CheckpointError, ConfigError
from partsig.interop.projection import Projector, build_projector

NEEDED = "timm is needed: pip install 'partsig[images]'."
INTERPOLATIONS = ("bicubic", "bilinear")
# What may be told to timm besides a model's name, and so stand in the file of a run: numbers,
# and whether a BEiT has which codes. Above these bounds nobody trains.
LARGEST = {
    "patch_size": 64,
    "embed_dim": 8192,
    "depth": 128,
    "num_heads": 128,
    "mlp_ratio": 16,
    "init_values": 1,
    "img_size": 4096,
}
SWITCHES = ("use_abs_pos_emb", "use_rel_pos_bias", "use_shared_rel_pos_bias")
POOLS = ("token", "avg")  # of global_pool, which decides where a BEiT has its last norm


@dataclass(frozen=True, kw_only=True)
class TimmEncoderConfig:
    """What a model of timm is, its weights apart, and what images it is to be given.

    ``arguments`` differ from those of the model's name; ``size``: pixels of a side of what it is
    given. ``mean`` and ``std`` are of values from 0 to 1, a channel each. ``projector``: layers of
    its projection head, see :mod:`~partsig.interop.projection`. ``width`` and ``depth`` are found.
    """

    model: str
    arguments: Mapping[str, Any]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    projector: Mapping[str, Any] | None = None
    width: int = 0
    depth: int = 0


class TimmEncoder(FrozenEncoder):
    """A model of timm without its classifier, and a projection head where one is told of.

    Raises ConfigError for a model that gives no maps.
    """

    rank = 2

    def __init__(self, config: TimmEncoderConfig) -> None:
        super().__init__()
        self.model = create(config.model, config.arguments)
        fit_size(self.model, config.size)
        self.projector: Projector | None = None
        if config.projector is not None:
            self.projector = build_projector(config.projector)
            self.projected_width = self.projector.width
        given = len(config.mean)
        self.channels = (3, 1) if given == 3 else (given,)
        options = inspect.signature(self.model.forward_intermediates).parameters
        self._options = {"return_prefix_tokens": True} if "return_prefix_tokens" in options else {}
        self.tap_widths = tuple(int(info["num_chs"]) for info in self.model.feature_info)
        self.n_prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        self.has_cls = self.n_prefix > 0 and getattr(self.model, "cls_token", None) is not None
        self.pooled_width = int(getattr(self.model, "head_hidden_size", self.model.num_features))
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name)).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        width, depth = int(self.model.num_features), len(self.tap_widths)
        self.config = TimmEncoderConfig(**_plain(config) | {"width": width, "depth": depth})

    def prepared(self, x: Tensor) -> Tensor:
        """Return images (B, C, H, W), 0 to 255, as the model wants them, (B, C, size, size).

        Resized with its filter, low-passed where they become smaller, rows first, and rounded to
        whole values after either axis, as Pillow does it; then at its mean and SD.
        """
        x, size, mode = widened(x), self.config.size, self.config.interpolation
        for extent in ((x.shape[2], size), (size, size)):
            if tuple(x.shape[2:]) != extent:
                x = F.interpolate(x, extent, mode=mode, align_corners=False, antialias=True)
                x = (x.clamp(0, 255) + 0.5).floor()
        if x.shape[1] == 1 and len(self.config.mean) == 3:
            x = x.expand(-1, 3, -1, -1)
        return ((x / 255 - self.mean) / self.std).to(next(self.model.parameters()).dtype)

    def encode(
        self, x: Tensor, taps: Sequence[int] = (), norm: bool = False, project: bool = False
    ) -> Encoded:
        self.check(taps, project)
        return self.encode_prepared(self.prepared(x), taps, norm, project)

    def encode_prepared(
        self, x: Tensor, taps: Sequence[int] = (), norm: bool = False, project: bool = False
    ) -> Encoded:
        """Return the same of images (B, C, H, W) that are normalised already, of any size that the
        model takes.
        """
        if taps:
            order = sorted(set(taps))
            try:
                last, found = self.model.forward_intermediates(
                    x, indices=order, norm=norm, output_fmt="NCHW", **self._options
                )
            except AssertionError as error:  # such as Hiera's, which norms none of its maps
                raise ConfigError(f"timm's {self.config.model} cannot do it: {error}.") from None
            pairs = {
                tap: one if isinstance(one, tuple) else (one, None)
                for tap, one in zip(order, found, strict=True)
            }
            maps = tuple(pairs[tap][0] for tap in taps)
            prefix = tuple(pairs[tap][1] for tap in taps)
        else:
            last, maps, prefix = self.model.forward_features(x), (), ()
        pooled = self.model.forward_head(last, pre_logits=True)
        cls = last[:, 0] if self.has_cls else None
        return Encoded(
            pooled=pooled,
            map=self._as_map(last, x),
            cls=cls,
            maps=maps,
            prefix=prefix,
            projection=self.projector(pooled if cls is None else cls) if project else None,
        )

    def _as_map(self, last: Tensor, x: Tensor) -> Tensor:
        """Return the last features, in whatever order timm has them, as a map (B, E, h, w)."""
        if last.ndim == 3:  # tokens, (B, P + N, E)
            tokens = last[:, self.n_prefix :]
            told = getattr(getattr(self.model, "patch_embed", None), "dynamic_feat_size", None)
            grid = (math.isqrt(tokens.shape[1]),) * 2 if told is None else told(x.shape[2:])
            if math.prod(grid) != tokens.shape[1]:
                raise ConfigError(f"timm's {self.config.model} has tokens that form no map.")
            return on_grid(tokens, grid)
        if last.shape[1] != self.config.width and last.shape[-1] == self.config.width:
            return last.permute(0, 3, 1, 2)  # such as Swin's, (B, h, w, E)
        return last


def create(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return timm's model of this name, drawn at random, without a classifier.

    Raises ConfigError for a name that timm has not, and for one without maps.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(NEEDED) from None
    base = model.partition(".")[0]
    if base not in timm.list_models(base):
        raise ConfigError(f"timm has no model {model!r}.")
    made = timm.create_model(base, pretrained=False, num_classes=0, **arguments)
    if not all(hasattr(made, name) for name in ("forward_intermediates", "feature_info")):
        raise ConfigError(f"timm's {model} gives no maps of its blocks; name another encoder.")
    return made


def fetched(name: str, origin: str) -> nn.Module:
    """Return timm's model with the weights of its cache, or those that it fetches.

    Raises ConfigError where they are neither at hand nor to be had.
    """
    import timm

    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # noqa: BLE001 - whatever its download meets
        raise ConfigError(
            f"--from {origin}: its weights are not in timm's cache and cannot be fetched "
            f"({type(error).__name__}); pass --weights FILE."
        ) from None


def fit_size(model: nn.Module, size: int) -> None:
    """Bring a model to images of this size: position codes are interpolated, as timm does it.

    Raises ConfigError for one that takes its own size only.
    """
    native = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if native is None or tuple(native) == (size, size):
        return
    if not hasattr(model, "set_input_size"):
        raise ConfigError(
            f"{type(model).__name__} takes images of {native[0]} x {native[1]} only; leave the "
            "size out."
        )
    patch = getattr(model.patch_embed, "patch_size", (1, 1))
    if size % patch[0] or size % patch[1]:
        raise ConfigError(
            f"{type(model).__name__} cannot take {size} pixels: it must be a multiple of "
            f"{patch[0]}."
        )
    try:
        model.set_input_size(img_size=(size, size))
    except (AssertionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{type(model).__name__} cannot take {size} pixels: {reason}.") from None


def facts_of(encoder: TimmEncoder) -> dict[str, Any]:
    """Return what a run tells of an encoder, as plain values, for :func:`build`."""
    return {"builder": "timm", **asdict(encoder.config)}


def build(facts: Mapping[str, Any]) -> TimmEncoder:
    """Return an encoder without its weights; raise CheckpointError for facts that are damaged."""
    try:
        return TimmEncoder(_checked(facts))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"what is told of the encoder is damaged ({reason}).") from None


def _checked(facts: Mapping[str, Any]) -> TimmEncoderConfig:
    """Return facts from a file as a configuration; raise ValueError for what is none."""
    values = {key: value for key, value in facts.items() if key != "builder"}
    known = {field.name for field in fields(TimmEncoderConfig)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"unknown: {', '.join(unknown)}")
    for key, value in values["arguments"].items():
        number = key in LARGEST and isinstance(value, int | float) and 0 <= value <= LARGEST[key]
        switch = key in SWITCHES and isinstance(value, bool)
        if not (number or switch or (key == "global_pool" and value in POOLS)):
            raise ValueError(f"{key}: {value!r}")
    if not 1 <= values["size"] <= LARGEST["img_size"]:
        raise ValueError(f"size: {values['size']!r}")
    if values["interpolation"] not in INTERPOLATIONS:
        raise ValueError(f"interpolation: {values['interpolation']!r}")
    for key in ("mean", "std"):
        values[key] = tuple(float(value) for value in values[key])
        if not values[key] or not all(map(math.isfinite, values[key])):
            raise ValueError(f"{key}: {values[key]!r}")
    if len(values["mean"]) != len(values["std"]) or min(values["std"]) <= 0:
        raise ValueError(f"std: {values['std']!r}")
    return TimmEncoderConfig(**values)


def _plain(config: TimmEncoderConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}
