"""Images with masks: what is given of both, and windows of them for training."""

from types import MappingProxyType

import numpy as np
import pytest
import torch

from partsig.data.images.masked import MaskedBatches, MaskedImages, all_masks
from partsig.data.images.store import ImageStore
from partsig.data.shuffling import Shuffled


class Store:
    """Seven images of 10 x 10 pixels, whose masks tell the number of each pixel."""

    mask_classes = tuple(f"class {k}" for k in range(120))
    mask_objects = MappingProxyType({"class 0": "thing"})
    groups = ()
    names = tuple("abcdefg")

    def masks(self, index):
        place = np.arange(100, dtype=np.uint8).reshape(1, 10, 10)
        return np.repeat(place, len(index), 0)

    def batch(self, index):
        return self.masks(index)[:, None] + np.asarray(index, np.uint8)[:, None, None, None]

    labels = np.full(7, -1)
    classes = ()


@pytest.fixture
def images():
    return MaskedImages(Store(), np.array([4, 1, 6, 0, 2]), 8)


def test_the_stand_in_has_what_is_asked_of_a_store():
    for name in ("masks", "batch", "mask_classes", "mask_objects"):
        assert hasattr(ImageStore, name)


def test_image_and_mask_are_cut_alike(images):
    numbers = np.array([2, 0])
    x, masks = images.inputs_of(numbers), images.masks_of(numbers)
    assert x.shape == (2, 1, 8, 8)
    np.testing.assert_array_equal(x[:, 0] - masks, [[[6]], [[4]]] * np.ones((2, 8, 8)))
    assert masks[0, 0, 0] == 11
    assert images.labels.tolist() == [-1] * 5
    assert images.objects[:2] == ("thing", "class 1")
    assert np.concatenate(list(all_masks(images))).shape == (5, 8, 8)
    assert images.present().tolist() == sorted(set(masks[0].ravel().tolist()))


def test_whole_images_are_told_by_their_numbers(images):
    batches = MaskedBatches(examples=images, shuffled=Shuffled(5, 3, seed=0))
    for step in range(2):
        batch = batches(step)
        numbers = batch.extras["item"].numpy()
        assert numbers.tolist() == batches.shuffled(step).tolist()
        np.testing.assert_array_equal(batch.inputs.numpy(), images.inputs_of(numbers))
        np.testing.assert_array_equal(batch.targets.numpy(), images.masks_of(numbers))


def test_windows_lie_anywhere_and_depend_on_seed_and_step_alone(images):
    def of(seed, place=(0, 1)):
        return MaskedBatches(examples=images, shuffled=Shuffled(5, 3, seed, place=place), window=3)

    seen = set()
    for step in range(160):
        batch = of(0)(step)
        assert batch.extras == {}
        assert batch.inputs.shape[2:] == (3, 3)
        own = images.index[of(0).shuffled(step)]
        for x, mask, number in zip(batch.inputs, batch.targets, own, strict=True):
            torch.testing.assert_close(x[0] - int(number), mask)
            assert (mask[1] - mask[0]).tolist() == [10] * 3
            seen.add(int(mask[0, 0]))
        torch.testing.assert_close(batch.inputs, of(0)(step).inputs)
    assert len(seen) == 36
    assert min(seen) == 11
    assert max(seen) == 66
    # Two processes have what one has.
    parts = [of(0, (rank, 2))(0).inputs for rank in range(2)]
    torch.testing.assert_close(torch.cat(parts), of(0)(0).inputs)
