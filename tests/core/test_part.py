import itertools
import math

import pytest
import torch

from partsig.core import target
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.part import Part, PartConfig
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.core.position import MaskedPositions, sincos
from partsig.core.transformer import Attention, Block
from partsig.errors import ConfigError

WINDOWS = {1: ((40,), (5,)), 2: ((12, 16), (4, 4)), 3: ((8, 8, 8), (2, 4, 4))}
ranks = pytest.mark.parametrize("rank", WINDOWS)
SMALL = EncoderConfig(width=24, depth=2, heads=4, drop_path=0.0)


def part(rank, **options):
    torch.manual_seed(0)
    window, patch = WINDOWS[rank]
    encoder = Encoder(SMALL, 3, patch)
    return Part(PartConfig(**{"patches": 8} | options), encoder, window, patch)


def batch(rank, n=4):
    return torch.randn(n, 3, *WINDOWS[rank][0], generator=torch.Generator().manual_seed(5))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_eeg_encoder_has_the_papers_number_of_parameters():
    encoder = Encoder(EncoderConfig(), 6, (100,))
    assert sum(p.numel() for p in encoder.parameters()) == 12_918_784
    whole = Part(PartConfig(patches=40), encoder, (3000,), (100,))
    assert sum(p.numel() for p in whole.parameters()) == 14_494_721
    classifier = Classifier(ClassifierConfig(), encoder, (3000,), (100,), 5)
    assert sum(p.numel() for p in classifier.parameters()) == 12_937_221


@ranks
def test_permuting_the_patches_permutes_the_prediction(rank):
    """No position information reaches the prediction, from the order or anything else."""
    model = part(rank, loss="laplace").double().eval()
    patches = torch.randn(2, 8, 3, *WINDOWS[rank][1], dtype=torch.float64)
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    order = torch.randperm(8, generator=draw(1))
    straight = model.predict(patches, order[pairs])
    torch.testing.assert_close(model.predict(patches[:, order], pairs), straight)
    tokens, cls = model.encoder(patches)
    moved, same = model.encoder(patches[:, order])
    torch.testing.assert_close(moved, tokens[:, order])
    torch.testing.assert_close(same, cls)


@ranks
def test_shifting_the_window_under_the_patches_changes_nothing(rank):
    """Two windows that agree where the patches lie give the same prediction wherever that is."""
    model = part(rank).eval()
    positions, sizes = model.sample(1, draw())
    x = batch(rank, 1)
    there = model.crop(x, positions, sizes)
    wide = torch.nn.functional.pad(x, [3, 0] * rank)
    moved = model.crop(wide, positions + 3, sizes)
    assert torch.equal(there, moved)


@ranks
@pytest.mark.parametrize(
    ("sampling", "loss"),
    [
        *itertools.product(("off-grid", "grid", "sizes"), ("mse", "laplace")),
        ("off-grid", "histogram"),
        ("grid", "histogram"),
    ],
)
def test_forward_gives_finite_scalars_and_reaches_every_parameter(rank, sampling, loss):
    model = part(rank, sampling=sampling, loss=loss, pairs=0.5)
    values = model(batch(rank), draw())
    assert all(v.shape == () and torch.isfinite(v) for v in values.values())
    values["loss"].backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None]
    # [CLS] takes part in attention and so learns; its own output is not used in pretraining.
    assert silent == []


def test_the_untrained_loss_is_chance():
    model = part(1)
    values = model(batch(1, 64), draw())
    assert (values["mse"] / values["chance"]).item() == pytest.approx(1.0, abs=0.02)
    assert values["loss"] == values["mse"]


def test_draws_come_from_the_generator_alone_and_shares_make_the_whole():
    model = part(2, loss="laplace", pairs=0.3, positions="sincos").eval()
    x = batch(2, 6)
    torch.manual_seed(1)
    whole = model(x, draw(4))
    torch.manual_seed(2)
    assert torch.equal(model(x, draw(4))["loss"], whole["loss"])
    halves = [model(x[i : i + 3], draw(4), share=(i, 6))["loss"] for i in (0, 3)]
    torch.testing.assert_close(sum(halves) / 2, whole["loss"])


