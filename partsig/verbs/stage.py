"""``partsig stage``: recordings and a fine-tuned run in, hypnograms an analyst can check out."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from partsig import __version__
from partsig import config as configs
from partsig.data.signals.lazy import beside
from partsig.data.signals.readers import edf_recordings, psg
from partsig.data.signals.recordings import UNSCORED, count_stages, sorted_by_name
from partsig.errors import DataError, DiskFullError
from partsig.metrics.agreement import kappa
from partsig.sleep import figures, review
from partsig.sleep.exports.paths import export_paths, file_stem
from partsig.sleep.exports.writing import write_all
from partsig.sleep.stager import StageConfig, Stager, load, read, source_of, staged
from partsig.sleep.staging import Staging

if TYPE_CHECKING:
    import mne

OUTPUT = Path("hypnograms")
FIGURES = ("png", "svg")
ENDINGS = ", ".join((*psg.EDF, *psg.MNE, ".hea"))


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Files of recordings by name and kind, a line on each; what failed, and why."""

    path: Path
    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    summaries: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def stage(
    recording: "str | Path | mne.io.BaseRaw",
    run: str | Path | Stager | None = None,
    *,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
) -> Staging:
    """Stage one recording: an EDF, BDF, FIF, BrainVision, EEGLAB or WFDB file, or an MNE ``Raw``.

    ``run`` is a fine-tuned run (default: the one that finished last), or what :func:`load` made of
    it, which saves loading it for every recording. ``overrides`` are settings of
    :class:`~partsig.sleep.stager.StageConfig`. The signal is filtered and resampled as the
    run's training signal was. With ``output`` every file of
    :func:`~partsig.sleep.exports.writing.write_all` and a figure are written there.

    Raises DataError for a recording that cannot be read or lacks the run's channels, ConfigError
    and CheckpointError for the rest that the user can mend.
    """
    settings = configs.compose(StageConfig, "stage", None, overrides)
    stager = run if isinstance(run, Stager) else load(run, device)
    with beside(None if output is None else Path(output)):
        staging = staged(stager, read(recording, stager, settings), settings)
    if output is not None:
        write(staging, Path(output))
    return staging


def write(staging: Staging, folder: Path) -> dict[str, Path]:
    """Write a staging's files and its figure (PNG and SVG) into a folder; return them by kind.

    Raises DataError, and writes nothing, where another's file has one of the names.
    """
    written = paths_of(staging.name, folder)
    # A picture does not tell whose it is: it is partsig's where the file that is written before is.
    others = [written[kind] for kind in FIGURES if written[kind].exists()]
    if others and not written["json"].exists():
        raise DataError(
            f"{others[0]} is there already and is not partsig's: it is kept; choose another folder."
        )
    write_all(staging, folder)
    figures.staging(staging, [written[kind] for kind in FIGURES])
    return written


def paths_of(name: str, folder: Path) -> dict[str, Path]:
    """Return where the files of a recording of this name lie, by kind."""
    stem = file_stem(name)
    drawn = {kind: folder / f"{stem}_staging.{kind}" for kind in FIGURES}
    return export_paths(name, folder) | drawn


def stage_all(
    recordings: Sequence[str | Path],
    run: str | Path | Stager | None = None,
    *,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
) -> Staged:
    """Stage files, and all recordings of folders, into ``output`` (default: ``hypnograms``).

    A recording that cannot be staged is told in ``failed``; the others are finished. One whose
    files are there from the same recording, run and settings is not staged again.

    Raises DataError where there is no recording or two have one name, and what :func:`stage` raises
    of the run and the settings.
    """
    settings = configs.compose(StageConfig, "stage", None, overrides)
    folder = Path(output or OUTPUT)
    found = _find([Path(path) for path in recordings])
    if any(path.parent.resolve() == folder.resolve() for path in found):
        raise DataError(
            f"--output {folder} is where recordings lie: hypnograms in it would be taken for a "
            "scorer's; name another folder."
        )
    _check_apart(found, folder)
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise DataError(f"--output {folder} is no folder that can be written to; name another.")
    stager = run if isinstance(run, Stager) else load(run, device)
    files, summaries, failed = {}, {}, {}
    bar = tqdm(found, unit="recording", desc="stage", mininterval=0.5, disable=len(found) < 2)
    for path in bar:
        try:
            if _is_made(folder, path, stager, settings):
                files[path.stem] = paths_of(path.stem, folder)
                summaries[path.stem] = "staged before"
                continue
            with beside(folder):
                staging = staged(stager, read(path, stager, settings), settings)
            files[path.stem] = write(staging, folder)
            summaries[path.stem] = summary(staging)
        except DiskFullError:
            raise
        except (DataError, OSError) as error:
            failed[path.stem] = str(error)
    return Staged(path=folder, files=files, summaries=summaries, failed=failed)


def summary(staging: Staging) -> str:
    """Return one line on a staging: epochs per stage, what could not be used, what to look at."""
    counts = ", ".join(f"{k} {n:,}" for k, n in count_stages(staging.stages).items() if n)
    usable = staging.confidence[staging.stages != UNSCORED]
    sure = f", mean confidence {usable.mean():.2f}" if len(usable) else ""
    told = f"{counts}{sure}, {len(staging.review):,} to review"
    if staging.scored is not None:
        table = review.agreement(staging)
        told += f"; kappa {float(kappa(table)):.2f} on {int(table.sum()):,} scored epochs"
    return told + "".join(f"; {note}" for note in staging.notes)


def _find(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}  # what is given twice counts once
    for path in paths:
        if path.is_dir():
            members = list(path.rglob("*.hea"))
            named = {member.stem for member in members}  # a header may describe an EDF file
            members += [other for other in edf_recordings.below(path) if other.stem not in named]
            if not members:
                raise DataError(f"no recordings in {path}: expected files that end in {ENDINGS}.")
        elif path.is_file():
            members = [path]
        else:
            raise DataError(f"no recording {path}.")
        found |= {member.resolve(): member for member in members}
    return sorted_by_name(found.values())


def _check_apart(recordings: Sequence[Path], folder: Path) -> None:
    """Raise DataError where files of two recordings would have one name."""
    owners: dict[Path, Path] = {}
    for path in recordings:
        for file in paths_of(path.stem, folder).values():
            other = owners.setdefault(file, path)
            if other != path:
                raise DataError(
                    f"{other} and {path} would both be written to {file}; rename one, or stage "
                    "them into two folders."
                )


def _is_made(folder: Path, recording: Path, stager: Stager, settings: StageConfig) -> bool:
    """Tell whether a recording's files are all there, from the same signal, run and settings.

    Of the recording no sample is read for that: a recording is named after its file.
    """
    paths = paths_of(recording.stem, folder)
    if not all(path.is_file() for path in paths.values()):
        return False
    try:
        found = json.loads(paths["json"].read_text(encoding="utf-8"))
        known = {key: found[key] for key in ("partsig", "source", "stager")}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    facts = json.loads(json.dumps(stager.told(settings)))
    source = source_of(recording, settings)
    return known == {"partsig": __version__, "source": source, "stager": facts}
