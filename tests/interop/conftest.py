"""Real epochs of the bundled excerpts, for the tests of this folder."""

import warnings

import numpy as np
import pytest

from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows

with warnings.catch_warnings():
    # braindecode 1.8 uses a name that MNE 1.13 deprecates, when it is imported: once, here.
    warnings.simplefilter("ignore", FutureWarning)
    import braindecode  # noqa: F401


@pytest.fixture(scope="session")
def real_epochs(sample_store):
    """Scored epochs of the sample: windows (n, 3, 3000) in µV, stages (n,), subjects (n,)."""
    store = open_store(sample_store)
    epochs = LabelledWindows(store, store.recordings_of(store.labelled_subjects))
    subjects = [store.recordings[epochs.names[i]]["subject"] for i in epochs.recording]
    return epochs.windows(range(len(epochs))), epochs.labels, np.array(subjects)
