"""Parts that were found without labels, and how far they agree with what people marked.

Of points (keypoints): which part is found at each that is seen. Of maps of labels: which part at
each place. ``fg`` asks within the foreground, ``full`` counts the background as a further part, of
images whose foreground is told. Intervals are bootstraps over units (images, subjects). How well
the centres of parts tell points, by a regression fitted on training items. Parts with less than 1 %
of the foreground are dead. Beside them what needs no learning: one part, a grid, and k-means and
NMF on the same maps and the same foreground that the parts were learned on; and, of the regression,
the middle of the image, and the mean of the true keypoints, as the one centre.

Source: S. Choudhury, I. Laina, C. Rupprecht, A. Vedaldi, Unsupervised part discovery from
contrastive reconstruction, NeurIPS 2021. *Differs from its code*: ``full`` is of the same crops as
``fg``, where CUB's is published of whole images; points are read off the maps of parts by linear
interpolation between the cells of their grid.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from partsig.cells import is_marked, write_table
from partsig.contracts import MarkedItems
from partsig.core.perception import resized
from partsig.errors import DataError
from partsig.files import atomic
from partsig.metrics import clustering, part_places
from partsig.tasks.part_baselines import (
    BASELINES,
    PartMaps,
    as_maps,
    factor_parts,
    kmeans_parts,
    rectified_share,
)

CPU_BATCH, DEVICE_BATCH = 8, 64
# Bytes of maps that k-means and NMF are fitted to and judged on; above, they are left out.
MOST_BYTES = 2**31
FACTORS = "NMF (DFF)"


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundParts:
    """Shares of K parts (n, K, *grid) at the places of items, and the foreground (n, *grid).

    ``features`` (n, F, *grid) are the frozen maps they were seen through, where these are kept.
    """

    maps: np.ndarray
    foreground: np.ndarray
    features: np.ndarray | None = None

    def as_features(self) -> PartMaps | None:
        """Return the frozen maps as those of a baseline; None where they were not kept."""
        if self.features is None:
            return None
        return PartMaps(maps=self.features, foreground=self.inside)

    @property
    def labels(self) -> np.ndarray:
        """The most likely part of every place, (n, *grid)."""
        return self.maps.argmax(1)

    @property
    def inside(self) -> np.ndarray:
        """Which places are foreground, (n, *grid) bool."""
        return self.foreground > 0.5


def find_parts(model: nn.Module, items: MarkedItems, device: torch.device) -> FoundParts:
    """Return the parts of items by a model that discovers some, and the maps it sees them through.

    Above :data:`MOST_BYTES` the maps are left out.
    """
    model.eval().to(device)
    found, inside, maps = [], [], []
    for x, ground in _in_order(items, device):
        parts, at, seen = model.predict(x, ground)
        found.append(parts.cpu().numpy())
        inside.append(at.cpu().numpy())
        if seen.nbytes * len(items) / len(x) <= MOST_BYTES:
            maps.append(seen.cpu().numpy())
    return FoundParts(
        maps=np.concatenate(found),
        foreground=np.concatenate(inside),
        features=np.concatenate(maps) if len(maps) == len(found) else None,
    )


def _in_order(
    items: MarkedItems, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    size = CPU_BATCH if device.type == "cpu" else DEVICE_BATCH
    for first in range(0, len(items), size):
        rows = slice(first, min(first + size, len(items)))
        ground = items.foreground(rows)
        x = torch.from_numpy(np.ascontiguousarray(items.inputs(rows))).to(device)
        if ground is not None:
            ground = torch.from_numpy(np.ascontiguousarray(ground)).to(device)
        yield x, ground


def tables_of(found: FoundParts, items: MarkedItems) -> dict[str, np.ndarray]:
    """Return tables (n, R, K) of what is marked against parts, by what is asked, item by item.

    ``points_fg``, ``points_full``, ``places_fg``, ``places_full``, those that there are.
    """
    n_parts, everything = found.maps.shape[1], slice(0, len(items))
    tables: dict[str, np.ndarray] = {}
    points = items.points(everything)
    extent = items.inputs(slice(0, 1)).shape[2:]
    if points is not None:
        places, seen = points[..., :-1] / np.array(extent), points[..., -1] > 0
        at = part_places.most_likely_at(found.maps, places, seen)
        tables["points_fg"] = part_places.keypoint_tables(at, n_parts)
        with_ground = part_places.background_first(found.maps, found.foreground)
        at = part_places.most_likely_at(with_ground, places, seen)
        tables["points_full"] = part_places.keypoint_tables(at, n_parts + 1)
    if len(items) and items.labels(slice(0, 1)) is not None:
        n_classes = len(items.classes)
        each = [_place_tables(found, items, at, n_classes) for at in range(len(items))]
        tables["places_fg"], tables["places_full"] = (np.stack(t) for t in zip(*each, strict=True))
    if not (found.foreground < 0.5).any():  # no place is told to be background
        tables.pop("points_full", None)
        if "places_full" in tables and not tables["places_full"][:, 0].any():
            del tables["places_full"]  # nor is one truly
    return tables


def _place_tables(
    found: FoundParts, items: MarkedItems, at: int, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables (R, K) and (R + 1, K + 1) of an item's places, the background first."""
    truth = items.labels(slice(at, at + 1))[0]
    maps = torch.from_numpy(found.maps[at : at + 1])
    labels = resized(maps, truth.shape)[0].argmax(0).numpy()
    ground = torch.from_numpy(found.foreground[at : at + 1, None])
    inside = resized(ground, truth.shape)[0, 0].numpy() > 0.5
    n_parts = found.maps.shape[1]
    fg = clustering.contingency(truth, labels, (n_classes, n_parts))
    full = clustering.contingency(
        np.where(truth == -2, -1, truth + 1),
        clustering.with_background(labels, inside),
        (n_classes + 1, n_parts + 1),
    )
    return fg, full


