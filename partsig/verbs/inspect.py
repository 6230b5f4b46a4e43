"""``partsig inspect``: what a PART pretraining run makes of windows it has never seen.

::

    RUN/inspection/ reconstruction.png, .svg   patches placed from one reference (PART, fig. 4)
                    rebuilt.png, .svg          the grid's patches, shuffled, put in order again
                    uncertainty.png, .svg      do references agree on a patch? (fig. 5)
                    symmetry.png, .svg         the N² translations as a matrix (fig. 6)
                    arrays.npz                 what was drawn
                    metrics.json               error, order, R², antisymmetry on many windows
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from partsig import registries
from partsig.data.store import locate
from partsig.errors import check_range
from partsig.files import atomic, write_json
from partsig.modalities import registry
from partsig.recipes.part_inspection import WINDOWS, arrays_of, fits_grid, measure
from partsig.runs import directory as runs
from partsig.runs.models import load_part
from partsig.train import distributed

# Windows beyond which no figure can be read.
MOST_DRAWN = 24


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Where an inspection lies, its figures of merit, and its pictures."""

    path: Path
    metrics: dict
    figures: list[Path]

    @property
    def summary(self) -> list[str]:
        """A line on off-grid patches and one on the grid's, chance in brackets."""
        unit, names = self.metrics["unit"], {"off_grid": "off-grid patches", "grid": "the grid's"}
        return [
            f"{name}: error {m['error']:.2f} {unit} [{m['error_chance']:.2f}], order right in "
            f"{100 * m['order']:.0f} % [50], R² {m['r2']:.3f} [0], antisymmetry violation "
            f"{m['antisymmetry_violation']:.2f} [1], disagreement {m['disagreement']:.2f} [1]"
            for name, m in ((n, self.metrics.get(key)) for key, n in names.items())
            if m is not None
        ]


def inspect(
    run: str | Path | None = None,
    store: str | Path | None = None,
    *,
    output: str | Path | None = None,
    n: int = 4,
    seed: int = 0,
    device: str = "auto",
) -> Inspection:
    """Draw and measure what a finished PART run knows of ``n`` windows of held-out subjects.

    ``run`` defaults to the pretraining run that finished last, ``store`` to the one it was trained
    on, ``output`` to ``RUN/inspection``. Windows are the test subjects', or, where the store has
    none of these, the monitor subjects'; never those the run was trained on. The same arguments
    give the same arrays.

    Raises CheckpointError for a run of another objective, DataError for a store that does not fit.
    """
    check_range("--n", n, 1, MOST_DRAWN)
    check_range("--seed", seed, 0)
    path = Path(run) if run is not None else runs.last("pretrain")
    loaded = load_part(path)
    kind = registry.get(loaded.run.modality)
    place = locate(store or loaded.run.store)
    chosen = distributed.pick_device(device)
    model = loaded.model.to(chosen)
    unseen = kind.open(place).unseen(loaded.run, model.window, seed, max(n, WINDOWS))
    check_range("--n", n, 1, unseen.most or MOST_DRAWN)
    drawn, per_unit = unseen.windows, unseen.samples_per_unit
    with torch.inference_mode():
        metrics = {"run": str(path), "store": str(place), "role": unseen.role, "seed": seed}
        metrics |= {unseen.whose: unseen.number, "n_windows": WINDOWS, "unit": kind.unit}
        metrics["off_grid"] = measure(model, drawn, seed, chosen, per_unit, on_grid=False)
        if fits_grid(model):
            metrics["grid"] = measure(model, drawn, seed, chosen, per_unit, on_grid=True)
        arrays = arrays_of(model, drawn.batch(0, 0, n), seed, chosen)
    arrays |= {"per_unit": np.array(per_unit), "ch_names": np.array(loaded.ch_names)}
    folder = Path(output) if output is not None else path / "inspection"
    with atomic(folder / "arrays.npz") as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)
    figures = registries.at(kind.draw_inspection)(arrays, kind.unit, folder)
    write_json(folder / "metrics.json", metrics)
    return Inspection(path=folder, metrics=metrics, figures=figures)
