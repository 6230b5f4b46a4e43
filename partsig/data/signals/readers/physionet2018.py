"""Records of the PhysioNet/CinC Challenge 2018, "You Snooze You Win" (doi 10.13026/6phb-r450).

A record is ``NAME.hea`` (WFDB header), ``NAME.mat`` (MATLAB v4: 24 bytes, then int16 samples
interleaved over the channels), and, in the training set, ``NAME.arousal`` (WFDB annotations;
stages W, N1, N2, N3, R as change points). ``NAME-arousal.mat`` is HDF5 and not read.
"""

import csv
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from partsig.data.foreign import check_regular, open_regular, read_bytes
from partsig.data.guard import describe
from partsig.data.signals import units
from partsig.data.signals.channels import resolve
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED, n_epochs
from partsig.data.signals.inventory import Listed, expanded
from partsig.data.signals.lazy import forget, stretches
from partsig.data.signals.readers import wfdb_annotations
from partsig.data.signals.readers.wfdb_annotations import (
    read_annotations,
    stages_from_marks,
    write_annotations,
)
from partsig.data.signals.recordings import (
    USUAL,
    ReadConfig,
    Recording,
    Rows,
    check_folder,
    sorted_by_name,
)
from partsig.errors import DataError

if TYPE_CHECKING:
    import wfdb

# The challenge's scalp channels in the header's order. E1-M2 is EOG and not among them.
CHANNELS = ("F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1")
# What a recording is called, where a folder cannot be looked into.
FILES = ("*.hea",)
STAGE_CODES = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 4}
N_TRAINING = 994
# Epochs per stage over the 994 training records, counted from the per-sample vectors of the
# challenge's own -arousal.mat files (892,262 in all, the number the literature reports).
PUBLISHED = {"W": 157_945, "N1": 136_978, "N2": 377_870, "N3": 102_592, "REM": 116_877}
# Of the 994 nights these three alone are scored from sample 0 on, for so many epochs. Readers built
# on wfdb 4.3.1 lose the mark there, and count 62 epochs fewer.
SCORED_FROM_0 = {"tr03-0314": ("REM", 13), "tr05-0326": ("N2", 47), "tr07-0602": ("N2", 2)}

# What wfdb raises for a damaged header, beside its own ValueError.
DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
MAT_HEADER = 24
LONGEST_NAME = 100
# A header has a line for each of 13 signals; a table of ages one for each of some thousand people.
MOST_BYTES, MOST_LINES, MOST_TABLE = 2**20, 10_000, 2**26
# Steps per unit and the value of 0: no header of int16 samples has others.
LEAST_GAIN, MOST_GAIN, MOST_ZERO = 1e-12, 1e12, 2**31
INT16_MAT4 = 30  # MATLAB v4 type word: little endian, int16, full matrix


def find_records(raw: Path) -> list[Path]:
    """Return the headers below ``raw``, sorted by record name.

    ``raw`` may hold the challenge's ``training/`` and ``test/``, the record folders, or the records
    themselves. Raises DataError when the folder is missing or holds none.
    """
    check_folder(raw, "the challenge's training/ and test/ (or the record folders themselves)")
    headers = [path for depth in ("", "*/", "*/*/") for path in raw.glob(f"{depth}*.hea")]
    if not headers:
        raise DataError(
            f"no records in {raw}: expected headers such as training/tr03-0005/tr03-0005.hea."
        )
    return sorted_by_name(headers, "record")


