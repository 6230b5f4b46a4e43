"""Recordings to stagings: one, or many into a folder, where what is there is not made anew."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from partsig import __version__
from partsig.data.foreign import name_of
from partsig.data.guard import guarded
from partsig.data.pseudonyms import PseudonymTable
from partsig.data.signals.deidentified import without_names
from partsig.data.signals.lazy import beside
from partsig.errors import DataError, DiskFullError
from partsig.files import read_json
from partsig.progress import bar
from partsig.sleep.settings import StageConfig
from partsig.sleep.stager import LoadedStager, load, read, source_of, staged
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


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Files of recordings by name and kind, a line on each; what failed, and why."""

    path: Path
    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    summaries: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def stage_recording(
    recording: "str | Path | mne.io.BaseRaw",
    run: str | Path | LoadedStager | None,
    output: Path | None,
    settings: StageConfig,
    device: str,
) -> Staging:
    """Stage one recording; see :func:`partsig.verbs.stage.stage`."""
    stager = run if isinstance(run, LoadedStager) else load(run, device)
    with beside(output):
        staging = staged(stager, read(recording, stager, settings), settings)
    if output is not None:
        write_staging(staging, output)
    return staging


def stage_recordings(
    recordings: Sequence[str | Path],
    run: str | Path | LoadedStager | None,
    folder: Path,
    settings: StageConfig,
    device: str,
    pseudonyms: str | Path | None = None,
) -> Staged:
    """Stage files, and all recordings of folders; see :func:`partsig.verbs.stage.stage_all`."""
    chosen = find_recordings([Path(path) for path in recordings])
    if any(path.parent.resolve() == folder.resolve() for path in chosen):
        raise DataError(
            f"--output {folder} is where recordings lie: hypnograms in it would be taken for a "
            "scorer's; name another folder."
        )
    table = None if pseudonyms is None else PseudonymTable.open(pseudonyms, folder)
    own = {path: name_of(path) for path in chosen}
    called = own if table is None else {path: table.recording(own[path]) for path in chosen}
    check_apart(called, folder)
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise DataError(f"--output {folder} is no folder that can be written to; name another.")
    stager = run if isinstance(run, LoadedStager) else load(run, device)
    if table is not None:
        table.keep()
    files, summaries, failed = {}, {}, {}
    for path in bar(chosen, unit="recording", desc="stage", hidden=len(chosen) < 2):
        name = own[path]
        try:
            with guarded(name):
                if _is_made(folder, path, called[path], stager, settings, table):
                    files[name] = paths_of(called[path], folder)
                    summaries[name] = "staged before"
                    continue
                with beside(folder):
                    night = read(path, stager, settings)
                    night = night if table is None else without_names(night, table.pseudonyms)
                    staging = staged(stager, night, settings)
                files[name] = write_staging(staging, folder)
                summaries[name] = summary(staging)
        except DiskFullError:
            raise
        except DataError as error:
            failed[name] = str(error)
    return Staged(path=folder, files=files, summaries=summaries, failed=failed)


def _is_made(
    folder: Path,
    recording: Path,
    name: str,
    stager: LoadedStager,
    settings: StageConfig,
    table: PseudonymTable | None,
) -> bool:
    """Tell whether a recording's files are all there, from the same signal, run and settings.

    Of the recording no sample is read for that; ``name`` is what its files are called after.
    """
    paths = paths_of(name, folder)
    if not all(path.is_file() for path in paths.values()):
        return False
    try:
        written = read_json(paths["json"])
        known = {key: written[key] for key in ("partsig", "source", "stager")}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    facts = json.loads(json.dumps(stager.provenance(settings, name)))
    source = source_of(recording, settings)
    source = source if table is None else table.pseudonyms.source(source)
    return known == {"partsig": __version__, "source": source, "stager": facts}