def test_unit_scale_changes_the_networks_target_but_not_the_reported_errors():
    patchwise, unit = part(1), part(1, target_scale="unit")
    a, b = patchwise(batch(1), draw()), unit(batch(1), draw())
    assert a["chance"].item() == pytest.approx(b["chance"].item())
    assert unit.unit == (40 - 5) / 5
    assert b["loss"].item() * unit.unit**2 == pytest.approx(b["mse"].item(), rel=1e-5)
    assert a["distance"].item() == pytest.approx(b["distance"].item(), rel=0.01)
    assert a["l2"].item() == pytest.approx(b["l2"].item(), rel=0.01)


@pytest.mark.parametrize("loss", ["mse", "laplace"])
def test_no_constant_has_less_than_the_chance_loss_where_ratios_are_predicted(loss):
    """What is called chance is what the best of many constants costs."""
    model = part(2, sampling="sizes", loss=loss)
    positions, sizes = model.sample(64, draw())
    pairs = model.draw_pairs(draw())
    truth = target.translation(positions, sizes, pairs, ratios=True)
    reference = sizes[:, pairs[:, 0]]

    def cost(ratio, scale):
        given = torch.tensor([0.0, 0.0, ratio, ratio]).expand_as(truth)
        if loss == "laplace":
            given = torch.cat([given, scale.log().expand_as(truth)], dim=-1)
        return target.pair_loss(given, truth, loss).mean().item()

    off = torch.cat([truth[..., :2], truth[..., 2:] - 1], dim=-1).abs().mean(dim=(0, 1))
    tried = itertools.product(torch.arange(0.8, 1.5, 0.02), (0.97, 1))
    lowest = min(cost(ratio, off * factor) for ratio, factor in tried)
    zeros = torch.zeros(*truth.shape[:2], 4 if loss == "mse" else 8)
    found = target.pair_metrics(zeros, truth, reference, loss)
    assert found["chance_loss"].item() == pytest.approx(lowest, rel=0.02)
    assert found["ratio_mse"] == truth[..., 2:].square().mean()
    assert found["ratio_chance"].item() == pytest.approx(truth[..., 2:].var().item(), rel=0.02)


@pytest.mark.parametrize("options", [{"patches": 1}, {"sampling": "grid"}])
def test_patches_that_cannot_lie_apart_are_refused(options):
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2), 1, (8, 8))
    with pytest.raises(ConfigError, match="no two of them lie apart"):
        Part(PartConfig(**options), encoder, (8, 8), (8, 8))


def test_chance_of_every_axis_and_distance_is_that_of_predicting_nothing():
    model = part(2, target_scale="unit")
    positions, sizes = model.sample(32, draw())
    pairs = model.draw_pairs(draw())
    truth = target.translation(positions, sizes, pairs)
    found = target.pair_metrics(torch.zeros_like(truth), truth, sizes[:, pairs[:, 0]], "mse")
    for axis in (0, 1):
        assert found[f"chance_{axis}"] == found[f"mse_{axis}"]
    assert found["chance_l2"] == found["l2"]
    assert found["chance_distance"] == found["distance"]
    scaled, plain = model(batch(2), draw()), part(2)(batch(2), draw())
    for name in ("chance_0", "chance_1", "chance_l2", "chance_distance"):
        torch.testing.assert_close(scaled[name], plain[name])


def test_distance_is_in_samples():
    truth = torch.tensor([[[3.0], [0.0]]])
    values = target.pair_metrics(truth + 0.5, truth, torch.full((1, 2, 1), 100.0), "mse")
    assert values["distance"] == 50.0
    assert values["l2"] == 0.5
    assert values["mse"] == 0.25
    assert values["chance"] == 4.5
    assert values["sign"] == 1.0


def test_laplace_loss_is_torchs_likelihood():
    prediction, truth = torch.randn(3, 7, 4), torch.randn(3, 7, 2)
    mean, log_scale = target.split_prediction(prediction, "laplace", 2)
    expected = -torch.distributions.Laplace(mean, log_scale.exp()).log_prob(truth).mean(-1)
    torch.testing.assert_close(target.pair_loss(prediction, truth, "laplace"), expected)
    assert target.split_prediction(torch.full((1, 1, 2), 99.0), "laplace", 1)[1].item() <= 5.0


