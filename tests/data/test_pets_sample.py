"""The pets that ship: what they are, and that whoever gets them is told whose they are."""

import numpy as np
from PIL import Image

from partsig.data.images.part_datasets.pets import CODES
from partsig.data.sample.pets import BREEDS, SIZE, write_pets


def test_images_trimaps_and_attribution_are_written_as_preprocess_reads_them(tmp_path):
    assert write_pets(tmp_path) == 140
    images = sorted((tmp_path / "images").iterdir())
    assert {path.stem.rpartition("_")[0] for path in images} == set(BREEDS)
    for path in images:
        trimap = np.array(Image.open(tmp_path / "trimaps" / f"{path.stem}.png"))
        assert trimap.shape == (SIZE, SIZE)
        assert set(np.unique(trimap)) <= set(CODES)
        with Image.open(path) as image:
            assert image.size == (SIZE, SIZE)
    told = (tmp_path / "ATTRIBUTION.md").read_text()
    for words in ("Parkhi", "CC BY-SA 4.0", "What was changed", "remains with their owners"):
        assert words in " ".join(told.split())
    before = [path.read_bytes() for path in images]
    write_pets(tmp_path)
    assert [path.read_bytes() for path in images] == before
