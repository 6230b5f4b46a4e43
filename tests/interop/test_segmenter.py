"""Networks of timm as segmenters of parts: at a stride of 8, from files of weights, refused."""

import pytest
import torch

from partsig.errors import CheckpointError, ConfigError
from partsig.interop.segmenter import build_segmenter, open_segmenter

timm = pytest.importorskip("timm")


def test_a_resnet_has_a_map_at_a_stride_of_eight(tmp_path):
    whole = timm.create_model("resnet18", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    made, facts = open_segmenter("resnet18", str(tmp_path / "resnet18.pth"), 5, 3)
    made.eval()  # in training its batch norms would go on counting
    x = torch.randint(256, (2, 3, 64, 96)).to(torch.uint8)
    assert made(x).shape == (2, 5, 8, 12)
    own = made.backbone.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in whole.state_dict().items() if k in own)
    assert len(own) == len(whole.state_dict()) - 2  # its classifier apart
    again = build_segmenter(facts)
    again.load_state_dict(made.state_dict())
    again.eval()
    torch.testing.assert_close(again(x), made(x))
    # Values 0 to 255, brought to the mean and SD of ImageNet.
    one = made.backbone.forward_features((x / 255 - made.mean) / made.std)
    torch.testing.assert_close(made.head(one), made(x))


def test_grey_images_are_taken_for_three_equal_channels():
    torch.manual_seed(0)
    made, _ = open_segmenter("resnet18", None, 2, 1)
    made.eval()
    x = torch.randint(256, (1, 1, 32, 32)).float()
    assert made(x).shape == (1, 2, 4, 4)


def test_what_is_no_segmenter_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="it can be maps, or a network of timm such as resnet50"):
        open_segmenter("resnet51x", None, 4, 3)
    with pytest.raises(ConfigError, match="cannot be given an output stride of 8"):
        open_segmenter("vit_tiny_patch16_224", None, 4, 3)
    with pytest.raises(ConfigError, match="3 channels or 1"):
        open_segmenter("resnet18", None, 4, 2)
    with pytest.raises(ConfigError, match="there is no such file"):
        open_segmenter("resnet18", str(tmp_path / "none.pth"), 4, 3)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises((ConfigError, CheckpointError)):
        open_segmenter("resnet18", str(tmp_path / "other.pth"), 4, 3)
    _, facts = open_segmenter("resnet18", None, 4, 3)
    for wrong in ({"model": "nothing"}, {"parts": 10**9}, {"std": [0, 1, 1]}, {"mean": None}):
        with pytest.raises(CheckpointError, match="is damaged"):
            build_segmenter(facts | wrong)
