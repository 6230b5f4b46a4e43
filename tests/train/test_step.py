import pytest
import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.train import speed
from partsig.train.step import compile_blocks


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = EncoderConfig(width=16, depth=1, heads=2, drop_path=0.0)
    return Classifier(ClassifierConfig(), Encoder(config, 2, (10,)), (40,), (10,), 3)


@pytest.fixture
def batch():
    return torch.randn(4, 2, 40), torch.tensor([0, 1, 2, 0])


@pytest.mark.filterwarnings("default")  # the compiler itself warns on its way
def test_a_compiler_that_is_missing_is_told_and_left_out(model, batch, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch._inductor.config.patch({"cpp.cxx": (None, "/nonexistent"), "fx_graph_cache": False}):
        said = []
        expected = model.logits(batch[0])
        names = list(model.state_dict())
        assert compile_blocks(model, batch, "float32", said.append) is False
    assert len(said) == 1
    assert said[0].startswith("torch.compile does not work here and is left out: ")
    assert "compiler" in said[0]
    assert torch.equal(model.logits(batch[0]), expected)
    assert list(model.state_dict()) == names
    assert all(p.grad is None for p in model.parameters())


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
