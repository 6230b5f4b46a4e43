"""``partsig inspect``: what a pretraining run makes of windows it has never seen."""

from pathlib import Path

from partsig import registries
from partsig.data.store import locate
from partsig.errors import check_range
from partsig.recipes.inspection import INSPECTIONS, MOST_DRAWN, Inspection, InspectionRequest
from partsig.runs import directory as runs


def inspect(
    run: str | Path | None = None,
    store: str | Path | None = None,
    *,
    what: str = "translations",
    output: str | Path | None = None,
    n: int = 4,
    seed: int = 0,
    device: str = "auto",
    allow_http: bool = False,
) -> Inspection:
    """Draw and measure what a finished run knows of ``n`` windows of held-out subjects.

    ``what`` is looked into: translations, which a run of PART predicts (see
    :mod:`partsig.recipes.part_inspection`); compose, the ``n`` windows it arranges of patches of
    several others (:mod:`partsig.recipes.composition_inspection`); parts, which a run discovered
    (:mod:`partsig.recipes.parts_inspection`); retrieval, what a run of part retrieval finds nearest
    to ``n`` test items (:mod:`partsig.recipes.retrieval_inspection`). ``run`` defaults to the
    pretraining run that finished last, ``store`` to the one it was trained on, ``output`` to
    ``RUN/inspection``. Windows are the test subjects', or, where the store has none of these, the
    monitor subjects'; never those the run was trained on. The same arguments give the same arrays.
    ``allow_http``: ``store`` may be at http:// or ftp://, which is not encrypted.

    Raises CheckpointError for a run of another objective, DataError for a store that does not fit.
    """
    check_range("--n", n, 1, MOST_DRAWN)
    check_range("--seed", seed, 0)
    path = Path(run) if run is not None else runs.last("pretrain")
    asked = InspectionRequest(
        run=path,
        store=None if store is None else locate(store, allow_http=allow_http),
        output=Path(output) if output is not None else path / "inspection",
        n=n,
        seed=seed,
        device=device,
    )
    return registries.load("--what", what, INSPECTIONS)(asked)
