"""What objectives that discover parts promise, for windows of one, two and three axes."""

import inspect

import pytest
import torch
from torch import nn

from partsig import contracts
from partsig.contracts import Batch
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.frozen_encoder import FrozenTransformer
from partsig.core.objectives.discovery import dead
from partsig.core.objectives.discovery_settings import PartDiscoveryConfig, ScopsConfig
from partsig.core.objectives.part_discovery import PartDiscovery
from partsig.core.objectives.scops import Scops
from partsig.core.perception import FrozenMaps, bordering, two_means
from partsig.data.images.looks import ImageLooks
from partsig.data.signals.looks import SignalLooks
from partsig.errors import ConfigError
from partsig.train.distributed import World
from partsig.train.step import Stepper

WINDOWS = {1: ((120,), (10,), 2), 2: ((16, 16), (2, 2), 3), 3: ((8, 8, 8), (2, 2, 2), 2)}
KINDS = {PartDiscoveryConfig: PartDiscovery, ScopsConfig: Scops}
ROWS = 6


class Plain:
    """How windows of three axes look: as they are, and they are never changed."""

    width = 2

    def appearance(self, x):
        return x.float()

    def changed(self, x, generator, first, total, *, jitter, drop):
        return x.float()


def looks_of(rank):
    return {1: lambda: SignalLooks(40.0), 2: ImageLooks, 3: Plain}[rank]()


def windows(rank, n=ROWS):
    window, _, channels = WINDOWS[rank]
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, channels, *window, generator=generator)
    x = x.cumsum(-1) * torch.linspace(0.5, 2, n).view(-1, *(1,) * (rank + 1))
    return (128 + 20 * x).clamp(0, 255) if rank == 2 else 20 * x


def made(config, rank, segmenter=None):
    _, patch, channels = WINDOWS[rank]
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=24, depth=2, heads=2, drop_path=0.5), channels, patch)
    phi = FrozenMaps(FrozenTransformer(encoder, channels, patch), (0, 1))
    model = KINDS[type(config)](config, phi, looks_of(rank), segmenter)
    x = windows(rank)
    model.look_at(x, **extras_of(config, x))
    return model


