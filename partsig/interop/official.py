"""``--from official:NAME --weights FILE``: checkpoints as their makers published them.

One layout a method: where in the file its weights lie, what their names begin with, what is left
out on purpose, and which of them are its projection head. Every other weight must fit the encoder,
and none of the encoder's may be missing. Shapes are read from the weights: width, depth, patch and
image size; heads are as many as the published models of that width have.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partsig.errors import ConfigError, check_option
from partsig.interop.timm_encoder import NEEDED, TimmEncoder, TimmEncoderConfig
from partsig.interop.timm_sources import opened, split_size
from partsig.interop.weights import file_sha256, fill_strictly, read_weights, state_under
from partsig.runs.encoder_sources import OpenedEncoder

# timm.data's constants: ImageNet's, and those of models that centre values by one half.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
VIT, BEIT, DISTILLED = (
    "vit_base_patch16_224",
    "beit_base_patch16_224",
    "deit_base_distilled_patch16_224",
)
# Heads of 64 are usual; ViT-H has 16 of 80 (Dosovitskiy et al. 2021, table 1).
HEADS = {1280: 16}
USUAL_HEAD = 64
SHARED = "rel_pos_bias"  # BEiT's table of relative places, one for all blocks


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a method's published file is laid out.

    ``under``: keys of the file below which weights lie, the first that there is; else at its top.
    ``prefixes`` begin the encoder's names, the longest first; ``head`` those of the projection
    head, after the prefix or by itself; ``dropped`` are beginnings of names that are left out on
    purpose, told before the prefix is taken off. ``heads``: attention heads by width, where they
    are not the usual ones. ``source`` is where the layout is published.
    """

    under: tuple[str, ...]
    prefixes: tuple[str, ...] = ("",)
    dropped: tuple[str, ...] = ()
    head: str = ""
    head_kind: str = ""
    heads: Mapping[int, int] = field(default_factory=dict)
    base: str = VIT
    scale: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    licence: str | None
    source: str


LAYOUTS = {
    "mocov3": Layout(
        under=("state_dict",),
        prefixes=("module.base_encoder.", "base_encoder."),
        dropped=(
            "module.momentum_encoder.",
            "momentum_encoder.",
            "module.predictor.",
            "predictor.",
        ),
        head="head.",
        head_kind="moco",
        heads={384: 12},  # vits.py
        licence="cc-by-nc-4.0",
        source="facebookresearch/moco-v3, convert_to_deit.py, moco/builder.py",
    ),
    "dino": Layout(
        under=("teacher", "student", "state_dict"),
        prefixes=("module.backbone.", "backbone.", ""),
        head="head.",
        head_kind="dino",
        licence="apache-2.0",
        source="facebookresearch/dino, utils.py, main_dino.py",
    ),
    "ibot": Layout(
        under=("state_dict", "teacher", "student"),
        prefixes=("module.backbone.", "backbone.", ""),
        # The embedding of hidden patches, and the head of patches where it is one of its own.
        dropped=(
            *("masked_embed", "backbone.masked_embed", "module.backbone.masked_embed"),
            *("head.last_layer2.", "head.mlp2.", "module.head.last_layer2.", "module.head.mlp2."),
        ),
        head="head.",
        head_kind="dino",
        licence="apache-2.0",
        source="bytedance/ibot, models/head.py, evaluation",
    ),
    "cae": Layout(
        under=("model",),
        prefixes=("encoder.",),
        dropped=(
            *("teacher.", "pretext_neck.", "mask_token", "encoder_to_decoder."),
            *("encoder_to_decoder_norm.", "alignment_encoder.", "regressor", "decoder"),
        ),
        heads={384: 12},  # modeling_cae.py
        base=BEIT,
        licence=None,  # its repository names none
        source="lxtGH/CAE, models/modeling_cae.py",
    ),
    "beit": Layout(
        under=("model",),
        # The index of relative places is computed; cls_pt_layers are BEiT v2's.
        dropped=(
            "mask_token",
            "lm_head.",
            "cls_pt_layers.",
            "rel_pos_bias.relative_position_index",
        ),
        base=BEIT,
        scale=HALF,
        licence="apache-2.0",
        source="microsoft/unilm, beit/modeling_pretrain.py",
    ),
    "mae": Layout(
        under=("model",),
        dropped=("decoder_", "mask_token"),
        licence="cc-by-nc-4.0",
        source="facebookresearch/mae, models_mae.py",
    ),
    "deit": Layout(
        under=("model",),
        dropped=("head.", "head_dist."),
        licence="apache-2.0",
        source="facebookresearch/deit, models.py",
    ),
}


