"""``partsig stage``: recordings and a fine-tuned run in, hypnograms an analyst can check out."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from partsig import config as configs
from partsig.sleep.settings import StageConfig

if TYPE_CHECKING:
    import mne

    from partsig.sleep.recordings import Staged
    from partsig.sleep.stager import LoadedStager
    from partsig.sleep.staging import Staging

OUTPUT = Path("hypnograms")


def stage(
    recording: "str | Path | mne.io.BaseRaw",
    run: "str | Path | LoadedStager | None" = None,
    *,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
) -> "Staging":
    """Stage one recording: an EDF, BDF, FIF, BrainVision, EEGLAB or WFDB file, or an MNE ``Raw``.

    ``run`` is a fine-tuned run (default: the one that finished last), or what
    :func:`partsig.sleep.stager.load` made of it, which saves loading it for every recording.
    ``overrides`` are settings of :class:`~partsig.sleep.settings.StageConfig`. The signal is
    filtered and resampled as the run's training signal was. With ``output`` every file of
    :func:`~partsig.sleep.exports.writing.write_all` and a figure are written there.

    Raises DataError for a recording that cannot be read or lacks the run's channels, ConfigError
    and CheckpointError for the rest that the user can mend.
    """
    settings = configs.compose(StageConfig, "stage", None, overrides)
    # Only now what needs torch: what is wrong with the settings has been told.
    from partsig.sleep.recordings import stage_recording

    folder = None if output is None else Path(output)
    return stage_recording(recording, run, folder, settings, device)


def stage_all(
    recordings: Sequence[str | Path],
    run: "str | Path | LoadedStager | None" = None,
    *,
    output: str | Path | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    device: str = "auto",
    pseudonyms: str | Path | None = None,
) -> "Staged":
    """Stage files, and all recordings of folders, into ``output`` (default: ``hypnograms``).

    A recording that cannot be staged is told in ``failed``; the others are finished. One whose
    files are there from the same recording, run and settings is not staged again.

    Raises DataError where there is no recording or two have one name, and what :func:`stage` raises
    of the run and the settings.
    """
    settings = configs.compose(StageConfig, "stage", None, overrides)
    from partsig.sleep.recordings import stage_recordings

    place = Path(output or OUTPUT)
    return stage_recordings(recordings, run, place, settings, device, pseudonyms)
