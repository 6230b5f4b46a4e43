import pickle
import tracemalloc

import mne
import numpy as np
import pytest
import torch
from braindecode.datasets import BaseConcatDataset, RawDataset
from braindecode.preprocessing import create_windows_from_events

from partsig.contracts import Labels
from partsig.data.signals.recordings import Recording, Rows
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.errors import ConfigError, DataError
from partsig.interop import from_braindecode, to_braindecode

# Signals of a store are band-passed already.
AS_THEY_ARE = {"l_freq": None, "h_freq": None}
# braindecode 1.8.1 calls pandas in a way that pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")


@pytest.fixture(scope="module")
def store(sample_store):
    return open_store(sample_store)


def test_windows_and_targets_are_the_stores_epochs(store):
    dataset = to_braindecode(store)
    assert len(dataset) == sum(row["n_epochs"] - row["unscored"] for row in store.rows)
    assert len(dataset.datasets) == 71
    for part in dataset.datasets[::20]:
        name = part.description["recording"]
        assert part.description["subject"] == store.recordings[name]["subject"]
        signal, codes = store.signal(name), store.labels(name)
        for i in (0, len(part) - 1):
            x, y, (epoch, start, stop) = part[i]
            assert y == codes[epoch]
            assert (start, stop) == (3000 * epoch, 3000 * epoch + 3000)
            assert x.dtype == np.float32
            np.testing.assert_allclose(x, signal[:, start:stop], rtol=1e-6, atol=1e-6)


def test_other_units_unscored_epochs_and_some_subjects(store):
    names = ["sp00-0006", "sp00-0024"]
    volts = to_braindecode(store, names, unit="V")
    np.testing.assert_allclose(1e6 * volts[3][0], to_braindecode(store, names)[3][0], rtol=1e-6)
    assert [d.description["subject"] for d in volts.datasets] == names
    assert list(volts.split("subject")) == names
    unscored = next(row["subject"] for row in store.rows if row["unscored"] == row["n_epochs"])
    dataset = to_braindecode(store, [unscored], unscored=True)
    assert {y for _, y, _ in dataset} == {-1}
    with pytest.raises(DataError, match="no scored epoch of these subjects"):
        to_braindecode(store, [unscored])
    with pytest.raises(DataError, match="has no subject nobody"):
        to_braindecode(store, ["nobody"])
    with pytest.raises(ConfigError, match="unit is 'pT'"):
        to_braindecode(store, unit="pT")