def fingerprint(header: Path, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of the header (with the samples' checksums) and the annotations."""
    digest = hashlib.sha256(read_bytes(header, MOST_BYTES, "header of a record"))
    marks = header.with_suffix(".arousal")
    if marks.is_file():
        digest.update(read_bytes(marks, wfdb_annotations.MOST_BYTES, "annotation file"))
    return digest.hexdigest()[:16]


def read_demographics(raw: Path) -> dict[str, tuple[str, str]]:
    """Return {record: (age, sex)} from ``age-sex.csv`` beside the records, or {} without it."""
    for path in (raw / "age-sex.csv", raw.parent / "age-sex.csv"):
        if path.is_file():
            try:
                text = read_bytes(path, MOST_TABLE, "table of people").decode("utf-8")
                rows = list(csv.DictReader(io.StringIO(text, newline="")))
            except (UnicodeDecodeError, csv.Error) as error:
                raise DataError(f"{path} is not a readable table ({error}).") from error
            if rows and not {"Record", "Age", "Sex"} <= rows[0].keys():
                raise DataError(f"{path}: expected the columns Record, Sex, Age.")
            return {row["Record"]: (row["Age"] or "", row["Sex"] or "") for row in rows}
    return {}


def list_channels(header: Path) -> list[Listed]:
    """Return what a record's header says of its channels."""
    head = _read_header(header)
    told = zip(head.sig_name, head.units, strict=True)
    return [Listed(label, unit, float(head.fs)) for label, unit in told]


def read_recording(header: Path, settings: ReadConfig = USUAL) -> Recording:
    """Return the record of this header: samples memory-mapped, stages read, nothing filtered.

    With ``settings.verify`` the first value and the checksum of each chosen channel are held
    against the header. The subject is the record's name: the challenge has one night per
    patient. A record without ``.arousal`` is unscored throughout.

    Raises DataError for anything damaged, naming the record and what is wrong.
    """
    name, head = header.stem, _read_header(header)
    channels = expanded(name, head.sig_name, settings).channels or CHANNELS
    resolved = resolve(name, head.sig_name, channels, settings)
    picks = resolved.rows
    scale = []
    for pick in picks:
        label = head.sig_name[pick]
        unit, _ = units.stated(settings, label, head.units[pick])
        scale.append(units.factor_of(name, label, unit) / head.adc_gain[pick])
    samples = _map_samples(header.with_name(head.file_name[0]), head)
    if settings.verify:
        _verify(name, samples, head, picks)
    stages = np.full(n_epochs(head.sig_len, head.fs), UNSCORED, dtype=np.int8)
    marks = header.with_suffix(".arousal")
    if marks.is_file():
        at, texts, resolution = read_annotations(marks)
        if resolution not in (None, head.fs):
            raise DataError(
                f"{name}: annotations count at {resolution:g} Hz, the header at {head.fs:g} Hz."
            )
        stages = stages_from_marks(name, at, texts, STAGE_CODES, head.sig_len, head.fs)
    return Recording(
        name=name,
        subject=name,
        ch_names=tuple(channels),
        parts=(
            Rows(
                labels=tuple(head.sig_name[pick] for pick in picks),
                signal=samples.T,
                sfreq=float(head.fs),
                picks=picks,
                scale=tuple(scale),
                offset=tuple(float(head.baseline[pick]) for pick in picks),
            ),
        ),
        mix=resolved.mix,
        filled=resolved.filled,
        stages=stages,
        source=fingerprint(header),
        notes=resolved.notes,
    )


def _read_header(path: Path) -> "wfdb.Record":
    # Imported here, since pandas comes with it, 70 MB: only where there is such a record.
    import wfdb

    lines = read_bytes(path, MOST_BYTES, "header of a record").count(b"\n")
    if lines > MOST_LINES:
        raise DataError(f"{path.name}: a header of {lines:,} lines; it is damaged.")
    try:
        head = wfdb.rdheader(str(path.with_suffix("")))
    except DAMAGE as error:
        raise DataError(f"{path.name}: not a WFDB header ({describe(error)}).") from error
    if not isinstance(head, wfdb.Record):
        raise DataError(f"{path.name}: a header of several segments; expected one of signals.")
    if not head.n_sig or not head.sig_name:
        raise DataError(f"{path.name}: the header names no signals.")
    if not head.sig_len or not head.fs or head.fs < 1:
        raise DataError(
            f"{path.name}: the header gives {head.sig_len} samples at {head.fs} Hz; "
            "expected at least one, at 1 Hz or more."
        )
    if (
        set(head.fmt) != {"16"}
        or set(head.byte_offset) != {MAT_HEADER}
        or set(head.samps_per_frame) != {1}
        or any(head.skew)
        or len(set(head.file_name)) != 1
        or not head.file_name[0].endswith(".mat")
        or len(head.sig_name) != head.n_sig
        or not all(name and len(name) <= LONGEST_NAME for name in head.sig_name)
        or not all(LEAST_GAIN <= abs(gain) <= MOST_GAIN for gain in head.adc_gain)
        or not all(abs(zero) <= MOST_ZERO for zero in head.baseline)
    ):
        raise DataError(
            f"{path.name}: not in the challenge's layout (one .mat file, format 16+24 per channel)."
        )
    return head


def _map_samples(path: Path, head: "wfdb.Record") -> np.ndarray:
    """Return the samples (T, n_sig) int16 of a MATLAB v4 file without reading them."""
    if not path.exists():
        raise DataError(f"{path.name}: the header names this file and it is not there.")
    frame = 2 * head.n_sig
    size = check_regular(path).st_size
    if size != MAT_HEADER + head.sig_len * frame:
        raise DataError(
            f"{path.name}: {max(size - MAT_HEADER, 0) // frame} of {head.sig_len} samples "
            f"({'truncated' if size < MAT_HEADER + head.sig_len * frame else 'too long'}); "
            "download it again."
        )
    with open_regular(path) as handle:
        kind, rows, columns, imaginary, _ = np.frombuffer(handle.read(20), "<i4").tolist()
    if (kind, rows, columns, imaginary) != (INT16_MAT4, head.n_sig, head.sig_len, 0):
        raise DataError(
            f"{path.name}: not an int16 MATLAB-v4 matrix of {head.n_sig} x {head.sig_len}."
        )
    return np.memmap(path, "<i2", "r", MAT_HEADER, (head.sig_len, head.n_sig))


def _verify(name: str, samples: np.ndarray, head: "wfdb.Record", picks: tuple[int, ...]) -> None:
    # The checksum is the sum modulo 2**16, so int16 may wrap; rows are summed 64 at a time.
    n_sig = samples.shape[1]
    whole = len(samples) // 64 * 64
    sums = samples[whole:].sum(axis=0, dtype=np.int16)
    for start, stop in stretches(whole):
        lanes = samples[start:stop].reshape(-1, 64 * n_sig).sum(axis=0, dtype=np.int16)
        sums += lanes.reshape(64, n_sig).sum(axis=0, dtype=np.int16)
        forget(samples)
    for pick in picks:
        channel = head.sig_name[pick]
        first, expected = head.init_value[pick], head.checksum[pick]
        if first is not None and int(samples[0, pick]) != first:
            raise DataError(
                f"{name}: channel {channel!r} starts with {int(samples[0, pick])}, the header says "
                f"{first}; the file is damaged, download it again."
            )
        if expected is not None and (int(sums[pick]) - expected) % 2**16:
            raise DataError(
                f"{name}: wrong checksum of channel {channel!r} ({int(sums[pick])}, the header "
                f"says {expected}); the file is damaged, download it again."
            )


def write_recording(
    folder: Path,
    name: str,
    signal: np.ndarray,
    ch_names: tuple[str, ...],
    sfreq: float,
    *,
    stages: np.ndarray | None = None,
    units: tuple[str, ...] | None = None,
) -> Path:
    """Write (C, T) int16 as a record of the challenge's layout and return its header's path.

    ``stages`` (E,) become change-point marks; None writes no ``.arousal``, as in the test set.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise DataError(f"record name {name!r} may hold letters, digits, _ and - only.")
    signal = np.asarray(signal)
    if signal.dtype != np.int16 or signal.ndim != 2 or len(signal) != len(ch_names):
        raise DataError(f"{name}: expected int16 samples of shape ({len(ch_names)}, T).")
    n_sig, n_times = signal.shape
    folder.mkdir(parents=True, exist_ok=True)
    units = units or ("uV",) * n_sig
    lines = [f"{name} {n_sig} {sfreq:g} {n_times}"]
    for channel, unit, row in zip(ch_names, units, signal, strict=True):
        checksum = int(row.sum(dtype=np.int16))
        lines.append(f"{name}.mat 16+24 1/{unit} 16 0 {int(row[0])} {checksum} 0 {channel}")
    with open(folder / f"{name}.mat", "wb") as handle:
        handle.write(np.array([INT16_MAT4, n_sig, n_times, 0, 4], "<i4").tobytes() + b"val\0")
        handle.write(np.ascontiguousarray(signal.T, dtype="<i2").tobytes())
    if stages is not None:
        marks = _marks(np.asarray(stages), round(30 * sfreq))
        write_annotations(folder / f"{name}.arousal", *marks, sfreq)
    header = folder / f"{name}.hea"
    header.write_bytes(("\r\n".join(lines) + "\r\n").encode("ascii"))
    return header


def _marks(stages: np.ndarray, per_epoch: int) -> tuple[list[int], list[str]]:
    texts = {code: text for text, code in STAGE_CODES.items()}
    change = np.flatnonzero(np.diff(stages, prepend=UNSCORED))
    if (stages[change] == UNSCORED).any():
        raise DataError("the format cannot mark an unscored epoch after the first stage.")
    return [int(at) * per_epoch for at in change], [texts[int(stages[at])] for at in change]


def is_training_set(names: list[str]) -> bool:
    """Tell whether these are the 994 labelled records of the challenge."""
    return len(names) == N_TRAINING and all(re.fullmatch(r"tr\d\d-\d{4}", n) for n in names)


def check_published(counts: dict[str, int]) -> list[str]:
    """Compare the counts of the 994 training nights with the published ones; return sentences.

    >>> check_published(PUBLISHED)
    ['Counts equal the published ones: 892,262 scored epochs.']
    """
    wrong = [stage for stage in STAGES if counts[stage] != PUBLISHED[stage]]
    if not wrong:
        return [f"Counts equal the published ones: {sum(PUBLISHED.values()):,} scored epochs."]
    without = dict(PUBLISHED)
    for stage, n in SCORED_FROM_0.values():
        without[stage] -= n
    first = ", ".join(f"{name} ({n} {stage})" for name, (stage, n) in SCORED_FROM_0.items())
    if all(counts[stage] == without[stage] for stage in STAGES):
        return [
            f"Counts equal the published ones, but for {sum(n for _, n in SCORED_FROM_0.values())} "
            f"epochs before the first mark of {first}."
        ]
    return [
        f"{stage}: {counts[stage]:,} epochs, published are {PUBLISHED[stage]:,}." for stage in wrong
    ]
