"""Position codes of other windows: interpolated as timm does it, in any number of axes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from timm.layers import resample_abs_pos_embed

from partsig.core.position import resample


@pytest.mark.parametrize(
    ("grid", "new"),
    [((4, 4), (7, 7)), ((8, 8), (5, 5)), ((6, 6), (3, 9)), ((14, 14), (24, 16)), ((4, 4), (4, 4))],
)
def test_in_two_axes_it_is_timms(grid, new):
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(grid[0] * grid[1] + 1, 12, generator=generator)
    theirs = torch.cat([code[-1:], code[:-1]]).unsqueeze(0)  # timm has [CLS] first
    expected = resample_abs_pos_embed(theirs, list(new), list(grid), num_prefix_tokens=1)[0]
    found = resample(code, grid, new)
    torch.testing.assert_close(found[:-1], expected[1:])
    torch.testing.assert_close(found[-1], expected[0])


def test_along_one_axis_it_is_each_column_of_two():
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(31, 6, generator=generator)
    found = resample(code, (30,), (15,))
    # The same curve down every column of a picture.
    wide = code[:-1].repeat_interleave(4, dim=0)  # (30 * 4, 6): 30 rows of 4 equal columns
    expected = resample(torch.cat([wide, code[-1:]]), (30, 4), (15, 4))
    torch.testing.assert_close(found[:-1], expected[:-1].view(15, 4, 6)[:, 0])
    assert torch.equal(found[-1], code[-1])


def test_a_straight_line_stays_one():
    line = torch.arange(20.0).view(20, 1)
    found = resample(torch.cat([line, torch.zeros(1, 1)]), (20,), (40,))[:-1, 0]
    steps = found.diff()[6:-6]
    np.testing.assert_allclose(steps, 0.5, atol=1e-4)


def test_along_three_axes():
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(3 * 4 * 5 + 1, 2, generator=generator)
    found = resample(code, (3, 4, 5), (6, 8, 10))
    assert found.shape == (6 * 8 * 10 + 1, 2)
    grid = code[:-1].view(3, 4, 5, 2).numpy()
    expected = np.stack(
        [zoom(grid[..., e], 2, order=1, grid_mode=True, mode="nearest") for e in range(2)], -1
    )
    np.testing.assert_allclose(found[:-1].view(6, 8, 10, 2), expected, atol=1e-5)
