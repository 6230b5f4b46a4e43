"""What every objective promises, whichever it is and however many axes its windows have."""

import inspect

import pytest
import torch

from partsig import contracts
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.decoder import DecoderConfig
from partsig.runs.objectives import OBJECTIVES, module_of

WINDOWS = {1: ((60,), (10,)), 2: ((12, 12), (4, 4)), 3: ((6, 6, 6), (2, 2, 3))}
# Those that look through another encoder, and train none of ours: test_part_discovery.py.
OWN = {
    config: module_of(config)
    for config in OBJECTIVES
    if "partsig.core" in config.__module__ and not getattr(config, "brings_encoder", False)
}
CASES = [(config, rank) for config in OWN for rank in WINDOWS]


def made(config, rank):
    window, patch = WINDOWS[rank]
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=24, depth=1, heads=2, drop_path=0.0), 2, patch)
    settings = {"patches": 6} if hasattr(config(), "patches") else {}
    if config.name == "relative-positioning":
        settings |= {"near": 1.5, "far": 2.0}
    if hasattr(config(), "decoder"):
        settings["decoder"] = DecoderConfig(width=24, depth=1, heads=2)
    model = module_of(config)(config(**settings), encoder, window, patch)
    return model, encoder, torch.randn(6, 2, *window)


def draw(model, x, share=None):
    return model(x, torch.Generator().manual_seed(3), share, 0.5)


@pytest.mark.parametrize(("config", "rank"), CASES, ids=lambda case: getattr(case, "name", case))
def test_every_objective_keeps_its_promises(config, rank):
    model, encoder, x = made(config, rank)
    assert model.encoder is encoder
    assert all(module in list(model.modules()) for module in model.compilable())
    values = draw(model, x)
    assert {value.ndim for value in values.values()} == {0}
    assert values["loss"].requires_grad
    assert not any(value.requires_grad for name, value in values.items() if name != "loss")
    assert "mse" in values or "chance" not in values
    values["loss"].backward()
    assert encoder.cls.grad is not None
    assert config().positions in ("none", "sincos")
    said = model.in_words({name: value.item() for name, value in values.items()}, "unseen")
    assert "unseen" in said
    assert said.count("%") >= 1


@pytest.mark.parametrize(("config", "rank"), CASES, ids=lambda case: getattr(case, "name", case))
def test_draws_are_the_generators_alone_and_of_the_whole_batch(config, rank):
    """No draw comes from torch's own generator, and shares average to the whole."""
    model, _, x = made(config, rank)
    model.eval()
    before = torch.get_rng_state()
    with torch.no_grad():
        whole = draw(model, x)
        shares = [draw(model, x[at : at + 3], (at, 6)) for at in (0, 3)]
    assert torch.equal(torch.get_rng_state(), before)
    mean = torch.stack([share["loss"] for share in shares]).mean()
    if config.name in ("part", "part-masked", "mae", "mp3", "relative-positioning"):
        torch.testing.assert_close(mean, whole["loss"], rtol=1e-4, atol=1e-5)


def test_its_parameters_are_those_of_the_contract():
    """And, after these, what windows may tell besides (MarkedWindows), which may be missing."""
    promised = [name for name in inspect.signature(contracts.Objective.forward).parameters]
    promised = [name for name in promised if name != "targets"]
    for module in OWN.values():
        mine = inspect.signature(module.forward).parameters
        assert list(mine)[: len(promised)] == promised, module
        for name in list(mine)[len(promised) :]:
            assert name in ("item", "foreground"), module
            assert mine[name].default is None
