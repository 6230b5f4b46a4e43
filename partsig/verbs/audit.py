"""``partsig audit``: what is wrong with these recordings, before anyone trains on them."""

import itertools
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import scipy

from partsig import __version__
from partsig import config as configs
from partsig.cells import as_table
from partsig.data.signals.readers import guarded
from partsig.data.signals.readers import registry as readers
from partsig.data.signals.recordings import ReadConfig
from partsig.errors import ConfigError, DataError, check_jobs
from partsig.files import check_replaceable, has_keys, write_json, write_text
from partsig.places import place_name, without_places
from partsig.progress import bar
from partsig.sleep import html
from partsig.sleep.audit import page as pages
from partsig.sleep.audit.measure import find_twins, of_store, read_raw
from partsig.sleep.audit.page import STORED
from partsig.sleep.audit.rules import LEVELS, Audited, audited
from partsig.sleep.audit.selection import selecting, with_usual


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Where the audit is, its recordings (the worst first), and how many of them have a fault.

    ``twins`` are recordings that are there twice: each with the first that is the same.
    ``channels`` are lines on what files have, where nobody said which to measure.
    """

    path: Path
    page: Path
    recordings: list[Audited]
    table: str
    n_faulty: int
    twins: list[tuple[str, str]]
    channels: list[str]


def audit(
    path: str | Path | None = None,
    *,
    source: str = "physionet2018",
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    jobs: int = -1,
) -> Audit:
    """Measure every recording of a store or a raw folder, judge it, and write tables and a page.

    A folder with ``meta.json`` is a store: its signals are band-passed, so clipping and line noise
    cannot be seen any more. Any other is raw and read as ``source`` says, unfiltered; ``overrides``
    are fields of :class:`~partsig.data.signals.recordings.ReadConfig`. Without ``channels``, edf,
    bids and wfdb have all measured that looks like EEG, EOG or EMG. ``path`` defaults to
    ``data/raw/SOURCE``, ``output`` to ``audit/NAME``, where audit.json, audit.csv and audit.html
    are written, and in pages/ the strips beyond the worst 200. A recording that cannot be read is a
    row with its reason. ``jobs`` are threads.

    Raises ConfigError for a wrong setting, DataError when there is nothing to read.
    """
    reader = readers.get(source)
    check_jobs(jobs)
    settings = configs.compose(ReadConfig, "audit", None, overrides)
    path = Path(path or Path("data/raw") / source)
    if not path.is_dir():
        raise DataError(f"no folder {path}: pass a store, or the folder of raw recordings.")
    output = Path(output or Path("audit") / path.resolve().name)
    if (path / "meta.json").is_file():
        if settings != ReadConfig():
            raise ConfigError(f"{path} is a store, read already; --set is for raw recordings.")
        source, work, items, unreadable = STORED, *of_store(path)
    else:
        settings = with_usual(reader, settings)
        read = selecting(reader, settings)
        work = partial(read_raw, read=read, trim_wake_min=settings.trim_wake_min, folder=output)
        items, unreadable = guarded.find_records(reader, path), []
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
    measured = bar(
        parallel(joblib.delayed(work)(item) for item in items),
        unit="recording",
        desc="audit",
        total=len(items),
    )
    recordings = [
        audited(replace(recording, reason=without_places(recording.reason, path)))
        for recording in (*unreadable, *measured)
    ]
    recordings.sort(key=lambda a: (*(-a.count(level) for level in LEVELS[::-1]), a.recording.name))
    told = replace(settings, hypnogram=settings.hypnogram.as_told())
    about = {
        "audited": place_name(path),
        "source": source,
        "twins": find_twins([a.recording for a in recordings]),
        "settings": {} if source == STORED else configs.to_dict(told),
        "versions": {
            "partsig": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }
    return _write(output, about, recordings)


def _check_ours(output: Path, rows: list[dict[str, object]]) -> None:
    """Raise DataError where another's file would be replaced."""
    check_replaceable(output / "audit.csv", ",".join(list(rows[0])[1:5]).encode())
    mark = has_keys("audited", "source", "versions", "summary", "recordings")
    check_replaceable(output / "audit.json", mark)
    for number in range(1, -(-len(rows) // pages.ON_ONE_PAGE) + 1):
        check_replaceable(output / pages.place(number), html.MARK.encode())


def _write(output: Path, about: dict, recordings: list[Audited]) -> Audit:
    """Write tables and pages into a folder; return what there is to tell of them."""
    rows = [pages.row(a) for a in recordings]
    _check_ours(output, rows)
    write_text(output / "audit.csv", as_table(list(rows[0]), [list(row.values()) for row in rows]))
    write_json(
        output / "audit.json",
        about
        | {
            "summary": pages.summary(recordings),
            "recordings": [pages.as_json(a) for a in recordings],
        },
    )
    n_pages = 0
    for name, text in pages.pages(about, recordings):
        write_text(output / name, text)
        n_pages += 1
    further = (output / pages.place(number) for number in itertools.count(n_pages + 1))
    earlier = itertools.takewhile(Path.is_file, further)
    html.remove(list(earlier)[::-1])  # from the end: what is left, if this is killed, has no gap
    return Audit(
        path=output,
        page=output / "audit.html",
        recordings=recordings,
        table=pages.table(recordings),
        twins=about["twins"],
        channels=pages.channels(recordings),
        n_faulty=sum(a.count("fault") > 0 for a in recordings),
    )
