"""Small valid recordings of every format that is read, and ways to damage them, by a seed."""

import struct
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import scipy.io

from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers import edf_recordings, pc18_segments, physionet2018, wfdb_records
from partsig.data.signals.readers.wfdb_annotations import read_annotations, write_annotations
from partsig.data.signals.recordings import ReadConfig

CHANNELS, SFREQ, SECONDS = ("C4-M1", "C3"), 100, 90
SETTINGS = ReadConfig(channels=("C4-M1",))
# What stands for a number in a header that means harm, or was written by a careless program.
NUMBERS = ("0", "-1", "1", "nan", "inf", "1e308", "1e-308", "99999999", "2147483648", "1e11", "abc")
NUMBERS += (
    "100000000000",
    "18446744073709551616",
    "",
    "-0",
    "0x10",
    "1_0",
    "1" * 40,
    "٣",
    "\x1b[2J",
)


def signal() -> np.ndarray:
    """Return (C, T) µV, whole numbers: noise."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 30, (len(CHANNELS), SFREQ * SECONDS)).round().astype("<i4")


def edf(width: int) -> bytes:
    """Return an EDF+ (2) or BDF+ (3) file with stages among its annotations."""
    kind, top, room = {2: ("EDF", 2**15, 60), 3: ("BDF", 2**23, 60)}[width]
    labels, n = [*CHANNELS, f"{kind} Annotations"], len(CHANNELS) + 1
    per = [SFREQ, SFREQ, room // width]
    columns = [(16, labels), (80, [""] * n), (8, ["uV"] * n), (8, [-top] * n), (8, [top - 1] * n)]
    columns += [(8, [-top] * n), (8, [top - 1] * n), (80, [""] * n), (8, per), (32, [""] * n)]
    head = "0".ljust(8) if width == 2 else "\xffBIOSEMI"
    head += "X X X X".ljust(80) + "Startdate 01-FEB-2020 X X X".ljust(80) + "01.02.2022.30.05"
    head += f"{256 * (n + 1):<8}{f'{kind}+C':<44}{SECONDS:<8}{1:<8}{n:<4}"
    head += "".join(f"{value!s:<{size}}" for size, values in columns for value in values)
    data = bytearray(head.encode("latin-1"))
    for k in range(SECONDS):
        for row in signal():
            samples = row[k * SFREQ : (k + 1) * SFREQ]
            data += np.ascontiguousarray(samples).view("u1").reshape(-1, 4)[:, :width].tobytes()
        text = f"+{k}\x14\x14\0" + (f"+{k}\x1530\x14Sleep stage N2\x14\0" if k % 30 == 0 else "")
        data += text.encode().ljust(room, b"\0")
    return bytes(data)


def wfdb(folder: Path) -> dict[str, bytes]:
    """Return the files of a record, its header first, with a stage for each epoch."""
    lines = [f"n {len(CHANNELS)} {SFREQ} {SFREQ * SECONDS}"]
    lines += [f"n.dat 16 1/uV 16 0 0 0 0 {name}" for name in CHANNELS]
    samples = [30 * SFREQ * k for k in range(SECONDS // 30)]
    write_annotations(folder / "n.st", samples, ["2", "W", "R"], SFREQ)
    return {
        "n.hea": ("\n".join(lines) + "\n# made for a test\n").encode(),
        "n.dat": signal().T.astype("<i2").tobytes(),
        "n.st": (folder / "n.st").read_bytes(),
    }


def challenge(folder: Path) -> dict[str, bytes]:
    """Return the files of a record of the challenge's layout, its header first."""
    held, stages = signal().astype(np.int16), np.array([2, 0, 4])
    physionet2018.write_recording(folder, "n", held, CHANNELS, SFREQ, stages=stages)
    return {f"n.{end}": (folder / f"n.{end}").read_bytes() for end in ("hea", "mat", "arousal")}


def raw() -> "mne.io.RawArray":
    """Return the recording as MNE has it."""
    info = mne.create_info(list(CHANNELS), SFREQ, "eeg")
    held = mne.io.RawArray(1e-6 * signal(), info, verbose="error")
    return held.set_annotations(mne.Annotations([0, 30], 30, ["Sleep stage N2", "Sleep stage W"]))


