"""Stagers that are no encoder of ours, and what stages the whole signal of a recording."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from partsig.core.objectives.supervised import LossConfig, SupervisedModule
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, n_epochs
from partsig.data.signals.lazy import OnDisk, stretches
from partsig.errors import ConfigError, DataError
from partsig.runs.features import batch_size
from partsig.tasks.frozen import InputShape, predict

# YASA looks at frequencies up to 40 Hz, and refuses rates of twice that and less.
ABOVE_HZ = 80.0


def by_kind(ch_names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the channels of EEG, EOG and EMG, told apart by how their names begin.

    >>> by_kind(["C4-M1", "E1-M2", "Chin1-Chin2"])
    (['C4-M1'], ['E1-M2'], ['Chin1-Chin2'])
    """
    eog = [name for name in ch_names if name.upper().startswith(("E1", "E2", "EOG", "LOC"))]
    emg = [name for name in ch_names if name.upper().startswith(("CHIN", "EMG"))]
    return [name for name in ch_names if name not in eog + emg], eog, emg


class YasaStager(SupervisedModule):
    """YASA's stager (Vallat and Walker 2021), as it comes off the shelf; it learns nothing here.

    It stages whole recordings of five minutes and more, from one EEG channel and, where there are
    any, one EOG and one EMG: a central EEG channel if there is one, else the first. It takes memory
    by the length of a recording.
    """

    learns_by = "nothing"

    def __init__(self, _name: str, shape: InputShape, _loss: LossConfig) -> None:
        super().__init__(LossConfig())
        self.check_input(shape)
        self.ch_names, self.sfreq = tuple(shape.ch_names), shape.samples_per_unit
        eeg, eog, emg = by_kind(self.ch_names)
        central = [name for name in eeg if name.upper().startswith(("C3", "C4"))]
        self.eeg = (central or eeg)[0]
        self.eog, self.emg = (next(iter(names), None) for names in (eog, emg))

    @classmethod
    def check_input(cls, shape: InputShape) -> None:
        """Raise ConfigError where YASA is not there, or such signals are not for it."""
        try:
            import yasa  # noqa: F401
        except ImportError:
            raise ConfigError("model=yasa needs YASA: pip install 'partsig[yasa]'.") from None
        if tuple(shape.classes) != STAGES:
            raise ConfigError(
                f"model=yasa stages sleep ({', '.join(STAGES)}); the store's classes are "
                f"{', '.join(shape.classes)}."
            )
        if shape.window[0] != round(EPOCH_S * shape.samples_per_unit):
            raise ConfigError(
                f"model=yasa stages epochs of {EPOCH_S:g} s; the store's are of "
                f"{shape.window[0] / shape.samples_per_unit:g} s."
            )
        if shape.samples_per_unit <= ABOVE_HZ:
            raise ConfigError(
                f"model=yasa needs more than {ABOVE_HZ:g} Hz; the store has "
                f"{shape.samples_per_unit:g} Hz: preprocess recordings of 100 Hz and more into "
                "another --store with --set sfreq=100."
            )
        eeg, _, _ = by_kind(shape.ch_names)
        if not eeg:
            raise ConfigError(
                f"model=yasa needs an EEG channel; there are {', '.join(shape.ch_names)}."
            )

    def logits(self, x: Tensor) -> Tensor:
        """Raise ConfigError: a window by itself is not staged."""
        raise ConfigError("model=yasa stages whole recordings, never windows by themselves.")

    def predict_signal(
        self, signal: np.ndarray | OnDisk, stretches: list[tuple[int, int]] | None = None
    ) -> np.ndarray:
        """Return stage probabilities (E, 5) of the whole epochs of a recording (C, T) in µV.

        What is missing between ``stretches`` is bridged: YASA knows of no gaps.
        """
        import mne
        import yasa
        from sklearn.exceptions import InconsistentVersionWarning

        if signal.shape[1] < 300 * self.sfreq:
            raise DataError("YASA stages recordings of five minutes and more; these are shorter.")
        info = mne.create_info(list(self.ch_names), self.sfreq, "eeg", verbose="error")
        raw = mne.io.RawArray(1e-6 * np.asarray(signal, np.float64), info, verbose="error")
        with warnings.catch_warnings():
            # Its classifiers were written by an older scikit-learn.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            names = {"eeg_name": self.eeg, "eog_name": self.eog, "emg_name": self.emg}
            table = yasa.SleepStaging(raw, **names).predict().proba
        theirs = {"W": ("W", "WAKE"), "REM": ("R", "REM")}
        columns = {str(name).upper(): name for name in table.columns}
        order = [
            next(columns[key] for key in theirs.get(stage, (stage,)) if key in columns)
            for stage in STAGES
        ]
        return table[order].to_numpy()


def predict_signal(
    model: SupervisedModule,
    signal: np.ndarray | OnDisk,
    sfreq: float,
    device: torch.device,
    unbroken: list[tuple[int, int]] | None = None,
    epoch_s: float = EPOCH_S,
) -> np.ndarray:
    """Return stage probabilities (E, 5) of the whole epochs, one at least, of a signal (C, T).

    It is read a batch of epochs at a time, but by a model that has a way of its own: YASA needs the
    whole recording in memory, and what looks at neighbours is told where nothing is missing
    between epochs, the (first, stop) of ``unbroken``.
    """
    own = getattr(model.to(device), "predict_signal", None)
    if own is not None:
        return own(signal, unbroken)
    n_times = round(epoch_s * sfreq)
    n = n_epochs(signal.shape[1], sfreq, epoch_s)

    def batches() -> Iterator[Tensor]:
        for first, last in stretches(n, batch_size(device)):
            held = np.asarray(signal[:, first * n_times : last * n_times])
            windows = torch.from_numpy(held.reshape(len(held), -1, n_times))
            yield windows.transpose(0, 1).to(device)  # (B, C, T)

    return predict(model, batches(), device)
