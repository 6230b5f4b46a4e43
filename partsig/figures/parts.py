"""Parts that were found: over images, as prototypes, and where they agree least with people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.ndimage import zoom
from scipy.optimize import linear_sum_assignment

from partsig.figures.style import hide_sides, hide_ticks, plain, save_png_and_svg

# Part k has the same colour in every figure. Of eight, any two are 24 or more apart in CIELAB, of
# the first four 42, also as seen without red, green or blue cones.
COLOURS = (
    *("#66CCEE", "#332288", "#F0E442", "#CC3311"),
    *("#CC6677", "#4477AA", "#80BA5A", "#661100"),
)
STRENGTH = 0.62  # of a part's colour over the image
GREY = 0.75  # share of an image's colour that is taken away under parts
OUTSIDE = 0.35  # strength of what lies outside of the foreground
CELL = 1.5  # inches of an image's side
MOST_ROWS = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class PartColumn:
    """A column of a grid of images: ``maps`` (n, K, h, w) of parts, hard or soft, of n images."""

    title: str
    maps: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What people marked: ``keypoints`` (n, P, 3) x, y, seen, or ``masks`` (n, H, W), 255 ignored.

    ``names``: the classes of masks.
    """

    keypoints: np.ndarray | None = None
    masks: np.ndarray | None = None
    names: Sequence[str] = ()


def colour_of(part: int) -> str:
    """Return a part's colour; from the ninth on they repeat.

    >>> colour_of(0) == colour_of(8)
    True
    """
    return COLOURS[part % len(COLOURS)]


