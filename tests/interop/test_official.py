"""Official checkpoints: one file a layout, made up small, and what does not fit it."""

import argparse

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from partsig.errors import ConfigError
from partsig.interop.official import LAYOUTS, open_official
from partsig.runs.encoder_sources import rebuild

SHAPE = {"patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2, "img_size": 24}
EXACT = {"atol": 1e-5, "rtol": 1e-5}


def vit(base="vit_base_patch16_224", **more):
    torch.manual_seed(0)
    model = timm.create_model(base, num_classes=0, **(SHAPE | more)).eval()
    for parameter in model.parameters():  # so that no two weights are alike
        nn.init.normal_(parameter, std=0.1)
    return model


def beit(**more):
    usual = {"init_values": 0.1, "global_pool": "token", "use_rel_pos_bias": False}
    return vit("beit_base_patch16_224", **(usual | more))


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def moco_head():
    """Three layers to 5, as moco/builder.py makes them for a ViT, with statistics as if trained."""
    layers = []
    for before, after in ((128, 32), (32, 32), (32, 5)):
        last = after == 5
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    head = nn.Sequential(*layers).train()
    for _ in range(20):
        head(torch.randn(16, 128))
    return head.eval()


class DinoHead(nn.Module):
    """As main_dino.py's: the last layer by length and direction of its rows."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(128, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 16)]
        self.mlp = nn.Sequential(*layers)
        self.g, self.v = torch.rand(40, 1) + 0.5, torch.randn(40, 16)

    def forward(self, x):
        rows = self.g * self.v / self.v.norm(dim=1, keepdim=True)
        return F.normalize(self.mlp(x), dim=-1) @ rows.T

    def state(self):
        last = {"last_layer.weight_g": self.g, "last_layer.weight_v": self.v}
        return under("mlp.", self.mlp.state_dict()) | last


def file_of(name, model, head=None):
    """What the file of a method holds, with all that is to be left out."""
    state = model.state_dict()
    other = torch.zeros(3)
    if name == "mocov3":
        own = under("module.base_encoder.", state)
        if head is not None:
            own |= under("module.base_encoder.head.", head.state_dict())
        own |= under("module.momentum_encoder.", state) | {"module.predictor.0.weight": other}
        return {"epoch": 300, "arch": "vit_base", "state_dict": own, "optimizer": {"state": {}}}
    if name in ("dino", "ibot"):
        more = {} if head is None else under("head.", head.state())
        teacher = under("backbone.", state) | more
        if name == "ibot":
            teacher |= {"backbone.masked_embed": other, "head.last_layer2.weight_v": other}
        student = under("module.", under("backbone.", {k: v + 1 for k, v in state.items()}))
        return {"teacher": teacher, "student": student, "epoch": 800}
    if name == "cae":
        own = under("encoder.", state) | under("teacher.", state) | {"mask_token": other}
        own |= {"pretext_neck.head.weight": other, "encoder_to_decoder.weight": other}
        return {"model": own}
    dropped = {
        "beit": {"mask_token": other, "lm_head.weight": other, "lm_head.bias": other},
        "mae": {"mask_token": other, "decoder_embed.weight": other, "decoder_blocks.0.x": other},
        "deit": {"head.weight": other, "head.bias": other},
    }
    if name == "beit":
        index = model.rel_pos_bias.relative_position_index
        dropped["beit"]["rel_pos_bias.relative_position_index"] = index
    return {"model": state | dropped[name]}


def model_of(name):
    if name == "cae":
        return beit(use_abs_pos_emb=True)
    if name == "beit":
        return beit(use_abs_pos_emb=False, use_shared_rel_pos_bias=True)
    return vit()


@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_a_published_file_gives_its_own_features(name, tmp_path):
    model = model_of(name)
    torch.save(file_of(name, model), tmp_path / "weights.pth")
    opened = open_official(name, tmp_path / "weights.pth")
    assert (opened.method, opened.encoder.projected_width) == (f"official:{name}", 0)
    assert opened.encoder.config.size == 24
    x = opened.encoder.prepared(torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8))
    found = opened.encoder.encode_prepared(x, taps=(0, 1), norm=True)
    expected = model.forward_features(x)
    torch.testing.assert_close(found.cls, expected[:, 0], **EXACT)
    torch.testing.assert_close(found.map.flatten(2).transpose(1, 2), expected[:, 1:], **EXACT)
    torch.testing.assert_close(found.maps[1], found.map, **EXACT)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_says_whose_it_is(name):
    layout = LAYOUTS[name]
    assert layout.source.startswith(("facebookresearch/", "bytedance/", "lxtGH/", "microsoft/"))
    assert (layout.licence or "unknown") in ("apache-2.0", "cc-by-nc-4.0", "unknown")
    assert layout.scale[0][0] == (0.5 if name == "beit" else 0.485)
    assert (LAYOUTS["mae"].licence, LAYOUTS["mocov3"].licence) == ("cc-by-nc-4.0",) * 2


@pytest.mark.parametrize(
    ("name", "head", "width"),
    [("mocov3", moco_head, 5), ("dino", DinoHead, 40), ("ibot", DinoHead, 40)],
)
@torch.inference_mode()
def test_projection_heads_are_kept(name, head, width, tmp_path):
    """What is projected is the whole head's answer to [CLS], at its running statistics."""
    model = model_of(name)
    with torch.enable_grad():
        theirs = head()
    torch.save(file_of(name, model, theirs), tmp_path / "weights.pth")
    opened = open_official(name, tmp_path / "weights.pth")
    assert opened.encoder.projected_width == width
    images = torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8)
    found = opened.encoder.encode(images, project=True)
    torch.testing.assert_close(found.projection, theirs(found.cls), **EXACT)
    again = rebuild(opened.facts, 3)
    again.load_state_dict(opened.encoder.state_dict())
    torch.testing.assert_close(
        again.eval().encode(images, project=True).projection, found.projection
    )


