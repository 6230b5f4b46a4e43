"""A store's recording as an ``mne.io.BaseRaw`` that reads from the store when it is asked."""

from pathlib import Path

import mne
import numpy as np

from partsig.contracts import UNLABELLED
from partsig.data.mapped import map_array
from partsig.data.signals.hypnograms.stages import EDF_TEXTS, is_sleep
from partsig.data.signals.store import Store


class StoreRaw(mne.io.BaseRaw):
    """One recording of a store, in volts as MNE has them; scored epochs are annotations.

    Time 0 is the store's first sample. Annotations are named as in EDF+ (``Sleep stage
    N2``) in a store of sleep, and by their classes in any other.
    """

    def __init__(self, store: Store, name: str) -> None:
        row = store.recordings[name]
        info = mne.create_info(list(store.ch_names), store.sfreq, _kinds(store), verbose="error")
        cut_off = store.meta["filter"]
        with info._unlock():
            info["highpass"] = cut_off["l_freq"] or 0.0
            info["lowpass"] = cut_off["h_freq"] or store.sfreq / 2
            info["subject_info"] = {"his_id": row["subject"]}
        super().__init__(
            info,
            preload=False,
            filenames=[store.path / "signals" / f"{name}.npy"],
            last_samps=[row["n_samples"] - 1],
            raw_extras=[{}],
            orig_format="single",
            verbose="error",
        )
        codes = store.labels(name)
        scored = np.flatnonzero(codes != UNLABELLED)
        texts = [EDF_TEXTS[c] if is_sleep(store.label_facts) else c for c in store.classes]
        marks = mne.Annotations(
            store.unit_s * scored, store.unit_s, [texts[code] for code in codes[scored]]
        )
        self.set_annotations(marks, verbose="error")

    def _read_segment_file(
        self,
        data: np.ndarray,
        idx: object,
        fi: int,
        start: int,
        stop: int,
        cals: np.ndarray,
        mult: np.ndarray | None,
    ) -> None:
        """Fill ``data``; MNE's way for a reader to read."""
        signal = map_array(Path(self.filenames[fi]))[0]
        block = 1e-6 * signal[:, start:stop].astype(np.float64)
        data[:] = block[idx] if mult is None else mult @ block


def _kinds(store: Store) -> list[str]:
    """Return MNE's type of each channel, by name."""
    kinds = {"E1": "eog", "E2": "eog", "EO": "eog", "LO": "eog", "RO": "eog"}
    kinds |= {"CH": "emg", "EM": "emg"}
    return [kinds.get(name.upper()[:2], "eeg") for name in store.ch_names]
