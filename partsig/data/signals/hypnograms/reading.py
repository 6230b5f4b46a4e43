"""Reads a hypnogram of any format: a format is how a text begins, and a function that reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from partsig.data.foreign import read_bytes
from partsig.data.signals.hypnograms import json_stages, luna, vendors, visbrain
from partsig.data.signals.hypnograms.annotations import read_edf_annotations
from partsig.data.signals.hypnograms.hypnogram import Hypnogram
from partsig.data.signals.hypnograms.mne_annotations import from_mne_text, is_mne, read_mne_fif
from partsig.data.signals.hypnograms.scorers import settle
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.tables import from_table
from partsig.data.signals.hypnograms.xml import from_xml

# A year of 30-s epochs has a million lines.
MOST_BYTES = 2**26
BY_SUFFIX = {
    ".edf": "annotations",
    ".bdf": "annotations",
    ".fif": "mne",
    ".xml": "xml",
    ".rml": "xml",
    ".annot": "luna",
    ".eannot": "list",
    ".json": "json",
}
HEAD = 4000  # characters by which a format is told

Scorings = dict[str, Hypnogram]


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """How a text of this format begins, and its hypnograms by scorer ("": nobody is named)."""

    begins: Callable[[str], bool]
    read: Callable[[str, str, HypnogramConfig], Scorings]


TEXTS = {
    "remlogic": TextFormat(begins=vendors.is_remlogic, read=vendors.from_remlogic),
    "domino": TextFormat(begins=vendors.is_domino, read=vendors.from_domino),
    "luna": TextFormat(begins=luna.is_luna, read=luna.from_luna),
    "elan": TextFormat(begins=visbrain.is_elan, read=visbrain.from_elan),
    "visbrain": TextFormat(begins=visbrain.is_visbrain, read=visbrain.from_visbrain),
    "mne": TextFormat(begins=is_mne, read=from_mne_text),
    "json": TextFormat(begins=json_stages.is_json, read=json_stages.from_json),
    "xml": TextFormat(begins=lambda head: head.startswith("<"), read=from_xml),
}


def read_hypnogram(path: Path, settings: HypnogramConfig) -> Hypnogram:
    """Return the hypnogram of a file; its format by ``settings.format`` or by what it looks like.

    Of several scorers' it is the one, or the consensus, that ``settings.scorer`` asks for. Raises
    DataError when it cannot be read, holds no stage, a label is none, or nobody said whose.
    """
    return settle(path.name, read_scorings(path, settings), settings)


def read_scorings(path: Path, settings: HypnogramConfig) -> Scorings:
    """Return the hypnograms of a file by scorer, "" where nobody is named, all of one zero.

    Raises DataError when it cannot be read, holds no stage, or a label is none.
    """
    kind = settings.format
    suffix = path.suffix.lower()
    if kind == "auto":
        kind = BY_SUFFIX.get(suffix, "auto")
    if kind == "annotations":
        return {"": read_edf_annotations(path, settings)}
    if kind == "mne" and suffix == ".fif":
        return read_mne_fif(path, settings)
    text = _read_text(path)
    if kind == "auto":
        head = text.lstrip()[:HEAD]
        kind = next((name for name, known in TEXTS.items() if known.begins(head)), "text")
    if kind in TEXTS:
        return TEXTS[kind].read(path.name, text, settings)
    return from_table(path.name, text, settings, kind)


def _read_text(path: Path) -> str:
    data = read_bytes(path, MOST_BYTES, "hypnogram")
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