def fif(folder: Path) -> dict[str, bytes]:
    """Return a FIF file."""
    raw().save(folder / "n_raw.fif", verbose="error", overwrite=True)
    return {"n_raw.fif": (folder / "n_raw.fif").read_bytes()}


def brainvision(folder: Path) -> dict[str, bytes]:
    """Return a BrainVision header, its markers and its samples."""
    names = "".join(f"Ch{i}={name},,0.1,µV\n" for i, name in enumerate(CHANNELS, 1))
    header = f"""Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=n.eeg
MarkerFile=n.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={len(CHANNELS)}
SamplingInterval={1_000_000 // SFREQ}
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
{names}"""
    markers = """Brain Vision Data Exchange Marker File, Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=n.eeg
[Marker Infos]
Mk1=New Segment,,1,1,0,20200101220000000000
Mk2=Comment,Sleep stage N2,1,3000,0
"""
    held = (10 * signal()).T.astype("<i2").tobytes()
    return {"n.vhdr": header.encode(), "n.vmrk": markers.encode(), "n.eeg": held}


def eeglab(folder: Path) -> dict[str, bytes]:
    """Return an EEGLAB file that holds its samples."""
    none = np.array([])
    places = np.array([(name,) for name in CHANNELS], dtype=[("labels", "O")])
    events = np.array([("Sleep stage N2", 1.0, 3000.0)], dtype=[(k, "O") for k in "abc"])
    events.dtype.names = ("type", "latency", "duration")
    fields = {"data": signal().astype("f4"), "srate": float(SFREQ), "nbchan": 2.0, "trials": 1.0}
    fields |= {"pnts": float(SFREQ * SECONDS), "xmin": 0.0, "xmax": float(SECONDS), "event": events}
    fields |= {"chanlocs": places, "icawinv": none, "icaweights": none, "icasphere": none}
    fields |= {"epoch": none, "etc": {}, "setname": "n", "filename": "n.set", "filepath": ""}
    fields |= {"comments": "", "ref": "common"}
    scipy.io.savemat(folder / "n.set", {"EEG": fields}, appendmat=False)
    return {"n.set": (folder / "n.set").read_bytes()}


def npz(folder: Path) -> dict[str, bytes]:
    """Return segments, compressed."""
    held = signal().astype("<i2").reshape(len(CHANNELS), 3, -1).transpose(1, 0, 2)
    ones = np.arange(3)
    np.savez_compressed(
        folder / "n.npz",
        x=held,
        y=ones,
        group=ones,
        segment=ones,
        ch_names=np.array(CHANNELS),
        sfreq=float(SFREQ),
    )
    return {"n.npz": (folder / "n.npz").read_bytes()}


STAGES = ("W", "N1", "N2", "N2", "N3", "REM", "?", "W")
EVENTS = "".join(
    "<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Wake|0</EventConcept>"
    f"<Start>{30 * k}</Start><Duration>30</Duration></ScoredEvent>\n"
    for k in range(8)
)
TEXTS = {
    "a.txt": "\n".join(STAGES) + "\n",
    "b.csv": "onset,duration,stage\n" + "".join(f"{30 * k},30,{s}\n" for k, s in enumerate(STAGES)),
    "c_events.tsv": "onset\tduration\ttrial_type\n"
    + "".join(f"{30 * k}\t30\tSleep stage {s}\n" for k, s in enumerate(STAGES)),
    "d.csv": "time,stage\n"
    + "".join(f"22:3{k // 2}:{30 * (k % 2):02d},{s}\n" for k, s in enumerate(STAGES)),
    "e.xml": f'<?xml version="1.0"?><PSGAnnotation><ScoredEvents>{EVENTS}</ScoredEvents>'
    "</PSGAnnotation>",
    "f.xml": "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>"
    + "<SleepStage>2</SleepStage>" * 8
    + "</SleepStages></CMPStudyConfig>",
}


