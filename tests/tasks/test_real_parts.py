"""Parts of real birds by an encoder that saw ImageNet: as far as it was measured elsewhere."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import partsig
from partsig.interop.packaged import PACKAGED
from partsig.verbs.preprocess import preprocess

pytestmark = pytest.mark.slow  # six species' parts through a real encoder

RAW = Path(__file__).parents[3] / "shared" / "data" / "cub" / "CUB_200_2011"
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts of six species, 112 pixels a side."""
    if not (RAW / "images.txt").is_file():
        pytest.skip("the sample of CUB-200-2011 is not at hand (../shared/data/cub)")
    try:
        distribution(PACKAGED["efficientnet-lite0"].package)
    except PackageNotFoundError:
        pytest.skip("the weights of EfficientNet-Lite0 are not installed")
    path = tmp_path_factory.mktemp("cub") / "parts"
    names = [line.split()[1] for line in (RAW / "classes.txt").read_text().splitlines()[:6]]
    preprocess("cub200", RAW, path, overrides={"cut": "parts", "classes": names})
    return path


def test_parts_are_found_as_published_ranges_have_it(parts, tmp_path):
    """On 50 species .51 was measured with the same layer, pixels have .31, chance is .25."""
    run = partsig.finetune(
        "packaged:efficientnet-lite0@112", parts, tmp_path / "run", task="part-retrieval",
        overrides={"pool": "mean"}, **CPU,
    )  # fmt: skip
    found = partsig.evaluate(run, figures=False, **CPU).metrics
    assert 0.40 < found["mean_average_precision"] < 0.65
    assert found["mean_average_precision_interval_95"][0] > found["chance"] + 0.1
    assert found["with_query"]["mean_average_precision"] > found["mean_average_precision"]
