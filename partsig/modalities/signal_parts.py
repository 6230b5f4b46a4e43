"""Signals for objectives that discover parts: what these are judged by."""

from partsig.data.signals.marked import JudgedSignals
from partsig.errors import DataError
from partsig.modalities.signal_dataset import SignalDataset
from partsig.runs.run import Run


def judged(dataset: SignalDataset, run: Run, role: str) -> JudgedSignals:
    """Return windows of the subjects of a role of a pretraining run, as long as it was trained on.

    Raises DataError where the store has none of them.
    """
    dataset.check_unseen_input(run, dataset.input_facts())
    store = dataset.store
    subjects = run.facts["subjects_held_out" if role == "test" else "subjects_trained"] or ()
    there = sorted(set(subjects) & set(store.subjects))
    if not there:
        raise DataError(
            f"{store.path} has no {role} subject of {run.path}: pretrain on a store of 3 labelled "
            "subjects, or of 10, or more, and judge it on that."
        )
    return JudgedSignals(store, there, round(run.config["window_s"] * store.sfreq))
