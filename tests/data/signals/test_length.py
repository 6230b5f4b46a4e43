"""Recordings in blocks: to the last bit what whole arrays gave, and without their memory."""

import hashlib
import importlib.util
import subprocess
import sys
import tracemalloc
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import mne
import numpy as np
import pytest
import wfdb

from partsig.data.signals import filters, lazy, quality
from partsig.data.signals.filters import bandpass_resample_rows
from partsig.data.signals.hypnograms.stages import EPOCH_S
from partsig.data.signals.preprocessing import PreprocessConfig, filtered
from partsig.data.signals.readers import edf_recordings, psg, segments, wfdb_records
from partsig.data.signals.readers.edf import open_edf
from partsig.data.signals.recordings import ReadConfig, Recording, Rows
from partsig.data.signals.store_writing import FLOAT16_MAX, make_meta, write_recording
from partsig.errors import DataError, DiskFullError
from partsig.sleep import clipping
from partsig.sleep import stager as staging
from partsig.sleep.audit import measure as nights
from partsig.verbs.audit import audit
from partsig.verbs.preprocess import preprocess

ORACLE = Path(__file__).parents[2] / "oracles" / "whole_arrays.py"
spec = importlib.util.spec_from_file_location("whole_arrays", ORACLE)
whole_arrays = importlib.util.module_from_spec(spec)
spec.loader.exec_module(whole_arrays)
SETTINGS = PreprocessConfig()


@pytest.fixture
def on_disk(monkeypatch):
    """Nothing is small enough to be held in memory."""
    monkeypatch.setattr(lazy, "HELD", 0)
    monkeypatch.setattr(nights, "HELD", 0)


