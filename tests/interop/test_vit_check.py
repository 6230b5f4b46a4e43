"""A ViT of timm gives the same features within 1e-5, or is refused by the name of what differs."""

from functools import partial

import pytest
import timm
import torch
from timm.layers import GluMlp, LayerNorm, RmsNorm, SwiGLU
from timm.models import vision_transformer as vits
from torch import nn

from partsig.core.crop import crop_grid
from partsig.errors import ConfigError
from partsig.interop.vit import from_timm, open_timm, position_code

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}
# timm's modules whose models are, or look like, its ViT.
MODULES = ("vision_transformer", "deit", "beit", "cait", "vision_transformer_relpos")
MODULES += ("vision_transformer_sam", "naflexvit")


def difference(model: nn.Module) -> float:
    """Return the largest difference of features, for random weights; ConfigError where refused."""
    from_timm(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    model, encoder = model.eval(), from_timm(model).eval()
    embed = model.patch_embed
    x = torch.randn(2, embed.proj.in_channels, *embed.img_size, generator=generator)
    with torch.inference_mode():
        theirs = model.forward_features(x)
        code = position_code(model, embed.grid_size)
        tokens, cls = encoder(crop_grid(x, embed.patch_size), None, code)
    assert theirs.std() > 0.1
    return max((theirs[:, 0] - cls).abs().max(), (theirs[:, 1:] - tokens).abs().max()).item()


def small(name: str) -> nn.Module:
    size = {"img_size": 56 if "patch14" in name else 64}
    try:
        return timm.create_model(name, **TINY, **size)
    except AssertionError:  # of a size of its own
        return timm.create_model(name, **TINY)


@pytest.mark.parametrize("module", MODULES)
def test_every_vit_of_the_registry_is_equal_or_refused(module):
    accepted, refused = [], []
    names = timm.list_models(module=module)
    for name in names:
        try:
            accepted.append(difference(small(name)))
        except ConfigError as error:
            refused.append(str(error))
    assert max(accepted, default=0) < 1e-5
    assert all(told.endswith("can be taken over.") for told in refused)
    assert len(refused) + len(accepted) == len(names) > 0
    assert len(accepted) >= {"vision_transformer": 24, "deit": 4}.get(module, 0)


def made(**options: object) -> nn.Module:
    usual = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
    torch.manual_seed(0)
    return vits.VisionTransformer(**(usual | {"num_classes": 0} | options))


class Scaled(vits.Attention):
    """Attention that computes otherwise, with the same weights."""

    def forward(self, x, attn_mask=None, is_causal=False):
        return 2 * super().forward(x, attn_mask, is_causal)


class Doubled(vits.Block):
    """A block that computes otherwise, with the same weights."""

    def forward(self, x, attn_mask=None, is_causal=False):
        return 2 * super().forward(x, attn_mask, is_causal)


class Shifted(vits.VisionTransformer):
    """A ViT that computes otherwise, with the same weights."""

    def forward_features(self, x, attn_mask=None, is_causal=False):
        return super().forward_features(x, attn_mask, is_causal) + 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_pool": "map"},
        {"global_pool": "avg", "fc_norm": False, "num_classes": 5},
        {"no_embed_class": True},
        {"pos_embed": "none"},
        {"norm_layer": partial(nn.LayerNorm, eps=1e-6)},
        {"act_layer": "gelu"},
        {"attn_drop_rate": 0.1, "proj_drop_rate": 0.1, "pos_drop_rate": 0.1},
        {"patch_drop_rate": 0.5, "drop_path_rate": 0.3, "drop_rate": 0.2},
        {"dynamic_img_size": True, "dynamic_img_pad": True},
        {"in_chans": 1, "img_size": (8, 12), "mlp_ratio": 2.7, "depth": 1},
        {"patch_size": (2, 8)},
    ],
    ids=str,
)
def test_what_is_not_of_the_tokens_makes_no_difference(options):
    assert difference(made(**options)) < 1e-5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"norm_layer": partial(nn.LayerNorm, eps=1e-5)}, r"epsilon of 1e-05, not 1e-06 \(norm\)"),
        ({"norm_layer": partial(LayerNorm, eps=1e-3)}, r"epsilon of 0\.001"),
        ({"norm_layer": RmsNorm}, r"RmsNorm where others have LayerNorm \(norm\)"),
        ({"norm_layer": partial(LayerNorm, affine=False)}, "LayerNorm without weight or bias"),
        ({"act_layer": nn.ReLU}, r"ReLU\(\) in its blocks; one with GELU"),
        ({"act_layer": partial(nn.GELU, approximate="tanh")}, "GELU.*tanh.* one with GELU"),
        ({"act_layer": "quick_gelu"}, "QuickGELU"),
        ({"block_fn": vits.ParallelScalingBlock}, "a ParallelScalingBlock in block 0"),
        ({"block_fn": vits.ParallelThingsBlock}, "a ParallelThingsBlock in block 0"),
        ({"block_fn": vits.ResPostBlock}, "a ResPostBlock in block 0"),
        ({"block_fn": Doubled}, "a Doubled in block 0"),
        ({"attn_layer": Scaled}, "Scaled for attention in block 0"),
        ({"attn_layer": "diff"}, "DiffAttention for attention"),
        ({"mlp_layer": SwiGLU}, "SwiGLU for an MLP in block 0"),
        ({"mlp_layer": GluMlp}, "GluMlp for an MLP in block 0"),
        ({"init_values": 1e-5}, r"layer scale \(ls1, ls2\) in block 0"),
        ({"qk_norm": True}, "normalised queries and keys"),
        ({"scale_attn_norm": True}, "a norm in its attention"),
        ({"scale_mlp_norm": True}, "a norm in its MLP"),
        ({"qkv_bias": False}, "attention without biases"),
        ({"proj_bias": False}, "attention without biases"),
        ({"class_token": False, "global_pool": "avg", "fc_norm": False}, "no class token"),
        ({"reg_tokens": 2}, "2 register tokens"),
        ({"pre_norm": True}, r"a norm before its blocks \(norm_pre\)"),
        ({"embed_norm_layer": LayerNorm}, "LayerNorm on its embedded patches"),
        ({"final_norm": False}, "no final norm"),
        ({"global_pool": "avg"}, "no final norm on its tokens"),
        ({"depth": 0}, "no block"),
    ],
    ids=str,
)
def test_what_computes_otherwise_is_refused_by_its_name(options, named):
    with pytest.raises(ConfigError, match=named) as told:
        from_timm(made(**options))
    assert str(told.value).endswith("can be taken over.")


