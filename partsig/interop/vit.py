"""An encoder of images as timm's or torchvision's ViT, and timm's as an encoder: weights renamed.

The same transformer under three sets of names. partsig puts [CLS] last and the others first, which
makes no difference to attention; a run that was pretrained without positions becomes a ViT whose
position embeddings are zero, to be learned in fine-tuning, one that was pretrained with codes (MAE,
DropPos) a ViT that has these. **Images are to be normalised as in
partsig**, each and every channel to mean 0 and SD 1 (:func:`partsig.core.normalise`), not by
ImageNet's constants.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.geometry import grid_index
from partsig.core.position import resample, sincos
from partsig.errors import CheckpointError, ConfigError
from partsig.interop.timm_encoder import fetched
from partsig.interop.vit_check import HEAD, ONLY, check_plain
from partsig.interop.weights import fill_strictly, read_weights, state_sha256, state_under
from partsig.runs.encoder_sources import ForeignEncoder
from partsig.runs.models import load_encoder
from partsig.runs.settings import Shape

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torchvision.models import VisionTransformer as TorchvisionViT

NEEDED = "{} is needed: pip install 'partsig[images]'."
# Names in partsig's encoder, and what they are called elsewhere; {} is the block's number.
TIMM = {
    "cls": "cls_token",
    "embed.weight": "patch_embed.proj.weight",
    "embed.bias": "patch_embed.proj.bias",
    "blocks.{}.norm1": "blocks.{}.norm1",
    "blocks.{}.attention.qkv": "blocks.{}.attn.qkv",
    "blocks.{}.attention.out": "blocks.{}.attn.proj",
    "blocks.{}.norm2": "blocks.{}.norm2",
    "blocks.{}.mlp.0": "blocks.{}.mlp.fc1",
    "blocks.{}.mlp.2": "blocks.{}.mlp.fc2",
    "norm": "norm",
}
LAYER = "encoder.layers.encoder_layer_{}."
TORCHVISION = {
    "cls": "class_token",
    "embed.weight": "conv_proj.weight",
    "embed.bias": "conv_proj.bias",
    "blocks.{}.norm1": LAYER + "ln_1",
    "blocks.{}.attention.qkv.weight": LAYER + "self_attention.in_proj_weight",
    "blocks.{}.attention.qkv.bias": LAYER + "self_attention.in_proj_bias",
    "blocks.{}.attention.out": LAYER + "self_attention.out_proj",
    "blocks.{}.norm2": LAYER + "ln_2",
    "blocks.{}.mlp.0": LAYER + "mlp.0",
    "blocks.{}.mlp.2": LAYER + "mlp.3",
    "norm": "encoder.ln",
}


def to_timm(run: str | Path, **options: object) -> "VisionTransformer":
    """Return timm's ``VisionTransformer`` with the encoder of a pretraining run on images.

    ``options`` are further arguments of timm's class (``num_classes``, ``global_pool``, …; without
    them it has no head); of another ``img_size``, position codes are interpolated.
    ``forward_features`` gives [CLS] and the patch tokens as partsig does; ``global_pool="avg"`` is
    the mean of those tokens, normalised before and not after.

    Raises CheckpointError for a run on signals, with spectra in its tokens or
    ``encoder.attention=patch``, ConfigError where timm is not installed or ``options`` ask for a
    ViT of other weights.
    """
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError:
        raise ConfigError(NEEDED.format("timm")) from None
    encoder, code, size, patch, channels = _of_images(Path(run))
    shape = encoder.config
    usual = {
        "img_size": size,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": shape.width,
        "depth": shape.depth,
        "num_heads": shape.heads,
        "mlp_ratio": shape.mlp_ratio,
        "num_classes": 0,
        "fc_norm": False,
    }
    try:
        model = VisionTransformer(**(usual | options))
    except (AssertionError, TypeError, ValueError) as error:
        told = str(error) or "it does not say why"
        raise ConfigError(f"timm makes no ViT with these options: {told}.") from None
    code = resample(code, (size // patch,) * 2, model.patch_embed.grid_size)
    state = _renamed(encoder, TIMM, channels, patch) | {"pos_embed": _at_front(code)}
    _fill(model, state, "head.")
    if from_timm(model).config.heads != shape.heads:
        raise ConfigError(
            f"these options make a ViT of other heads than the run's {shape.heads}: leave out "
            "num_heads."
        )
    return model


def to_torchvision(run: str | Path, num_classes: int = 1000) -> "TorchvisionViT":
    """Return torchvision's ``VisionTransformer`` with the encoder of a pretraining run on images.

    Its head is fresh. Raises as :func:`to_timm`; torchvision takes images of three channels only.
    """
    try:
        from torchvision.models import VisionTransformer
    except ImportError:
        raise ConfigError(NEEDED.format("torchvision")) from None
    encoder, code, size, patch, channels = _of_images(Path(run))
    if channels != 3:
        raise CheckpointError(f"{run} has {channels} channels; torchvision's ViT takes three.")
    shape = encoder.config
    model = VisionTransformer(
        image_size=size,
        patch_size=patch,
        num_layers=shape.depth,
        num_heads=shape.heads,
        hidden_dim=shape.width,
        mlp_dim=round(shape.width * shape.mlp_ratio),
        num_classes=num_classes,
    )
    state = _renamed(encoder, TORCHVISION, channels, patch) | {
        "encoder.pos_embedding": _at_front(code)
    }
    _fill(model, state, "heads.")
    return model


def from_timm(model: "VisionTransformer") -> Encoder:
    """Return the encoder that has the weights of timm's ViT; its position embeddings are left out.

    With these as its ``code`` its tokens are those of timm's ``forward_features``, within 1e-5.

    Raises ConfigError, naming what differs, for a model that computes otherwise (another activation
    than GELU, another epsilon, registers, layer scale, no [CLS], …).
    """
    check_plain(model)
    state = model.state_dict()
    width, channels, *patch = state["patch_embed.proj.weight"].shape
    first = model.blocks[0]
    config = EncoderConfig(
        width=width,
        depth=len(model.blocks),
        heads=first.attn.num_heads,
        mlp_ratio=first.mlp.fc1.out_features / width,
        drop_path=0.0,
    )
    encoder = Encoder(config, channels, patch)
    names = _names(encoder, TIMM)
    left = [
        name
        for name in state
        if name not in names.values() and name != "pos_embed" and not name.startswith(HEAD)
    ]
    missing = [name for name in names.values() if name not in state]
    if left or missing:
        raise ConfigError(
            f"this ViT has {', '.join(left[:3]) or 'nothing more'} and lacks "
            f"{', '.join(missing[:3]) or 'nothing'}; {ONLY}"
        )
    own = encoder.state_dict()
    encoder.load_state_dict({key: state[names[key]].reshape(own[key].shape) for key in own})
    return encoder


def position_code(model: "VisionTransformer", grid: Sequence[int]) -> torch.Tensor | None:
    """Return the position codes (N + 1, E) of timm's ViT on a grid of patches, [CLS]'s last.

    None where it has none; [CLS]'s are zero where they belong to the patches only.
    """
    if model.pos_embed is None:
        return None
    own = model.pos_embed.detach()[0].float()
    patches, cls = (own, torch.zeros_like(own[:1])) if model.no_embed_class else (own[1:], own[:1])
    return resample(torch.cat([patches, cls]), model.patch_embed.grid_size, grid)


def open_timm(name: str, weights: Path | None, window: Shape, _n_channels: int) -> ForeignEncoder:
    """Return the encoder of a ViT of timm by its name, with its position codes for images (H, W).

    ``weights`` is a file with its state dict (.pt, .pth, or .safetensors); without one, timm's own
    cache, or what it fetches. *Differs from timm*: images are normalised as in partsig, each by
    itself.

    Raises ConfigError for an unknown name and for weights that are not of that ViT.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(NEEDED.format("timm")) from None
    if len(window) != 2:
        raise ConfigError(f"--from timm:{name} takes images; the store holds signals.")
    if name.partition(".")[0] not in timm.list_models():
        near = difflib.get_close_matches(name, timm.list_models("vit*"), n=1)
        told = f"; nearest is {near[0]!r}" if near else ""
        raise ConfigError(f"--from timm:{name}: timm has no such model{told}.")
    model = timm.create_model(name, pretrained=False, num_classes=0)
    try:
        encoder = from_timm(model)  # what cannot be taken over is told before weights are read
    except ConfigError as error:
        raise ConfigError(
            f"--from timm:{name}: {error} As it is, frozen, it is used by --set train=probe or knn."
        ) from None
    if weights is None:
        model = fetched(name, f"timm:{name}")
    else:
        state = state_under(read_weights(weights), ("model",), weights)
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
        fill_strictly(model, state, f"--weights {weights}")
    encoder = from_timm(model)
    licence = timm.get_pretrained_cfg(name).license
    patch = tuple(model.patch_embed.patch_size)
    if any(length % p for length, p in zip(window, patch, strict=True)):
        raise ConfigError(
            f"--from timm:{name} has patches of {patch[0]} x {patch[1]} pixels; the images have "
            f"{window[0]} x {window[1]}, which must be a multiple: set size, or preprocess larger "
            "ones."
        )
    grid = [length // p for length, p in zip(window, patch, strict=True)]
    return ForeignEncoder(
        encoder=encoder,
        patch=patch,
        n_channels=model.patch_embed.proj.in_channels,
        code=position_code(model, grid),
        method=f"timm:{name}",
        # Of a file that came under no tag, nobody knows whose weights they are.
        licence=licence if weights is None or "." in name else None,
        sha256=state_sha256(model.state_dict()) if weights is None else None,
    )


def _of_images(run: Path) -> tuple[Encoder, torch.Tensor, int, int, int]:
    """Return encoder, position codes (N + 1, E), image size, patch (px), channels."""
    pretrained = load_encoder(run)
    encoder, settings = pretrained.encoder, pretrained.settings
    if pretrained.run.modality != "image":
        raise CheckpointError(f"{run} was pretrained on signals; a ViT here takes images.")
    if encoder.spectrum is not None:
        raise CheckpointError(f"{run} has spectra in its tokens, which other ViTs have not.")
    if encoder.config.attention != "window":
        raise CheckpointError(
            f"{run} was trained with encoder.attention={encoder.config.attention}; in other ViTs "
            "patches attend to all."
        )
    window, patch = (settings.size,) * 2, (settings.patch_px,) * 2
    index = grid_index(window, patch)
    code = torch.zeros(len(index) + 1, encoder.config.width)  # the last is [CLS]'s
    if settings.positions == "sincos":
        code[:-1] = sincos(index, encoder.config.width)
    return encoder, code, window[0], patch[0], len(pretrained.run.ch_names)


def _at_front(code: torch.Tensor) -> torch.Tensor:
    """Return position codes (N + 1, E) as others have them: (1, 1 + N, E), [CLS] first."""
    return torch.cat([code[-1:], code[:-1]]).unsqueeze(0)


def _names(encoder: Encoder, table: dict[str, str]) -> dict[str, str]:
    """Return the other name of every weight of an encoder."""
    names = {}
    for key in encoder.state_dict():
        number = re.search(r"blocks\.(\d+)\.", key)
        general = key if number is None else key.replace(number[0], "blocks.{}.", 1)
        stem = general if general in table else general.rpartition(".")[0]
        tail = general.removeprefix(stem)
        names[key] = table[stem].format(*(number.groups() if number else ())) + tail
    return names


def _renamed(
    encoder: Encoder, table: dict[str, str], channels: int, patch: int
) -> dict[str, torch.Tensor]:
    names = _names(encoder, table)
    state = {names[key]: value.clone() for key, value in encoder.state_dict().items()}
    weight, cls = table["embed.weight"], table["cls"]
    state[weight] = state[weight].view(-1, channels, patch, patch)
    state[cls] = state[cls].view(1, 1, -1)
    return state


def _fill(model: torch.nn.Module, state: dict[str, torch.Tensor], head: str) -> None:
    """Load weights into a ViT; its head keeps what it has."""
    own = model.state_dict()
    state = state | {key: value for key, value in own.items() if key.startswith(head)}
    shapes, given = ({k: v.shape for k, v in weights.items()} for weights in (own, state))
    if shapes != given:
        differing = sorted(key for key, _ in shapes.items() ^ given.items())
        raise ConfigError(
            f"these options make a ViT that has other weights than the run ({differing[0]}); leave "
            "out what changes registers, [CLS], norms or position embeddings."
        )
    model.load_state_dict(state)
