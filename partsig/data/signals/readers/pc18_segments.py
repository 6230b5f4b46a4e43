"""60-s segments of PhysioNet-2018 in ``.npz`` files: many short recordings of one stage each.

A file holds ``x (N, C, T)`` int16 in µV, ``y (N,)`` (0 arousal or awake, 1 N1, 2 N2, 3 N3, 4 REM,
-1 unlabelled), ``group (N,)`` (segments that look like one sleeper), ``segment (N,)`` (number),
``ch_names`` and ``sfreq``. Every segment becomes a recording, every group a subject.

Numbers run through one stage after another, and neighbours are often one sleeper whom the groups
miss. So the split goes by blocks of numbers as well: the last fifth of every stage's numbers is the
test block, the twentieth before it the validation block; a group that has a segment in the test
block is a test subject, one that has a segment in the validation block a validation subject. Where
there is a file ``test.npz`` its groups are the test subjects, and the validation block is the last
twentieth of the others.
"""

import hashlib
import math
import threading
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig.data.foreign import check_regular
from partsig.data.guard import describe
from partsig.data.signals.channels import resolve
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED, n_epochs
from partsig.data.signals.inventory import Listed, expanded
from partsig.data.signals.recordings import (
    LEAST_HZ,
    MOST_HZ,
    USUAL,
    ReadConfig,
    Recording,
    Rows,
)
from partsig.errors import DataError

CHANNELS = ("O2-M1", "E1-M2", "Chin1-Chin2")
KEYS = ("x", "y", "group", "segment", "ch_names", "sfreq")
TEST_FILE = "test.npz"
TEST_SHARE, VAL_SHARE = 0.2, 0.05
# Files are compressed: none is read in part. So many bytes of samples are kept, and the two last
# files whatever their size, since threads end one and begin the next.
KEPT_BYTES, KEPT_FILES = 2**29, 2
# EEG packs to a third or half; what packs better than this, and is not small, is no EEG.
MOST_TIMES, SMALL = 50, 2**24
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0}
HEADERS |= {(2, 0): np.lib.format.read_array_header_2_0}
_kept: OrderedDict[tuple[Path, int, int], dict[str, np.ndarray]] = OrderedDict()
_loading = threading.Lock()


@dataclass(frozen=True)
class Segment:
    """Where a segment lies; read by :func:`read_recording`."""

    path: Path
    row: int
    stem: str
    subject: str
    number: int
    stage: int


def find_records(raw: Path) -> list[Segment]:
    """Return the segments of all ``.npz`` files in ``raw``, file by file, by name in each.

    In this order a file is not read anew for every segment, however its numbers lie among others'.
    Raises DataError when there is none, a file is not as described above, or a number comes twice.
    """
    files = sorted(raw.glob("*.npz"))
    if not files:
        raise DataError(f"no .npz file of segments in {raw}; pass --raw.")
    segments: dict[str, Segment] = {}
    for path in files:
        arrays = _load(path)
        for row, (number, group, stage) in enumerate(
            zip(arrays["segment"], arrays["group"], arrays["y"], strict=True)
        ):
            name = f"segment-{int(number):05d}"
            if name in segments:
                raise DataError(f"{name} is in {segments[name].path} and in {path}; keep one.")
            subject = f"group-{int(group):05d}"
            segments[name] = Segment(path, row, name, subject, int(number), int(stage))
    return sorted(segments.values(), key=lambda segment: (segment.path, segment.stem))


def roles(segments: list[Segment]) -> dict[str, str]:
    """Return {subject: "test" or "val"}; the rule is in the module's text.

    >>> def at(number, group):
    ...     return Segment(Path("a.npz"), 0, "", group, number, stage=0)
    >>> roles([at(i, f"g{i % 18}") for i in range(20)])
    {'g15': 'val', 'g16': 'test', 'g17': 'test', 'g0': 'test', 'g1': 'test'}
    """
    given = {s.subject for s in segments if s.path.name == TEST_FILE}
    test: list[str] = []
    val: list[str] = []
    for stage in range(len(STAGES)):
        own = [s for s in segments if s.stage == stage and s.path.name != TEST_FILE]
        own.sort(key=lambda s: s.number)
        end = len(own) if given else len(own) - round(TEST_SHARE * len(own))
        test += [s.subject for s in own[end:]]
        val += [s.subject for s in own[end - round(VAL_SHARE * len(own)) : end]]
    role_of = dict.fromkeys(val, "val")
    return role_of | dict.fromkeys([*test, *sorted(given)], "test")


