"""Names that another machine gives its files: which of them may become files here, and where."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from partsig.errors import DataError

# Control characters, half characters, and marks that turn the direction of what is shown.
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def check_names(names: Iterable[str], whose: str) -> None:
    """Raise DataError unless every name may be a file of its own below one folder.

    See :func:`faults_of`.
    """
    for fault in faults_of(names, whose).values():
        raise DataError(fault)


def faults_of(names: Iterable[str], whose: str) -> dict[str, str]:
    """Return why names may not be files of their own below one folder, by name, in sentences.

    A name is parts with ``/`` between them. Refused is what is empty, absolute or climbs, has a
    backslash, a drive or characters that cannot be seen, and two that differ by case or by Unicode
    form only, which are one file on some disks. ``whose`` is told in the message.
    """
    seen: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name in names:
        fault = _fault(name)
        if fault:
            faults[name] = f"{whose} names a file {name[:80]!r}, which {fault}: it is not fetched."
            continue
        folded = unicodedata.normalize("NFKC", name).casefold()
        folded = unicodedata.normalize("NFKC", folded)
        other = seen.setdefault(folded, name)
        if other != name:
            faults[name] = faults[other] = (
                f"{whose} names both {other[:80]!r} and {name[:80]!r}, which are the same file on "
                "some disks: neither is fetched."
            )
    return faults


def _fault(name: str) -> str | None:
    if not name:
        return "is empty"
    if name.startswith("/"):
        return "is an absolute path"
    if "\\" in name:
        return "has a backslash"
    if re.match(r"[A-Za-z]:", name):
        return "begins with a drive"
    if any(unicodedata.category(character) in UNSEEN for character in name):
        return "has characters that cannot be seen"
    if "::" in name:  # libraries that open files take it for one
        return "reads as a chain of addresses"
    parts = name.split("/")
    if any(part.strip(" .") == "" and ".." in part for part in parts):
        return "climbs out of its folder"
    if "" in parts or "." in parts:
        return "has an empty part"
    return None


def local_path(folder: Path, name: str, whose: str) -> Path:
    """Return where a remote name lies below ``folder``; raises DataError where it would not.

    >>> local_path(Path("data"), "training/tr03.hea", "a server").as_posix()
    'data/training/tr03.hea'
    """
    check_names([name], whose)
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{path.parent} is a link that leads out of {folder}: remove it.")
    return path
