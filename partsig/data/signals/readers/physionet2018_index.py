"""What PhysioNet publishes of challenge-2018: lists of checksums, ages and sexes; records by name.

https://physionet.org/content/challenge-2018/1.0.0/ : 994 training records of four files, 989 test
records of two, 266 GB in all. The 13 channels of a record are interleaved in one ``.mat``, so EEG
alone cannot be had.
"""

import difflib
import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from partsig import regular
from partsig.data.addresses import shown
from partsig.data.fetch import LIST_BYTES, NotServedError, UnpinnedError, fetch_text, is_pinned
from partsig.data.foreign import read_bytes
from partsig.errors import ConfigError, DataError

BASE = "https://physionet.org/files/challenge-2018/1.0.0/"
DEMOGRAPHICS = "age-sex.csv"
# The files of a record end so. The header comes last: a record is found by it.
PARTS = {"training": (".mat", ".arousal", "-arousal.mat", ".hea"), "test": (".mat", ".hea")}
# Where a server may keep the list: beside the folder, in it, or as PhysioNet's list of a project.
LISTS = {part: (f"{part}_SHA1SUMS", f"{part}/SHA1SUMS", "SHA256SUMS.txt") for part in PARTS}
# The SHA-256 of what PhysioNet has published, from copies against which real files of the database
# were held. Of SHA256SUMS.txt none is known.
PINNED = {
    "training": "f2dc3041bc1dcffac39231bfe955099d3d5d787b7c16f8d8dab75eab34ff6896",
    "test": "fa7b564dcdbf533472a134a8c23c0fb5362494a4b71c89dbca23b1f986c1979f",
    DEMOGRAPHICS: "fbc97f5bd28eccbd27da5b1b2f8d6a1c551fdc44978ed185fd14afd267b14afd",
}
# No file of a record has more: a day of 13 channels of 16 bits at 200 Hz.
MOST_BYTES = 24 * 3600 * 200 * 13 * 2
# A record's size on average: the published size of all over their number (the .mat files alone: the
# others together are under 1 %).
RECORD_BYTES = 266_000_000_000 // 1983

ALGORITHMS = {40: "sha1", 64: "sha256"}  # by the number of hex digits
LINE = re.compile(r"(?<![0-9a-f])([0-9a-f]{40}|[0-9a-f]{64})\s+\*?(?:\./)?(\S+)")


def usual_bytes(name: str) -> int:
    """Return about how large a published file is: what counts are the signals.

    >>> usual_bytes("training/tr03-0005/tr03-0005.mat") // 10**6, usual_bytes("a/a-arousal.mat")
    (134, 0)
    """
    is_signal = name.endswith(".mat") and not name.endswith("-arousal.mat")
    return RECORD_BYTES if is_signal else 0


