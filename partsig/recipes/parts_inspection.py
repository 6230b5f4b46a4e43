"""What parts a run has discovered: drawn over items that it was not trained on.

::

    FOLDER/ parts.png, .svg   items, and below each the part of every place, as a colour
            parts.json        the share of each part, by item
"""

from collections.abc import Callable

import numpy as np

from partsig import registries
from partsig.contracts import MarkedItems
from partsig.data.store import locate
from partsig.metrics.clustering import part_shares
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.inspection import Inspection, InspectionRequest, write_metrics
from partsig.runs.perceiving import load_perceiving
from partsig.runs.run import Run
from partsig.seeds import Stream, rng_of
from partsig.tasks import part_discovery as discovery
from partsig.text import shown
from partsig.train import distributed

DRAWN = ("parts.png", "parts.svg")
INSPECTED = ("run", "store", "items")


class SomeItems:
    """Some items of those that are marked, in the order of their numbers ``index`` (n,)."""

    def __init__(self, items: MarkedItems, index: np.ndarray) -> None:
        self.items, self.index = items, index

    def __len__(self) -> int:
        return len(self.index)

    def inputs(self, rows: slice) -> np.ndarray:
        """Return windows (b, C, *L), as recorded."""
        return self.joined(self.items.inputs, rows)

    def foreground(self, rows: slice) -> np.ndarray | None:
        """Return how far each place counts, (b, *L); None where it is not told."""
        return self.joined(self.items.foreground, rows)

    def joined(
        self, told: Callable[[slice], np.ndarray | None], rows: slice = slice(None)
    ) -> np.ndarray | None:
        """Return what is told of these items one by one, (b, …); None where nothing is."""
        found = [told(slice(i, i + 1)) for i in self.index[rows]]
        return None if found[0] is None else np.concatenate(found)


def inspect_parts(asked: InspectionRequest) -> Inspection:
    """Draw the parts of ``n`` test items, drawn by the seed, of a run that discovered some.

    Raises CheckpointError for another run.
    """
    run = Run.finished(asked.run, "pretrain")
    model = load_perceiving(run)
    place = locate(asked.store, recorded=run.facts["store"])
    dataset = registry.get(run.modality).open(place)
    items = dataset.marked(run, "test")
    index = np.sort(rng_of(Stream.INSPECTION, asked.seed).permutation(len(items))[: asked.n])
    some = SomeItems(items, index)
    found = discovery.find_parts(model, some, distributed.pick_device(asked.device))
    n_parts = found.maps.shape[1]
    folder = asked.output
    names = [items.names[i] for i in index]
    told = [
        {
            items.item: name,
            "shares": [round(float(s), 4) for s in part_shares(labels, inside, n_parts)],
        }
        for name, labels, inside in zip(names, found.labels, found.inside, strict=True)
    ]
    metrics = {
        "run": place_name(asked.run),
        "store": place_name(place),
        "seed": asked.seed,
        "parts": n_parts,
        "foreground": run.facts["foreground"],
        "items": told,
    }
    write_metrics(folder, "parts.json", metrics, INSPECTED, DRAWN)
    title = f"{n_parts} parts by {asked.run.name}, {items.item}s it was not trained on"
    figure = registries.at("partsig.figures.found_parts")
    seen = figure.ShownItems(
        inputs=some.inputs(slice(None)),
        maps=found.maps,
        inside=found.inside,
        points=some.joined(items.points),
        labels=some.joined(items.labels),
        classes=items.classes,
        names=tuple(names),
        per_unit=run.samples_per_unit,
        unit=registry.get(run.modality).unit,
    )
    drawn = figure.draw(seen, title, folder / "parts")
    return Inspection(path=folder, metrics=metrics, figures=drawn, summary=_summary(told, items))


def _summary(told: list[dict], items: MarkedItems) -> list[str]:
    return [
        f"{shown(one[items.item])}: "
        + ", ".join(f"part {k + 1} {share:.0%}" for k, share in enumerate(one["shares"]) if share)
        for one in told
    ]
