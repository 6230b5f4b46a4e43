"""A store that is changed after a run was begun on it: told, or refused, in a sentence."""

import csv
import shutil

import numpy as np
import pytest

import partsig
from partsig.data.signals.store import open_store
from partsig.errors import CheckpointError, DataError
from partsig.recipes.evaluation import StoreChangedWarning
from partsig.runs import directory as runs

TUNE = {"train": "probe"}
CPU = {"device": "cpu"}


@pytest.fixture
def at(encoder_run, sample_store, tmp_path):
    """A store of one's own, and a run that was tuned on it."""
    store = shutil.copytree(sample_store, tmp_path / "store")
    return store, tune(encoder_run, store, tmp_path / "run")


def tune(encoder_run, store, run):
    return partsig.finetune(encoder_run, store, run, subjects=12, overrides=TUNE, **CPU)


def alter_labels(store, subject):
    """Give a subject's epochs other stages, in place; return the recording."""
    name = open_store(store).subjects[subject][0]
    file = store / "labels" / f"{name}.npy"
    labels = np.load(file)
    np.save(file, np.where(labels >= 0, (labels + 1) % 5, labels).astype(np.int8))
    return name


def read_index(store):
    with open(store / "index.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def write_index(store, rows):
    with open(store / "index.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_nothing_is_told_of_a_store_that_is_as_it_was(at):
    _, run = at
    assert "changed_since_training" not in partsig.evaluate(run, figures=False, **CPU).metrics


def test_altered_test_labels_are_told_by_their_recording(at):
    store, run = at
    name = alter_labels(store, runs.read(run)["split"]["test"][2])
    with pytest.warns(
        StoreChangedWarning, match=rf"was changed after .*run was begun: .*{name} are"
    ):
        found = partsig.evaluate(run, figures=False, **CPU)
    assert found.metrics["changed_since_training"] == [name]


def test_altered_samples_are_told_though_the_index_is_as_it_was(at):
    store, run = at
    subject = runs.read(run)["split"]["test"][1]
    name = open_store(store).subjects[subject][0]
    file = store / "signals" / f"{name}.npy"
    signal = np.load(file)
    signal[0, 5] += 1
    np.save(file, signal)
    with pytest.warns(StoreChangedWarning, match=rf": signals or labels of {name} are others"):
        found = partsig.evaluate(run, figures=False, **CPU)
    assert found.metrics["changed_since_training"] == [name]


def test_signals_made_anew_are_told(at):
    store, run = at
    subject = runs.read(run)["split"]["test"][0]
    name = open_store(store).subjects[subject][0]
    text = (store / "index.csv").read_text()
    digest = open_store(store).recordings[name]["sha256"]
    (store / "index.csv").write_text(text.replace(digest, "0" * 64))
    with pytest.warns(StoreChangedWarning, match=name):
        partsig.evaluate(run, figures=False, **CPU)


def test_a_test_subject_that_has_gone_is_a_sentence(at):
    store, run = at
    subject = runs.read(run)["split"]["test"][1]
    write_index(store, [row for row in read_index(store) if row["subject"] != subject])
    with pytest.raises(
        DataError, match=rf"no longer has 1 of the 14 subjects .*\({subject}\); put"
    ):
        partsig.evaluate(run, figures=False, **CPU)


@pytest.mark.parametrize("role", ["train", "val", "test"])
def test_a_run_does_not_go_on_with_other_labels(at, encoder_run, role):
    store, run = at
    name = alter_labels(store, runs.read(run)["split"][role][0])
    runs.write_json(run / "run.json", runs.read(run) | {"state": "running"})
    with pytest.raises(CheckpointError, match=rf"another configuration: items\.{role}\.{name}: "):
        tune(encoder_run, store, run)


def test_a_run_of_an_older_partsig_that_did_not_keep_them_goes_on(at, encoder_run):
    store, run = at
    record = {key: value for key, value in runs.read(run).items() if key != "items"}
    runs.write_json(run / "run.json", record | {"state": "running"})
    tune(encoder_run, store, run)
    assert runs.read(run)["state"] == "finished"
    assert set(runs.read(run)["items"]) == {"train", "val", "test"}


def test_a_run_that_did_not_keep_them_knows_its_index(at):
    store, run = at
    record = {key: value for key, value in runs.read(run).items() if key != "items"}
    runs.write_json(run / "run.json", record)
    partsig.evaluate(run, figures=False, **CPU)
    test = record["split"]["test"]
    rows = read_index(store)
    write_index(store, [row for row in rows if row["subject"] not in record["split"]["train"]])
    with pytest.warns(
        StoreChangedWarning, match=r"labels of some items of its index\.csv are others"
    ):
        found = partsig.evaluate(run, figures=False, **CPU)
    assert found.metrics["n_subjects"] == len(test)


def test_images_whose_class_was_changed_are_told(digits, tmp_path):
    store = shutil.copytree(digits, tmp_path / "store")
    tiny = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "patch_px": 4}
    tiny |= {"fit.epochs": 1, "optim.warmup_epochs": 0, "fit.batch_size": 256}
    run = partsig.finetune("scratch", store, tmp_path / "run", overrides=tiny, **CPU)
    partsig.evaluate(run, figures=False, **CPU)
    rows = read_index(store)
    next(row for row in rows if row["role"] == "test")["label"] = "9"
    write_index(store, rows)
    with pytest.warns(StoreChangedWarning, match="signals or labels of its test images are others"):
        partsig.evaluate(run, figures=False, **CPU)


def test_a_recording_that_was_learned_from_is_no_test_under_another_name(at, tmp_path):
    """As another laboratory's store has it: other names of recordings and of sleepers."""
    store, run = at
    other = tmp_path / "other"
    shutil.copytree(store, other)
    index = (other / "index.csv").read_text().splitlines()
    split = runs.read(run)["split"]
    learned = open_store(store).recordings_of(split["train"] + split["val"])
    kept = [index[0]]
    for number, line in enumerate(index[1:]):
        name, subject, rest = line.split(",", 2)
        new = f"r{number}"
        if name in learned[:2] or subject in split["test"]:
            kept.append(f"{new},s{number},{rest}")
            for folder in ("signals", "labels"):
                (other / folder / f"{name}.npy").rename(other / folder / f"{new}.npy")
    (other / "index.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match=r"^2 of the recordings to test on trained or chose this"):
        partsig.evaluate(run, other, figures=False, **CPU)
