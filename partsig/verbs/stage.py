"""``partsig stage``: recordings and a fine-tuned run in, hypnograms an analyst can check out."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from partsig import __version__
from partsig import config as configs
from partsig.data.pseudonyms import PseudonymTable
from partsig.data.signals.deidentified import without_names
from partsig.data.signals.lazy import beside
from partsig.errors import DataError, DiskFullError
from partsig.progress import bar
from partsig.sleep.stager import LoadedStager, StageConfig, load, read, source_of, staged
from partsig.sleep.staging import Staging
from partsig.sleep.staging_files import (
    check_apart,
    find_recordings,
    paths_of,
    summary,
    write_staging,
)

if TYPE_CHECKING:
    import mne

OUTPUT = Path("hypnograms")


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Files of recordings by name and kind, a line on each; what failed, and why."""

    path: Path
    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    summaries: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def stage(
    recording: "str | Path | mne.io.BaseRaw",
    run: str | Path | LoadedStager | None = None,
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
    stager = run if isinstance(run, LoadedStager) else load(run, device)
    with beside(None if output is None else Path(output)):
        staging = staged(stager, read(recording, stager, settings), settings)
    if output is not None:
        write_staging(staging, Path(output))
    return staging


def stage_all(
    recordings: Sequence[str | Path],
    run: str | Path | LoadedStager | None = None,
    *,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
    pseudonyms: str | Path | None = None,
) -> Staged:
    """Stage files, and all recordings of folders, into ``output`` (default: ``hypnograms``).

    A recording that cannot be staged is told in ``failed``; the others are finished. One whose
    files are there from the same recording, run and settings is not staged again. With
    ``pseudonyms``, the file that ``preprocess`` keeps names in, what is written has ids for them;
    ``dates=False`` among the settings leaves out dates and times of day.

    Raises DataError where there is no recording or two have one name, and what :func:`stage` raises
    of the run and the settings.
    """
    settings = configs.compose(StageConfig, "stage", None, overrides)
    folder = Path(output or OUTPUT)
    chosen = find_recordings([Path(path) for path in recordings])
    if any(path.parent.resolve() == folder.resolve() for path in chosen):
        raise DataError(
            f"--output {folder} is where recordings lie: hypnograms in it would be taken for a "
            "scorer's; name another folder."
        )
    table = None if pseudonyms is None else PseudonymTable.open(pseudonyms, folder)
    called = {path: path.stem if table is None else table.recording(path.stem) for path in chosen}
    check_apart(called, folder)
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise DataError(f"--output {folder} is no folder that can be written to; name another.")
    stager = run if isinstance(run, LoadedStager) else load(run, device)
    if table is not None:
        table.keep()
    files, summaries, failed = {}, {}, {}
    for path in bar(chosen, unit="recording", desc="stage", hidden=len(chosen) < 2):
        try:
            if _is_made(folder, called[path], _source(path, settings, table), stager, settings):
                files[path.stem] = paths_of(called[path], folder)
                summaries[path.stem] = "staged before"
                continue
            with beside(folder):
                night = read(path, stager, settings)
                night = night if table is None else without_names(night, table.pseudonyms)
                staging = staged(stager, night, settings)
            files[path.stem] = write_staging(staging, folder)
            summaries[path.stem] = summary(staging)
        except DiskFullError:
            raise
        except (DataError, OSError) as error:
            failed[path.stem] = str(error)
    return Staged(path=folder, files=files, summaries=summaries, failed=failed)


def _source(path: Path, settings: StageConfig, table: PseudonymTable | None) -> str:
    """Return the fingerprint of a recording's files as it is written; no sample is read."""
    source = source_of(path, settings)
    return source if table is None else table.pseudonyms.source(source)


def _is_made(
    folder: Path, name: str, source: str, stager: LoadedStager, settings: StageConfig
) -> bool:
    """Tell whether a recording's files are all there, from the same signal, run and settings."""
    paths = paths_of(name, folder)
    if not all(path.is_file() for path in paths.values()):
        return False
    try:
        written = json.loads(paths["json"].read_text(encoding="utf-8"))
        known = {key: written[key] for key in ("partsig", "source", "stager")}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    facts = json.loads(json.dumps(stager.provenance(settings, name)))
    return known == {"partsig": __version__, "source": source, "stager": facts}