def open_official(text: str, weights: Path | None) -> OpenedEncoder:
    """Return the encoder of a published checkpoint, with its projection head where it has one.

    Raises ConfigError for an unknown method, without a file, and for one of another layout.
    """
    name, size = split_size(text, "official")
    check_option("--from official", name, LAYOUTS)
    if weights is None:
        raise ConfigError(
            f"--from official:{text} needs --weights FILE, the checkpoint that was published."
        )
    try:
        import timm  # noqa: F401
    except ImportError:
        raise ConfigError(NEEDED) from None
    layout = LAYOUTS[name]
    state = state_under(read_weights(weights), layout.under, weights)
    what = f"--weights {weights}, read as {name}'s,"
    trunk, head = divided(state, layout)
    head = folded(head) if layout.head_kind == "dino" else head
    base, arguments = shape_of(trunk, layout, what)
    config = TimmEncoderConfig(
        model=base,
        arguments=arguments,
        size=arguments["img_size"],
        mean=layout.scale[0],
        std=layout.scale[1],
        interpolation="bicubic",
        projector=projector_of(head, layout, what),
    )
    encoder = TimmEncoder(config)
    fill_strictly(encoder.model, trunk, what)
    check_index(state, encoder, what)
    if encoder.projector is not None:
        renamed = {_as_layers(key, layout): value for key, value in head.items()}
        fill_strictly(encoder.projector, renamed, f"the projection head of {what}")
    return opened(
        encoder,
        size,
        method=f"official:{text}",
        licence=layout.licence,
        sha256=file_sha256(weights),
    )


def check_index(state: Mapping[str, Tensor], encoder: TimmEncoder, what: str) -> None:
    """Raise ConfigError where a file counts relative places otherwise than timm's BEiT does."""
    theirs = state.get(f"{SHARED}.relative_position_index")
    ours = getattr(encoder.model, SHARED, None)
    if theirs is None or ours is None:
        return
    if not torch.equal(theirs, ours.relative_position_index):
        raise ConfigError(f"{what} does not fit the encoder: it counts relative places otherwise.")


def divided(
    state: Mapping[str, Tensor], layout: Layout
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of the encoder, and of its projection head, without their prefixes.

    What is dropped on purpose is in neither; a name that begins otherwise keeps it, and will not
    fit.
    """
    trunk: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(layout.dropped):
            continue
        prefix = next((start for start in layout.prefixes if key.startswith(start)), "")
        name = key.removeprefix(prefix)
        bare = name.removeprefix("module.")  # DINO's head is beside its backbone, not in it
        if layout.head and bare.startswith(layout.head):
            head[bare.removeprefix(layout.head)] = value
        else:
            trunk[name] = value
    return trunk, head


def shape_of(trunk: Mapping[str, Tensor], layout: Layout, what: str) -> tuple[str, dict[str, Any]]:
    """Return timm's name and the arguments of an encoder of these weights.

    Raises ConfigError where what they are read from is missing.
    """
    try:
        width, _, patch, _ = trunk["patch_embed.proj.weight"].shape
        hidden = trunk["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        first = ", ".join(sorted(trunk)[:3]) or "nothing"
        raise ConfigError(
            f"{what} does not fit the encoder: it lacks {error}; it has {first}."
        ) from None
    depth = 1 + max(int(match[1]) for key in trunk if (match := re.match(r"blocks\.(\d+)\.", key)))
    arguments: dict[str, Any] = {
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": layout.heads.get(width, HEADS.get(width, max(width // USUAL_HEAD, 1))),
        "mlp_ratio": hidden / width,
    }
    base = DISTILLED if "dist_token" in trunk else layout.base
    code, table = trunk.get("pos_embed"), trunk.get(f"{SHARED}.relative_position_bias_table")
    grid = 14  # of a file without either, which will not fit
    if code is not None:
        grid = math.isqrt(code.shape[1] - (2 if base == DISTILLED else 1))
    elif table is not None:  # (2 grid - 1)² distances, and three of [CLS]'s
        grid = (math.isqrt(table.shape[0] - 3) + 1) // 2
    arguments["img_size"] = grid * patch
    if base == BEIT:
        if table is not None:
            arguments["num_heads"] = table.shape[1]
        arguments |= {
            "use_abs_pos_emb": code is not None,
            "use_rel_pos_bias": False,
            "use_shared_rel_pos_bias": table is not None,
            "global_pool": "token",
        }
    return base, arguments


def projector_of(head: Mapping[str, Tensor], layout: Layout, what: str) -> dict[str, Any] | None:
    """Return what a projection head is, from its weights; None where there are none.

    Linear layers are the weights of two axes, in the order of their numbers, the prototypes last.
    """
    if not head:
        return None
    layers = [key for key in head if key.endswith("weight") and head[key].ndim == 2]
    layers.sort(key=lambda key: (key.startswith("last_layer"), _number(key)))
    if not layers:
        first = ", ".join(f"{layout.head}{key}" for key in sorted(head)[:3])
        raise ConfigError(
            f"{what} does not fit the encoder: it has {first}, and no layers of a projection head."
        )
    widths = [head[layers[0]].shape[1], *(head[key].shape[0] for key in layers)]
    return {"kind": layout.head_kind, "widths": widths}


def folded(head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a head whose last layer's weight is one tensor (K, E), not a length and a direction.

    That is torch's ``weight_norm``: g v / |v|, each row by itself.
    """
    head = dict(head)
    length = head.pop("last_layer.weight_g", None)
    direction = head.pop("last_layer.weight_v", None)
    if length is not None and direction is not None:
        rows = direction / direction.norm(dim=1, keepdim=True)
        head["last_layer.weight"] = length * rows
    return head


def _number(key: str) -> int:
    match = re.search(r"\d+", key)
    return int(match[0]) if match else 0


def _as_layers(key: str, layout: Layout) -> str:
    """Return what our head calls a weight: MoCo v3 numbers its layers without a name."""
    return f"layers.{key}" if layout.head_kind == "moco" else key
