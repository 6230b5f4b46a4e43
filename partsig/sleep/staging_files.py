"""What staging reads and writes: recordings among files, and what is written of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from partsig.data.signals.hypnograms.stages import UNSCORED, count_stages
from partsig.data.signals.readers import edf_recordings, psg, wfdb_segments
from partsig.data.signals.recordings import sorted_by_name
from partsig.errors import DataError
from partsig.files import check_replaceable
from partsig.metrics.agreement import kappa_in_words
from partsig.sleep import review
from partsig.sleep.exports.paths import MARKS, export_paths, file_stem
from partsig.sleep.exports.writing import write_all
from partsig.sleep.staging import Staging

FIGURES = ("png", "svg")
ENDINGS = ", ".join((*psg.EDF, *psg.MNE, ".hea"))


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the recordings among files and in folders, by name; DataError where there is none."""
    recordings: dict[Path, Path] = {}  # what is given twice counts once
    for path in paths:
        if path.is_dir():
            headers = list(path.rglob("*.hea"))
            members = wfdb_segments.without_segments(headers)
            named = {header.stem for header in headers}  # a header may describe an EDF file
            members += [other for other in edf_recordings.below(path) if other.stem not in named]
            if not members:
                raise DataError(f"no recordings in {path}: expected files that end in {ENDINGS}.")
        elif path.exists():  # what is no regular file is told where it is read
            members = [path]
        else:
            raise DataError(f"no recording {path}.")
        recordings |= {member.resolve(): member for member in members}
    return sorted_by_name(recordings.values())


def check_apart(called: Mapping[Path, str], folder: Path) -> None:
    """Raise DataError where files of two recordings, by what they are called, have one name."""
    owners: dict[Path, Path] = {}
    for path, name in called.items():
        for file in paths_of(name, folder).values():
            other = owners.setdefault(file, path)
            if other != path:
                raise DataError(
                    f"{other} and {path} would both be written to {file}; rename one, or stage "
                    "them into two folders."
                )


def paths_of(name: str, folder: Path) -> dict[str, Path]:
    """Return where the files of a recording of this name lie, by kind."""
    stem = file_stem(name)
    drawn = {kind: folder / f"{stem}_staging.{kind}" for kind in FIGURES}
    return export_paths(name, folder) | drawn


def write_staging(staging: Staging, folder: Path) -> dict[str, Path]:
    """Write a staging's files and its figure (PNG and SVG) into a folder; return them by kind.

    Raises DataError, and writes nothing, where another's file has one of the names.
    """
    written = paths_of(staging.name, folder)
    # A picture does not tell whose it is: it is partsig's where the file that is written before is.
    for kind in FIGURES:
        check_replaceable(written[kind], MARKS["json"], written["json"])
    write_all(staging, folder)
    from partsig.sleep import figures  # matplotlib, where it is needed

    figures.staging(staging, [written[kind] for kind in FIGURES])
    return written


def summary(staging: Staging) -> str:
    """Return one line on a staging: epochs per stage, what could not be used, what to look at."""
    counts = ", ".join(f"{k} {n:,}" for k, n in count_stages(staging.stages).items() if n)
    usable = staging.confidence[staging.stages != UNSCORED]
    sure = f", mean confidence {usable.mean():.2f}" if len(usable) else ""
    line = f"{counts}{sure}, {len(staging.review):,} to review"
    if staging.scored is not None:
        table = review.agreement(staging)
        line += f"; {kappa_in_words(table)} on {int(table.sum()):,} scored epochs"
    return line + "".join(f"; {note}" for note in staging.notes)