def counts(n_chans: int, n_times: int, sfreq: float, eeg_like) -> np.ndarray:
    """Return int16 (C, T): noise like EEG; a step in the first, a clipped stretch in the last."""
    signal = 20 * eeg_like(n_chans, max(n_times, 1000), sfreq)[:, :n_times]
    signal[0] /= 10
    signal[0, n_times // 2 :] += 25_000
    signal[-1, n_times // 4 : n_times // 4 + round(90 * sfreq)] *= 100
    return signal.clip(-32768, 32767).round().astype(np.int16)


def write_edf(path, signals, record_s=1.0, gaps=()):
    """Write (label, sfreq, int16 samples) as EDF+; ``gaps`` {record: s missing before it}."""
    n_records = round(len(signals[0][2]) / signals[0][1] / record_s)
    width = 24
    n = len(signals) + 1
    per = [*(round(sfreq * record_s) for _, sfreq, _ in signals), width // 2]
    fields = [
        [f"{label:<16}" for label, _, _ in signals] + [f"{'EDF Annotations':<16}"],
        [" " * 80] * n,
        [f"{'uV':<8}"] * n,
        *([f"{value:<8}"] * n for value in (-1638.4, 1638.35, -32768, 32767)),
        [" " * 80] * n,
        [f"{count:<8}" for count in per],
        [" " * 32] * n,
    ]
    head = f"{'0':<8}{'X X X X':<80}{'Startdate X X X X':<80}01.01.2122.00.00{256 * (n + 1):<8}"
    head += f"{'EDF+D' if gaps else 'EDF+C':<44}{n_records:<8}{record_s:<8g}{n:<4}"
    head += "".join("".join(field) for field in fields)
    late = np.cumsum([dict(gaps).get(k, 0.0) for k in range(n_records)])
    with open(path, "wb") as handle:
        handle.write(head.encode("ascii"))
        for k in range(n_records):
            for (_, _, samples), count in zip(signals, per, strict=False):
                handle.write(samples[k * count : (k + 1) * count].astype("<i2").tobytes())
            handle.write(f"+{k * record_s + late[k]:g}\x14\x14".encode().ljust(width, b"\0"))
    return path


def in_memory(recording: Recording) -> Recording:
    """Return a recording whose samples are whole arrays."""
    parts = [replace(part, signal=np.array(np.asarray(part.signal))) for part in recording.parts]
    return replace(recording, parts=tuple(parts))


# The filter.


@pytest.mark.parametrize(
    ("sfreq", "n_chans", "seconds", "l_freq", "h_freq", "reflect"),
    [
        (256, 6, 1000, 0.1, 30, "odd"),
        (200, 3, 1400, 0.1, 30, "even"),
        (512, 5, 700, 0.1, 30, "odd"),
        (100, 4, 1800, 0.3, None, "odd"),
        (256, 1, 700, None, None, "odd"),
        (199.98, 2, 900, 0.1, 30, "odd"),
        (200, 2, 3, 0.1, 30, "odd"),
        (200, 1, 0.005, 0.1, 30, "even"),
    ],
)
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_blocks_equal_the_whole(
    eeg_like, on_disk, monkeypatch, tmp_path, kind, sfreq, n_chans, seconds, l_freq, h_freq, reflect
):
    n_times = max(round(seconds * sfreq), 1)
    whole = counts(n_chans, n_times, sfreq, eeg_like).astype(kind)
    picks = list(range(n_chans))[::-1]
    given = {"l_freq": l_freq, "h_freq": h_freq, "reflect": reflect}
    chosen = {"picks": picks, "scale": [0.05 + 0.1 * c for c in picks]}
    chosen |= {"offset": [-7.5 * c for c in picks]}
    expected = whole_arrays.bandpass_resample(whole, sfreq, 100, **chosen, **given)
    whole.T.tofile(tmp_path / "interleaved")
    mapped = np.memmap(tmp_path / "interleaved", kind, "r", 0, (n_times, n_chans)).T
    stacked = lazy.Stack([lazy.in_memory(row) for row in whole])
    for signal in (whole, mapped, stacked):
        rows = Rows(labels=("",) * n_chans, signal=signal, sfreq=sfreq, **chosen)
        found = bandpass_resample_rows(rows, 100, **given)
        assert found.tobytes() == expected.tobytes()
    out = lazy.room(expected.shape, np.float32, tmp_path)
    assert isinstance(out, lazy.OnDisk)
    assert bandpass_resample_rows(rows, 100, **given, out=out) is out
    assert np.asarray(out).tobytes() == expected.tobytes()
    if sfreq == 512 and kind == np.int16:  # the step's block was done again in float64
        monkeypatch.setattr(filters, "ROUGH", np.inf)
        once = bandpass_resample_rows(replace(rows, signal=whole), 100, **given)
        assert 0 < (once != expected).any(0).mean() < 0.5


@pytest.fixture(scope="module")
def night(tmp_path_factory, eeg_like):
    """An EDF file: four channels at 256 Hz, one at 64 Hz, three gaps, one of them tiny."""
    slow, fast = counts(2, 64 * 1500, 64, eeg_like), counts(4, 256 * 1500, 256, eeg_like)
    labels = ("C4", "C3", "A1", "A2")
    signals = [(label, 256, row) for label, row in zip(labels, fast, strict=True)]
    path = tmp_path_factory.mktemp("night") / "night.edf"
    gaps = ((200, 45.0), (201, 0.3), (1100, 7.11))
    return write_edf(path, [*signals, ("Chin1-Chin2", 64, slow[1])], gaps=gaps)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("held", [0, 2**28])
@pytest.mark.parametrize("channels", [("C4", "A1"), ("C4-A1", "C3-A2", "Chin1-Chin2", "C4", "C3")])
def test_a_store_has_the_bytes_of_the_whole(night, tmp_path, monkeypatch, dtype, held, channels):
    monkeypatch.setattr(lazy, "HELD", held)
    recording = edf_recordings.read_recording(night, ReadConfig(channels=channels))
    recording = replace(recording, start_s=11.37, stop_s=1400.5)
    expected = whole_arrays.filtered(in_memory(recording), SETTINGS)
    with lazy.beside(tmp_path):
        signal = filtered(recording, SETTINGS)
    assert isinstance(signal, np.ndarray if held else lazy.OnDisk)
    assert signal.shape == expected.shape
    assert np.asarray(signal).tobytes() == expected.tobytes()
    meta = make_meta(
        source="edf", ch_names=channels, sfreq=100.0, l_freq=0.1, h_freq=30.0, dtype=dtype
    )
    row = write_recording(tmp_path, meta, recording, signal)
    limit = FLOAT16_MAX
    clipped = np.clip(expected, -limit, limit) if dtype == "float16" else expected
    stored = np.ascontiguousarray(clipped, dtype)
    np.save(tmp_path / "expected.npy", stored)
    written = (tmp_path / "signals" / "night.npy").read_bytes()
    assert written == (tmp_path / "expected.npy").read_bytes()
    assert row["sha256"] == hashlib.sha256(stored.tobytes()).hexdigest()
    assert row["n_samples"] == stored.shape[1]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tmp")]


def test_excerpts_are_reflected_evenly_from_a_file_too(night, on_disk):
    recording = edf_recordings.read_recording(night, ReadConfig(channels=("C4", "A1")))
    recording = replace(recording, excerpt=True)
    expected = whole_arrays.filtered(in_memory(recording), SETTINGS)
    assert np.asarray(filtered(recording, SETTINGS)).tobytes() == expected.tobytes()


# What is read.


def test_gaps_are_bridged_in_any_slice_as_in_the_whole():
    rng = np.random.default_rng(0)
    for per_record, record_s in ((7, 1.0), (1, 0.01), (13, 0.4)):
        samples = rng.integers(-900, 900, 40 * per_record).astype(np.int16)
        lengths = rng.choice([record_s, record_s * 1.3, record_s + 5], 40, p=[0.8, 0.1, 0.1])
        onsets = np.append(0, np.cumsum(lengths + rng.uniform(-1e-4, 1e-4, 40))[:-1])
        whole = whole_arrays.bridged(samples, per_record, record_s, onsets)
        runs = psg._runs(onsets, per_record, record_s)
        row = segments.bridged(lazy.in_memory(samples), *runs)
        np.testing.assert_array_equal(row[:], whole)
        assert row.dtype == whole.dtype
        for start, stop in np.sort(rng.integers(0, len(whole) + 1, (200, 2)), axis=1):
            np.testing.assert_array_equal(row[start:stop], whole[start:stop])


def test_slices_of_an_edf_file_are_those_of_the_whole(night):
    file = open_edf(night)
    rng = np.random.default_rng(1)
    for index in (0, 3, 4):
        whole = file.samples(index)
        assert len(file.row(index)) == len(whole)
        for start, stop in np.sort(rng.integers(0, len(whole) + 1, (50, 2)), axis=1):
            np.testing.assert_array_equal(file.row(index)[start:stop], whole[start:stop])
    with pytest.raises(ValueError, match="not by steps of 2"):
        file.row(0)[::2]


def test_a_derivation_of_two_rates_is_looked_at_in_blocks(night, on_disk, monkeypatch):
    channels = ("C4-A1", "Chin1-Chin2", "C3")
    recording = edf_recordings.read_recording(night, ReadConfig(channels=channels))
    mixed = recording.mix.copy()
    mixed[2, -1] = -0.7  # of a channel at 64 Hz
    recording = replace(recording, mix=mixed, start_s=3.3, stop_s=1300.0)
    assert len(recording.parts) == 2
    monkeypatch.setattr(clipping, "stretches", lambda n: lazy.stretches(n, 10_007))
    for c in range(3):
        signal, marks, sfreq = nights.read_channel(recording, c)
        whole, clipped, rate = whole_arrays.read_channel(in_memory(recording), c, nights._limits)
        assert (sfreq, len(signal), len(marks)) == (rate, len(whole), len(whole))
        assert signal[:].tobytes() == whole.tobytes()
        assert marks[:].tobytes() == clipped.tobytes()
        assert clipped.any() or c == 0
        for start in range(0, len(whole), 70_001):
            here = slice(start, start + 70_001)
            assert signal[here].tobytes() == whole[here].tobytes()
            assert marks[here].tobytes() == clipped[here].tobytes()
        found = quality.measure(signal, sfreq, marks)
        expected = quality.measure(whole, sfreq, clipped)
        for key, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, key), value)


@pytest.mark.parametrize("size", [3, 4, 7, 1000])
def test_clipping_is_found_across_the_borders_of_stretches(monkeypatch, size):
    monkeypatch.setattr(clipping, "stretches", lambda n: lazy.stretches(n, size))
    rng = np.random.default_rng(size)
    some = 0
    for top in (2, 3, 5):
        for n in (0, 1, 2, 3, 60, 900):
            signal = rng.integers(-top, top + 1, n).astype(np.float32)
            signal = np.repeat(signal, rng.integers(1, 4, n))
            if top == 5 and len(signal):
                signal[rng.integers(0, len(signal), 3)] = np.nan
            for limits in (None, (-1.5, 1e9)):
                whole = whole_arrays.find_clipped(signal, limits)
                found = clipping.find_clipped(signal, limits)
                np.testing.assert_array_equal(found[:], whole)
                for start in range(0, len(whole), 5):
                    np.testing.assert_array_equal(
                        found[start : start + 5], whole[start : start + 5]
                    )
                some += whole.any() and limits is None
    assert some >= 3


@pytest.mark.parametrize("n_gaps", [0, 1, 40])
def test_epochs_that_touch_a_gap_are_found_as_one_by_one(n_gaps):
    rng = np.random.default_rng(n_gaps)
    ends = np.cumsum(rng.choice([0.5, 15.0, 30.0, 60.0], 2 * n_gaps)).reshape(-1, 2)
    quiet = {"C4": np.zeros(100, np.int8)}
    rows = Rows(
        labels=("C4",),
        signal=np.zeros((1, 1)),
        sfreq=1.0,
        picks=(0,),
        scale=(1.0,),
        offset=(0.0,),
    )
    recording = Recording(
        name="n",
        subject="n",
        ch_names=("C4",),
        parts=(rows,),
        stages=np.zeros(100, np.int8),
        source="",
        start_s=15.0,
        gaps=tuple(map(tuple, ends.tolist())),
    )
    found = staging._unusable(recording, quiet, 0.5, EPOCH_S)
    expected = whole_arrays.in_gaps(15.0 + EPOCH_S * np.arange(100), recording.gaps, EPOCH_S)
    assert found == tuple("gap in the recording" if gap else "" for gap in expected)
    assert any(expected) == (n_gaps > 0)
    assert not all(expected)


# Arrays in files.


def test_an_array_in_a_file_is_sliced_as_one_in_memory(on_disk, tmp_path):
    rng = np.random.default_rng(0)
    kept = rng.normal(size=(5, 1000)).astype(np.float32)
    array = lazy.room(kept.shape, np.float32, tmp_path)
    array[:] = kept
    array[1:3, 100:200] = kept[1:3, 100:200] = 7.0
    array[2:][1:2][:, 50:] = kept[3:4, 50:] = kept[:1, 50:]
    assert list(tmp_path.iterdir()) == []
    for key in (np.s_[:], np.s_[1:4], np.s_[:, 10:20], np.s_[4:, 999:], np.s_[2:2, :]):
        assert array[key].shape == kept[key].shape
        np.testing.assert_array_equal(array[key], kept[key])
    part = array[1:4, 100:900]
    mapped = part.mapped()
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, kept[1:4, 100:900])
    lazy.forget(mapped)
    del array, part
    np.testing.assert_array_equal(mapped, kept[1:4, 100:900])


