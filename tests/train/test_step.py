import time

import pytest
import torch

from partsig.contracts import Batch
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import (
    Classifier,
    ClassifierConfig,
    LossConfig,
    SupervisedModule,
)
from partsig.train import speed
from partsig.train.step import as_written, compile_blocks


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = EncoderConfig(width=16, depth=1, heads=2, drop_path=0.0)
    return Classifier(ClassifierConfig(), Encoder(config, 2, (10,)), (40,), (10,), 3)


@pytest.fixture
def batch():
    return Batch(torch.randn(4, 2, 40), torch.tensor([0, 1, 2, 0]))


@pytest.mark.filterwarnings("default")  # the compiler itself warns on its way
def test_a_compiler_that_is_missing_is_told_and_left_out(model, batch, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch._inductor.config.patch({"cpp.cxx": (None, "/nonexistent"), "fx_graph_cache": False}):
        said = []
        expected = model.logits(batch.inputs)
        names = list(model.state_dict())
        assert compile_blocks(model, batch, "float32", said.append) is False
    assert len(said) == 1
    assert said[0].startswith("torch.compile does not work here and is left out: ")
    assert "compiler" in said[0]
    assert torch.equal(model.logits(batch.inputs), expected)
    assert list(model.state_dict()) == names
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture
def compilations(monkeypatch):
    """The shapes of the tokens that blocks were compiled for, by a compiler that changes nothing.

    Generating and compiling C++ would take minutes.
    """
    shapes = []

    def backend(graph, inputs):
        shapes.append(next(tuple(x.shape) for x in inputs if getattr(x, "ndim", 0) == 3))
        return graph.forward

    real = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **rest: real(self, backend=backend, **rest)
    )
    yield shapes
    torch.compiler.reset()


@pytest.mark.filterwarnings("default")  # the compiler itself warns on its way
def test_every_model_of_a_process_is_compiled(compilations):
    """More of them than the compiler keeps forms of one function (eight)."""
    for size in range(2, 14):
        config = EncoderConfig(width=8, depth=1, heads=1, drop_path=0.0)
        model = Classifier(ClassifierConfig(), Encoder(config, 2, (10,)), (40,), (10,), 3)
        batch = Batch(torch.randn(size, 2, 40), torch.zeros(size, dtype=torch.long))
        assert compile_blocks(model, batch, "float32", print) is True
    assert [shape[0] for shape in compilations] == list(range(2, 14))


@pytest.mark.filterwarnings("default")  # the compiler itself warns on its way
def test_what_is_measured_between_epochs_is_not_compiled(model, batch, compilations):
    expected = model.eval().logits(batch.inputs[:3])
    assert compile_blocks(model, batch, "float32", print) is True
    assert model.training  # as it will be compiled in training
    before = len(compilations)
    model.eval()
    with as_written(model), torch.inference_mode():
        found = model.logits(batch.inputs[:3])
    torch.testing.assert_close(found, expected)
    assert len(compilations) == before == 1
    model.logits(batch.inputs[:3])
    assert len(compilations) == 2  # outside, another batch is compiled


def test_a_model_without_blocks_is_left_as_it_is(batch):
    class Baseline(SupervisedModule):
        def __init__(self):
            super().__init__(LossConfig())
            self.net = torch.nn.Linear(80, 3)

        def logits(self, x):
            return self.net(x.flatten(1))

    said, baseline = [], Baseline()
    assert compile_blocks(baseline, batch, "float32", said.append) is False
    assert said == ["this model has no blocks to compile: it runs as it is."]
    with as_written(baseline):
        assert baseline.logits(batch.inputs).shape == (4, 3)


def test_a_batch_too_large_to_compile_is_not_called_a_broken_compiler(model, batch, compilations):
    def full(*_arguments, **_rest):
        raise torch.OutOfMemoryError("no memory left")

    model.forward = full
    with pytest.raises(torch.OutOfMemoryError):
        compile_blocks(model, batch, "float32", print)


def test_operations_are_counted_from_the_shapes(model, batch):
    width, tokens = 16, 5  # four patches and [CLS]
    # The head sees [CLS] alone, so the last block (here the only one) has one query: keys and
    # values of all tokens; query, output and MLP of one.
    block = tokens * 2 * width**2 + (2 * width**2 + 8 * width**2) + 2 * tokens * width
    forward = 2 * (4 * 20 * width + block + width * 3)
    # Backward takes the products with respect to weights and to inputs: twice the forward, but for
    # the first layer, whose input needs no gradient.
    expected = 3 * forward - 2 * 4 * 20 * width
    state = torch.get_rng_state()
    assert speed.count_flops(model, batch) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_the_measured_peak_is_a_rate():
    peak = speed.measure_peak(torch.device("cpu"), torch.float32)
    assert 1e8 < peak < 1e14


def test_waiting_for_data_is_told_as_a_share_of_the_time():
    def slow():
        while True:
            time.sleep(0.05)
            yield (torch.zeros(1),)

    clock, batches = speed.Clock(1, 1.0, 1.0, torch.device("cpu")), slow()
    assert clock.read(0) == {}
    for _ in range(4):
        clock.wait_for(batches)
    assert clock.read(4)["waiting"] > 0.9
    time.sleep(0.1)
    assert clock.read(5)["waiting"] == 0.0
