"""What can be wrong with a recording of each format, one thing at a time, for fuzz_recordings.py.

A change takes the files of a recording and a generator, and returns them changed. Beside it stands
why no reader could know, "" where the file then contradicts itself.
"""

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path

import fuzz_files
import mne
import numpy as np
import scipy.io

from partsig.data.signals.readers.wfdb_annotations import write_annotations

Files = dict[str, bytes]
Change = Callable[[Files, np.random.Generator], Files]
SFREQ, SECONDS, NAMES = 100, 150, ("C4-M1", "O2-M1")
STAGES = ("W", "N1", "N2", "N3", "REM")
MARKS = ("W", "1", "2", "3", "R")  # as WFDB writes them
ANOTHER = "another value of which nothing else tells"
SAMPLES = "samples that no checksum covers"


def signal() -> np.ndarray:
    """Return (2, T) whole numbers in .1 µV: smooth noise, another in each channel."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 300, (2, SFREQ * SECONDS + 9))
    smooth = [np.convolve(row, np.ones(10) / 10**0.5, "valid") for row in noise]
    return np.round(smooth).clip(-2000, 2000).astype("<i2")


def _mne() -> "mne.io.RawArray":
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    raw = mne.io.RawArray(1e-7 * signal(), info, verbose="error")
    raw.set_meas_date(1580594400)  # 2020-02-01 22:00
    onsets = 30 * np.arange(5)
    words = [f"Sleep stage {stage}" for stage in STAGES]
    return raw.set_annotations(mne.Annotations(onsets, 30, words))


def fif(folder: Path) -> Files:
    """Return a FIF file."""
    _mne().save(folder / "n_raw.fif", verbose="error", overwrite=True)
    return {"n_raw.fif": (folder / "n_raw.fif").read_bytes()}


def record(folder: Path) -> Files:
    """Return a WFDB record with first values and checksums, and its stages."""
    held = signal()
    lines = [f"n 2 {SFREQ} {held.shape[1]} 22:00:00 01/02/2020"]
    for row, name in zip(held, NAMES, strict=True):
        check = int(row.astype(np.int64).sum()) % 65536
        check -= 65536 * (check > 32767)
        lines.append(f"n.dat 16 10(0)/uV 16 0 {row[0]} {check} 0 {name}")
    write_annotations(folder / "n.st", [30 * SFREQ * k for k in range(5)], list(MARKS), SFREQ)
    marks = (folder / "n.st").read_bytes()
    return {"n.hea": "\n".join((*lines, "")).encode(), "n.dat": held.T.tobytes(), "n.st": marks}


def brainvision(folder: Path) -> Files:
    """Return a BrainVision header, its markers and its samples."""
    header = fuzz_files.brainvision(folder)["n.vhdr"].decode()
    header = re.sub(r"Ch1=.*\nCh2=.*\n", "Ch1=C4-M1,,0.1,µV\nCh2=O2-M1,,0.1,µV\n", header)
    marks = "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\n"
    marks += "Codepage=UTF-8\nDataFile=n.eeg\n\n[Marker Infos]\n"
    marks += "Mk1=New Segment,,1,1,0,20200201220000000000\n"
    for k, stage in enumerate(STAGES):
        marks += f"Mk{k + 2}=Comment,Sleep stage {stage},{3000 * k + 1},3000,0\n"
    held = signal().T.tobytes()
    return {"n.vhdr": header.encode(), "n.vmrk": marks.encode(), "n.eeg": held}


def _set(**changed: object) -> Files:
    """Return an EEGLAB file, some of its fields changed."""
    none = np.array([])
    names = changed.pop("names", NAMES)
    latency, duration = changed.pop("latency", 1.0), changed.pop("duration", 3000.0)
    words = changed.pop("words", STAGES)
    places = np.array([(name,) for name in names], dtype=[("labels", "O")])
    kinds = [("type", "O"), ("latency", "O"), ("duration", "O")]
    each = enumerate(words)
    events = [(f"Sleep stage {word}", latency + 3000.0 * k, duration) for k, word in each]
    n = signal().shape[1]
    fields = {"data": 0.1 * signal().astype("f4"), "srate": float(SFREQ), "nbchan": 2.0}
    fields |= {"trials": 1.0, "pnts": float(n), "xmin": 0.0, "xmax": (n - 1) / SFREQ}
    fields |= {"event": np.array(events, dtype=kinds), "chanlocs": places}
    fields |= {"icawinv": none, "icaweights": none, "icasphere": none, "epoch": none, "etc": {}}
    fields |= {"setname": "n", "filename": "n.set", "filepath": "", "comments": "", "ref": "x"}
    out = io.BytesIO()
    scipy.io.savemat(out, {"EEG": fields | changed}, appendmat=False)
    return {"n.set": out.getvalue()}


def edf(folder: Path) -> Files:
    """Return an EDF+ file with its stages inside."""
    from tempfile import TemporaryDirectory

    import edfio

    held = signal() / 10
    signals = [
        edfio.EdfSignal(
            row, SFREQ, label=name, physical_dimension="uV", physical_range=(-3276.8, 3276.7)
        )
        for row, name in zip(held, NAMES, strict=True)
    ]
    marks = [edfio.EdfAnnotation(30 * k, 30, f"Sleep stage {s}") for k, s in enumerate(STAGES)]
    with TemporaryDirectory() as place:
        edfio.Edf(signals, annotations=marks).write(Path(place) / "n.edf")
        return {"n.edf": (Path(place) / "n.edf").read_bytes()}


VALID: dict[str, Callable[[Path], Files]] = {
    "WFDB": record,
    "FIF": fif,
    "BrainVision": brainvision,
    "EEGLAB": lambda folder: _set(),
    "EDF": edf,
}


def replaced(
    name: str, old: bytes, new: Callable[[re.Match, np.random.Generator], bytes]
) -> Change:
    """Return a change of what a pattern finds in one file."""

    def change(files: Files, rng: np.random.Generator) -> Files:
        found = list(re.finditer(old, files[name]))
        if not found:
            raise ValueError(f"{old!r} is nowhere in {name}")
        one = found[rng.integers(len(found))]
        text = files[name]
        return files | {name: text[: one.start()] + new(one, rng) + text[one.end() :]}

    return change


def number(low: float, high: float, form: str = "{:.0f}") -> Callable:
    """Return what writes another number for a found one, at the end of what was found."""

    def written(found: re.Match, rng: np.random.Generator) -> bytes:
        return found[1] + form.format(rng.uniform(low, high)).encode() + found[3]

    return written


def cut(name: str) -> Change:
    """Return a change that takes up to half off a file's end."""

    def change(files: Files, rng: np.random.Generator) -> Files:
        n = len(files[name])
        return files | {name: files[name][: int(rng.integers(n // 2, n))]}

    return change


def shifted(name: str) -> Change:
    """Return a change that takes bytes off a file's beginning, and puts as many at its end."""

    def change(files: Files, rng: np.random.Generator) -> Files:
        by = int(rng.integers(1, 2000))
        return files | {name: files[name][by:] + bytes(by)}

    return change


def zeroed(name: str) -> Change:
    """Return a change that overwrites 1 to 4 KiB in a file by zeros."""

    def change(files: Files, rng: np.random.Generator) -> Files:
        length = int(rng.integers(1024, 4096))
        at = int(rng.integers(0, len(files[name]) - length))
        return files | {name: files[name][:at] + bytes(length) + files[name][at + length :]}

    return change


def removed(name: str) -> Change:
    """Return a change that takes a file away, or empties it where it is opened first."""
    return lambda files, rng: {key: data for key, data in files.items() if key != name}


def swapped_names(files: Files, rng: np.random.Generator) -> Files:
    """Exchange the names of the two channels in whatever is opened first."""
    name = next(iter(files))
    one, two = (text.encode() for text in NAMES)
    text = files[name].replace(one, b"\0\1\2").replace(two, one).replace(b"\0\1\2", two)
    return files | {name: text}


def eeglab_with(**choices: Callable[[np.random.Generator], object]) -> Change:
    """Return a change of fields of an EEGLAB file."""
    return lambda files, rng: _set(**{key: choose(rng) for key, choose in choices.items()})


def tag(kind: int, form: str, low: float, high: float) -> Change:
    """Return a change of a FIF tag's value, the first of this kind."""

    def change(files: Files, rng: np.random.Generator) -> Files:
        data = bytearray(files["n_raw.fif"])
        at = 0
        while at + 16 <= len(data):
            this, _, size, after = struct.unpack(">iiii", data[at : at + 16])
            if this == kind:
                value = rng.uniform(low, high)
                value = value if form in "fd" else int(value)
                data[at + 16 : at + 16 + struct.calcsize(form)] = struct.pack(f">{form}", value)
                break
            at = after if after > 0 else at + 16 + size
        return {"n_raw.fif": bytes(data)}

    return change


LINE = rb"(?m)^(n\.dat .*?)"
CHANGES: dict[str, dict[str, tuple[Change, str]]] = {
    "WFDB": {
        "count of signals": (replaced("n.hea", rb"(n )(2)( )", number(0, 5)), ""),
        "rate": (replaced("n.hea", rb"(n 2 )(100)( )", number(1, 400)), ANOTHER),
        "length": (replaced("n.hea", rb"(n 2 100 )(15000)( )", number(0, 40000)), ""),
        "format": (
            replaced(
                "n.hea",
                rb"()(n\.dat 16)( )",
                lambda m, rng: (
                    b"n.dat "
                    + rng.choice(
                        [
                            b"8",
                            b"80",
                            b"212",
                            b"61",
                            b"160",
                            b"24",
                            b"32",
                            b"16x2",
                            b"16:3",
                            b"16+24",
                        ]
                    )
                    + b" "
                ),
            ),
            "",
        ),
        "gain": (replaced("n.hea", rb"()(10)(\(0\)/uV)", number(1, 200, "{:.3f}")), ANOTHER),
        "baseline": (replaced("n.hea", rb"(10\()(0)(\)/uV)", number(-99, 99)), ANOTHER),
        "unit": (
            replaced(
                "n.hea",
                rb"(\(0\)/)(uV)( )",
                lambda m, rng: m[1] + rng.choice([b"mV", b"V", b"nV"]) + m[3],
            ),
            "",
        ),
        "first value": (replaced("n.hea", rb"(16 0 )(-?\d+)( )", number(-999, 999)), ""),
        "checksum": (replaced("n.hea", rb"(16 0 -?\d+ )(-?\d+)( )", number(-9999, 9999)), ""),
        "names exchanged": (swapped_names, ANOTHER),
        "samples cut": (cut("n.dat"), ""),
        "samples shifted": (shifted("n.dat"), ""),
        "samples zeroed": (zeroed("n.dat"), ""),
        "samples lost": (removed("n.dat"), ""),
        "marks cut": (cut("n.st"), ""),
        "marks lost": (removed("n.st"), "a record without stages is one"),
        "marks shifted": (shifted("n.st"), ""),
    },
    "FIF": {
        "rate": (tag(201, "f", 1, 400), ANOTHER),
        "count of channels": (tag(200, "i", 0, 6), ""),
        "names exchanged": (swapped_names, ANOTHER),
        "cut": (cut("n_raw.fif"), ""),
        "zeroed": (zeroed("n_raw.fif"), SAMPLES),
        "first sample": (tag(208, "i", 0, 9000), ANOTHER),
    },
    "BrainVision": {
        "orientation": (
            replaced("n.vhdr", rb"(=)(MULTIPLEXED)(\n)", lambda m, rng: b"=VECTORIZED\n"),
            SAMPLES,
        ),
        "count of channels": (replaced("n.vhdr", rb"(Channels=)(2)(\n)", number(0, 5)), ""),
        "interval": (replaced("n.vhdr", rb"(Interval=)(10000)(\n)", number(999, 99999)), ANOTHER),
        "format": (
            replaced(
                "n.vhdr",
                rb"(Format=)(INT_16)(\n)",
                lambda m, rng: m[1] + rng.choice([b"INT_32", b"IEEE_FLOAT_32", b"UINT_16"]) + m[3],
            ),
            "",
        ),
        "resolution": (replaced("n.vhdr", rb"(M1,,)(0\.1)(,)", number(0.02, 2, "{:.3f}")), ANOTHER),
        "unit": (
            replaced(
                "n.vhdr",
                "(0.1,)(µV)(\n)".encode(),
                lambda m, rng: m[1] + rng.choice([b"mV", b"V", b"nV", b"C", b""]) + m[3],
            ),
            "",
        ),
        "names exchanged": (swapped_names, ANOTHER),
        "a channel's line lost": (
            replaced("n.vhdr", rb"(\n)(Ch[12]=.*)(\n)", lambda m, rng: b"\n"),
            "",
        ),
        "samples cut": (cut("n.eeg"), ""),
        "samples shifted": (shifted("n.eeg"), SAMPLES),
        "samples zeroed": (zeroed("n.eeg"), SAMPLES),
        "samples lost": (removed("n.eeg"), ""),
        "marks lost": (removed("n.vmrk"), ""),
        "marks cut": (cut("n.vmrk"), ""),
        "place of a mark": (
            replaced("n.vmrk", rb"(stage [A-Z0-9]+,)(\d+)(,)", number(-50, 20000)),
            "",
        ),
        "length of a mark": (
            replaced("n.vmrk", rb"(stage [A-Z0-9]+,\d+,)(3000)(,)", number(0, 9000)),
            "",
        ),
        "another segment": (
            replaced("n.vmrk", rb"(Mk3=)(Comment,[^,]*)(,)", lambda m, rng: b"Mk3=New Segment,,"),
            "",
        ),
    },
    "EEGLAB": {
        "rate": (eeglab_with(srate=lambda rng: float(rng.uniform(1, 400))), ""),
        "count of channels": (eeglab_with(nbchan=lambda rng: float(rng.integers(0, 6))), ""),
        "length": (eeglab_with(pnts=lambda rng: float(rng.integers(0, 40000))), ""),
        "trials": (eeglab_with(trials=lambda rng: float(rng.integers(0, 6))), ""),
        "end": (eeglab_with(xmax=lambda rng: float(rng.uniform(0, 400))), ""),
        "names exchanged": (eeglab_with(names=lambda rng: NAMES[::-1]), ANOTHER),
        "a name lost": (eeglab_with(names=lambda rng: NAMES[:1]), ""),
        "a name more": (eeglab_with(names=lambda rng: ("X", *NAMES)), ""),
        "volts": (eeglab_with(data=lambda rng: (1e-7 * signal()).astype("f4")), ""),
        "millivolts": (eeglab_with(data=lambda rng: (1e-4 * signal()).astype("f4")), ""),
        "transposed": (eeglab_with(data=lambda rng: (0.1 * signal().T).astype("f4")), ""),
        "shorter data": (
            eeglab_with(
                data=lambda rng: (0.1 * signal()[:, : rng.integers(99, 9999)]).astype("f4")
            ),
            "",
        ),
        "place of events": (
            eeglab_with(latency=lambda rng: float(rng.uniform(-9000, 9000))),
            ANOTHER,
        ),
        "length of events": (eeglab_with(duration=lambda rng: float(rng.uniform(0, 9000))), ""),
        "lengths in seconds": (eeglab_with(duration=lambda rng: 30.0), ""),
        "cut": (cut("n.set"), ""),
    },
    "EDF": {
        "samples of a record": (
            replaced(
                "n.edf",
                rb"( )(100     )(100     )",
                lambda m, rng: m[1] + b"%-8d" % rng.integers(1, 200) + m[3],
            ),
            "",
        ),
        "count of records": (
            replaced(
                "n.edf",
                rb"()(150     )(1       )",
                lambda m, rng: b"%-8d" % rng.integers(0, 400) + m[3],
            ),
            "",
        ),
        "record's duration": (
            replaced(
                "n.edf",
                rb"(150     )(1       )()",
                lambda m, rng: m[1] + b"%-8d" % rng.integers(2, 9),
            ),
            "",
        ),
        "physical range": (
            replaced(
                "n.edf", rb"()(3276\.7  )()", lambda m, rng: b"%-8d" % rng.integers(100, 9999)
            ),
            ANOTHER,
        ),
        "unit": (
            replaced(
                "n.edf",
                rb"()(uV      )()",
                lambda m, rng: rng.choice([b"mV", b"V", b"nV", b"%"]).ljust(8),
            ),
            "",
        ),
        "names exchanged": (swapped_names, ANOTHER),
        "cut": (cut("n.edf"), ""),
        "zeroed": (zeroed("n.edf"), SAMPLES),
    },
}