def score(found: FoundParts, items: MarkedItems, seed: int) -> dict[str, object]:
    """Return NMI and ARI of all that is asked, with intervals, and which parts are dead."""
    units, unit = items.units()
    told: dict[str, object] = {
        name: clustering.scores(_by_unit(table, unit, len(units)), seed)
        for name, table in tables_of(found, items).items()
    }
    shares = clustering.part_shares(found.labels, found.inside, found.maps.shape[1])
    return told | {
        "part_shares": [round(float(share), 6) for share in shares],
        "dead_parts": clustering.dead_parts(shares),
    }


def _by_unit(tables: np.ndarray, unit: np.ndarray, n_units: int) -> np.ndarray:
    found = np.zeros((n_units, *tables.shape[1:]), np.int64)
    np.add.at(found, unit, tables)
    return found


# The one centre of each item (n, 1, D) by points (n, P, D), in shares of it, and which are seen.
CENTRES = {
    "image midpoint": lambda at, _seen: part_places.middle_centres(len(at), at.shape[2]),
    "mean true keypoint": part_places.mean_centres,
}


def regression_error(
    train: tuple[FoundParts, MarkedItems],
    test: tuple[FoundParts, MarkedItems],
    centre: str | None = None,
) -> float | None:
    """Return how far points lie from where the centres of parts tell them, in % of the object.

    ``centre``: one of :data:`CENTRES` in place of the parts', a baseline. None where there are no
    points, or none that both show.
    """
    told = []
    for found, items in (train, test):
        everything = slice(0, len(items))
        points = items.points(everything)
        if points is None:
            return None
        extent = np.array(items.inputs(slice(0, 1)).shape[2:], np.float64)
        places, seen = points[..., :-1].astype(np.float64), points[..., -1] > 0
        if centre is None:
            centres = part_places.part_centres(found.maps, found.foreground)
        else:
            centres = CENTRES[centre](places / extent, seen)
        told.append((centres * extent, places, seen))
    scale = test[1].scale(slice(0, len(test[1])))
    error = clustering.keypoint_regression_error(*told[0], *told[1], scale)
    return None if np.isnan(error) else error


def baselines(
    train: FoundParts, found: FoundParts, items: MarkedItems, seed: int
) -> dict[str, dict]:
    """Return the same scores of what needs no learning; k-means and NMF where maps were kept.

    NMF tells which share of the maps it took as 0 (``rectified_share``), since they were below; of
    maps that are nowhere above 0 it is left out.
    """
    n_parts = found.maps.shape[1]
    ground = PartMaps(maps=found.maps, foreground=found.inside)
    labels = {name: BASELINES[name](ground, ground, n_parts, seed) for name in ("one part", "grid")}
    known, seen = train.as_features(), found.as_features()
    rectified = 0.0
    if known is not None and seen is not None and known.mask.sum() >= n_parts:
        labels["k-means"] = kmeans_parts(known, seen, n_parts, seed)
        rectified = rectified_share(known)
        with suppress(DataError):  # nothing is above 0
            labels[FACTORS] = factor_parts(known, seen, n_parts, seed)
    told = {
        name: score(
            FoundParts(maps=as_maps(one, n_parts), foreground=found.foreground), items, seed
        )
        for name, one in labels.items()
    }
    if FACTORS in told:
        told[FACTORS]["rectified_share"] = round(rectified, 4)
    return told


def write_predictions(path: Path, found: FoundParts, items: MarkedItems) -> None:
    """Write how often each part is found at what is marked, a row for each that there is."""
    tables, names = tables_of(found, items), items.names
    kinds = {"points_fg": items.point_names, "places_fg": items.classes}
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        columns = [items.item, "truth", "prediction", "count"]
        marked = any(map(is_marked, (*names, *items.point_names, *items.classes)))
        rows = (
            [names[n], kinds[kind][r], int(k), int(tables[kind][n, r, k])]
            for kind in kinds
            if kind in tables
            for n, r, k in np.argwhere(tables[kind])
        )
        write_table(file, columns, rows, marked)


def summary(result: dict) -> list[str]:
    """Return a result in a few lines."""
    lines = []
    asked = {
        "points_fg": "keypoints, foreground",
        "points_full": "keypoints, with background",
        "places_fg": "places, foreground",
        "places_full": "places, with background",
    }
    for name, words in asked.items():
        if name in result:
            lines.append(f"{words}: {clustering.in_words(result[name])}")
            others = ", ".join(
                f"{who} {clustering.in_words(_plain(told[name]))}"
                for who, told in result["baselines"].items()
            )
            lines.append(f"  without learning: {others}")
    if result.get("keypoint_regression_error") is not None:
        beside = result.get("keypoint_regression_baselines", {})
        others = ", ".join(f"{who} {off:.1f} %" for who, off in beside.items() if off is not None)
        lines.append(
            f"keypoints told by the parts' centres: {result['keypoint_regression_error']:.1f} % of "
            "the object off" + (f" (by the {others})" if others else "")
        )
    n_dead, n_parts = len(result["dead_parts"]), len(result["part_shares"])
    lines.append(
        f"{n_parts} parts, {n_dead} of them dead (less than 1 % of the foreground); foreground: "
        f"{result['foreground']}"
    )
    return lines


def _plain(told: dict) -> dict:
    return {name: told[name] for name in ("nmi", "ari")}
