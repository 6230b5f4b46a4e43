"""VGG by torchvision's file: its maps after every ReLU are those of torchvision's own layers."""

import pytest
import torch

from partsig.errors import CheckpointError, ConfigError
from partsig.interop.torchvision_encoder import build, open_torchvision
from partsig.runs.encoder_sources import parse, rebuild

models = pytest.importorskip("torchvision.models")
RELU3_2, RELU5_4 = 5, 15  # blocks of VGG19, counted from 0


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file laid out as torchvision's, of convolutions drawn at random, without its classifier."""
    torch.manual_seed(0)
    layers = models.vgg.make_layers(models.vgg.cfgs["E"])
    state = {f"features.{key}": value for key, value in layers.state_dict().items()}
    state |= {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path, layers.eval()


@pytest.mark.slow
def test_its_blocks_are_the_relus_by_their_names(published):
    path, layers = published
    opened = parse("torchvision:vgg19", path).open_frozen()
    x = torch.randint(256, (2, 3, 48, 32)).to(torch.uint8)
    made = opened.encoder.encode(x, (RELU3_2, RELU5_4))
    assert [tuple(one.shape) for one in made.maps] == [(2, 256, 12, 8), (2, 512, 3, 2)]
    assert opened.encoder.tap_widths[RELU3_2] == 256
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    given = (x / 255 - mean) / std
    # relu3_2 is the fourth stage's second: layers 0 to 13 of torchvision's; relu5_4 is the 36th.
    torch.testing.assert_close(made.maps[0], layers[:14](given))
    torch.testing.assert_close(made.maps[1], layers[:36](given))
    torch.testing.assert_close(made.map, made.maps[1])
    again = rebuild(opened.facts, 3)
    again.load_state_dict(opened.encoder.state_dict())
    torch.testing.assert_close(again.encode(x).pooled, made.pooled)
    smaller = parse("torchvision:vgg19@32", path).open_frozen().encoder
    assert smaller.encode(x, (RELU3_2,)).maps[0].shape[2:] == (8, 8)
    assert smaller.encode(x[:, :1]).map.shape == (2, 512, 2, 2)
    with pytest.raises(ConfigError, match="no last norm"):
        smaller.encode(x, norm=True)


def test_what_is_no_vgg_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="vgg19"):
        open_torchvision("vgg11", None)
    with pytest.raises(ConfigError, match="needs its file of weights, such as vgg19"):
        open_torchvision("vgg19", None)
    for wrong in ({"model": "alexnet", "size": 0}, {"model": "vgg19", "size": "x"}, {}):
        with pytest.raises(CheckpointError, match="is damaged"):
            build(wrong)
