"""What can be fine-tuned: partsig's classifier, and the baselines that stand beside it.

All are modules with ``logits(x)`` of windows (B, C, T) in µV, saved and loaded in the same way.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from partsig.core.objectives.supervised import Classifier, LossConfig, SupervisedModule
from partsig.data.signals.bands import band_powers
from partsig.data.signals.lazy import OnDisk, stretches
from partsig.data.signals.recordings import EPOCH_S, STAGES, n_epochs
from partsig.data.signals.windows import Epochs
from partsig.errors import ConfigError, DataError
from partsig.metrics.agreement import confusion, kappa
from partsig.tasks import frozen

# scikit-learn brings pandas along, 100 MB: only baselines need it.
if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

Model = Literal["encoder", "logistic", "boosting", "chambon2018", "usleep", "yasa"]
BRAINDECODE = {"chambon2018": "SleepStagerChambon2018", "usleep": "USleep"}
CPU = torch.device("cpu")


class LogisticStager(SupervisedModule):
    """Logistic regression on log band powers (scikit-learn), as a module."""

    def __init__(self, channels: int, sfreq: float) -> None:
        super().__init__(LossConfig())
        self.sfreq = sfreq
        n = band_powers(np.zeros((1, channels, round(EPOCH_S * sfreq))), sfreq).shape[1]
        self.head = nn.Linear(n, len(STAGES))

    def features(self, x: Tensor) -> Tensor:
        """Return log band powers (B, F)."""
        powers = band_powers(x.cpu().numpy(), self.sfreq)
        return torch.from_numpy(powers).to(x.device, torch.float32)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class BoostingStager(SupervisedModule):
    """Gradient-boosted trees on log band powers (scikit-learn's histogram form, its defaults)."""

    def __init__(self, sfreq: float) -> None:
        super().__init__(LossConfig())
        self.sfreq = sfreq
        self.trees: HistGradientBoostingClassifier | None = None

    def fit(self, train: Epochs, seed: int) -> None:
        """Grow the trees on scored epochs."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        powers = [band_powers(x.numpy(), self.sfreq) for x in in_batches(train, CPU)]
        self.trees = HistGradientBoostingClassifier(random_state=seed)
        self.trees.fit(np.concatenate(powers), train.stages)

    def logits(self, x: Tensor) -> Tensor:
        found = self.trees.predict_proba(band_powers(x.cpu().numpy(), self.sfreq))
        every = np.zeros((len(x), len(STAGES)))
        every[:, self.trees.classes_] = found
        return torch.from_numpy(np.log(every + 1e-9)).to(x.device, torch.float32)

    def get_extra_state(self) -> Tensor:
        """Return the trees as bytes in skops' format, which can be read without executing it."""
        import skops.io

        return torch.frombuffer(bytearray(skops.io.dumps(self.trees)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over trees from :meth:`get_extra_state`."""
        import skops.io

        trusted = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
        self.trees = skops.io.loads(state.numpy().tobytes(), trusted=trusted)


class BraindecodeStager(SupervisedModule):
    """A sleep stager of braindecode, trained as ours is.

    Channels are divided by ``scale``, their SD over the training epochs, so that amplitudes stay
    comparable between windows.
    """

    def __init__(self, name: str, channels: int, sfreq: float, loss: LossConfig) -> None:
        super().__init__(loss)
        try:
            with warnings.catch_warnings():
                # braindecode 1.8 uses a name that MNE 1.13 deprecates, when it is imported.
                warnings.simplefilter("ignore", FutureWarning)
                from braindecode import models
        except ImportError:
            raise ConfigError(
                f"model={name} needs braindecode: pip install 'partsig[baselines]'."
            ) from None
        self.register_buffer("scale", torch.ones(channels, 1))
        kind = getattr(models, BRAINDECODE[name])
        try:
            self.net = kind(
                n_chans=channels,
                sfreq=sfreq,
                n_times=round(EPOCH_S * sfreq),
                n_outputs=len(STAGES),
            )
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"model={name} does not fit this store ({reason}).") from None

    def logits(self, x: Tensor) -> Tensor:
        return self.net(x.float() / self.scale)


class YasaStager(SupervisedModule):
    """YASA's stager (Vallat and Walker 2021), as it comes off the shelf; it learns nothing here.

    It stages whole recordings of five minutes and more, from one EEG channel and, where there are
    any, one EOG and one EMG: a central EEG channel if there is one, else the first. It takes memory
    by the length of a recording.
    """

    def __init__(self, ch_names: Sequence[str], sfreq: float) -> None:
        super().__init__(LossConfig())
        try:
            import yasa  # noqa: F401
        except ImportError:
            raise ConfigError("model=yasa needs YASA: pip install 'partsig[yasa]'.") from None
        self.ch_names, self.sfreq = tuple(ch_names), sfreq
        eog = [name for name in ch_names if name.upper().startswith(("E1", "E2", "EOG", "LOC"))]
        emg = [name for name in ch_names if name.upper().startswith(("CHIN", "EMG"))]
        eeg = [name for name in ch_names if name not in eog + emg]
        if not eeg:
            raise ConfigError(f"model=yasa needs an EEG channel; there are {', '.join(ch_names)}.")
        central = [name for name in eeg if name.upper().startswith(("C3", "C4"))]
        self.eeg = (central or eeg)[0]
        self.eog, self.emg = (next(iter(found), None) for found in (eog, emg))

    def stage(self, signal: np.ndarray) -> np.ndarray:
        """Return stage probabilities (E, 5) of the whole epochs of a recording (C, T) in µV."""
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
            found = yasa.SleepStaging(raw, **names).predict().proba
        theirs = {"W": ("W", "WAKE"), "REM": ("R", "REM")}
        columns = {str(name).upper(): name for name in found.columns}
        order = [
            next(columns[key] for key in theirs.get(stage, (stage,)) if key in columns)
            for stage in STAGES
        ]
        return found[order].to_numpy()


def set_scale(model: SupervisedModule, train: Epochs) -> None:
    """Give a braindecode stager the SD of each channel over the training epochs."""
    if isinstance(model, BraindecodeStager):
        power = [x.double().var(-1, correction=0).sum(0) for x in in_batches(train, CPU)]
        spread = (torch.stack(power).sum(0) / len(train)).sqrt()
        model.scale.copy_(spread.clamp(min=1e-2).unsqueeze(1))


def fit_linear(
    model: Classifier | LogisticStager, train: Epochs, val: Epochs, device: torch.device
) -> dict[str, float]:
    """Fit the model's head on its features of the epochs, everything else as it is.

    The strength of its penalty is chosen by kappa on ``val``, see
    :func:`~partsig.tasks.frozen.fit_logistic`. Returns the chosen strength and its kappa.
    """
    x, x_val = (frozen.features(model, in_batches(e, device), device) for e in (train, val))
    weight, bias, strength, value = frozen.fit_logistic(
        x, train.stages, x_val, val.stages, len(STAGES), kappa_or_zero
    )
    frozen.put_linear(model.head, weight, bias)
    return {"strength": strength, "val_kappa": value}


def kappa_or_zero(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return kappa; 0 where it is undefined (one class only is worth nothing)."""
    table = confusion(truth, predicted, len(STAGES))
    return float(np.nan_to_num(kappa(table)))


def in_batches(epochs: Epochs, device: torch.device) -> Iterator[Tensor]:
    """Yield the windows of epochs, in order."""
    size = frozen.batch_size(device)
    for first in range(0, len(epochs), size):
        index = range(first, min(first + size, len(epochs)))
        yield torch.from_numpy(epochs.windows(index)).to(device)


def predict(model: SupervisedModule, epochs: Epochs, device: torch.device) -> np.ndarray:
    """Return stage probabilities (n, 5) of epochs, as the model gives them: not calibrated."""
    if isinstance(model, YasaStager):
        nights = epochs.by_recording()
        return np.concatenate(
            [model.stage(epochs.signal(name))[epochs.epoch[mine]] for name, mine in nights]
        )
    return frozen.predict(model, in_batches(epochs, device), device)


def predict_signal(
    model: SupervisedModule, signal: np.ndarray | OnDisk, sfreq: float, device: torch.device
) -> np.ndarray:
    """Return stage probabilities (E, 5) of the whole epochs, one at least, of a signal (C, T).

    It is read a batch of epochs at a time, but by YASA, which needs the whole recording in memory.
    """
    if isinstance(model, YasaStager):
        return model.stage(np.asarray(signal))
    n_times = round(EPOCH_S * sfreq)
    n = n_epochs(signal.shape[1], sfreq)

    def batches() -> Iterator[Tensor]:
        for first, last in stretches(n, frozen.batch_size(device)):
            held = np.asarray(signal[:, first * n_times : last * n_times])
            windows = torch.from_numpy(held.reshape(len(held), -1, n_times))
            yield windows.transpose(0, 1).to(device)  # (B, C, T)

    return frozen.predict(model, batches(), device)
