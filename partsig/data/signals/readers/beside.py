"""Files beside a recording that hold its stages: which they are, and which were passed over."""

import glob
import os
import re
import unicodedata
from collections.abc import Mapping
from fnmatch import translate
from pathlib import Path

from partsig import commands
from partsig.data import listing as folders
from partsig.data.guard import guarded
from partsig.data.signals.hypnograms.scorers import choose
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers import psg
from partsig.data.signals.readers.edf import open_edf
from partsig.errors import DataError
from partsig.text import shown

# Hypnograms are looked for under these names, beside the recording, where no pattern is given.
PATTERNS = tuple(
    f"{{name}}{tail}"
    for tail in (
        *(".xml", "-nsrr.xml", "-profusion.xml", ".XML"),
        *(".csv", ".tsv", ".txt", ".hyp", ".hypnogram"),
        *("_hypnogram.csv", "_hypnogram.tsv", "_hypnogram.txt", "_hypno.csv", "_hypno.txt"),
        *("-hypnogram.csv", "_stages.csv", "_stages.tsv", "_stages.txt", "_annotations.csv"),
        *("_hypnogram.edf", "-Hypnogram.edf", "_annotations.edf", "_scoring.edf"),
    )
)
# And under these where none of the others is there: other programs' files, and names that share
# with the recording's what stands before its last word ("X PSG.edf" and "X Base.edf", as in MASS).
LATER = tuple(
    f"{{name}}{tail}"
    for tail in (
        *(".annot", ".eannot", ".rml", ".RML", "-annot.fif", "_annot.fif"),
        *("_hypnogram.json", "_stages.json", "_scoring.json"),
    )
)
KIND = re.compile(r"[ _-](?:PSG|psg|raw|eeg)$")
OF_THE_SAME = tuple(
    f"{{name}}{tail}" for tail in (" Base.edf", "_Base.edf", "-Base.edf", " Hypnogram.edf")
)
# Files beside a recording without stages that may hold them all the same.
SCORES = (".csv", ".tsv", ".txt", ".xml", ".edf", ".hyp", ".annot", ".eannot", ".rml", ".json")
# Such that may hold them in a format that is not read.
OTHER_SCORES = (".xlsx", ".xls", ".mat", ".npy", ".npz")
FIELDS = ("name", "stem", "subject", "part", "scorer")
WILD = re.compile(r"[*?[]")


def find_scorings(path: Path, settings: HypnogramConfig, subject: str = "") -> dict[str, Path]:
    """Return the files of a recording's stages by scorer, "" for a file that names nobody.

    Those that ``settings.scorer`` asks for, of a pattern with {scorer}; else one file, or none.
    ``subject`` is whose recording it is. Raises DataError when several files could be it, when the
    pattern is none, and when a scorer or a consensus is asked for that is not there.
    """
    if settings.pattern:
        return _by_pattern(path, settings, subject)
    for names in (_usual(path, PATTERNS), _later(path)):
        if len(names) > 1:
            told = " or ".join(file.name for file in names)
            raise DataError(
                f"{path.stem}: its stages may be in {told}; say which, with --set "
                "'hypnogram.pattern={name}…', or write {scorer} where the names of scorers differ."
            )
        if names:
            return {"": names[0]}
    return {}


def _usual(path: Path, patterns: tuple[str, ...], name: str | None = None) -> list[Path]:
    """Return the files beside a recording that have one of these names."""
    stem = path.stem if name is None else name
    files = (
        file for pattern in patterns for file in _called(path.parent, pattern.format(name=stem))
    )
    return [file for file in dict.fromkeys(files) if file != path]


def _later(path: Path) -> list[Path]:
    """Return the files under those names that count where no usual one is there."""
    bare = KIND.sub("", path.stem)
    of_the_same = [] if bare == path.stem else _usual(path, (*OF_THE_SAME, *PATTERNS, *LATER), bare)
    return list(dict.fromkeys([*_usual(path, LATER), *of_the_same]))


def _called(folder: Path, name: str) -> list[Path]:
    """Return the file of a name, in whatever way its accents are composed, if it is there."""
    if os.path.exists(folder / name):
        return [folder / name]
    if name.isascii():
        return []
    above, _, last = name.rpartition("/")
    same = unicodedata.normalize("NFC", last)
    there = folders.names(folder / above)
    return [folder / above / n for n in there if unicodedata.normalize("NFC", n) == same]