def test_what_was_changed_in_a_private_map_is_not_forgotten(tmp_path):
    np.zeros(5000).tofile(tmp_path / "a")
    private = np.memmap(tmp_path / "a", float, "c")
    private[:] = 3.0
    lazy.forget(private[10:20])
    assert (private == 3.0).all()


def test_no_room_for_a_temporary_file_is_told(on_disk, tmp_path):
    code = (
        "import resource, signal, sys\n"
        "from partsig.data.signals import lazy\n"
        "from partsig.errors import DataError, DiskFullError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "lazy.HELD = 0\n"
        "try: lazy.room((2, 1000), 'f4', sys.argv[1])\n"
        "except DiskFullError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"no space left for a temporary file in {tmp_path} (File too large): what was finished "
        "before is kept; free some space and run the same command again.\n"
    )


def test_a_full_disk_while_a_temporary_file_is_written(on_disk, tmp_path):
    array = lazy.room((1, 10), np.float32, tmp_path)

    class Full:
        def seek(self, at):
            pass

        def write(self, held):
            raise OSError(28, "No space left on device")

    full = replace(array, file=Full())
    with pytest.raises(DiskFullError, match=f"a temporary file in {tmp_path}"):
        full[:, 2:4] = 1.0


@pytest.mark.parametrize("set_by_user", [False, True])
def test_temporary_files_are_where_the_verbs_write(
    on_disk, wfdb_record, tmp_path, monkeypatch, set_by_user
):
    """Decoded samples of a WFDB record and its filtered signal, in threads of their own."""
    monkeypatch.delenv("TMPDIR", raising=False)
    if set_by_user:
        monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    made, usually = [], lazy.tempfile.TemporaryFile
    monkeypatch.setattr(
        lazy.tempfile, "TemporaryFile", lambda dir: made.append(dir) or usually(dir=dir)
    )
    header = wfdb_record("16")
    places = [tmp_path / "scratch"] * 3 if set_by_user else [tmp_path / "s"] * 2 + [tmp_path / "a"]
    preprocess("wfdb", header.parent, tmp_path / "s", overrides={"channels": ["C3-M2"]}, jobs=2)
    audit(header.parent, source="wfdb", output=tmp_path / "a", jobs=2)
    assert made == [str(place) for place in places]


