"""What a BrainVision header says of the files beside it that MNE does not hold against them."""

import re
from pathlib import Path

from partsig.data.foreign import read_bytes
from partsig.text import shown

MOST_BYTES = 2**26
# Bytes of a sample, by BinaryFormat; texts (DataFormat=ASCII) have no such.
WIDTHS = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4, "IEEE_FLOAT_64": 8}
FIELD = "(?m)^{}=([^\r\n]*)"
OF_OTHERS = "[;BCD"  # how lines begin that are of no marker: sections, comments, the common infos
LEAST_COMMAS = 4  # between a marker's type, text, position, length and channel
SHOWN = 60  # characters of a name


def field(text: str, key: str) -> str:
    """Return a field of a header, "" where it has none.

    >>> field("[Common Infos]\\r\\nDataFile= a.eeg\\r\\n", "DataFile")
    'a.eeg'
    """
    found = re.search(FIELD.format(key), text)
    return found[1].strip() if found else ""


def notes_of(header: Path) -> list[str]:
    """Return sentences on a marker file that is not there, and on samples that are cut off.

    Raises DataError where the header cannot be read.
    """
    text = read_bytes(header, MOST_BYTES, "header or marker file").decode("utf-8", "replace")
    notes = []
    markers = _beside(header, field(text, "MarkerFile"))
    if markers is not None and not markers.exists():
        notes.append(
            f"the header's marker file {shown(markers.name, SHOWN)} is missing, and with it the "
            "start, pauses and marks"
        )
    elif markers is not None and markers.is_file():
        told = read_bytes(markers, MOST_BYTES, "marker file").decode("utf-8", "replace")
        last = told.rstrip().rpartition("\n")[2]
        if (
            last
            and last[0] not in OF_OTHERS
            and not (last.startswith("Mk") and "=" in last and last.count(",") >= LEAST_COMMAS)
        ):
            notes.append(f"{shown(markers.name, SHOWN)} breaks off in its last marker")
    data, width = _beside(header, field(text, "DataFile")), WIDTHS.get(field(text, "BinaryFormat"))
    n = field(text, "NumberOfChannels")
    if data is not None and data.is_file() and width and n.isdecimal() and len(n) < 6 and int(n):
        rest = data.stat().st_size % (int(n) * width)
        if rest:
            notes.append(
                f"{rest} bytes after the last whole sample of all channels are left out: the file "
                "of samples may be cut off or damaged"
            )
    return notes


def _beside(header: Path, name: str) -> Path | None:
    """Return the file of this name beside a header, None where none is named."""
    name = name.replace("$b", header.stem).replace("\\", "/")
    return header.parent / name if name and "\0" not in name else None
