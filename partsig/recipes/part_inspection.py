"""What a PART run makes of windows it has never seen: figures of merit, and pictures.

::

    FOLDER/ reconstruction.png, .svg   patches placed from one reference (PART, fig. 4)
            rebuilt.png, .svg          the grid's patches, shuffled, put in order again
            uncertainty.png, .svg      do references agree on a patch? (fig. 5)
            symmetry.png, .svg         the N² translations as a matrix (fig. 6)
            arrays.npz                 what was drawn
            metrics.json               error, order, R², antisymmetry on many windows
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from partsig import registries
from partsig.contracts import UnseenWindows, Windows
from partsig.core import placing as placings
from partsig.core.geometry import shuffled_grid
from partsig.core.objectives.part import Part
from partsig.data.store import locate
from partsig.errors import check_range
from partsig.files import atomic
from partsig.modalities import registry
from partsig.modalities.modality import Modality
from partsig.places import place_name
from partsig.recipes.inspection import (
    MOST_DRAWN,
    Inspection,
    InspectionRequest,
    write_metrics,
)
from partsig.runs.models import load_part
from partsig.seeds import Stream, seed_of
from partsig.train import distributed

PICTURES = ("reconstruction", "rebuilt", "uncertainty", "symmetry")
DRAWN = [f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")]
INSPECTED = ("run", "store", "role", "n_windows", "off_grid")
# Windows the figures of merit are computed on, and how many at once.
WINDOWS, BATCH = 256, 32
# Draws over which a window's disagreement is averaged, sample by sample.
DRAWS = 32


@dataclass(frozen=True, kw_only=True)
class OpenedPart:
    """A finished PART run on a device, windows it has not seen, and what is ``told`` of both."""

    model: Part
    ch_names: Sequence[str]
    kind: Modality
    unseen: UnseenWindows
    device: torch.device
    told: dict


def open_part(asked: InspectionRequest, n_windows: int) -> OpenedPart:
    """Open what an inspection of PART asks for, with so many windows an epoch.

    Raises CheckpointError for a run of another objective, DataError for a store that does not fit.
    """
    loaded = load_part(asked.run)
    kind = registry.get(loaded.run.modality)
    place = locate(asked.store, recorded=loaded.run.facts["store"])
    device = distributed.pick_device(asked.device)
    model = loaded.model.to(device)
    unseen = kind.open(place).unseen(loaded.run, model.window, asked.seed, n_windows)
    told = {
        "run": place_name(asked.run), "store": place_name(place), "role": unseen.role,
        "seed": asked.seed, unseen.whose: unseen.number,
    }  # fmt: skip
    return OpenedPart(
        model=model, ch_names=loaded.ch_names, kind=kind, unseen=unseen, device=device, told=told
    )


def inspect_translations(asked: InspectionRequest) -> Inspection:
    """Draw and measure what a finished PART run knows of windows of held-out subjects.

    Raises CheckpointError for a run of another objective, DataError for a store that does not fit.
    """
    opened, seed = open_part(asked, max(asked.n, WINDOWS)), asked.seed
    model, unseen, device, unit = opened.model, opened.unseen, opened.device, opened.kind.unit
    check_range("--n", asked.n, 1, unseen.most or MOST_DRAWN)
    drawn, per_unit = unseen.windows, unseen.samples_per_unit
    with torch.inference_mode():
        metrics = opened.told | {"n_windows": WINDOWS, "unit": unit}
        metrics["off_grid"] = measure(model, drawn, seed, device, per_unit, on_grid=False)
        if fits_grid(model):
            metrics["grid"] = measure(model, drawn, seed, device, per_unit, on_grid=True)
        arrays = arrays_of(model, drawn.batch(0, 0, asked.n), seed, device)
    arrays |= {"per_unit": np.array(per_unit), "ch_names": np.array(opened.ch_names)}
    folder = asked.output
    write_metrics(folder, "metrics.json", metrics, INSPECTED, ("arrays.npz", *DRAWN))
    with atomic(folder / "arrays.npz") as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)
    figures = registries.at(opened.kind.draw_inspection)(arrays, unit, folder)
    return Inspection(path=folder, metrics=metrics, figures=figures, summary=_summary(metrics))


def _summary(metrics: dict) -> list[str]:
    """Return a line on off-grid patches and one on the grid's, chance in brackets."""
    unit, names = metrics["unit"], {"off_grid": "off-grid patches", "grid": "the grid's"}
    return [
        f"{name}: error {m['error']:.2f} {unit} [{m['error_chance']:.2f}], order right in "
        f"{100 * m['order']:.0f} % [50], R² {m['r2']:.3f} [0], antisymmetry violation "
        f"{m['antisymmetry_violation']:.2f} [1], disagreement {m['disagreement']:.2f} [1]"
        for name, m in ((n, metrics.get(key)) for key, n in names.items())
        if m is not None
    ]