def extras_of(config, x):
    found = {}
    if config.views:
        found["item"] = torch.arange(10, 10 + len(x))
    if config.foreground == "mask":
        inside = torch.ones(len(x), *x.shape[2:])
        inside[..., : x.shape[-1] // 4] = 0
        found["foreground"] = inside
    return found


def draw(model, x, share=None, **known):
    return model(x, torch.Generator().manual_seed(3), share, 0.5, **known)


CASES = [
    pytest.param(kind(**options), rank, id=f"{kind.name}-{rank}-{number}")
    for rank in WINDOWS
    for number, (kind, options) in enumerate(
        [
            (PartDiscoveryConfig, {}),
            (PartDiscoveryConfig, {"views": 2, "warp": "both"}),
            (PartDiscoveryConfig, {"weighting": "published", "foreground": "mask"}),
            (PartDiscoveryConfig, {"contrast": "views", "directions": "both"}),
            (PartDiscoveryConfig, {"contrast": "l2", "foreground": "none"}),
            (ScopsConfig, {"warp": "thin-plate"}),
            (ScopsConfig, {"views": 1, "foreground": "mask"}),
        ]
    )
]


@pytest.mark.parametrize(("config", "rank"), CASES)
def test_it_keeps_an_objectives_promises(config, rank):
    model, x = made(config, rank), windows(rank)
    known = extras_of(config, x)
    before = {name: value.clone() for name, value in model.phi.state_dict().items()}
    state = torch.get_rng_state()
    model.train()
    values = draw(model, x, **known)
    assert torch.equal(torch.get_rng_state(), state)  # draws are the generator's alone
    assert {value.ndim for value in values.values()} == {0}
    assert all(torch.isfinite(value) for value in values.values())
    assert not any(value.requires_grad for name, value in values.items() if name != "loss")
    values["loss"].backward()
    assert all(p.grad is not None for p in model.segmenter.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.phi.parameters())
    assert not any(module.training for module in model.phi.modules())
    assert all(torch.equal(before[k], v) for k, v in model.phi.state_dict().items())
    again = draw(model, x, **known)
    assert again["loss"].item() == values["loss"].item()  # kept views are what was made first
    said = model.in_words({name: value.item() for name, value in values.items()}, "unseen")
    assert "unseen" in said
    parts, ground, maps = model.predict(x, known.get("foreground"))
    grid = tuple(w // p for w, p in zip(WINDOWS[rank][0], WINDOWS[rank][1], strict=True))
    assert parts.shape == (ROWS, config.parts, *grid)
    assert maps.shape == (ROWS, 48, *grid)
    assert ground.shape == (ROWS, *grid)
    torch.testing.assert_close(parts.sum(1), torch.ones(ROWS, *grid))


def test_its_parameters_are_those_of_the_contract():
    promised = list(inspect.signature(contracts.Objective.forward).parameters)
    for module in KINDS.values():
        mine = list(inspect.signature(module.forward).parameters)
        assert mine == [*(n for n in promised if n != "targets"), "item", "foreground"]
    looks = [inspect.signature(getattr(contracts.Looks, n)) for n in ("appearance", "changed")]
    for cls in (ImageLooks, SignalLooks):
        mine = [inspect.signature(getattr(cls, n)) for n in ("appearance", "changed")]
        assert [list(one.parameters) for one in mine] == [list(one.parameters) for one in looks]


# A batch is the same however it is divided.


def stepped(config, parts):
    model, x = made(config, 2), windows(2)
    step = Stepper(
        model=model,
        optimizer=torch.optim.SGD([{"params": list(model.parameters()), "scale": 1.0}], lr=1.0),
        world=World(rank=0, size=1, device=torch.device("cpu")),
        seed=3,
        precision="float32",
        accumulate=parts,
        clip=0.0,
        steps=10,
    )
    values = step(Batch(x, extras=extras_of(config, x)), 2, rate=0.0)
    gradient = [p.grad.flatten() for p in model.parameters() if p.requires_grad]
    return {name: value.item() for name, value in values.items()}, torch.cat(gradient)


@pytest.mark.parametrize(
    "config",
    [
        PartDiscoveryConfig(),
        PartDiscoveryConfig(contrast="views", views=2),
        PartDiscoveryConfig(contrast="l2", weighting="published", foreground="mask"),
        ScopsConfig(),
    ],
    ids=["images", "views", "l2", "scops"],
)
def test_accumulating_changes_neither_loss_nor_gradient(config):
    values, gradient = stepped(config, 1)
    assert gradient.norm() > 1e-4
    for parts in (2, 3):
        own, other = stepped(config, parts)
        for name in ("loss", *config_terms(config)):
            assert own[name] == pytest.approx(values[name], rel=1e-4, abs=1e-6), name
        assert (other - gradient).norm() < 1e-3 * gradient.norm()


def config_terms(config):
    if isinstance(config, ScopsConfig):
        return ("concentration", "equivariance", "centres", "semantic", "orthogonality")
    return ("feature", "contrast", "visual", "equivariance")


# Known values.


class Pointwise(nn.Module):
    """Parts that are a linear map of what lies at each place: equivariant to all that moves."""

    def __init__(self, channels, parts):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(parts, channels) / 100)

    def forward(self, x):
        return torch.einsum("kc,bc...->bk...", self.weight, x)


@pytest.mark.parametrize("warp", ["affine", "thin-plate", "both"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("directions", ["one", "both"])
def test_a_segmenter_that_is_equivariant_has_nothing_to_learn_of_it(rank, warp, directions):
    window, _, channels = WINDOWS[rank]
    window = tuple(extent // 2 for extent in window)
    torch.manual_seed(0)
    one = (1,) * rank  # maps as fine as the window: what is warped is what is looked at
    encoder = Encoder(EncoderConfig(width=8, depth=1, heads=2), channels, one)
    phi = FrozenMaps(FrozenTransformer(encoder, channels, one))
    config = PartDiscoveryConfig(warp=warp, jitter=0.0, drop=0.0, directions=directions)
    config = type(config)(**{**vars(config), "bend": 0.1})
    looks = Plain() if rank == 1 else looks_of(rank)
    model = PartDiscovery(config, phi, looks, Pointwise(channels, 4))
    x = windows(rank)[(..., *(slice(0, extent) for extent in window))]
    model.look_at(x)
    value = draw(model, x)["equivariance"].item()
    assert abs(value) < 1e-5
    other = PartDiscovery(config, phi, looks)  # a head on maps that are not equivariant
    other.look_at(x)
    assert draw(other, x)["equivariance"].item() > 10 * max(abs(value), 1e-7)


def test_one_part_for_everything_is_told_as_such():
    """The variance is all left, the views agree, and of K parts K - 1 are dead."""
    config = PartDiscoveryConfig(parts=4)
    model, x = made(config, 2), windows(2)
    with torch.no_grad():
        model.segmenter.layers[-1].weight.zero_()
        model.segmenter.layers[-1].bias.copy_(torch.tensor([200.0, 0, 0, 0]))
    values = {name: value.item() for name, value in draw(model, x).items()}
    assert values["dead_parts"] == 3
    # But for the rim, where what is warped fades into what lies beyond.
    assert values["equivariance"] == pytest.approx(0, abs=1e-3)
    # Within windows there is less than in all together; nothing else is explained.
    within = model.valued(model.phi(x), raw=False)
    expected = (within - within.mean(2, keepdim=True)).square().sum(1).mean().item()
    assert values["feature"] == pytest.approx(expected, rel=1e-4)
    # A dead part is nothing's neighbour: all are equally far, those of the part itself aside.
    unit = nn.functional.normalize(within.mean(2), dim=1)
    others = torch.tensor(float(ROWS * 3))
    further = torch.randint(ROWS - 1, (ROWS,), generator=torch.Generator().manual_seed(3))
    partner = (torch.arange(ROWS) + 1 + further) % ROWS
    assert not (partner == torch.arange(ROWS)).any()
    likeness = (unit * unit[partner]).sum(1) / config.temperature
    living = (torch.log(likeness.exp() + others) - likeness).mean()
    expected = (living + 3 * torch.log(1 + others)) / 4
    assert values["contrast"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("config", [PartDiscoveryConfig(), ScopsConfig()], ids=lambda c: c.name)
def test_the_order_of_parts_does_not_matter(config):
    model, x = made(config, 2), windows(2)
    before = draw(model, x)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        last = model.segmenter.layers[-1]
        last.weight.copy_(last.weight[order])
        last.bias.copy_(last.bias[order])
        if isinstance(model, Scops):
            model.basis.copy_(model.basis[order])
    for name, value in draw(model, x).items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-6)


def test_a_loss_of_weight_zero_has_no_part_in_the_gradient():
    x = windows(2)
    whole = PartDiscoveryConfig(feature=0.0, visual=0.0, contrast="none")
    model = made(whole, 2)
    values = draw(model, x)
    assert values["loss"].item() == pytest.approx(values["equivariance"].item())
    assert values["visual"].item() == 0
    assert values["contrast"].item() == 0
    published = PartDiscoveryConfig(weighting="published")
    assert published.weights() == {
        "feature": 5.0, "contrast": 2.3e3, "visual": 30.0, "equivariance": 5.7e3,
    }  # fmt: skip
    assert PartDiscoveryConfig(contrast="none").weights()["contrast"] == 0


def test_published_weights_take_maps_and_colours_as_they_are():
    config = PartDiscoveryConfig(weighting="published", tap_weights=(0.33, 1.0), taps=(0, 1))
    model, x = made(config, 2), windows(2)
    maps = model.phi(x)
    raw = model.valued(maps, raw=True)
    torch.testing.assert_close(raw[:, :24], 0.33 * maps.flatten(2)[:, :24])
    torch.testing.assert_close(raw[:, 24:], maps.flatten(2)[:, 24:])
    unit = model.valued(maps, raw=False)
    assert unit.square().sum(1).mean().item() == pytest.approx(1, rel=1e-3)
    look = model.appearance(x, maps.shape[2:], raw=False)
    assert look.square().sum(1).mean().item() == pytest.approx(1, rel=1e-3)


def test_a_grey_image_has_one_colour_that_varies():
    config = PartDiscoveryConfig()
    model = made(config, 2)
    x = windows(2)[:, :1].expand(-1, 3, -1, -1)
    model.look_at(x)
    look = model.appearance(x, model.phi(x).shape[2:], raw=False)
    assert look[:, 1:].abs().max() < 1e-6
    assert look.square().sum(1).mean().item() == pytest.approx(1, rel=1e-3)


# Foregrounds, and what is refused.


def test_without_a_mask_the_foreground_is_what_does_not_touch_the_border():
    x = torch.zeros(8, 3, 16, 16)
    generator = torch.Generator().manual_seed(0)
    for n, image in enumerate(x):
        top, left = torch.randint(4, 7, (2,), generator=generator).tolist()
        image[:, top : top + 6, left : left + 6] = 200 + n
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=24, depth=1, heads=2), 3, (1, 1))
    phi = FrozenMaps(FrozenTransformer(encoder, 3, (1, 1)))
    model = PartDiscovery(PartDiscoveryConfig(foreground="none"), phi, ImageLooks())
    model.look_at(x)
    found = model.ground_of(phi(x), None)[:, 0] > 0.5
    assert torch.equal(found, x[:, 0] > 100)


def test_two_means_and_borders():
    points = torch.cat([torch.randn(50, 3) * 0.1, torch.randn(30, 3) * 0.1 + 5])
    centres = two_means(points)
    assert sorted(round(c.mean().item()) for c in centres) == [0, 5]
    assert two_means(torch.ones(4, 2)).tolist() == [[1, 1], [1, 1]]
    assert bordering((4,)).tolist() == [True, False, False, True]
    assert dead(torch.tensor([[10.0, 0.01, 5.0]])).item() == 1


def test_what_is_missing_is_told():
    model, x = made(PartDiscoveryConfig(foreground="mask"), 2), windows(2)
    with pytest.raises(ConfigError, match="foreground=mask is not told of these windows"):
        draw(model, x)
    model = made(PartDiscoveryConfig(views=2), 2)
    with pytest.raises(ConfigError, match="views=2 keeps views of items"):
        model.look_at(x)
    with pytest.raises(ConfigError, match="give one for each"):
        PartDiscoveryConfig(taps=(1, 2), tap_weights=(1.0,))
    with pytest.raises(ConfigError, match="segmenter=resnet50 leave it at 0"):
        PartDiscoveryConfig(segmenter="resnet50", views=2)
    with pytest.raises(ConfigError, match="nothing to learn"):
        PartDiscoveryConfig(feature=0, visual=0, equivariance=0, contrast="none")
    with pytest.raises(ConfigError, match="belong together"):
        PartDiscoveryConfig(foreground="file")
