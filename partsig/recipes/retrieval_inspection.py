"""What an encoder takes for the same part: some queries and the nearest of all other test items.

::

    FOLDER/ retrieval.png, .svg   each query, and the 24 nearest: framed thick and blue where they
                                  are the same part, thin and red where not (as Zhu et al. 2024,
                                  figure 2)
            retrieval.json        the same by name, with the average precision of each query
"""

from collections.abc import Sequence

import numpy as np

from partsig import registries
from partsig.data.store import locate
from partsig.errors import CheckpointError
from partsig.metrics.retrieval import average_precisions, cosines
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.inspection import Inspection, InspectionRequest, write_metrics
from partsig.runs.run import Run
from partsig.seeds import Stream, rng_of
from partsig.tasks import registry as tasks
from partsig.text import shown
from partsig.train import distributed

NEAREST = 24
DRAWN = ("retrieval.png", "retrieval.svg")
INSPECTED = ("run", "store", "queries")
TASK = "part-retrieval"


def inspect_retrieval(asked: InspectionRequest) -> Inspection:
    """Draw what lies nearest to ``n`` test items of a finished run of part retrieval.

    Queries are drawn by the seed, of every part in turn. Raises CheckpointError for another run.
    """
    run = Run.finished(asked.run, "finetune")
    if run.task != TASK:
        raise CheckpointError(
            f"{asked.run} is of the task {run.task}; name one of --task {TASK} with --run."
        )
    task = tasks.get(run.task)
    place = locate(asked.store, recorded=run.facts["store"])
    dataset = registry.get(run.modality).open(place)
    dataset.check_same_input(run, task.learned(dataset.labels))
    external = place.resolve() != run.store.resolve()
    examples = task.relabel(dataset.test_examples(run, external))
    model = task.load(run)
    features = task.predict(model, examples, distributed.pick_device(asked.device))
    precisions = average_precisions(features, examples.labels)
    queries = _drawn(examples.labels, precisions, asked.n, asked.seed)
    order = _nearest(features, queries)
    inputs = np.concatenate(list(examples.in_order(256)))
    names = [_name(row) for row in examples.columns()[1]]
    folder = asked.output
    labels, classes = examples.labels, examples.classes
    told = [
        {
            "query": names[i],
            "part": classes[labels[i]],
            "average_precision": round(float(precisions[i]), 6),
            "nearest": [names[j] for j in near],
            "right": (labels[near] == labels[i]).tolist(),
        }
        for i, near in zip(queries, order, strict=True)
    ]
    metrics = {
        "run": place_name(asked.run),
        "store": place_name(place),
        "pool": run.config["pool"],
        "seed": asked.seed,
        f"n_{examples.item}s": len(examples),
        "queries": told,
    }
    write_metrics(folder, "retrieval.json", metrics, INSPECTED, DRAWN)
    figures = registries.at("partsig.figures.retrieval:draw")
    ranked = registries.at("partsig.figures.retrieval:Ranked")
    drawn = figures(
        [
            ranked(
                query=inputs[i], nearest=inputs[near], right=labels[near] == labels[i],
                label=classes[labels[i]], precision=float(precisions[i]),
            )
            for i, near in zip(queries, order, strict=True)
        ],
        f"{len(order[0])} nearest of {len(examples):,} {examples.item}s, by {asked.run.name}; "
        "framed thick and blue: the same part",
        folder / "retrieval",
    )  # fmt: skip
    return Inspection(path=folder, metrics=metrics, figures=drawn, summary=_summary(told))


def _name(row: Sequence[object]) -> str:
    """Return what tells an item, of what tells it in a table: each part of it once.

    >>> _name(["a.jpg#beak", "a.jpg"]), _name(["night", "anna", 7])
    ('a.jpg#beak', 'night anna 7')
    """
    told = ""
    for value in map(str, row):
        told += "" if value in told.replace("#", " ").split() else f" {value}"
    return told.strip()


def _drawn(labels: np.ndarray, precisions: np.ndarray, n: int, seed: int) -> list[int]:
    """Return the numbers of up to ``n`` queries that have a match, of every part in turn."""
    order = rng_of(Stream.INSPECTION, seed).permutation(len(labels))
    order = [int(i) for i in order if not np.isnan(precisions[i])]
    turns: dict[int, int] = {}
    keyed = []
    for i in order:
        turn = turns.setdefault(int(labels[i]), 0)
        turns[int(labels[i])] += 1
        keyed.append((turn, int(labels[i]), i))
    chosen = [i for _, _, i in sorted(keyed)[:n]]
    if not chosen:
        raise CheckpointError("no test item has another of its part: there is nothing to find.")
    return chosen


def _nearest(features: np.ndarray, queries: list[int]) -> list[np.ndarray]:
    """Return the numbers of what lies nearest to each query, itself apart, the nearest first."""
    found = []
    for i in queries:
        likeness = cosines(features, features[i])
        likeness[i] = -np.inf
        found.append(np.argsort(-likeness, kind="stable")[: min(NEAREST, len(features) - 1)])
    return found


def _summary(told: list[dict]) -> list[str]:
    return [
        f"{query['part']}: {sum(query['right'])} of the {len(query['right'])} nearest are the same "
        f"part, average precision {query['average_precision']:.2f} ({shown(query['query'])})"
        for query in told
    ]
