"""How images look: CIELAB, and changes of brightness, contrast, saturation, hue and colour."""

import math

import torch
from torch import Tensor

# IEC 61966-2-1 (sRGB): linear RGB to XYZ, divided by the white point D65.
RGB_TO_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def lab(rgb: Tensor) -> Tensor:
    """Return CIELAB (B, 3, H, W) of sRGB (B, 3, H, W), 0 to 1, under D65.

    Source: CIE 15:2004, section 8.2.1.

    >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    >>> [round(value, 2) for value in lab(red).flatten().tolist()]
    [53.24, 80.09, 67.2]
    """
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", torch.tensor(RGB_TO_XYZ).to(rgb), linear)
    edge = 6 / 29
    root = torch.where(
        xyz > edge**3, xyz.clamp(min=edge**3) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29
    )
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


class ImageLooks:
    """Appearance is CIELAB; colours are changed in order: brightness, contrast, saturation, hue.

    *Differs from torchvision's jitter*: the order is always this one, and hue turns about the grey
    axis (YIQ), by up to ``jitter`` of the colour circle.
    """

    width = 3

    def __init__(self, samples_per_unit: float = 1.0) -> None:
        """Take what tells signals apart, which images have no use for."""

    def appearance(self, x: Tensor) -> Tensor:
        """Return CIELAB (B, 3, H, W) of images (B, C, H, W), 0 to 255; a grey one has no a, b."""
        return lab(_coloured(x) / 255)

    def changed(
        self,
        x: Tensor,
        generator: torch.Generator,
        first: int,
        total: int,
        *,
        jitter: float,
        drop: float,
    ) -> Tensor:
        """Return images (B, C, H, W), 0 to 255, as they might look otherwise.

        Each factor is uniform on 1 ± ``jitter``, hue on ± ``jitter`` of a turn; with a chance of
        ``drop`` an image becomes grey.
        """
        drawn = torch.rand(total, 5, generator=generator, device=generator.device)
        drawn = drawn[first : first + len(x)].to(x.device)
        by = (1 + jitter * (2 * drawn[:, :3] - 1)).view(-1, 3, 1, 1, 1)
        image = x.float() / 255
        image = (image * by[:, 0]).clamp(0, 1)
        grey = _grey(image)
        middle = grey.mean((1, 2, 3), keepdim=True)
        image = (middle + by[:, 1] * (image - middle)).clamp(0, 1)
        if image.shape[1] == 3:
            grey = _grey(image)
            image = (grey + by[:, 2] * (image - grey)).clamp(0, 1)
            image = _turned(image, 2 * math.pi * jitter * (2 * drawn[:, 3] - 1))
            image = torch.where((drawn[:, 4] < drop).view(-1, 1, 1, 1), _grey(image), image)
        return 255 * image


def _coloured(x: Tensor) -> Tensor:
    x = x.float()
    return x if x.shape[1] == 3 else x[:, :1].expand(-1, 3, -1, -1)


def _grey(image: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W)."""
    if image.shape[1] != 3:
        return image
    return torch.einsum("c,bchw->bhw", torch.tensor(LUMA).to(image), image).unsqueeze(1)


def _turned(image: Tensor, angle: Tensor) -> Tensor:
    """Return images (B, 3, H, W), 0 to 1, with hues turned by angles (B,) about the grey axis."""
    to_yiq = torch.tensor(TO_YIQ).to(image)
    cos, sin, zero, one = angle.cos(), angle.sin(), 0 * angle, 0 * angle + 1
    rows = ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))
    turn = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)  # (B, 3, 3)
    whole = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("bij,bjhw->bihw", whole, image).clamp(0, 1)
