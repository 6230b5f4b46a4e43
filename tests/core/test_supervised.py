import math

import pytest
import torch
import torch.nn.functional as F

from partsig.core.objectives.supervised import LossConfig, SupervisedModule, draw_box, mix
from partsig.errors import ConfigError

WINDOWS = {1: (40,), 2: (12, 16), 3: (8, 8, 8)}
ranks = pytest.mark.parametrize("rank", WINDOWS)


class Means(SupervisedModule):
    """Logits are the means of the channels."""

    def logits(self, x):
        return x.flatten(2).mean(-1)


def batch(rank, n=6):
    return torch.randn(n, 3, *WINDOWS[rank], generator=torch.Generator().manual_seed(5))


@ranks
def test_a_box_is_one_block_of_the_share_asked_for(rank):
    torch.manual_seed(0)
    window = WINDOWS[rank]
    uncut = 0
    for _ in range(200):
        inside = draw_box(window, 0.5**rank)  # half as long along every axis
        at = inside.nonzero()
        if len(at):
            sides = (at.amax(0) - at.amin(0) + 1).tolist()
            assert len(at) == math.prod(sides)  # no gap
            assert all(side <= extent / 2 for side, extent in zip(sides, window, strict=True))
        uncut += len(at) == math.prod(window) / 2**rank
    assert uncut == pytest.approx(200 / 2**rank, abs=25)  # the centre is anywhere


@ranks
def test_cutmix_exchanges_a_box_and_its_share_of_the_volume_weighs(rank):
    torch.manual_seed(3)
    x = batch(rank, 16)
    for _ in range(20):
        mixed, other, share = mix(x, 0.0, 1.0)
        own = (mixed == x).flatten(2)
        assert ((mixed == x) | (mixed == x[other])).all()
        moved = other != torch.arange(len(x))
        assert own[moved].float().mean().item() == pytest.approx(share, abs=1e-6)


@ranks
def test_the_loss_is_the_weighted_cross_entropy_of_both_labels(rank):
    x, labels = batch(rank), torch.tensor([0, 1, 2, 0, 1, 2])
    model = Means(LossConfig(cutmix=1.0, smoothing=0.1)).train()
    torch.manual_seed(7)
    found = model(x, labels)["loss"]
    torch.manual_seed(7)
    mixed, other, share = mix(x, 0.0, 1.0)
    assert 0 < share < 1
    hot = F.one_hot(labels, 3).float()
    target = 0.9 * (share * hot + (1 - share) * hot[other]) + 0.1 / 3
    expected = -(target * model.logits(mixed).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(found, expected)
    plain = F.cross_entropy(model.logits(x), labels, label_smoothing=0.1)
    torch.testing.assert_close(model.eval()(x, labels)["loss"], plain)


def test_mixup_and_cutmix_take_turns():
    torch.manual_seed(0)
    x = batch(1)
    boxes = 0
    for _ in range(200):
        mixed, other, _ = mix(x, 0.8, 1.0)
        boxes += bool(((mixed == x) | (mixed == x[other])).all())
    assert 75 < boxes < 125


def test_mixup_alone_is_a_weighted_mean():
    torch.manual_seed(1)
    x = batch(2)
    mixed, other, share = mix(x, 0.8, 0.0)
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[other])


def test_a_negative_alpha_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.cutmix is -1.0; it must be at least 0"):
        LossConfig(cutmix=-1.0)
