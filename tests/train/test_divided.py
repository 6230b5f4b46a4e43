"""The loss and the gradient of a batch are its own, however it is divided (``FitConfig``)."""

import json

import pytest
import torch

from partsig.contracts import Batch
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.settings import (
    DecoderConfig,
    DropPosConfig,
    MaeConfig,
    PartConfig,
    PartMaskedConfig,
    RelativePositioningConfig,
)
from partsig.runs.objectives import module_of
from partsig.seeds import Stream, seed_of
from partsig.train import distributed
from partsig.train.distributed import World
from partsig.train.step import Stepper

pytestmark = pytest.mark.slow

WINDOW, PATCH, ROWS = (120,), (10,), 8
DECODER = DecoderConfig(width=24, depth=1, heads=2)
CONFIGS = {
    "part": PartConfig(patches=6),
    "context": PartConfig(patches=5, context=1.0),
    "context-only": PartConfig(patches=5, context=2.0, relate=0.0),
    "context-masked": PartConfig(
        patches=5, context=1.0, positions="sincos", position_mask=0.6, loss_on="masked"
    ),
    "masked": PartConfig(patches=6, positions="sincos", position_mask=0.3, loss_on="masked"),
    "apart": PartConfig(patches=6, loss_on="apart", span=2.5),
    "droppos": DropPosConfig(mask_ratio=0.4, decoder=DECODER),
    "droppos-even": DropPosConfig(mask_ratio=0.4, temperature=0.0, decoder=DECODER),
    "mae": MaeConfig(decoder=DECODER),
    "part-masked": PartMaskedConfig(patches=6, loss_on="apart", decoder=DECODER),
    "relative": RelativePositioningConfig(patches=6, near=3.0, far=5.0),
}
ALONE = World(rank=0, size=1, device=torch.device("cpu"))
SEED = 3


def windows():
    """Two channels of eight windows, no two of them of one loudness or shape."""
    x = torch.randn(ROWS, 2, *WINDOW, generator=torch.Generator().manual_seed(1))
    return (x.cumsum(-1) * torch.linspace(0.2, 3, ROWS).view(-1, 1, 1)).float()


def made(config, drop_path=0.0, kind=None):
    """Return the model of a configuration; nothing in it starts at zero, which would hide a lot."""
    torch.manual_seed(0)
    shape = EncoderConfig(
        width=24,
        depth=2,
        heads=2,
        drop_path=drop_path,
        attention="patch" if config.name == "relative-positioning" else "window",
    )
    encoder = Encoder(shape, 2, PATCH)
    model = (kind or module_of(type(config)))(config, encoder, WINDOW, PATCH)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def step_of(model, world=ALONE, accumulate=1):
    """Take step 2 of 10 on a process's rows; return its loss."""
    step = Stepper(
        model=distributed.wrap(model, world),
        optimizer=torch.optim.SGD([{"params": model.parameters(), "scale": 1.0}], lr=1.0),
        world=world,
        seed=SEED,
        precision="float32",
        accumulate=accumulate,
        clip=0.0,
        steps=10,
    )
    each = ROWS // world.size
    first = world.rank * each
    values = step(Batch(windows()[first : first + each], first=first, total=ROWS), 2, rate=0.0)
    return distributed.mean(values["loss"].clone(), world).item()


def gradient_of(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def stepped(config, world=ALONE, accumulate=1):
    """Return the loss of a step, and the model's gradient as one vector."""
    model = made(config)
    return step_of(model, world, accumulate), gradient_of(model)


def assert_near(gradient, expected, what):
    assert (gradient - expected).norm() < 1e-4 * expected.norm(), what


@pytest.mark.parametrize("name", CONFIGS)
def test_accumulating_changes_neither_loss_nor_gradient(name):
    config = CONFIGS[name]
    loss, gradient = stepped(config)
    assert gradient.norm() > 1e-2
    for parts in (2, 3, 4, ROWS):
        own, other = stepped(config, accumulate=parts)
        assert own == pytest.approx(loss, abs=1e-5), parts
        assert_near(other, gradient, parts)


@pytest.mark.parametrize("name", ["context", "context-masked", "droppos"])
def test_the_gradient_is_that_of_the_loss_as_it_is_written(name):
    """Not of the stepper: the model is asked for all rows at once, by the same draws."""
    config = CONFIGS[name]
    loss, gradient = stepped(config, accumulate=4)
    model, draws = made(config), torch.Generator()
    draws.manual_seed(seed_of(Stream.OBJECTIVE, SEED, 2))
    written = model(windows(), draws, None, 0.2)["loss"]
    written.backward()
    assert loss == pytest.approx(written.item(), abs=1e-5)
    assert_near(gradient, gradient_of(model), name)


def test_drop_path_draws_the_same_when_rows_are_gathered_and_when_they_are_learned_from():
    """Otherwise the negatives would be of another network: parts of one row, all kept or not."""
    config = CONFIGS["context-only"]
    seen = []
    real = module_of(type(config)).forward

    class Watched(module_of(type(config))):
        def forward(self, *arguments, **rest):
            given = self.gather

            def noted(rows):
                seen.append(rows.detach().clone())
                return given(rows)

            self.gather = noted
            try:
                return real(self, *arguments, **rest)
            finally:
                self.gather = given

    step_of(made(config, drop_path=0.5, kind=Watched), accumulate=4)
    assert len(seen) == 8
    for before, after in zip(seen[:4], seen[4:], strict=True):
        torch.testing.assert_close(before, after)


def share_step(folder, names):
    """One process's part in a step of every configuration, whole and in parts."""
    world = distributed.start("cpu")
    found = {}
    for name in names:
        for parts in (1, 2):
            loss, gradient = stepped(CONFIGS[name], world, parts)
            found[f"{name} {parts}"] = [loss, gradient.tolist()]
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path):
    names = ["context", "context-masked", "apart", "masked", "droppos", "part-masked", "relative"]
    distributed.launch(share_step, (tmp_path, names), 2)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for key, (loss, gradient) in found.items():
            alone, expected = stepped(CONFIGS[key.split()[0]])
            assert loss == pytest.approx(alone, abs=1e-5), key
            assert_near(torch.tensor(gradient), expected, key)
