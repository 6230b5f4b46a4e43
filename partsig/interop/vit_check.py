"""Whether a ViT of timm computes what partsig's encoder computes, part by part."""

from typing import TYPE_CHECKING

from torch import nn

from partsig.errors import ConfigError

if TYPE_CHECKING:
    from timm.models.vision_transformer import Block, VisionTransformer

EPS = 1e-6  # of every layer norm of core.encoder and core.transformer
ONLY = "a plain one, with [CLS], can be taken over."
# What stands at the end of a ViT, after the tokens that an encoder is asked for.
HEAD = ("head.", "attn_pool.")


def check_plain(model: nn.Module) -> None:
    """Raise ConfigError, naming the first property, unless a ViT of timm computes as ours does.

    What follows the last norm (pooling, head) is no matter, nor is what only training knows
    (dropout, stochastic depth, gradient checkpoints) or the way that attention is computed.
    """
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(model, VisionTransformer):
        raise ConfigError(f"{type(model).__name__} is no ViT of timm; one can be taken over.")
    if type(model) is not VisionTransformer:
        raise ConfigError(f"this ViT is a {type(model).__name__}; {ONLY}")
    for other in _trunk(model):
        raise ConfigError(f"this ViT has {other}; {ONLY}")
    if not len(model.blocks):
        raise ConfigError(f"this ViT has no block; {ONLY}")
    for number, block in enumerate(model.blocks):
        for other in _activation(block):
            raise ConfigError(
                f"this ViT has {other} in its blocks; one with GELU can be taken over."
            )
        for other in _block(block, model.embed_dim):
            raise ConfigError(f"this ViT has {other} in block {number}; {ONLY}")
    first = model.blocks[0]
    for number, block in enumerate(model.blocks):
        if _shape(block) != _shape(first):
            raise ConfigError(f"this ViT has blocks of two shapes (0 and {number}); {ONLY}")


def _trunk(model: "VisionTransformer"):
    """Yield what a ViT has around its blocks that ours has not."""
    from timm.layers import PatchEmbed

    if model.cls_token is None:
        yield "no class token (cls_token)"
    if model.reg_token is not None:
        yield f"{model.reg_token.shape[1]} register tokens (reg_token)"
    if not _is_identity(model.norm_pre):
        yield "a norm before its blocks (norm_pre)"
    embed = model.patch_embed
    if type(embed) is not PatchEmbed:
        yield f"patches embedded by {type(embed).__name__}"
    elif not _is_identity(embed.norm):
        yield f"{type(embed.norm).__name__} on its embedded patches (patch_embed.norm)"
    elif embed.proj.bias is None:
        yield "no bias in its patch embedding (patch_embed.proj)"
    elif not _is_plain_convolution(embed.proj):
        yield "patches that overlap, or that have gaps (patch_embed.proj)"
    if _is_identity(model.norm):
        yield "no final norm on its tokens (norm)"
    yield from _norm(model.norm, "norm", model.embed_dim)


def _block(block: "Block", width: int):
    """Yield what a block has that ours has not."""
    from timm.layers import Attention, Mlp
    from timm.models.vision_transformer import Block

    if type(block) is not Block:
        yield f"a {type(block).__name__}"
        return
    if not (_is_identity(block.ls1) and _is_identity(block.ls2)):
        yield "layer scale (ls1, ls2)"
    yield from _norm(block.norm1, "norm1", width)
    yield from _norm(block.norm2, "norm2", width)
    attention, mlp = block.attn, block.mlp
    if type(attention) is not Attention:
        yield f"{type(attention).__name__} for attention"
        return
    if not (_is_identity(attention.q_norm) and _is_identity(attention.k_norm)):
        yield "normalised queries and keys (attn.q_norm, attn.k_norm)"
    if not _is_identity(attention.norm):
        yield "a norm in its attention (attn.norm)"
    if attention.gate is not None:
        yield "gated attention (attn.gate)"
    if attention.qkv.bias is None or attention.proj.bias is None:
        yield "attention without biases (attn.qkv, attn.proj)"
    if attention.num_heads * attention.head_dim != width:
        yield f"{attention.num_heads} heads of {attention.head_dim} in a width of {width} (attn)"
    if attention.scale != attention.head_dim**-0.5:
        yield f"attention of the scale {attention.scale:g} (attn.scale)"
    if type(mlp) is not Mlp:
        yield f"{type(mlp).__name__} for an MLP"
        return
    if not _is_identity(mlp.norm):
        yield "a norm in its MLP (mlp.norm)"
    if not (isinstance(mlp.fc1, nn.Linear) and isinstance(mlp.fc2, nn.Linear)):
        yield "convolutions in its MLP (mlp.fc1, mlp.fc2)"
    if mlp.fc1.bias is None or mlp.fc2.bias is None:
        yield "an MLP without biases (mlp.fc1, mlp.fc2)"


def _activation(block: "Block"):
    """Yield the activation of a block's MLP, unless it is the exact GELU."""
    from timm.layers import GELU, Mlp

    act = block.mlp.act if type(getattr(block, "mlp", None)) is Mlp else None
    exact = type(act) is GELU or (type(act) is nn.GELU and act.approximate == "none")
    if act is not None and not exact:
        yield act


def _norm(norm: nn.Module, name: str, width: int):
    """Yield how a norm differs from a layer norm over (width,) with :data:`EPS`."""
    from timm.layers import LayerNorm

    if type(norm) not in (nn.LayerNorm, LayerNorm):
        yield f"{type(norm).__name__} where others have LayerNorm ({name})"
    elif norm.weight is None or norm.bias is None:
        yield f"a LayerNorm without weight or bias ({name})"
    elif norm.eps != EPS:
        yield f"LayerNorm with an epsilon of {norm.eps:g}, not {EPS:g} ({name})"
    elif tuple(norm.normalized_shape) != (width,):
        yield f"a LayerNorm over {tuple(norm.normalized_shape)}, not ({width},) ({name})"


def _is_plain_convolution(proj: nn.Module) -> bool:
    return (
        type(proj) is nn.Conv2d
        and proj.stride == proj.kernel_size
        and proj.padding in ((0, 0), 0, "valid")
        and proj.dilation == (1, 1)
        and proj.groups == 1
    )


def _is_identity(module: nn.Module) -> bool:
    return type(module) is nn.Identity


def _shape(block: "Block") -> tuple[int, int]:
    return block.attn.num_heads, block.mlp.fc1.out_features
