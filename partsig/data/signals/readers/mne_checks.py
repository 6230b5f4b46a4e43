"""What MNE does not look at, or tells in warnings alone, of files that contradict themselves.

This runs in the process that parses the file by MNE, see :mod:`.mne_child`.
"""

import os
import re
import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from partsig import regular

if TYPE_CHECKING:
    import mne

# Warnings that say that something of a file was left out, or is not as its header has it. Others
# are of names of files, units of channels that are no EEG, and filters.
WORTH_TELLING = re.compile(
    r"omitted|outside|truncat|corrupt|not a multiple|missing|incomplete", re.I
)
# The same words for what is no fault of the signal.
OF_NO_MATTER = re.compile(r"location|montage|digiti|position|filename|naming|projection", re.I)
# A tag's head; kinds go to some thousands. More of them than seconds in a year of recording.
TAG, HIGHEST_KIND, MOST_TAGS = struct.Struct(">iiii"), 2**16, 2**25
MOST_WARNINGS, LONGEST_WARNING = 5, 200


class ContradictionError(Exception):
    """A file's header and its samples cannot both be right."""


def read_checked(
    read: Callable[..., "mne.io.BaseRaw"], path: str
) -> tuple["mne.io.BaseRaw", list[str]]:
    """Return a recording that MNE has opened, and sentences on what does not fit in its file.

    Raises ContradictionError where channels cannot be told apart.
    """
    notes = eeglab_notes(path) if path.lower().endswith(".set") else []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        raw = read(path, preload=False, verbose="warning")
    for name in raw.filenames if path.lower().endswith(".fif") else ():
        notes += fif_notes(str(name))
    texts = dict.fromkeys(" ".join(str(one.message).split()) for one in heard)
    notes += [
        f"MNE says: {text[:LONGEST_WARNING]}"
        for text in texts
        if WORTH_TELLING.search(text) and not OF_NO_MATTER.search(text)
    ][:MOST_WARNINGS]
    return raw, notes


def fif_notes(path: str) -> list[str]:
    """Return a sentence where the tags of a FIF file break off before its end.

    Each has a kind, a type, a size and where the next one is: after it (0), elsewhere, or nowhere
    (-1). MNE reads as far as they make sense, and is content with that.
    """
    size = os.path.getsize(path)
    at, farthest = 0, 0
    with regular.open_bytes(path) as file:
        for _ in range(MOST_TAGS):
            file.seek(at)
            head = file.read(TAG.size)
            if len(head) < TAG.size:
                break
            kind, _, length, after = TAG.unpack(head)
            if (
                not 0 < kind <= HIGHEST_KIND
                or not 0 <= length <= size - at - TAG.size
                or after < -1
            ):
                break
            ends = at + TAG.size + length
            farthest = max(farthest, ends)
            if after == -1 or ends == size:
                break
            if 0 < after <= at:
                break  # in circles
            at = after or ends
    if farthest >= size:
        return []
    return [f"its tags break off at byte {farthest:,} of {size:,}: the file is cut off or damaged"]


def eeglab_notes(path: str) -> list[str]:
    """Return sentences on an EEGLAB file whose header does not fit its samples.

    Raises ContradictionError where it names more or fewer channels than there are rows of samples.
    """
    from scipy.io import loadmat

    try:
        held = loadmat(path)
    except (NotImplementedError, ValueError):  # of MATLAB 7.3, or damaged: MNE tells
        return []
    eeg = held
    while getattr(eeg.get("EEG") if isinstance(eeg, dict) else None, "dtype", None) is not None:
        eeg = _fields(eeg["EEG"])
    data, places = eeg.get("data"), eeg.get("chanlocs")
    if data is None:
        return []
    names = 0 if places is None else int(places.size)
    channels, pnts, trials = (_number(eeg.get(key)) for key in ("nbchan", "pnts", "trials"))
    if data.dtype.kind in "US":  # samples in a file of their own, float32
        size = _size_beside(path, str(data.ravel()[0]) if data.size else "")
        rows = channels
        columns = size / 4 / channels if size is not None and channels else None
    else:
        rows, columns = data.shape[0], data[:1].size
    if rows and (names or channels) != rows:
        raise ContradictionError(
            f"{names or channels:g} channels are named, and there are {rows:g} rows of samples"
        )
    expected = pnts * max(trials, 1)
    notes = []
    if columns is not None and expected and columns != expected:
        notes.append(
            f"the header tells of {expected:,.0f} samples of a channel, and {columns:,.10g} are "
            "there"
        )
    if channels and channels != rows:
        notes.append(f"the header tells of {channels:g} channels, and {rows:g} are there")
    return notes


def _fields(struct: object) -> dict:
    """Return the fields of the first of MATLAB's structs."""
    first = struct.ravel()[0] if struct.size else None
    names = getattr(getattr(first, "dtype", None), "names", None) or ()
    return {name: first[name] for name in names}


def _number(value: object) -> float:
    """Return a field that is one number, 0 for any other."""
    try:
        return float(value.ravel()[0])
    except (AttributeError, IndexError, TypeError, ValueError):
        return 0.0


def _size_beside(path: str, name: str) -> int | None:
    """Return the bytes of the file of samples, None where MNE will look elsewhere, or refuse."""
    folder = os.path.dirname(path)
    for other in (os.path.basename(name), os.path.basename(path)[:-4] + ".fdt"):
        if other and os.path.isfile(os.path.join(folder, other)):
            return os.path.getsize(os.path.join(folder, other))
    return None