# Memory.


def test_memory_does_not_grow_with_length(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "HELD", 2**20)
    monkeypatch.setattr(nights, "HELD", 2**16)
    peaks, mapped = [], []
    for hours in (1, 4):
        raw = tmp_path / f"raw{hours}"
        raw.mkdir()
        n_times = hours * 3600 * 64
        wave = np.tile(np.arange(-640, 640, dtype=np.int16), n_times // 1280)
        write_edf(raw / "n.edf", [(f"C{c}", 64, wave) for c in range(6)])
        chosen = {"channels": [f"C{c}" for c in range(6)]}
        tracemalloc.start()
        preprocess("edf", raw, tmp_path / f"store{hours}", overrides=chosen, jobs=1)
        nights.read_raw(raw / "n.edf", edf_recordings.read_recording, ReadConfig(**chosen))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        mapped.append((raw / "n.edf").stat().st_size)
    assert mapped[1] > 10_000_000
    assert peaks[1] < 1.15 * peaks[0]


# WFDB records.


@pytest.fixture
def wfdb_record(tmp_path):
    """A function that writes noise of two channels in a format, with samples missing."""

    def write(fmt: str, n_times: int = 5000) -> Path:
        bits = wfdb_records.BITS.get(fmt, 8)  # 8: differences, none that stands for no sample
        rng = np.random.default_rng(0)
        samples = rng.integers(-100, 100, (n_times, 2))
        for start, stop in ((0, 3), (1000, 1001), (1002, 2300), (n_times - 40, n_times)):
            samples[start:stop, 1] = -(2 ** (bits - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wfdb's writers' own use of pandas
            wfdb.wrsamp(
                "a",
                fs=100,
                units=["uV", "uV"],
                sig_name=["C3-M2", "C4-M1"],
                d_signal=samples,
                fmt=[fmt] * 2,
                adc_gain=[2.0] * 2,
                baseline=[0] * 2,
                write_dir=str(tmp_path),
            )
        return tmp_path / "a.hea"

    return write


@pytest.mark.parametrize("fmt", ["16", "212", "24", "32", "80"])
@pytest.mark.parametrize("held", [0, 2**28])
def test_records_are_decoded_in_stretches(wfdb_record, monkeypatch, fmt, held):
    monkeypatch.setattr(lazy, "HELD", held)
    monkeypatch.setattr(wfdb_records, "stretches", lambda n, size=0: lazy.stretches(n, 701))
    header = wfdb_record(fmt)
    settings = ReadConfig(channels=("C4-M1", "C3-M2"))
    recording = wfdb_records.read_recording(header, settings)
    assert recording.notes == ("1342 missing samples of C4-M1 are bridged",)
    record = wfdb.rdrecord(str(header.with_suffix("")), channels=[1, 0], physical=False)
    whole = record.d_signal.T.astype(float)
    missing = whole[0] == -(2 ** (wfdb_records.BITS[fmt] - 1))
    at = np.arange(whole.shape[1])
    whole[0] = np.interp(at, at[~missing], whole[0, ~missing])
    (part,) = recording.parts
    assert part.signal.dtype == float
    np.testing.assert_array_equal(part.signal, whole)
    rng = np.random.default_rng(1)
    for start, stop in np.sort(rng.integers(0, 5001, (200, 2)), axis=1):
        np.testing.assert_array_equal(part.signal[0][start:stop], whole[0, start:stop])
        np.testing.assert_array_equal(part.signal[1][start:stop], whole[1, start:stop])


# wfdb 4.3.1 reads format 61, of two bytes as 16 is, not at all.
@pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 7, 8, 401])
def test_a_record_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path, fmt, cut):
    """As an EDF file is: to the last frame that wfdb itself can read of the bytes that are left."""
    bits = wfdb_records.BITS.get(fmt, 8)  # 8: differences, none that stands for no sample
    per_sample = {"212": 1.5, "310": 4 / 3, "311": 4 / 3}.get(fmt, bits / 8)
    data = np.random.default_rng(0).bytes(int(np.ceil(per_sample * 10_000)))
    signals = [f"a.dat {fmt} {2 ** (bits - 6)}/uV {bits} 0 0 0 0 {name}" for name in ("C3", "C4")]
    (tmp_path / "a.hea").write_text("\n".join(["a 2 100 5000", *signals]) + "\n")
    (tmp_path / "a.dat").write_bytes(data)
    settings = ReadConfig(channels=("C3", "C4"))
    usual = wfdb_records.read_recording(tmp_path / "a.hea", settings)
    assert not any("cut off" in note for note in usual.notes)
    whole = np.asarray(usual.parts[0].signal)
    (tmp_path / "a.dat").write_bytes(data[:-cut])
    found = wfdb_records.read_recording(tmp_path / "a.hea", settings)
    (n,) = {row.n for row in found.parts[0].signal.rows}
    assert found.notes[0] == f"cut off: {n} of 5000 frames are there"
    assert len(found.stages) == 1
    kept = np.asarray(found.parts[0].signal)
    same = (kept == whole[:, :n]).all(0)
    assert same[:-3].all()  # a bridge over missing samples may lose its end
    read = partial(wfdb.rdrecord, str(tmp_path / "a"), physical=False)
    assert read(sampto=n).sig_len == n
    with pytest.raises(ValueError):
        read(sampto=n + 1)