def records_of(
    raw: Path, base: str, downloader: Callable, trusted: bool
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return {record: {file: hash}} of the published lists, files as "training/REC/REC.hea".

    The lists are taken from ``raw``, or fetched there from ``base``; what is told of them, in
    sentences, is returned as well. Only those that are known to be the published ones are believed,
    so that any server may keep them; others where the server is ``trusted``. Raises DataError when
    there are none to be believed or they are damaged, and what ``downloader`` raises.
    """
    records: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for part, names in LISTS.items():
        others: list[str] = []
        # The name of the published list first; one that is there is not fetched.
        for name in sorted(names, key=lambda name: not (raw / name).is_file()):

            def parse(text: str, part: str = part, name: str = name) -> dict[str, dict[str, str]]:
                return parse_list(text, part, name)

            pinned = None if trusted else PINNED[part]
            try:
                records |= fetch_text(raw, base, name, parse, downloader, pinned)
            except NotServedError:
                continue
            except UnpinnedError:
                others.append(name)
                continue
            if not is_pinned(read_bytes(raw / name, LIST_BYTES, "list of checksums"), PINNED[part]):
                unknown.append(part)
            break
        else:
            raise DataError(_no_list(part, names, others, base, raw))
    if not unknown:
        return records, []
    told = " and ".join(f"{part}/" for part in unknown)
    return records, [
        f"The checksums of {told} are what {shown(base)} itself tells: partsig knows no digest of "
        "these lists to hold them against."
    ]


def _no_list(part: str, names: Iterable[str], others: list[str], base: str, raw: Path) -> str:
    """Return why no list of checksums is believed, in a sentence."""
    if others:
        where = raw if (raw / others[0]).is_file() else shown(base)
        return (
            f"{others[0]} of {where} is not the list of checksums of {part}/ that PhysioNet has "
            "published, so that what it is held against may be anything: take another --mirror, or "
            "pass --trust-mirror (trust_mirror=True) if you trust who made it."
        )
    return (
        f"{shown(base)} has no list of checksums of {part}/ (asked for {', '.join(names)}); pass "
        "--mirror with an address of challenge-2018, or put the list into the raw folder."
    )


def parse_list(text: str, part: str, name: str = "the list") -> dict[str, dict[str, str]]:
    """Return {record: {file: hash}} of one list, whose lines are a checksum and a path.

    Paths count from ``part`` (training or test) or from the folder above it. Raises DataError when
    a line is something else, or when a record lacks one of its files.

    >>> digits = "286eeb1edf3e0b826c61fc0ccaeac48475e3d742"
    >>> lines = [f"{digits}  te03-0024/te03-0024{end}" for end in (".hea", ".mat")]
    >>> len(parse_list("\\n".join(lines), "test")["te03-0024"])
    2
    """
    records: dict[str, dict[str, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(
                f"{name}, line {number}: expected a checksum and a path, got {line[:60]!r}; delete "
                "the list if it is in the raw folder, or try another --mirror."
            )
        digits, path = match[1], match[2].removeprefix(f"{part}/")
        record, _, file = path.partition("/")
        if re.fullmatch(r"[\w-]+", record) and file in [record + end for end in PARTS[part]]:
            records.setdefault(record, {})[file] = f"{ALGORITHMS[len(digits)]}:{digits}"
    short = [record for record, files in records.items() if len(files) != len(PARTS[part])]
    if short or not records:
        what = f"only {len(records[short[0]])} files of {short[0]}" if short else "no records"
        raise DataError(
            f"{name} has {what} of {part}/: it is damaged; delete it if it is in the raw folder, "
            "or try another --mirror."
        )
    return {
        record: {f"{part}/{record}/{record}{end}": files[record + end] for end in PARTS[part]}
        for record, files in records.items()
    }


def parse_demographics(text: str) -> int:
    """Return the number of records in age-sex.csv; raises DataError when it is something else."""
    first, *rows = text.splitlines() or [""]
    if set(first.strip().split(",")) != {"Record", "Sex", "Age"} or not rows:
        raise DataError(
            f"{DEMOGRAPHICS} begins with {first[:60]!r}, expected Record,Sex,Age; delete it if it "
            "is in the raw folder, or try another --mirror."
        )
    return len(rows)


def check_file(wanted: object) -> None:
    """Raise ConfigError when this is plainly meant as a file of names, and there is none."""
    file = isinstance(wanted, Path) or (isinstance(wanted, str) and re.search(r"\.\w+$", wanted))
    if file and not os.path.isfile(wanted):
        raise ConfigError(f"--records: there is no file {str(wanted)!r} of names.")


def choose(names: Iterable[str], wanted: str | Path | Iterable[str] | None) -> list[str]:
    """Return those of ``names`` that are ``wanted``, in their order; None wants all.

    ``wanted``: names and patterns (``tr03-*``) with commas between them or as a list, or a file of
    them, one per line; folders before a name are left out, as in PhysioNet's own RECORDS.
    Raises ConfigError for what is none of ``names``, with the nearest one.

    >>> choose(["te03-0024", "tr03-0005", "tr03-0029"], "tr03-*,training/tr03-0005/")
    ['tr03-0005', 'tr03-0029']
    """
    names = list(names)
    if wanted is None:
        return names
    if isinstance(wanted, str | Path):
        text = str(wanted)
        if os.path.isfile(text):  # Path.is_file fails on what is too long for a name
            text = regular.read_text(text, errors="replace")
        wanted = re.split(r"[,\s]+", text)
    asked = [name.strip("/").rpartition("/")[2] for name in wanted if name]
    chosen: set[str] = set()
    for name in asked:
        matching = fnmatch.filter(names, name)
        if not matching:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)
            raise ConfigError(
                f"--records: {name!r} is none of the {len(names):,} published records, and no file "
                f"of names; the nearest is {nearest[0]!r}."
            )
        chosen.update(matching)
    if not chosen:
        raise ConfigError(
            "--records names no record; give names such as tr03-0005, a pattern such as 'tr03-*', "
            "or a file of names."
        )
    return [name for name in names if name in chosen]
