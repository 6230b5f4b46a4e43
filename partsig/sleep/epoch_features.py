"""Features of every epoch of a recording, made as those were that a run was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from partsig.data.signals.bands import band_powers
from partsig.data.signals.hypnograms.stages import n_epochs
from partsig.data.signals.lazy import OnDisk, room, stretches
from partsig.data.signals.scaling import SCALED_UNIT, USUAL_UNIT, scale_robustly
from partsig.data.signals.store_writing import as_stored
from partsig.data.signals.usable import usable_epochs
from partsig.errors import CheckpointError
from partsig.modalities.signal_features import by_feature, scaled
from partsig.recipes.epoch_features import feature_network
from partsig.runs.epoch_features import AGAIN, FILE, WHOLE, FeatureRecipe, read_recipe
from partsig.runs.features import FrozenNetwork
from partsig.runs.run import Run
from partsig.tasks.settings import MOST_SAMPLES

Gaps = Sequence[tuple[float, float]]  # begin and end, in seconds from the first epoch


@dataclass(frozen=True, kw_only=True, eq=False)
class SignalEpochs:
    """The whole epochs of a signal (C, T), read some at a time, in the type of a store."""

    signal: np.ndarray | OnDisk
    n_times: int
    n: int
    dtype: np.dtype

    def __len__(self) -> int:
        return self.n

    def in_order(self, size: int) -> Iterator[np.ndarray]:
        """Yield all epochs, (b, C, T) with b up to ``size``."""
        for first, last in stretches(self.n, size):
            held = np.asarray(self.signal[:, first * self.n_times : last * self.n_times])
            epochs = held.reshape(len(held), -1, self.n_times).transpose(1, 0, 2)
            yield as_stored(epochs, self.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochFeatures:
    """What makes features of every epoch of a recording, as its ``recipe`` says."""

    recipe: FeatureRecipe
    network: FrozenNetwork
    device: torch.device

    def of_signal(
        self, signal: np.ndarray | OnDisk, gaps: Gaps, n_stored: int | None = None
    ) -> np.ndarray:
        """Return the features (F, E) float32 of a signal (C, T) in µV, as it was filtered.

        E are its whole epochs, one at least; a batch of them is in memory at a time. Each feature
        is scaled by what is usable of the recording, as in a store of features. ``gaps`` (s) are
        those of the signal; ``n_stored`` is how many epochs a store has of it, where these are
        fewer: it is resampled, which may make it a part of a sample longer.
        """
        made = self.recipe
        told = {"ch_names": made.ch_names, "sfreq": made.sfreq, "unit_s": made.unit_s, "gaps": gaps}
        unit, dtype = USUAL_UNIT, np.dtype(made.dtype)
        if made.normalise == "recording":
            signal = scaled_copy(signal, **told, whole=made.scaling == WHOLE)
            unit = SCALED_UNIT
        epochs = SignalEpochs(
            signal=signal,
            n_times=round(made.unit_s * made.sfreq),
            n=n_epochs(signal.shape[1], made.sfreq, made.unit_s),
            dtype=dtype,
        )
        usable = None
        if made.scaling != WHOLE:
            n = min(len(epochs), n_stored or len(epochs))
            rows = usable_epochs(signal, **told, unit=unit, n=n, dtype=dtype)
            usable = by_feature(rows, made.names, made.ch_names, made.unit_s, made.sfreq)
        return scaled(self.network.features(epochs, self.device), len(epochs), usable)

    @property
    def notes(self) -> list[str]:
        """What is not as it was in training, in sentences."""
        if self.recipe.trim_wake_min is None:
            return []
        return [
            "features were scaled by all that is usable of the recording; those of training by "
            f"recordings trimmed to {self.recipe.trim_wake_min:g} min of wake about sleep"
        ]


def features_of(run: Run, device: torch.device) -> EpochFeatures | None:
    """Return what makes the features that a run was trained on; None where it takes signals.

    Raises CheckpointError where it takes features and does not know how they are made.
    """
    told = run.facts.get("epoch_features")
    recipe = read_recipe(run.path) if told is not None else None
    if recipe is None:
        if round(run.labels.unit_s * run.samples_per_unit) > MOST_SAMPLES:
            return None
        why = f"does not know how they were made; {AGAIN}"
        if told is not None:
            why = f"has lost its {FILE}, which says how they are made: put it back, or {AGAIN}"
        raise CheckpointError(
            f"{run.path} stages from features of epochs ({', '.join(run.ch_names[:2])}, …), which "
            f"a recording does not hold, and {why}."
        )
    if recipe.digest != told or recipe.names != tuple(run.ch_names):
        raise CheckpointError(
            f"{run.path / FILE} is not of the features that the run was trained on: put its own "
            f"back, or {AGAIN}."
        )
    bands = partial(band_powers, sfreq=recipe.sfreq) if recipe.bands else None
    network = feature_network(recipe.loaded, recipe.pool, recipe.blocks, bands, device)
    return EpochFeatures(recipe=recipe, network=network, device=device)


def scaled_copy(
    signal: np.ndarray | OnDisk,
    *,
    ch_names: Sequence[str],
    sfreq: float,
    unit_s: float,
    gaps: Gaps,
    whole: bool = False,
) -> np.ndarray | OnDisk:
    """Return a signal (C, T) in µV scaled by what is usable of it, as a store's is.

    ``whole``: by all of it, as an earlier partsig did.
    """
    copy = room(signal.shape, np.float32)
    for start, stop in stretches(signal.shape[1]):
        copy[:, start:stop] = np.asarray(signal[:, start:stop])
    told = {"ch_names": ch_names, "sfreq": sfreq, "unit_s": unit_s, "gaps": gaps}
    usable = None if whole else usable_epochs(copy, **told, unit=USUAL_UNIT)
    scale_robustly(copy, usable, round(unit_s * sfreq))
    return copy