@torch.inference_mode()
def test_other_forms_of_the_same_files(tmp_path):
    """A backbone alone, a student alone, a head already folded, DeiT with distillation."""
    model, file = vit(), tmp_path / "weights.pth"
    x = torch.randn(2, 3, 24, 24)
    expected = model.forward_features(x)[:, 0]

    def cls(name):
        return open_official(name, file).encoder.encode_prepared(x).cls

    torch.save(model.state_dict(), file)
    torch.testing.assert_close(cls("dino"), expected, **EXACT)
    torch.save({"state_dict": model.state_dict() | {"masked_embed": torch.zeros(1)}}, file)
    torch.testing.assert_close(cls("ibot"), expected, **EXACT)
    torch.save({"student": under("module.backbone.", model.state_dict())}, file)
    torch.testing.assert_close(cls("dino"), expected, **EXACT)
    head = DinoHead()
    folded = under("head.mlp.", head.mlp.state_dict())
    folded["head.last_layer.weight"] = head.g * head.v / head.v.norm(dim=1, keepdim=True)
    torch.save({"teacher": under("backbone.", model.state_dict()) | folded}, file)
    projected = open_official("dino", file).encoder.projector(expected)
    torch.testing.assert_close(projected, head(expected), **EXACT)
    distilled = vit("deit_base_distilled_patch16_224")
    more = {"head.weight": torch.zeros(1), "head_dist.weight": torch.zeros(1)}
    torch.save({"model": distilled.state_dict() | more}, file)
    torch.testing.assert_close(cls("deit"), distilled.forward_features(x)[:, 0], **EXACT)