def test_masked_positions_hide_the_stated_share_and_nothing_of_the_rest_changes():
    torch.manual_seed(0)
    codes = MaskedPositions(16, 0.2)
    hidden = codes.draw(50, 40, draw())
    assert (hidden.sum(1) == 8).all()
    assert hidden.float().mean(0).min() > 0
    positions = torch.rand(50, 40, 1) * 3000
    code = codes(positions, torch.full_like(positions, 100.0), hidden)
    torch.testing.assert_close(code[~hidden], sincos(positions / 100 - 0.5, 16)[~hidden])
    assert torch.equal(code[hidden], codes.token.expand(400, -1))


def test_loss_on_masked_counts_only_pairs_that_touch_a_hidden_position():
    model = part(1, positions="sincos", loss_on="masked", position_mask=0.5).eval()
    everything = part(1, positions="sincos", position_mask=0.5).eval()
    a, b = model(batch(1), draw()), everything(batch(1), draw())
    n = 64
    counts = {0: 16, 1: 32, 2: 16}  # of 8 patches, 4 are hidden: ordered pairs by hidden ends
    weighted = sum(b[f"loss_hidden{k}"] * c for k, c in counts.items()) / n
    torch.testing.assert_close(weighted, b["loss"])
    touched = sum(b[f"loss_hidden{k}"] * counts[k] for k in (1, 2)) / 48
    torch.testing.assert_close(a["loss"], touched)


def test_sincos_of_grid_positions_is_the_transformers_code():
    code = sincos(torch.arange(30.0)[:, None], 8)
    for at in (0, 7, 29):
        for k in range(4):
            angle = at / 10_000 ** (2 * k / 8)
            assert code[at, k] == pytest.approx(math.sin(angle), abs=1e-5)
            assert code[at, 4 + k] == pytest.approx(math.cos(angle), abs=1e-5)
    with pytest.raises(ConfigError, match="does not divide"):
        sincos(torch.zeros(1, 3), 8)


def test_attention_equals_torchs():
    torch.manual_seed(0)
    ours = Attention(24, 4)
    theirs = torch.nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(2, 9, 24)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    block = Block(8, 2, 4.0, drop_path=0.4)
    branch = torch.ones(20_000, 1, 1)
    dropped = block._dropped(branch)
    assert set(dropped.unique().tolist()) == {0.0, 1 / (1 - 0.4)} or len(dropped.unique()) == 2
    assert dropped.mean() == pytest.approx(1.0, abs=0.02)
    assert block.eval()._dropped(branch) is branch


@ranks
def test_classifier_sees_the_grid_in_order(rank):
    torch.manual_seed(0)
    window, patch = WINDOWS[rank]
    model = Classifier(ClassifierConfig(), Encoder(SMALL, 3, patch), window, patch, 5).eval()
    x = batch(rank)
    assert model.logits(x).shape == (4, 5)
    labels = torch.tensor([0, 1, 2, 3])
    expected = torch.nn.functional.cross_entropy(model.logits(x), labels, label_smoothing=0.1)
    torch.testing.assert_close(model(x, labels)["loss"], expected)
    # The same patches elsewhere give another answer: the position codes are really used.
    assert not torch.allclose(model.logits(x.flip(2)), model.logits(x))
    blind = Classifier(
        ClassifierConfig(positions="none"), Encoder(SMALL, 3, patch), window, patch, 5
    ).eval()
    rolled = torch.roll(x, [p for p in patch], dims=tuple(range(2, 2 + rank)))
    torch.testing.assert_close(blind.logits(rolled), blind.logits(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30, "heads": 4}, "must be a multiple of encoder.heads"),
        ({"drop_path": 1.5}, "encoder.drop_path is 1.5; it must be between 0 and 0.99"),
        ({"depth": 0}, "encoder.depth is 0; it must be between 1 and 256"),
    ],
)
def test_impossible_encoders_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(**options)


