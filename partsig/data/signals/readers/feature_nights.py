"""Whole nights as features, in ``.npz`` files: a sample an epoch, a channel for each feature.

A file holds for each night, whose name is ``SUBJECT__NIGHT``, the arrays ``NAME/x`` (E, …) of
numbers, ``NAME/y`` (E,), the stage of every epoch (0 W, 1 N1, 2 N2, 3 N3, 4 REM, below 0 unscored),
and ``NAME/t`` (E,), seconds at which the epochs begin. What ``x`` holds of an epoch are its
features, one after the other; ``features`` in the same file names them. Without these, features
(3, 10) are taken for the log and the relative powers of five bands of Fpz-Cz, Pz-Oz and an EOG, as
they are published for Sleep-EDF's cassettes.

A night is a recording at one sample an epoch (1/30 Hz). Epochs that are missing between others are
a gap: bridged by straight lines, unscored, and told in the index. Nights of one subject share it.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from partsig.data.foreign import check_regular
from partsig.data.guard import describe
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED
from partsig.data.signals.inventory import Listed
from partsig.data.signals.preprocessing import PreprocessConfig
from partsig.data.signals.readers.pc18_segments import HEADERS
from partsig.data.signals.recordings import ReadConfig, Recording, Rows
from partsig.errors import ConfigError, DataError

SFREQ = 1 / EPOCH_S
BANDS = ("delta", "theta", "alpha", "sigma", "beta")
CHANNELS = tuple(
    f"{channel} {kind}{band}"
    for channel in ("Fpz-Cz", "Pz-Oz", "EOG")
    for kind in ("", "relative ")
    for band in BANDS
)
NAMES = "features"
# Bytes of a night's features: a day of epochs with 20,000 each, in float32.
MOST_BYTES = 2**28
# Epochs that a night has, gaps and all: a week's.
MOST_EPOCHS = 20_160
# Part of an epoch by which its time may be off the grid.
OFF = 0.01


@dataclass(frozen=True, kw_only=True)
class FeatureNightsConfig(PreprocessConfig):
    """What a store of nights of features holds: nothing is filtered, each night scaled by itself.

    The fields are :class:`~partsig.data.signals.preprocessing.PreprocessConfig`'s.
    """

    l_freq: float | None = None
    h_freq: float | None = None
    sfreq: float = SFREQ
    normalise: Literal["none", "recording"] = "recording"

    def __post_init__(self) -> None:
        super().__post_init__()
        filtered = self.l_freq is not None or self.h_freq is not None
        if filtered or abs(self.sfreq * EPOCH_S - 1) > 1e-6:
            raise ConfigError(
                "nights of features have one sample an epoch, which is neither filtered nor "
                "resampled: leave out l_freq, h_freq and sfreq."
            )


Config = FeatureNightsConfig
USUAL = FeatureNightsConfig()


@dataclass(frozen=True)
class Night:
    """Where a night lies; read by :func:`read_recording`."""

    path: Path
    stem: str


def find_records(raw: Path) -> list[Night]:
    """Return the nights of all ``.npz`` files in ``raw``, by name.

    Raises DataError when there is none, a file is no such file, or a name comes twice.
    """
    files = sorted(raw.glob("*.npz"))
    if not files:
        raise DataError(f"no .npz file of nights in {raw}; pass --raw.")
    nights: dict[str, Night] = {}
    for path in files:
        with _opened(path) as archive:
            members = archive.namelist()
        for member in members:
            name, slash, what = member.rpartition("/")
            if not slash or what != "x.npy":
                continue
            if "/" in name:
                raise DataError(f"{path} names a night {name[:80]!r}, which no file is called.")
            if name in nights:
                raise DataError(f"night {name} is in {nights[name].path} and in {path}; keep one.")
            nights[name] = Night(path, name)
    if not nights:
        raise DataError(f"{files[0]} holds no night: its arrays are called NAME/x, NAME/y, NAME/t.")
    return [nights[name] for name in sorted(nights)]


def fingerprint(night: Night, settings: ReadConfig = USUAL) -> str:
    """Return 16 hex digits of the night's features, stages and times."""
    with _opened(night.path) as archive:
        return _digest([_member(archive, night, what) for what in "xyt"])


def list_channels(night: Night) -> list[Listed]:
    """Return the features of a night as channels."""
    with _opened(night.path) as archive:
        return [Listed(name, "", SFREQ) for name in _names(archive, night)[1]]


def usual_channels(nights: Sequence[Night]) -> tuple[str, ...]:
    """Return the features of the first night that can be read."""
    for night in nights:
        try:
            return tuple(channel.label for channel in list_channels(night))
        except DataError:  # told where it is read
            continue
    return CHANNELS