def _by_pattern(path: Path, settings: HypnogramConfig, subject: str) -> dict[str, Path]:
    pattern = settings.pattern
    base, text = path.parent, pattern
    while text.startswith("../"):
        base, text = base.parent, text.removeprefix("../")
    scored = "{scorer}" in text
    if text.count("{scorer}") > 1:
        raise DataError(f"hypnogram.pattern is {pattern!r}; {{scorer}} may stand in it once.")
    values = {"name": path.stem, "stem": path.stem, "subject": subject or path.stem}
    values |= {"part": _part(path.stem, settings), "scorer": ""}
    found: dict[str, dict[Path, None]] = {}
    for form in ("", "NFC", "NFD"):  # how accents are composed
        held = {k: unicodedata.normalize(form, v) if form else v for k, v in values.items()}
        exact = not scored and not WILD.search(text)
        held = held if exact else {k: glob.escape(v) for k, v in held.items()}
        shape = unicodedata.normalize(form, text) if form else text
        parts = _filled(pattern, shape, held | {"scorer": "\0"}).split("\0")
        files = _called(base, parts[0]) if exact else folders.matching(base, "*".join(parts))
        rule = "([^/]+?)".join(translate(part)[4:-3] for part in parts)
        for file in files:
            if file == path:
                continue
            who = ""
            if scored:
                fits = re.fullmatch(rule, file.relative_to(base).as_posix(), re.DOTALL)
                who = fits[1] if fits else file.stem
            found.setdefault(who, {})[file] = None
    for who, files in found.items():
        if len(files) > 1:
            told = " or ".join(file.name for file in files)
            raise DataError(
                f"{path.stem}: its stages{f' by {shown(who, 80)}' if who else ''} may be in "
                f"{told}; say which, with --set 'hypnogram.pattern={{name}}…', or write {{scorer}} "
                "where the names of scorers differ."
            )
    by_scorer = {who: next(iter(files)) for who, files in sorted(found.items())}
    if not scored or not by_scorer:
        return by_scorer
    return choose(path.stem, by_scorer, settings)


def _part(name: str, settings: HypnogramConfig) -> str:
    """Return what the regular expression finds in a name; raise DataError if it finds nothing."""
    if "{part}" not in settings.pattern:
        return ""
    if not settings.part:
        raise DataError(
            "hypnogram.pattern has {part}, and hypnogram.part, a regular expression whose first "
            "group it is, is not set."
        )
    found = re.search(settings.part, name)
    if not found or not found[1]:
        raise DataError(f"{name}: hypnogram.part ({settings.part}) finds nothing in this name.")
    return found[1]


def _filled(pattern: str, text: str, values: Mapping[str, str]) -> str:
    try:
        return text.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError):
        fields = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise DataError(
            f"hypnogram.pattern is {pattern!r}; it may hold {fields} and *, and no other {{}}."
        ) from None


def unused(path: Path, beside: Mapping[str, Path], settings: HypnogramConfig) -> list[str]:
    """Return sentences on files that may hold stages as well, and were not read."""
    if settings.pattern or not beside:
        return []
    used = set(beside.values())
    others = [file for file in _later(path) if file not in used]
    return [
        f"found {file.name} beside it that was not used: the stages are those of "
        f"{next(iter(used)).name}; pass "
        f"{commands.pattern_option('hypnogram.pattern', file.name.removeprefix(path.stem))} for "
        "the other"
        for file in others[:1]
        if file.name.startswith(path.stem)
    ]


def overlooked(path: Path, settings: HypnogramConfig) -> str:
    """Return what to say of a recording without stages: files that may hold them, or nothing."""
    if settings.pattern:
        return f"no {settings.pattern.replace('{name}', path.stem)} beside it, and no stages inside"
    for name in folders.names(path.parent, path.stem):
        other, tail = path.parent / name, name.removeprefix(path.stem)
        if (
            not tail[:1].isalnum()  # night10 is another's
            and other.suffix.lower() in (*SCORES, *OTHER_SCORES)
            and other != path
            and (other.suffix.lower() not in psg.EDF or holds_no_signal(other))
        ):
            if other.suffix.lower() in OTHER_SCORES:
                return (
                    f"no stages were found, but {name} lies beside it, of a format that is not "
                    "read: export it as CSV, with onsets or one stage a line"
                )
            return (
                f"no stages were found, but {name} lies beside it: pass "
                f"{commands.pattern_option('hypnogram.pattern', tail)}"
            )
    return ""


def holds_no_signal(path: Path) -> bool:
    """Tell whether this is an EDF file of annotations alone."""
    if path.suffix.lower() not in psg.EDF:
        return False
    try:
        with guarded(path.name):
            return not open_edf(path).labels
    except DataError:
        return False  # damaged: found, and then skipped with its reason