@pytest.mark.parametrize("left", [100, 6000, -1])
def test_a_compressed_record_that_is_cut_off_is_refused(wfdb_record, left):
    """FLAC is not divided into frames of a known size."""
    header = wfdb_record("516")
    data = header.with_suffix(".dat").read_bytes()
    header.with_suffix(".dat").write_bytes(data[:left])
    with pytest.raises(DataError, match=r"^a: its compressed signals are cut off or damaged \("):
        wfdb_records.read_recording(header, ReadConfig(channels=("C3-M2",)))


def test_frames_that_are_left_are_those_of_the_channels_files(tmp_path):
    """Several samples a frame, an offset, and a second file that is whole, or not asked for."""
    rng = np.random.default_rng(0)
    fast, slow = rng.integers(-99, 99, (900, 2)), rng.integers(-99, 99, 900)
    (tmp_path / "f.dat").write_bytes(b"12345" + fast.astype("<i2").tobytes())
    (tmp_path / "s.dat").write_bytes(slow.astype("<i2").tobytes())
    lines = ["a 2 10 900", "f.dat 16x2+5 1/uV 16 0 0 0 0 C3", "s.dat 16 1/uV 16 0 0 0 0 C4"]
    (tmp_path / "a.hea").write_text("\n".join(lines) + "\n")
    both = ReadConfig(channels=("C3", "C4"))
    assert wfdb_records.read_recording(tmp_path / "a.hea", both).notes == ()
    (tmp_path / "f.dat").write_bytes((tmp_path / "f.dat").read_bytes()[: 5 + 2 * 2 * 700 + 3])
    found = wfdb_records.read_recording(tmp_path / "a.hea", both)
    assert found.notes == ("cut off: 700 of 900 frames are there",)
    for part, expected in zip(found.parts, (fast[:700].reshape(-1), slow[:700]), strict=True):
        np.testing.assert_array_equal(np.asarray(part.signal)[0], expected)
    alone = wfdb_records.read_recording(tmp_path / "a.hea", ReadConfig(channels=("C4",)))
    assert alone.notes == ()
    (tmp_path / "f.dat").write_bytes(b"12345678")
    with pytest.raises(DataError) as caught:
        wfdb_records.read_recording(tmp_path / "a.hea", both)
    told = "a: f.dat is cut off: none of 900 frames is there; copy it again."
    assert str(caught.value) == told


