import pytest
import torch

from partsig.core.normalise import instance_normalise


@pytest.mark.parametrize("shape", [(50,), (8, 9), (4, 5, 6)])
def test_each_window_and_channel_has_mean_0_and_sd_1(shape):
    x = torch.randn(3, 2, *shape, dtype=torch.float64) * 40 + 7
    x[1, 1] = -3.0
    y = instance_normalise(x)[0].flatten(2)
    assert (y[1, 1] == 0).all()
    y = y.flatten(0, 1)[[0, 1, 2, 4, 5]]
    torch.testing.assert_close(y.mean(-1), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(y.std(-1, correction=0), torch.ones(5, dtype=torch.float64))


def test_half_precision_is_normalised_in_float32():
    x = (torch.randn(2, 3, 3000) * 20 + 500).half()
    y, _ = instance_normalise(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, instance_normalise(x.double())[0].float(), rtol=1e-4, atol=1e-4)


def test_nearly_flat_is_flat_and_the_gradient_is_finite():
    x = torch.full((1, 1, 100), 5.0) + 1e-4 * torch.randn(1, 1, 100)
    x.requires_grad_()
    y, _ = instance_normalise(x)
    assert (y == 0).all()
    y.sum().backward()