def fits_grid(model: Part) -> bool:
    """Whether the model takes as many patches as the grid has (the MLP takes one number only)."""
    on_grid = int(np.prod([w // p for w, p in zip(model.window, model.patch, strict=True)]))
    return model.config.relative != "mlp" or model.n_patches == on_grid


def _draw(model: Part, batch: int, generator: torch.Generator, on_grid: bool):
    if on_grid:
        return shuffled_grid(batch, model.window, model.patch, generator)
    return model.sample(batch, generator)


def measure(
    model: Part,
    drawn: Windows,
    seed: int,
    device: torch.device,
    unit: float,
    *,
    on_grid: bool,
) -> dict[str, float]:
    """Return figures of merit over all pairs the model was trained to relate, self-pairs apart."""
    sums, asked = np.zeros(6), 0
    asymmetries, apart = [], []
    generator = torch.Generator().manual_seed(seed_of(Stream.INSPECTION, seed))
    for first in range(0, WINDOWS, BATCH):
        x = torch.from_numpy(drawn.batch(0, first, BATCH)).to(device)
        where = (t.to(device) for t in _draw(model, len(x), generator, on_grid))
        placing = placings.place(model, x, *where)
        own = torch.eye(placing.near.shape[-1], dtype=torch.bool, device=device)
        counts = placing.near & ~own
        shift, true = placing.shift[counts], placing.true[counts]  # (P, D)
        moved = true != 0
        sums += [
            (shift - true).square().sum().item(),
            true.square().sum().item(),
            (shift - true).square().sum(-1).sqrt().sum().item(),
            true.square().sum(-1).sqrt().sum().item(),
            ((shift > 0) == (true > 0))[moved].sum().item(),
            moved.sum().item(),
        ]
        asymmetries += placings.asymmetry(placing.shift * counts.unsqueeze(-1)).tolist()
        apart.append(placings.disagreement(placing).cpu().numpy())
        asked += len(shift)
    return {
        "error": sums[2] / asked / unit,
        "error_chance": sums[3] / asked / unit,
        "order": sums[4] / sums[5],
        "order_chance": 0.5,
        "r2": 1 - sums[0] / sums[1],
        "r2_chance": 0.0,
        "antisymmetry_violation": float(np.mean(asymmetries)),
        "antisymmetry_violation_chance": 1.0,
        "disagreement": float(np.nanmean(np.concatenate(apart))),
        "disagreement_chance": 1.0,
    }


def arrays_of(model: Part, windows: np.ndarray, seed: int, device: torch.device) -> dict:
    """Return what is drawn of some windows (n, C, *L), as NumPy arrays, lengths in samples."""
    x = torch.from_numpy(windows).to(device)
    generator = torch.Generator().manual_seed(seed_of(Stream.INSPECTION, seed))
    arrays = {"windows": windows.astype(np.float32)}
    for name, on_grid in (("off_grid", False), ("grid", True)):
        if on_grid and not fits_grid(model):
            continue
        positions, sizes = _draw(model, len(x), generator, on_grid)
        placing = placings.place(model, x, positions.to(device), sizes.to(device))
        # The patch nearest to the middle places the others: most of them are within its reach.
        middle = placing.positions.mean(1, keepdim=True)
        reference = (placing.positions - middle).square().sum(-1).argmin(1)
        arrays |= {
            f"{name}_positions": placing.positions,
            f"{name}_sizes": placing.sizes,
            f"{name}_near": placing.near,
            f"{name}_where": placing.where,
            f"{name}_reference": reference,
            f"{name}_placed": placings.placed(placing, reference),
            # Where a patch lies by all references alike; no true position enters.
            f"{name}_by_all": placing.shift.mean(1),
            f"{name}_disagreement": placings.disagreement(placing),
            f"{name}_asymmetry": placings.asymmetry(placing.shift),
        }
        # Component d of the matrices, unordered and sorted along axis d: (n, D, N, N).
        for label, matrix in (("true", placing.true), ("predicted", placing.shift)):
            arrays[f"{name}_matrix_{label}"] = matrix.movedim(-1, 1)
            arrays[f"{name}_ordered_{label}"] = torch.stack(
                [
                    placings.in_order(matrix[..., axis], placing.positions, axis)
                    for axis in range(matrix.shape[-1])
                ],
                dim=1,
            )
    arrays["uncertainty"] = _uncertainty(model, x, generator)
    return {k: v.cpu().numpy() if torch.is_tensor(v) else v for k, v in arrays.items()}


def _uncertainty(model: Part, x: torch.Tensor, generator: torch.Generator) -> np.ndarray:
    """Return (n, *L): mean disagreement on the patches over a sample, over DRAWS draws."""
    total, weight = (np.zeros((len(x), *model.window)) for _ in range(2))
    for _ in range(DRAWS):
        positions, sizes = placings.evenly(model, len(x), generator)
        placing = placings.place(model, x, positions.to(x.device), sizes.to(x.device))
        value = placings.disagreement(placing).cpu().numpy()
        low = (positions - sizes / 2).round().int().numpy()
        high = (positions + sizes / 2).round().int().numpy()
        for b, j in np.argwhere(np.isfinite(value)):
            box = (b, *(slice(*ends) for ends in zip(low[b, j], high[b, j], strict=True)))
            total[box] += value[b, j]
            weight[box] += 1
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