def test_the_histogram_is_a_shared_cross_entropy_over_bins():
    generator = draw(2)
    truth = torch.tensor([[[0.25, -2.0], [1.9, 3.0]]], dtype=torch.float64)  # (1, 2, 2)
    prediction = torch.randn(1, 2, 14, generator=generator, dtype=torch.float64)
    expected = torch.zeros(1, 2, dtype=torch.float64)
    means = torch.zeros(1, 2, 2, dtype=torch.float64)
    for pair in range(2):
        for axis in range(2):
            logits = prediction[0, pair, 7 * axis : 7 * axis + 7]
            p = logits.exp() / logits.exp().sum()
            for k, centre in enumerate(range(-3, 4)):
                share = max(0.0, 1 - abs(truth[0, pair, axis].item() - centre))
                expected[0, pair] -= share * p[k].log() / 2
                means[0, pair, axis] += p[k] * centre
    torch.testing.assert_close(target.pair_loss(prediction, truth, "histogram"), expected)
    found, scale = target.split_prediction(prediction, "histogram", 2)
    torch.testing.assert_close(found, means)
    assert scale is None
    assert target.n_outputs(2, False, "histogram", reach=3.0) == 14


def test_a_constant_histogram_has_the_chance_loss():
    """Predicting the marginal distribution everywhere costs what is called chance."""
    torch.manual_seed(0)
    sizes = torch.full((64, 5, 1), 10.0)
    positions = 10.0 * torch.randint(0, 9, (64, 5, 1))
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    truth = target.translation(positions, sizes, pairs)
    counts = torch.stack([(truth == k - 8).sum() for k in range(17)]).float()
    constant = (counts / counts.sum()).clamp(min=1e-30).log().expand(64, 25, 17)
    loss = target.pair_loss(constant, truth, "histogram").mean()
    found = target.pair_metrics(constant, truth, sizes[:, pairs[:, 0]], "histogram")
    torch.testing.assert_close(loss, found["chance_loss"])


def test_a_histogram_is_in_patches():
    for options in ({"sampling": "sizes"}, {"target_scale": "unit"}):
        with pytest.raises(ConfigError, match="counts translations in patches"):
            PartConfig(loss="histogram", **options)


BETWEEN = {"stretches": 2, "span": 1.5, "between": 1.0, "loss": "laplace"}


@ranks
def test_pairs_between_stretches_are_all_of_two_and_exact(rank):
    model = part(rank, **BETWEEN)
    pairs = model.draw_between(draw())
    each = model.n_patches // 2
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs) == 2 * each**2
    assert ((pairs[:, 0] < each) != (pairs[:, 1] < each)).all()
    positions, sizes = model.sample(50, draw())
    found = target.translation(positions, sizes, pairs)
    wanted = (positions[:, pairs[:, 1]] - positions[:, pairs[:, 0]]) / sizes[:, pairs[:, 0]]
    torch.testing.assert_close(found, wanted)
    within = torch.tensor(model.within) / torch.tensor(model.patch)
    assert (found.abs() > within - 1).any()  # farther than any pair of one stretch


@ranks
@pytest.mark.parametrize("loss_on", ["all", "apart"])
def test_what_lies_between_stretches_is_learned_alone_or_beside(rank, loss_on):
    x = batch(rank)
    both = part(rank, **BETWEEN, loss_on=loss_on)
    told = both(x, draw())
    torch.testing.assert_close(told["loss"], told["loss_pairs"] + told["loss_between"])
    told["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in both.parameters())
    for name in ("mse", "chance", "chance_loss", "sign"):
        assert told[f"between_{name}"].isfinite()
    alone = part(rank, **BETWEEN, relate=0.0, loss_on=loss_on)(x, draw())
    torch.testing.assert_close(alone["loss"], told["loss_between"])
    # However a batch is divided, and drawn again.
    halves = [both(x[at], draw(), share=(first, 4))["loss"] for at, first in
              ((slice(2), 0), (slice(2, 4), 2))]  # fmt: skip
    torch.testing.assert_close(sum(halves) / 2, told["loss"], rtol=1e-4, atol=1e-4)


def test_without_it_nothing_is_drawn_between_stretches():
    usual = part(1, stretches=2, span=1.5)
    generator = draw()
    before = generator.get_state()
    assert usual.draw_between(generator).shape == (0, 2)
    assert torch.equal(generator.get_state(), before)
    assert "between_mse" not in usual(batch(1), draw())
    with pytest.raises(ConfigError, match=r"needs objective\.stretches of 2"):
        PartConfig(between=1.0)