def test_nothing_is_in_memory_until_it_is_asked_for(store):
    signals = 4 * 3 * sum(row["n_samples"] for row in store.rows)
    tracemalloc.start()
    dataset = to_braindecode(store)
    assert dataset[700][0].shape == (3, 3000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < signals / 4
    part = dataset.datasets[0]
    assert not part.raw.preload
    copy = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(copy[1][0], part[1][0])
    loader = torch.utils.data.DataLoader(part, batch_size=4)
    x, y, _ = next(iter(loader))
    assert x.shape == (4, 3, 3000)
    assert y.tolist() == store.labels("sp00-0006")[:4].tolist()


def test_the_raw_is_mnes_in_volts_with_stages_as_annotations(store):
    raw = to_braindecode(store, ["sp00-0006"]).datasets[0].raw
    signal = store.signal("sp00-0006")
    np.testing.assert_allclose(1e6 * raw.get_data(), signal, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        1e6 * raw.get_data(picks=["E1-M2"], start=100, stop=250)[0], signal[1, 100:250], rtol=1e-6
    )
    loaded = raw.copy().load_data().filter(None, 20, verbose="error")
    assert loaded.get_data().shape == signal.shape
    assert raw.get_channel_types() == ["eeg", "eog", "emg"]
    assert (raw.info["highpass"], raw.info["lowpass"]) == (0.1, 30.0)
    texts = [f"Sleep stage {['W', 'N1', 'N2', 'N3', 'R'][k]}" for k in store.labels("sp00-0006")]
    assert raw.annotations.description.tolist() == texts


def test_a_store_of_other_labels_keeps_their_names_and_length(tmp_path):
    labels = Labels(classes=("still", "N2"), unit_s=2.0)  # a name that sleep has too
    meta = make_meta(
        source="test", ch_names=("a",), sfreq=50.0, **AS_THEY_ARE, dtype="float32", labels=labels
    )
    create_store(tmp_path, meta)
    signal = np.arange(450, dtype=np.float32)[None]
    rows = Rows(labels=("a",), signal=signal, sfreq=50.0, picks=(0,), scale=(1.0,), offset=(0.0,))
    codes = np.array([1, 0, -1, 1], np.int8)
    recording = Recording(
        name="r", subject="s", ch_names=("a",), parts=(rows,), stages=codes, source="x"
    )
    row = write_recording(tmp_path, meta, recording, signal)
    write_index(tmp_path, [row])
    dataset = to_braindecode(tmp_path)
    windows = [dataset[i] for i in range(len(dataset))]
    assert [y for _, y, _ in windows] == [1, 0, 1]
    assert [float(x[0, 0]) for x, _, _ in windows] == [0.0, 100.0, 300.0]
    assert all(x.shape == (1, 100) for x, _, _ in windows)
    marks = dataset.datasets[0].raw.annotations
    assert marks.description.tolist() == ["N2", "still", "N2"]
    assert (marks.onset.tolist(), marks.duration.tolist()) == ([0.0, 2.0, 6.0], [2.0] * 3)


def back_equals(path, store, names):
    back = open_store(path)
    assert sorted(back.recordings) == sorted(names)
    assert back.ch_names == store.ch_names
    for name in names:
        np.testing.assert_array_equal(back.labels(name), store.labels(name))
        np.testing.assert_allclose(back.signal(name), store.signal(name), atol=1e-3)
        for key in ("subject", "age", "sex"):
            assert back.recordings[name][key] == store.recordings[name][key]


def test_the_way_there_and_back_by_windows(store, tmp_path):
    names = ["sp00-0006", "sp00-0024", "sp00-0026"]
    dataset = to_braindecode(store, names)
    path = from_braindecode(dataset, tmp_path / "store", overrides=AS_THEY_ARE)
    back_equals(path, store, names)
    index = (path / "index.csv").read_bytes()
    again = from_braindecode(dataset, tmp_path / "store", overrides=AS_THEY_ARE)
    assert (again / "index.csv").read_bytes() == index


def test_the_way_there_and_back_by_annotations(store, tmp_path):
    names = ["sp00-0006", "sp00-0024"]
    parts = to_braindecode(store, names).datasets
    dataset = BaseConcatDataset([RawDataset(p.raw, p.description) for p in parts])
    path = from_braindecode(dataset, tmp_path / "store", overrides=AS_THEY_ARE)
    back_equals(path, store, names)


def test_signals_are_filtered_as_preprocess_does(eeg_like, tmp_path):
    """MNE's own filter and resampler are the judge, on a recording at 200 Hz."""
    info = mne.create_info(["C4-M1", "O2-M1", "ECG"], 200.0, ["eeg", "eeg", "ecg"])
    signal = eeg_like(3, 200 * 300, 200.0)
    raw = mne.io.RawArray(1e-6 * signal, info, verbose="error")
    marks = mne.Annotations([0, 90, 210], [90, 120, 60], ["W", "N2", "Sleep stage ?"])
    raw.set_annotations(marks)
    dataset = RawDataset(raw, {"subject": "s1", "age": 40, "sex": "F"})
    path = from_braindecode(dataset, tmp_path / "store")
    back = open_store(path)
    assert back.ch_names == ("C4-M1", "O2-M1")
    row = back.recordings["recording-0000"]
    assert (row["subject"], row["age"], row["sex"]) == ("s1", "40", "F")
    assert back.labels("recording-0000").tolist() == [0, 0, 0, 2, 2, 2, 2, -1, -1, -1]
    theirs = raw.copy().pick(["C4-M1", "O2-M1"]).filter(0.1, 30, verbose="error")
    theirs = 1e6 * theirs.resample(100, verbose="error").get_data()
    middle = slice(2000, -2000)
    ours = back.signal("recording-0000")
    assert abs(ours - theirs)[:, middle].max() < 1e-3 * theirs.std()


def test_windows_that_braindecode_cuts_come_in(store, tmp_path):
    """The usual way of braindecode's sleep tutorials, with their codes of the stages."""
    part = to_braindecode(store, ["sp00-0006"]).datasets[0]
    raws = BaseConcatDataset([RawDataset(part.raw, part.description)])
    codes = {f"Sleep stage {name}": k for k, name in enumerate(["W", "N1", "N2", "N3", "R"])}
    windows = create_windows_from_events(
        raws,
        window_size_samples=3000,
        window_stride_samples=3000,
        mapping=codes,
        on_missing="ignore",
        verbose="error",
    )
    path = from_braindecode(windows, tmp_path / "store", overrides=AS_THEY_ARE)
    back_equals(path, store, ["sp00-0006"])
    windows.datasets[0].y = [7] * len(windows)
    with pytest.raises(DataError, match=r"targets are 7; they can be 0 W, 1 N1"):
        from_braindecode(windows, tmp_path / "codes", overrides=AS_THEY_ARE)


def test_another_dataset_with_the_same_names_is_not_taken_for_done(eeg_like, tmp_path):
    signal = 1e-6 * eeg_like(1, 100 * 60, 100.0)
    for stage, code in (("W", 0), ("N3", 3)):  # only the annotations differ
        raw = mne.io.RawArray(signal, mne.create_info(["C4-M1"], 100.0, "eeg"), verbose="error")
        raw.set_annotations(mne.Annotations([0], [60], [f"Sleep stage {stage}"]))
        dataset = RawDataset(raw, {"subject": "a"})
        path = from_braindecode(dataset, tmp_path / "store", overrides=AS_THEY_ARE)
        assert open_store(path).labels("recording-0000").tolist() == [code] * 2


@pytest.mark.filterwarnings("ignore:The provided mne.Epochs object")  # about its own speed
def test_what_cannot_become_a_store_is_refused(store, tmp_path):
    dataset = to_braindecode(store, ["sp00-0006"])
    cut = dataset.to_epochs_dataset()
    with pytest.raises(DataError, match="a WindowsDataset holds cut windows; filters need whole"):
        from_braindecode(cut, tmp_path / "a")
    with pytest.raises(DataError, match="sp00-0006 are there twice"):
        from_braindecode(BaseConcatDataset([dataset, dataset]), tmp_path / "b")
    anonymous = RawDataset(dataset.datasets[0].raw, {"recording": "r"})
    with pytest.raises(DataError, match="r: the description names no subject"):
        from_braindecode(anonymous, tmp_path / "c")
    part = dataset.datasets[0]
    part.crop_inds = part.crop_inds - [0, 0, 1500]
    with pytest.raises(DataError, match="windows must last 30 s, on one grid"):
        from_braindecode(dataset, tmp_path / "d")
