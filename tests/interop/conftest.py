"""Small runs on the bundled excerpts, and their real epochs, for the tests of this folder."""

import warnings

import numpy as np
import pytest

from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

with warnings.catch_warnings():
    # braindecode 1.8 uses a name that MNE 1.13 deprecates, when it is imported: once, here.
    warnings.simplefilter("ignore", FutureWarning)
    import braindecode  # noqa: F401

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
TINY |= {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}
TINY |= {"split.monitor_subjects": 4}
SHORT = {"optim.warmup_epochs": 1, "fit.epochs": 6, "fit.batch_size": 32, "optim.lr": 5e-2}


@pytest.fixture(scope="session")
def encoder_run(sample_store, tmp_path_factory):
    """A pretrained run whose windows last 5 s and whose tokens see the spectrum."""
    run = tmp_path_factory.mktemp("interop") / "pretrain"
    own = {"window_s": 5, "objective.patches": 5, "encoder.tokens": "linear+spectrum"}
    return pretrain(sample_store, run, overrides=TINY | own, gpus="0")


@pytest.fixture(scope="session")
def stager_run(encoder_run, sample_store):
    """A fine-tuned run with learned position codes and a head on [CLS]."""
    run = encoder_run.parent / "finetune"
    return finetune(encoder_run, sample_store, run, subjects=12, overrides=SHORT, device="cpu")


@pytest.fixture(scope="session")
def real_epochs(sample_store):
    """Scored epochs of the sample: windows (n, 3, 3000) in µV, stages (n,), subjects (n,)."""
    store = open_store(sample_store)
    epochs = LabelledWindows(store, store.recordings_of(store.labelled_subjects))
    subjects = [store.recordings[epochs.names[i]]["subject"] for i in epochs.recording]
    return epochs.windows(range(len(epochs))), epochs.labels, np.array(subjects)