def fingerprint(segment: Segment, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of the segment's samples and stage."""
    return _digest(segment, _load(segment.path)["x"][segment.row])


def _digest(segment: Segment, signal: np.ndarray) -> str:
    digest = hashlib.sha256(signal.tobytes())
    digest.update(f"{segment.stage} {segment.subject}".encode())
    return digest.hexdigest()[:16]


def list_channels(segment: Segment) -> list[Listed]:
    """Return the channels of a segment, as its file names them."""
    arrays = _load(segment.path)
    return [Listed(str(name), "uV", float(arrays["sfreq"])) for name in arrays["ch_names"]]


def read_recording(segment: Segment, settings: ReadConfig = USUAL) -> Recording:
    """Return a segment as a recording, all of its epochs of its stage.

    Raises DataError for a channel that is not there.
    """
    arrays = _load(segment.path)
    available = tuple(map(str, arrays["ch_names"]))
    channels = expanded(segment.stem, available, settings).channels or CHANNELS
    resolved = resolve(segment.stem, available, channels, settings)
    picks = resolved.rows
    sfreq = float(arrays["sfreq"])
    signal = arrays["x"][segment.row]
    rows = Rows(
        labels=tuple(available[pick] for pick in picks),
        signal=signal,
        sfreq=sfreq,
        picks=picks,
        scale=(1.0,) * len(picks),
        offset=(0.0,) * len(picks),
    )
    stage = segment.stage if 0 <= segment.stage < len(STAGES) else UNSCORED
    return Recording(
        name=segment.stem,
        subject=segment.subject,
        ch_names=tuple(channels),
        parts=(rows,),
        mix=resolved.mix,
        filled=resolved.filled,
        stages=np.full(n_epochs(signal.shape[1], sfreq), stage, dtype=np.int8),
        source=_digest(segment, signal),
        notes=resolved.notes,
        excerpt=True,
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file: read once, while segments of it and of its neighbour follow."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} is not a file of segments ({error}).") from error
    key = path, status.st_mtime_ns, status.st_size
    with _loading:  # threads that want the same file wait for it
        arrays = _kept.pop(key, None) or _read(path)
        _kept[key] = arrays
        while len(_kept) > KEPT_FILES and sum(a["x"].nbytes for a in _kept.values()) > KEPT_BYTES:
            _kept.popitem(last=False)
        return arrays


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        check_regular(path)
        _check_members(path)
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: content[key] for key in KEYS}
    except Exception as error:  # zipfile, zlib and NumPy's parser have kinds of their own
        told = str(error) if isinstance(error, DataError) else describe(error)
        raise DataError(f"{path} is not a file of segments ({told.rstrip('.')}).") from error
    n = len(arrays["x"]) if arrays["x"].ndim == 3 else -1
    if arrays["x"].dtype.kind not in "iuf" or any(
        arrays[key].dtype.kind not in "iu" for key in KEYS[1:4]
    ):
        raise DataError(f"{path}: x must be numbers, and y, group and segment whole ones.")
    if n < 0 or any(arrays[key].shape != (n,) for key in KEYS[1:4]):
        raise DataError(f"{path}: x must be (N, C, T), and y, group and segment (N,).")
    if arrays["x"].shape[1] != len(arrays["ch_names"]):
        raise DataError(f"{path}: {arrays['x'].shape[1]} channels, but other names for them.")
    sfreq = arrays["sfreq"]
    if sfreq.size != 1 or sfreq.dtype.kind not in "iuf" or not LEAST_HZ <= sfreq <= MOST_HZ:
        raise DataError(f"{path}: sfreq must be a sampling rate in Hz.")
    return arrays


def _check_members(path: Path) -> None:
    """Raise DataError unless the arrays are as large as their headers say, and the file holds them.

    A kilobyte can unpack to a megabyte, and a header claim any number of samples.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(f"{key}.npy") for key in KEYS]
        total = sum(member.file_size for member in members)
        if total > max(MOST_TIMES * size, SMALL):
            raise DataError(f"{size:,} bytes that would unpack to {total:,}")
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version not in HEADERS:
                    raise DataError(f"{member.filename} has version {version} of the format")
                shape, _, dtype = HEADERS[version](file)
                claimed = file.tell() + math.prod(shape) * dtype.itemsize
            if dtype.hasobject or claimed != member.file_size:
                raise DataError(
                    f"{member.filename} has {member.file_size:,} bytes, and its header says "
                    f"{claimed:,}"
                )
