"""The recordings of a report: on its page where they are few, else each on a page of its own."""

import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from partsig.files import check_replaceable, read_json, write_json, write_text
from partsig.sleep.exports.paths import file_stem
from partsig.sleep.html import COLOURS, MARK, UNSCORED_COLOUR, link, remove
from partsig.sleep.report.charts import OTHER

# More recordings than these have pages of their own: a browser opens a page of a few megabytes.
ON_ONE_PAGE = 20
# Where those lie, beside the page of all.
FOLDER = "report"
PAGE, FIGURES = "report.html", "report.json"


def files_of(recordings: Iterable[str]) -> dict[str, str]:
    """Return the path of every recording's own page, in their order; none where they are few.

    One each, whatever the file system: some do not tell case apart, nor the ways in which Unicode
    writes one letter.
    """
    recordings = list(recordings)
    files: dict[str, str] = {}
    taken: set[str] = set()
    for recording in recordings if len(recordings) > ON_ONE_PAGE else ():
        stem = file_stem(recording)
        names = itertools.chain([stem], (f"{stem}-{k}" for k in itertools.count(2)))
        name = next(name for name in names if _same(name) not in taken)
        taken.add(_same(name))
        files[recording] = f"{FOLDER}/{name}.html"
    return files


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def links(files: Mapping[str, str], recording: str) -> str:
    """Return what leads from a recording's own page to that of all, and to its neighbours'."""
    names = list(files)  # in the order of the table
    place = names.index(recording)
    beside = {"all recordings": PAGE}
    beside |= {"lower kappa": files[names[place - 1]]} if place else {}
    beside |= {"higher kappa": files[names[place + 1]]} if place + 1 < len(names) else {}
    return f"<p>{' · '.join(link(words, f'../{file}') for words, file in beside.items())}</p>"


def legend() -> str:
    """Return what the colours of hypnograms mean."""
    colours = {**COLOURS, "unscored": UNSCORED_COLOUR, "differs": OTHER}
    spans = [f'<span><i style="background:{c}"></i>{escape(k)}</span>' for k, c in colours.items()]
    return f'<div class="legend">{"".join(spans)}<span>vertical lines: hours</span></div>'


def clock(seconds: float) -> str:
    """Return a time from the recording's start as text.

    >>> clock(3690.0)
    '1:01:30'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def write_report(
    folder: Path, results: dict, page: str, own_pages: Iterable[tuple[str, str]]
) -> None:
    """Write a report: its page, the (path, text) of recordings' own, and ``results`` as JSON.

    The figures of an earlier report there tell which pages it had: what is theirs alone is removed.
    """
    mark, kept = MARK.encode(), set()
    check_replaceable(folder / PAGE, mark)
    check_replaceable(folder / FIGURES, mark, folder / PAGE)
    for name, text in own_pages:
        check_replaceable(folder / name, mark)
        write_text(folder / name, text)
        kept.add(name)
    write_text(folder / PAGE, page)
    remove(folder / name for name in _earlier(folder / FIGURES) - kept)
    write_json(folder / FIGURES, results)


def _earlier(file: Path) -> set[str]:
    """Return the paths of the recordings' pages of the report that is there, if one is."""
    try:
        rows = read_json(file)["recordings"]
        return set(files_of(row["recording"] for row in rows).values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()