def matched(maps: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return maps (n, K, *grid) with parts in the order of a reference (n, R, *grid), R up to K.

    The pairs that share most come first, so that they have one colour; what is left comes after, in
    its old order. Grids are the same.

    >>> matched(np.eye(3)[None, [2, 0, 1]], np.eye(3)[None])[0].astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """
    flat = (m.reshape(*m.shape[:2], -1) for m in (maps, reference))
    shared = np.einsum("nkc,nrc->kr", *flat)
    parts, places = linear_sum_assignment(-shared)
    order = [int(parts[i]) for i in np.argsort(places)]
    return maps[:, order + [k for k in range(maps.shape[1]) if k not in order]]


def draw_grid(
    images: np.ndarray,
    columns: Sequence[PartColumn],
    path: Path,
    *,
    truth: Truth | None = None,
    foreground: np.ndarray | None = None,
    notes: Sequence[str] = (),
    title: str = "",
) -> list[Path]:
    """Draw images (n, C, H, W) of 0 to 255, a row each: as they are, the truth, parts by column.

    ``foreground`` (n, H, W) is what parts are shown within; ``notes`` stand beside the rows.
    Returns the files (PNG, SVG).
    """
    images = images[:MOST_ROWS]
    heads = ["image", *([] if truth is None else ["marked by people"]), *(c.title for c in columns)]
    high = len(images) * CELL + (0.9 if title else 0.55)
    figure = Figure(figsize=(len(heads) * CELL + 0.3, high), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    grid = figure.subplots(len(images), len(heads), squeeze=False)
    if title:
        figure.suptitle(plain(title), fontsize=11)
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(plain(head), fontsize=9)
    for i, row in enumerate(grid):
        picture = picture_of(images[i])
        mask = None if foreground is None else foreground[i]
        shown = [picture, *([] if truth is None else [_marked(picture, truth, i)])]
        shown += [overlaid(picture, column.maps[i], mask) for column in columns]
        for axes, pixels in zip(row, shown, strict=True):
            axes.imshow(pixels, interpolation="antialiased")
            hide_ticks(axes)
            hide_sides(axes, "top", "right", "bottom", "left")
        if truth is not None and truth.keypoints is not None:
            _keypoints(row[1], truth.keypoints[i])
        if i < len(notes):
            row[0].set_ylabel(plain(notes[i]), fontsize=7.5)
    _legend(figure, max((c.maps.shape[1] for c in columns), default=0), truth)
    return save_png_and_svg(figure, path)


def draw_prototypes(
    images: np.ndarray, maps: np.ndarray, strength: np.ndarray, path: Path, *, top: int = 9
) -> list[Path]:
    """Draw the patches where each part is at its most typical, a row for each part.

    ``maps`` (n, K, h, w) of images (n, C, H, W); ``strength`` (n, K) is how typical of the part
    what an image shows is, NaN where it shows nothing of it. Returns the files (PNG, SVG).
    """
    n_parts = maps.shape[1]
    figure = Figure(figsize=(top * 0.95 + 0.7, n_parts * 0.98 + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
    grid = figure.subplots(n_parts, top, squeeze=False)
    for k, row in enumerate(grid):
        order = np.argsort(-np.nan_to_num(strength[:, k], nan=-np.inf), kind="stable")
        order = [i for i in order[:top] if not np.isnan(strength[i, k])]
        for axes in row:
            hide_ticks(axes)
            hide_sides(axes, "top", "right", "bottom", "left")
        for axes, i in zip(row, order, strict=False):
            top_left, side = patch_of(maps[i, k], images.shape[2:])
            rows, columns = (slice(at, at + side) for at in top_left)
            axes.imshow(picture_of(images[i])[rows, columns], interpolation="antialiased")
            for line in axes.spines.values():
                line.set(visible=True, color=colour_of(k), linewidth=3)
        row[0].set_ylabel(f"part {k + 1}", fontsize=9)
    return save_png_and_svg(figure, path)


def draw_failures(
    images: np.ndarray,
    columns: Sequence[PartColumn],
    agreement: np.ndarray,
    path: Path,
    *,
    truth: Truth | None = None,
    most: int = 6,
    measure: str = "NMI",
) -> list[Path]:
    """Draw the images whose parts agree least with the truth, the lowest first; as the grid is.

    ``agreement`` (n,) is a figure of each image, 0 to 1, NaN where it has none.
    """
    order = [i for i in np.argsort(agreement, kind="stable") if not np.isnan(agreement[i])][:most]
    if truth is not None:
        truth = Truth(
            keypoints=None if truth.keypoints is None else truth.keypoints[order],
            masks=None if truth.masks is None else truth.masks[order],
            names=truth.names,
        )
    return draw_grid(
        images[order],
        [PartColumn(title=c.title, maps=c.maps[order]) for c in columns],
        path,
        truth=truth,
        notes=[f"{measure} {100 * agreement[i]:.0f}" for i in order],
        title="where parts agree least",
    )


def picture_of(pixels: np.ndarray) -> np.ndarray:
    """Return an image (C, H, W) of 0 to 255 as matplotlib has it, (H, W, 3) of 0 to 1."""
    shown = np.moveaxis(pixels, 0, -1).astype(np.float64) / 255
    return np.repeat(shown, 3, -1) if shown.shape[-1] == 1 else shown[..., :3]


def overlaid(
    picture: np.ndarray, maps: np.ndarray, foreground: np.ndarray | None = None
) -> np.ndarray:
    """Return a picture (H, W, 3) in grey under the colours of its parts (K, h, w).

    Maps are enlarged linearly, and each pixel has the colour of its most likely part; where parts
    meet there is a light line. Outside of the ``foreground`` (H, W) the picture is pale.
    """
    labels = enlarged(maps, picture.shape[:2]).argmax(0)
    light = picture @ np.array([0.299, 0.587, 0.114])
    under = GREY * light[..., None] + (1 - GREY) * picture
    tints = np.array([to_rgb(colour_of(k)) for k in range(len(maps))])
    shown = (1 - STRENGTH) * under + STRENGTH * tints[labels]
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    shown[edge] = 0.25 * shown[edge] + 0.75
    if foreground is not None:
        pale = 1 - OUTSIDE * (1 - light[..., None])
        shown = np.where(np.asarray(foreground, bool)[..., None], shown, pale)
    return np.clip(shown, 0, 1)


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return maps (K, h, w) as (K, H, W), linearly between the centres of cells.

    >>> enlarged(np.array([[[0.0, 1.0]]]), (1, 4))[0, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    factors = (1, *(new / old for new, old in zip(size, maps.shape[1:], strict=True)))
    return zoom(np.asarray(maps, np.float64), factors, order=1, mode="nearest", grid_mode=True)


def patch_of(part: np.ndarray, size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Return the first row and column, and the side, of a square about a part's map (h, w).

    In pixels of an image of this size; its side is that of a square of the part's area and a fifth
    more, a fifth of the image at least, and it lies within the image.

    >>> patch_of(np.eye(4)[:2], (10, 20))
    ((1, 1), 8)
    """
    part = np.asarray(part, np.float64)
    total = max(part.sum(), 1e-12)
    share = total / part.size
    least = min(size)
    side = int(np.clip(round(1.2 * np.sqrt(share * size[0] * size[1])), least / 5, least))
    corner = []
    for axis, (cells, extent) in enumerate(zip(part.shape, size, strict=True)):
        middle = part.sum(1 - axis) @ (np.arange(cells) + 0.5) / total / cells * extent
        corner.append(int(np.clip(round(middle - side / 2), 0, extent - side)))
    return (corner[0], corner[1]), side


def _marked(picture: np.ndarray, truth: Truth, i: int) -> np.ndarray:
    """Return a picture with what people marked in it as masks, in colours."""
    if truth.masks is None:
        return picture
    masks = np.asarray(truth.masks[i])
    classes = np.arange(max(len(truth.names), 1)).reshape(-1, 1, 1)
    return overlaid(picture, (masks[None] == classes).astype(float), masks != 255)


def _keypoints(axes, keypoints: np.ndarray) -> None:
    seen = keypoints[keypoints[:, 2] > 0]
    axes.scatter(seen[:, 0], seen[:, 1], s=14, color="white", edgecolor="black", linewidth=0.7)


def _legend(figure: Figure, n_parts: int, truth: Truth | None) -> None:
    names = [f"part {k + 1}" for k in range(min(n_parts, len(COLOURS)))]
    if truth is not None and truth.names:
        names = [
            name if k >= len(truth.names) else f"{name} / {plain(truth.names[k])}"
            for k, name in enumerate(names)
        ]
    handles = [Patch(color=colour_of(k), label=name) for k, name in enumerate(names)]
    if handles:
        columns = min(len(handles), 4 if truth is not None and truth.names else 8)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, fontsize=8,
            frameon=False, handlelength=0.9, handleheight=0.9, columnspacing=1.2,
        )  # fmt: skip