def test_heads_are_those_of_the_published_models(tmp_path):
    """ViT-S of MoCo v3 has twelve heads, of all others six; ViT-H sixteen."""
    for name, width, heads in (("mocov3", 384, 12), ("dino", 384, 6), ("mae", 1280, 16)):
        model = vit(embed_dim=width, num_heads=heads, depth=1)
        torch.save(file_of(name, model), tmp_path / "weights.pth")
        opened = open_official(name, tmp_path / "weights.pth")
        assert opened.facts["arguments"]["num_heads"] == heads
        assert opened.encoder.model.blocks[0].attn.num_heads == heads


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    ("without", "more", "told"),
    [
        ("blocks.1.norm1.bias", {}, r"it lacks blocks\.1\.norm1\.bias\."),
        ("norm.weight", {"norm.wait": 3}, r"it lacks norm\.weight; it has besides .*norm\.wait"),
        (None, {"blocks.0.attn.more": 3}, r"it has besides .*blocks\.0\.attn\.more\."),
        ("patch_embed.proj.weight", {}, r"it lacks 'patch_embed\.proj\.weight'; it has blocks"),
        ("cls_token", {}, r"it lacks cls_token"),
    ],
)
def test_a_key_that_is_missing_or_left_over_is_never_ignored(name, without, more, told, tmp_path):
    content = file_of(name, model_of(name))
    place = next(key for key in ("teacher", "state_dict", "model") if key in content)
    state = content[place]
    whose = {"mocov3": "module.base_encoder.", "cae": "encoder."}
    prefix = whose.get(name, "backbone." if place == "teacher" else "")
    if without:
        del state[prefix + without]
    state |= {prefix + key: torch.zeros(n) for key, n in more.items()}
    if without == "patch_embed.proj.weight":
        told = told.replace("blocks", "")
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="does not fit the encoder: .*" + told):
        open_official(name, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("cae", {"other.weight": 3}, r"it has besides other\.weight"),
        ("mocov3", {"module.queue": 3}, r"it has besides module\.queue"),
        ("mae", {"head.weight": 3}, r"it has besides head\.weight"),
        (
            "dino",
            {"head.mlp.0.bias": 3},
            r"it has head\.mlp\.0\.bias, and no layers of",
        ),
    ],
)
def test_what_is_of_no_known_part_is_refused(name, more, told, tmp_path):
    content = file_of(name, model_of(name))
    place = next(key for key in ("teacher", "state_dict", "model") if key in content)
    content[place] |= {key: torch.zeros(n) for key, n in more.items()}
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=told):
        open_official(name, tmp_path / "weights.pth")


def test_a_beit_that_counts_places_otherwise_is_refused(tmp_path):
    content = file_of("beit", model_of("beit"))
    content["model"]["rel_pos_bias.relative_position_index"] = torch.zeros(10, 10).long()
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="it counts relative places otherwise"):
        open_official("beit", tmp_path / "weights.pth")


def test_a_file_that_needs_more_says_how_it_is_converted(tmp_path):
    """And what it says works."""
    content, file = file_of("dino", vit()), tmp_path / "full.pth"
    torch.save(content | {"args": argparse.Namespace(arch="vit_small")}, file)
    with pytest.raises(ConfigError, match=r"more than plain weights.*convert it once") as told:
        open_official("dino", file)
    code = str(told.value).split('python -c "')[1].rstrip('"')
    code = code.replace("full.pth", str(file))
    exec(code.replace("full-weights.pth", str(tmp_path / "full-weights.pth")), {})
    assert open_official("dino", tmp_path / "full-weights.pth").licence == "apache-2.0"


@pytest.mark.parametrize(
    ("text", "content", "told"),
    [
        ("mocov2", {}, "nearest is 'mocov3'; it can be 'mocov3', 'dino', 'ibot'"),
        ("mae", None, "needs --weights FILE, the checkpoint that was published"),
        ("mae", {}, "holds no weights by name"),
        ("mae", {"model": {"a": 3}}, "holds no weights by name"),
        ("mae", [3], "holds no weights by name"),
        ("mae@25", {"model": "vit"}, "cannot take 25 pixels: it must be a multiple of 8"),
    ],
)
def test_mistakes_are_told(text, content, told, tmp_path):
    file = None if content is None else tmp_path / "weights.pth"
    if content == {"model": "vit"}:
        content = file_of("mae", vit())
    if file is not None:
        torch.save(content, file)
    with pytest.raises(ConfigError, match=told):
        open_official(text, file)