def test_what_differs_in_one_place_only_is_refused():
    eps, act, heads, scale = (made() for _ in range(4))
    eps.blocks[1].norm2.eps = 1e-5
    act.blocks[1].mlp.act = nn.SiLU()
    heads.blocks[1].attn.num_heads, heads.blocks[1].attn.head_dim = 8, 4
    heads.blocks[1].attn.scale = 0.5
    scale.blocks[1].attn.scale = 1.0
    for model, named in (
        (eps, r"epsilon of 1e-05, not 1e-06 \(norm2\) in block 1"),
        (act, "SiLU"),
        (heads, r"blocks of two shapes \(0 and 1\)"),
        (scale, "attention of the scale 1"),
    ):
        with pytest.raises(ConfigError, match=named):
            from_timm(model)


def test_another_class_or_another_convolution_is_refused():
    with pytest.raises(ConfigError, match="this ViT is a Shifted"):
        from_timm(Shifted(img_size=16, patch_size=4, embed_dim=32, depth=1, num_heads=4))
    overlapping = made()
    overlapping.patch_embed.proj.stride = (2, 2)
    with pytest.raises(ConfigError, match="patches that overlap"):
        from_timm(overlapping)


def test_a_weight_that_is_left_over_is_not_ignored():
    model = made()
    model.blocks[0].register_parameter("gate", nn.Parameter(torch.zeros(1)))
    model.pos_embed_window = nn.Parameter(torch.zeros(1))
    with pytest.raises(ConfigError, match=r"has pos_embed_window, blocks\.0\.gate and lacks noth"):
        from_timm(model)


@pytest.mark.parametrize("options", [{}, {"no_embed_class": True}, {"pos_embed": "none"}], ids=str)
def test_a_source_by_name_brings_its_codes(options, tmp_path, monkeypatch):
    """The features of ``--from timm:NAME`` are those of timm, whatever its positions are."""
    model = made(**options).eval()
    torch.save(model.state_dict(), tmp_path / "vit.pt")
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: made(**options))
    foreign = open_timm("vit_tiny_patch16_224", tmp_path / "vit.pt", (16, 16), 3)
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        tokens, cls = foreign.encoder.eval()(crop_grid(x, (4, 4)), None, foreign.code)
        theirs = model.forward_features(x)
    torch.testing.assert_close(torch.cat([cls[:, None], tokens], 1), theirs, atol=1e-5, rtol=0)
    for content in (torch.zeros(3), [1, 2], {"a": 1}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ConfigError, match="holds no weights by name"):
            open_timm("vit_tiny_patch16_224", tmp_path / "other.pt", (16, 16), 3)