def test_a_delayed_signal_that_is_cut_off_ends_with_its_last_sample(tmp_path):
    """Of a skew of 4, frame k takes the second signal's sample from frame k + 4 of the file."""
    samples = np.random.default_rng(0).integers(-99, 99, (900, 2))
    (tmp_path / "f.dat").write_bytes(samples[:700].astype("<i2").tobytes() + b"1")
    lines = ["a 2 10 900", "f.dat 16 1/uV 16 0 0 0 0 C3", "f.dat 16:4 1/uV 16 0 0 0 0 C4"]
    (tmp_path / "a.hea").write_text("\n".join(lines) + "\n")
    settings = ReadConfig(channels=("C3", "C4"))
    found = wfdb_records.read_recording(tmp_path / "a.hea", settings)
    assert found.notes == ("cut off: 696 of 900 frames are there",)
    kept = np.asarray(found.parts[0].signal)
    np.testing.assert_array_equal(kept, [samples[:696, 0], samples[4:700, 1]])


def test_stages_after_the_end_of_a_record_that_is_cut_off_are_told(write_night, tmp_path):
    header = write_night(tmp_path, "n", stages=(0, 1, 2, 2), seconds=120)
    data = header.with_suffix(".mat").read_bytes()
    header.with_suffix(".mat").write_bytes(data[: 24 + (len(data) - 24) * 5 // 8])
    found = wfdb_records.read_recording(header, ReadConfig(channels=("C3-M2",)))
    assert found.stages.tolist() == [0, 1]
    assert found.notes[0].startswith("cut off: 15000 of 24000 frames")


def test_a_length_that_no_record_has_is_refused(wfdb_record):
    header = wfdb_record("16")
    header.write_text(header.read_text().replace("5000", "5000000000000000"))
    with pytest.raises(DataError, match="5000000000000000 samples at 100 Hz; the header is damag"):
        wfdb_records.read_recording(header, ReadConfig(channels=("C3-M2",)))


# MNE.


def test_channels_of_an_mne_raw_are_read_in_slices(eeg_like):
    info = mne.create_info(["C3", "C4", "O1"], 100.0, "eeg")
    raw = mne.io.RawArray(1e-6 * eeg_like(3, 3000, 100.0), info, verbose="error")
    file = psg.from_raw(raw, "raw")
    rows = [file.samples(index) for index in (2, 0)]
    for start, stop in ((0, 3000), (100, 200), (100, 200), (2999, 3000), (50, 50)):
        for row, index in zip(rows, (2, 0), strict=True):
            expected = raw.get_data()[index, start:stop]
            np.testing.assert_array_equal(row[start:stop], expected)


@pytest.mark.parametrize(
    ("verb", "unneeded"),
    [
        ("preprocess", {"torch", "sklearn", "pandas", "matplotlib", "wfdb"}),
        ("audit", {"torch", "sklearn", "pandas", "matplotlib", "wfdb"}),
        ("stage", {"sklearn", "skops", "pandas", "wfdb", "triton"}),
    ],
)
def test_what_a_verb_does_not_need_takes_no_memory(verb, unneeded):
    code = f"import sys, partsig.verbs.{verb}; print(*({unneeded} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