def read_recording(night: Night, settings: ReadConfig = USUAL) -> Recording:
    """Return a night as a recording at one sample an epoch.

    Raises DataError for features that are not there, times off the grid and unknown stages.
    """
    with _opened(night.path) as archive:
        x, there = _names(archive, night)
        y, t = (_member(archive, night, what) for what in "yt")
        source = _digest([_member(archive, night, "x"), y, t])
    chosen = settings.channels or CHANNELS
    lost = [name for name in chosen if name not in there]
    if lost:
        raise DataError(
            f"{night.stem}: feature {lost[0]!r} not found; it has {', '.join(there)}. Name those "
            "to keep with --set channels=[…]."
        )
    at = _epochs(night, t, len(x))
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or (len(y) and y.max() >= len(STAGES)):
        raise DataError(
            f"{night.stem}: y must be the stages (E,) of {len(x)} epochs, 0 to {len(STAGES) - 1}, "
            "or below 0 where unscored."
        )
    if not np.isfinite(x).all():
        raise DataError(f"{night.stem}: x holds features that are not finite.")
    stages = np.full(at[-1] + 1, UNSCORED, np.int8)
    stages[at] = np.where(y < 0, UNSCORED, y)
    every = np.arange(len(stages))
    picks = [there.index(name) for name in chosen]
    signal = np.stack([np.interp(every, at, x[:, pick]) for pick in picks]).astype(np.float32)
    holes = np.flatnonzero(np.diff(at) > 1)
    rows = Rows(
        labels=tuple(chosen),
        signal=signal,
        sfreq=SFREQ,
        picks=tuple(range(len(chosen))),
        scale=(1.0,) * len(chosen),
        offset=(0.0,) * len(chosen),
    )
    return Recording(
        name=night.stem,
        subject=settings.subject_of(night.stem)
        if settings.subject
        else night.stem.partition("__")[0],
        ch_names=tuple(chosen),
        parts=(rows,),
        stages=stages,
        source=source,
        gaps=tuple(((at[i] + 1) * EPOCH_S, at[i + 1] * EPOCH_S) for i in holes.tolist()),
        notes=(f"{len(stages) - len(at)} epochs are missing",) if len(holes) else (),
    )


def _epochs(night: Night, t: np.ndarray, n: int) -> np.ndarray:
    """Return the number (E,) of every epoch, counted from the first, by their times (E,)."""
    if t.shape != (n,) or t.dtype.kind not in "iuf" or not n or not np.isfinite(t).all():
        raise DataError(f"{night.stem}: t must be the seconds (E,) at which {n} epochs begin.")
    number = (t.astype(np.float64) - float(t[0])) / EPOCH_S
    at = np.rint(number).astype(np.int64)
    if (np.diff(at) < 1).any() or (abs(number - at) > OFF).any() or at[-1] >= MOST_EPOCHS:
        raise DataError(
            f"{night.stem}: epochs must begin one after the other, {EPOCH_S:g} s or whole epochs "
            "apart, within a week."
        )
    return at


def _names(archive: zipfile.ZipFile, night: Night) -> tuple[np.ndarray, Sequence[str]]:
    """Return the features (E, F) of a night, float32, and what they are called."""
    x = _member(archive, night, "x")
    if x.dtype.kind not in "iuf" or x.ndim < 2 or not x.size:
        raise DataError(f"{night.stem}: x must be numbers (E, …), the features of epochs.")
    flat = x.reshape(len(x), -1).astype(np.float32)
    if f"{NAMES}.npy" in archive.namelist():
        told = _member(archive, night, NAMES, shared=True)
        names = tuple(map(str, told.ravel()))
    else:
        names = CHANNELS if x.shape[1:] == (3, 10) else ()
    if len(names) != flat.shape[1] or len(set(names)) != len(names):
        raise DataError(
            f"{night.stem}: {flat.shape[1]} features an epoch, and "
            f"{len(names) or 'no'} names for them: {NAMES} in {night.path.name} must name each."
        )
    return flat, names


def _digest(arrays: Sequence[np.ndarray]) -> str:
    told = hashlib.sha256()
    for array in arrays:
        told.update(f"{array.dtype} {array.shape}".encode())
        told.update(np.ascontiguousarray(array))
    return told.hexdigest()[:16]


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        check_regular(path)
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(f"{path} is not a file of nights ({describe(error)}).") from error


def _member(archive: zipfile.ZipFile, night: Night, what: str, shared: bool = False) -> np.ndarray:
    """Return an array of a night, no larger than its header says and a night can be."""
    name = f"{what}.npy" if shared else f"{night.stem}/{what}.npy"
    try:
        size = archive.getinfo(name).file_size
        if size > MOST_BYTES:
            raise DataError(f"{size:,} bytes of {name}, more than a night has")
        with archive.open(name) as file:
            shape, _, dtype = HEADERS[np.lib.format.read_magic(file)](file)
            claimed = file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.hasobject or claimed != size:
            raise DataError(f"{name} has {size:,} bytes, and its header says {claimed:,}")
        with archive.open(name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # zipfile, zlib and NumPy's parser have kinds of their own
        told = str(error) if isinstance(error, DataError) else describe(error)
        raise DataError(f"{night.path}: night {night.stem} cannot be read ({told}).") from error
