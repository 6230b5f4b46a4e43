"""Reads a hypnogram of any format."""

from pathlib import Path

from partsig.data.foreign import read_bytes
from partsig.data.signals.hypnograms.annotations import read_edf_annotations
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.tables import from_table
from partsig.data.signals.hypnograms.xml import from_xml

# A year of 30-s epochs has a million lines.
MOST_BYTES = 2**26
BY_SUFFIX = {".edf": "annotations", ".bdf": "annotations", ".xml": "xml"}


def read_hypnogram(path: Path, settings: HypnogramConfig) -> Hypnogram:
    """Return the hypnogram of a file; its format by ``settings.format`` or by what it looks like.

    Raises DataError when it cannot be read, holds no stage, or a label is none.
    """
    kind = settings.format
    if kind == "auto":
        kind = BY_SUFFIX.get(path.suffix.lower(), "text")
    if kind == "annotations":
        return read_edf_annotations(path, settings)
    text = _read_text(path)
    if kind == "xml":
        return from_xml(path.name, text, settings)
    return from_table(path.name, text, settings, kind)


def _read_text(path: Path) -> str:
    data = read_bytes(path, MOST_BYTES, "hypnogram")
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
