"""A scikit-learn transformer: windows of EEG to the embeddings of a run."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from partsig.core.encoder import check_blocks
from partsig.errors import check_range
from partsig.interop import units
from partsig.recipes.loading import load_model
from partsig.runs import directory as runs
from partsig.runs import exported as packing
from partsig.runs import features
from partsig.runs.run import Run
from partsig.train import distributed


class PartEmbedder(TransformerMixin, BaseEstimator):
    """Windows (n, C, T), or flattened (n, C · T), to embeddings (n, F); nothing is learned by it.

    Parameters
    ----------
    run : path of a finished run or of an exported folder; None is the pretraining run that
        finished last. Weights are read from there whenever they are needed: a pickle holds none.
    pool : cls, mean, mean+sd, mean+sd+spectrum, or auto, see :func:`partsig.embed`.
    blocks : tokens after the first so many of the encoder's blocks; 0 is all.
    device : auto, cpu, cuda or cuda:N.
    batch_size : windows per pass.
    unit : what the windows are in; volts are refused where µV are stated, and the reverse.

    A window is at least as long as those of the run; a longer one is encoded in several, pooled
    together. **Subjects that the run has seen are no test subjects**: see ``subjects_seen_``
    (None for an exported folder, which does not know them).

    Attributes
    ----------
    run_ : the path that was found. ch_names_, sfreq_ : what windows must hold. pool_ : what is
    pooled. n_features_in_ : C · T. subjects_seen_ : by pretraining or fine-tuning.
    """

    def __init__(
        self,
        run: str | Path | None = None,
        *,
        pool: str = "auto",
        blocks: int = 0,
        device: str = "auto",
        batch_size: int = 256,
        unit: str = "uV",
    ) -> None:
        self.run = run
        self.pool = pool
        self.blocks = blocks
        self.device = device
        self.batch_size = batch_size
        self.unit = unit

    def fit(self, X: object, y: object = None) -> "PartEmbedder":
        """Check parameters and windows; ``y`` is not looked at."""
        check_range("batch_size", self.batch_size, 1)
        units.factor_of(self.unit)
        distributed.pick_device(self.device)
        path = Path(self.run) if self.run is not None else runs.last("pretrain")
        loaded = _loaded(*_stamped(path))
        self.pool_ = features.check_pool(self.pool, loaded)
        check_blocks(self.blocks, loaded.model.encoder.config.depth)
        windows = torch.from_numpy(self._windows(X, loaded, reset=True))
        # As many as it takes to tell; looking at all would copy them.
        any(units.told_by(part, self.unit) for part in windows.split(self.batch_size))
        self.run_ = str(path.resolve())
        self.ch_names_ = tuple(loaded.facts["ch_names"])
        self.sfreq_ = loaded.facts["sfreq"]
        self.subjects_seen_ = _seen(loaded.run)
        self._n_features_out = loaded.model.width_of(self.pool_, self.blocks)
        return self

    def transform(self, X: object) -> np.ndarray:
        """Return embeddings (n, F), float32."""
        check_is_fitted(self)
        loaded = _loaded(*_stamped(Path(self.run_)))
        windows = torch.from_numpy(self._windows(X, loaded, reset=False))
        any(units.told_by(part, self.unit) for part in windows.split(self.batch_size))
        device = distributed.pick_device(self.device)
        model = loaded.model.eval().to(device)
        blocks = []
        with torch.inference_mode():
            for part in windows.split(self.batch_size):
                x = units.microvolts(part, self.unit).to(device)
                out = features.embed_windows(
                    model, loaded.facts["window"], x, self.pool_, self.blocks
                )
                blocks.append(out.float().cpu().numpy())
        return np.concatenate(blocks)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return ``e_0`` … as an array of objects; ``input_features`` are not looked at."""
        check_is_fitted(self)
        return np.array([f"e_{i}" for i in range(self._n_features_out)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # what it computes in
        return tags

    def _windows(self, X: object, loaded: packing.LoadedModel, reset: bool) -> np.ndarray:
        """Return windows (n, C, T) float32, checked as scikit-learn does."""
        channels, window = len(loaded.facts["ch_names"]), loaded.facts["window"]
        X = X if hasattr(X, "shape") else np.asarray(X)
        shape = X.shape
        if len(shape) == 3:
            if shape[1] != channels:
                raise ValueError(
                    f"X has {shape[1]} channels; the run has {channels}: "
                    f"{', '.join(loaded.facts['ch_names'])}."
                )
            X = np.asarray(X).reshape(shape[0], -1)
        flat = validate_data(self, X, dtype=np.float32, reset=reset)
        n, width = flat.shape
        if width % channels or width < channels * window:
            raise ValueError(
                f"X has {width} feature(s) a row; {channels} channels of at least {window} samples "
                f"are needed, a multiple of {channels} and at least {channels * window}."
            )
        # As torch takes it: of a reversed view the strides are negative, of a map it is read-only.
        return np.require(flat.reshape(n, channels, -1), requirements=["C", "W"])


def _stamped(path: Path) -> tuple[str, int]:
    """Return where a run lies and when it was written, 0 where there is none."""
    files = [path / name for name in ("run.json", packing.CONFIG)]
    times = [file.stat().st_mtime_ns for file in files if file.is_file()]
    return str(path.resolve()), max(times, default=0)


@lru_cache(maxsize=2)
def _loaded(path: str, written: int) -> packing.LoadedModel:
    """Return a run, kept in memory: estimators that are cloned for folds share it."""
    loaded = load_model(path, "eeg")
    units.check_voltage(loaded.facts, path)
    return loaded


def _seen(run: Run | None) -> tuple[str, ...] | None:
    if run is None:
        return None
    return tuple(dict.fromkeys([*run.seen_unlabelled, *run.seen_labelled]))
