"""What PART makes of patches of several windows: a new one, arranged by predicted translations.

::

    FOLDER/ composition.png, .svg   patches of six windows where each lay in its own, and where the
                                    model puts them beside one another
            composition.npz         what was drawn
            composition.json        how far off that is, beside patches of one window and chance

No window holds these patches together, so nothing but what they show can tell where they belong:
the top of one face, the middle of another. What is right is where each lay in its own window.

Source: PART, section 4.1 ("these patches do not need to originate from a single image"), which
shows patches of one image only; the figures of merit are ours.
"""

import numpy as np
import torch
from torch import Tensor

from partsig import registries
from partsig.contracts import Windows
from partsig.core import placing as placings
from partsig.core.normalise import instance_normalise
from partsig.core.objectives.part import Part
from partsig.files import atomic
from partsig.recipes.inspection import Inspection, InspectionRequest, write_metrics
from partsig.recipes.part_inspection import open_part
from partsig.seeds import Stream, seed_of

# Windows that patches are taken from, for one that is composed.
SOURCES = 6
# Windows that are composed for the figures of merit, and how many at once.
COMPOSED, BATCH = 128, 8
FILES = ("composition.npz", "composition.png", "composition.svg")
INSPECTED = ("run", "store", "role", "n_composed", "of_several")


def inspect_composition(asked: InspectionRequest) -> Inspection:
    """Draw and measure windows that a finished PART run composes of patches of several others.

    Raises CheckpointError for a run of another objective, DataError for a store that does not fit.
    """
    opened = open_part(asked, max(asked.n, COMPOSED) * SOURCES)
    per_unit, unit = opened.unseen.samples_per_unit, opened.kind.unit
    metrics = opened.told | {"n_composed": COMPOSED, "n_sources": SOURCES, "unit": unit}
    composer = Composer(opened.model, opened.unseen.windows, asked.seed, opened.device)
    for name, sources in (("of_several", SOURCES), ("of_one", 1)):
        metrics[name] = measured(composer, sources, per_unit)
    arrays = composer.compose(0, asked.n, SOURCES)
    arrays |= {"per_unit": np.array(per_unit), "ch_names": np.array(opened.ch_names)}
    folder = asked.output
    write_metrics(folder, "composition.json", metrics, INSPECTED, FILES)
    with atomic(folder / "composition.npz") as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)
    draw = registries.at("partsig.figures.composition:draw")
    figures = draw(arrays, unit, folder / "composition")
    return Inspection(path=folder, metrics=metrics, figures=figures, summary=_summary(metrics))


class Composer:
    """Draws patches of several windows, and asks a model where they belong."""

    def __init__(self, model: Part, windows: Windows, seed: int, device: torch.device) -> None:
        self.model, self.windows, self.seed, self.device = model, windows, seed, device

    @torch.inference_mode()
    def compose(self, first: int, count: int, sources: int) -> dict[str, np.ndarray]:
        """Return compositions number first… of as many ``sources`` each, lengths in samples.

        ``windows`` (n, S, C, *L) are the sources as they are, ``source`` (n, N) says which of them
        a patch was taken from, ``positions`` and ``sizes`` (n, N, D) where there, ``arranged``
        (n, N, D) where the model puts it, with the middle of all where it truly is.
        """
        model, device = self.model, self.device
        # The same patches and the same first source, however many there are.
        numbers = range(first, first + count)
        raw = np.stack([self.windows.batch(0, n * SOURCES, sources) for n in numbers])
        drawn = [_drawn(model, self.seed, number) for number in numbers]
        positions, sizes, source = (torch.stack(part) for part in zip(*drawn, strict=True))
        source = source % sources
        x, level = instance_normalise(torch.from_numpy(raw).to(device).flatten(0, 1))
        # A patch is a window's only one, so that every one may have a window of its own.
        row = (torch.arange(count).unsqueeze(1) * sources + source).flatten().to(device)
        where = [t.flatten(0, 1).unsqueeze(1).to(device) for t in (positions, sizes)]
        patches = model.crop(x[row], *where).unflatten(0, source.shape).squeeze(2)
        levels = level.unflatten(0, (count, sources)).mean(1)
        placing = placings.relate(model, patches, positions.to(device), sizes.to(device), levels)
        arranged = placings.arranged(placing) + placing.positions.mean(1, keepdim=True)
        return {
            "windows": raw.astype(np.float32),
            "source": source.numpy(),
            "positions": positions.numpy(),
            "sizes": sizes.numpy(),
            "arranged": arranged.cpu().numpy(),
        }


def _drawn(model: Part, seed: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions and sizes (N, D) of patches of a window, and numbers (N,) of sources."""
    generator = torch.Generator().manual_seed(seed_of(Stream.INSPECTION, seed, number))
    positions, sizes = placings.evenly(model, 1, generator)
    turns = torch.randperm(positions.shape[1], generator=generator)  # as many patches of each
    return positions[0], sizes[0], turns % SOURCES


def measured(composer: Composer, sources: int, per_unit: float) -> dict[str, float]:
    """Return figures of merit over many compositions, chance beside them."""
    errors, chances, right, pairs = 0.0, 0.0, 0, 0
    n_patches = 0
    for first in range(0, COMPOSED, BATCH):
        a = composer.compose(first, min(BATCH, COMPOSED - first), sources)
        true, found = a["positions"], a["arranged"]
        middle = true.mean(1, keepdims=True)
        errors += float(np.sqrt(((found - true) ** 2).sum(-1)).sum())
        chances += float(np.sqrt(((middle - true) ** 2).sum(-1)).sum())
        one, other = np.triu_indices(true.shape[1], 1)
        apart, told = true[:, one] - true[:, other], found[:, one] - found[:, other]
        right += int(((apart > 0) == (told > 0))[apart != 0].sum())
        pairs += int((apart != 0).sum())
        n_patches += true.shape[0] * true.shape[1]
    return {
        "error": errors / n_patches / per_unit,
        "error_chance": chances / n_patches / per_unit,
        "order": right / pairs,
        "order_chance": 0.5,
    }


def _summary(metrics: dict) -> list[str]:
    """Return a line on patches of several windows and one on patches of one, chance in brackets."""
    unit, sources = metrics["unit"], metrics["n_sources"]
    names = {"of_several": f"patches of {sources} windows", "of_one": "patches of one window"}
    return [
        f"{said}: {metrics[key]['error']:.2f} {unit} from where each lay in its own "
        f"[{metrics[key]['error_chance']:.2f}], order right in "
        f"{100 * metrics[key]['order']:.0f} % [50]"
        for key, said in names.items()
    ]