def read_segments(path: Path, settings: ReadConfig) -> object:
    """Return the first segment of a file as a recording, its folder having been looked through."""
    return pc18_segments.read_recording(pc18_segments.find_records(path.parent)[0], settings)


def read_scores(path: Path, settings: ReadConfig) -> object:
    """Return a hypnogram."""
    return read_hypnogram(path, HypnogramConfig())


def read_marks(path: Path, settings: ReadConfig) -> object:
    """Return the annotations of a WFDB record."""
    return read_annotations(path)


def formats(folder: Path) -> dict[str, tuple[list[dict[str, bytes]], Callable]]:
    """Return the valid files of each format, the one that is opened first, and what reads it."""
    record = wfdb(folder)
    texts = [{name: text.encode()} for name, text in TEXTS.items()]
    edf_scores = [{"n_hypnogram.edf": edf(2)}]
    return {
        "EDF": ([{"n.edf": edf(2)}], edf_recordings.read_recording),
        "BDF": ([{"n.bdf": edf(3)}], edf_recordings.read_recording),
        "WFDB": ([record], wfdb_records.read_recording),
        "WFDB of the challenge": ([challenge(folder / "c")], physionet2018.read_recording),
        "FIF": ([fif(folder)], edf_recordings.read_recording),
        "BrainVision": ([brainvision(folder)], edf_recordings.read_recording),
        "EEGLAB": ([eeglab(folder)], edf_recordings.read_recording),
        "npz": ([npz(folder)], read_segments),
        "hypnograms": ([*texts, *edf_scores], read_scores),
        "WFDB annotations": ([{"n.st": record["n.st"]}], read_marks),
    }


def _numbers_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one of the runs of digits in its head replaced by a number of harm."""
    head = data[:4096]
    runs, start = [], None
    for i, byte in enumerate(head + b" "):
        digit = byte in b"0123456789.-"
        if digit and start is None:
            start = i
        elif not digit and start is not None:
            runs.append((start, i))
            start = None
    if not runs:
        return data
    start, stop = runs[rng.integers(len(runs))]
    new = NUMBERS[rng.integers(len(NUMBERS))].encode()
    if rng.random() < 0.5:  # fields of a fixed width
        width = next((8 * n for n in range(1, 3) if stop - start <= 8 * n), stop - start)
        new, stop = new[:width].ljust(width), start + width
    return data[:start] + new + data[stop:]


def _claims(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with a binary number somewhere replaced by a large or a negative one."""
    form = "<>"[rng.integers(2)] + "hiq"[rng.integers(3)]
    size = struct.calcsize(form)
    value = [-1, 0, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)), 2 ** (8 * size - 2)]
    at = int(rng.integers(max(min(len(data), 4096) - size, 1)))
    return data[:at] + struct.pack(form, value[rng.integers(len(value))]) + data[at + size :]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a damaged file, by one to four changes."""
    for _ in range(rng.integers(1, 5)):
        kind, n = rng.integers(10), len(data)
        at, length = int(rng.integers(n + 1)), int(rng.integers(1, 64))
        if kind < 3:
            data = _numbers_changed(data, rng)
        elif kind < 5:
            data = _claims(data, rng)
        elif kind == 5:  # flipped bits, most of them early
            flipped = bytearray(data or b"\0")
            for _ in range(rng.integers(1, 20)):
                reach = min(len(flipped), 4096) if rng.random() < 0.7 else len(flipped)
                flipped[rng.integers(reach)] ^= 1 << rng.integers(8)
            data = bytes(flipped)
        elif kind == 6:  # cut off
            data = data[:at]
        elif kind == 7:  # put in: noise, or a long run of one character
            run = bytes([b"-0 <\n\t,;\0\xff"[rng.integers(10)]]) * (length * 1000)
            data = data[:at] + (run if rng.random() < 0.3 else rng.bytes(length)) + data[at:]
        elif kind == 8:  # taken out
            data = data[:at] + data[at + length :]
        else:  # repeated
            data = data[:at] + data[max(at - length, 0) : at] * int(rng.integers(2, 50)) + data[at:]
    return rng.bytes(int(rng.integers(1, 5000))) if rng.random() < 0.02 else data
