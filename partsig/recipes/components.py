"""First principal components of an encoder's features, of recordings that it was pretrained on."""

from collections.abc import Callable, Iterable

import numpy as np
from sklearn.decomposition import PCA

from partsig.contracts import Everything, Examples
from partsig.errors import ConfigError
from partsig.runs.run import Run

Make = Callable[[Examples], np.ndarray]
# Epochs that components are taken of, at most; of more, every so many-th.
TAKEN_OF = 200_000


def recordings_seen(everything: Everything, run: Run | None) -> list[str]:
    """Return those of the recordings at hand whose subjects a run was pretrained on.

    Raises ConfigError where there are none: components of others would be of the test, too.
    """
    seen = [] if run is None else run.seen_unlabelled
    subjects, recordings = everything.columns["subject"], everything.columns["recording"]
    names = sorted(set(recordings[np.isin(subjects, seen)].tolist()))
    if not names:
        raise ConfigError(
            "components are taken of recordings that the run was pretrained on, so that no test "
            "recording has a part in them; none of the store's is one: leave --components out."
        )
    return names


def fit(make: Make, parts: Iterable[Examples], n_epochs: int, n: int) -> tuple[PCA, float]:
    """Return the first ``n`` components of features (E, F) of parts, and their share of variance.

    Raises ConfigError where there are not so many.
    """
    step = max(1, -(-n_epochs // TAKEN_OF))
    some = np.concatenate([make(part)[::step] for part in parts]).astype(np.float64)
    if n > min(some.shape):
        raise ConfigError(
            f"--components {n}: {some.shape[1]} features of {len(some)} epochs have "
            f"{min(some.shape)}."
        )
    model = PCA(n, svd_solver="covariance_eigh").fit(some)
    return model, float(model.explained_variance_ratio_.sum())


def of(make: Make, model: PCA) -> Make:
    """Return what makes the components (E, n) of a part."""
    return lambda part: model.transform(make(part).astype(np.float64)).astype(np.float32)
