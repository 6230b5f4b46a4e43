"""A staging as EDF+ files of annotations: the hypnogram, and what to review."""

import re
from collections.abc import Sequence
from pathlib import Path

from partsig import __version__, files
from partsig.data.signals.hypnograms.stages import EDF_TEXTS, UNSCORED
from partsig.data.signals.readers.edf_header import UNTOLD
from partsig.sleep.exports.paths import replaceable_path
from partsig.sleep.exports.values import DECIMALS, ranks_of
from partsig.sleep.staging import Staging, stage_name

# "?" is what was not scored.
TEXTS = {**EDF_TEXTS, stage_name(UNSCORED): "Sleep stage ?"}
# The standard text that stands in a file that would hold no annotation at all.
EMPTY = "Recording starts"
# Years of the header's two digits (EDF+, 2.1.3, item 2); other dates are left out as anonymised.
EDF_YEARS = range(1985, 2085)
EDF_FIELD = 80  # bytes of the header's field on the recording


def write_edf(staging: Staging, folder: Path) -> Path:
    """Write NAME_hypnogram.edf, an EDF+ file of annotations alone; return its path.

    One annotation per epoch, as long as it, in the standard texts ("Sleep stage N2"), so that a
    viewer shows and a scorer corrects every epoch by itself, and readers that count annotations
    count epochs; "Sleep stage ?" where the signal cannot be used, so that the stage before does not
    seem to last. Start date and time are the recording's, to the microsecond, and onsets count from
    there; the date is anonymised where it is not known or the header cannot hold it. The patient is
    not named. A recording without an epoch has one annotation, "Recording starts".
    """
    texts = [(e, TEXTS[name]) for e, name in enumerate(staging.names)]
    return _write_annotations(staging, replaceable_path(staging, folder, "edf"), texts)


def write_review(staging: Staging, folder: Path) -> Path:
    """Write NAME_review.edf, what to look at first as annotations; return its path.

    An epoch's text has its place and the reasons ("review 1: …"). A file of its own, because
    readers of hypnograms take every annotation for a stage.
    """
    texts = [
        (epoch, f"review {rank}: {reasons}".removesuffix(": "))
        for epoch, (rank, reasons) in ranks_of(staging).items()
    ]
    return _write_annotations(staging, replaceable_path(staging, folder, "review"), texts)


def _write_annotations(staging: Staging, path: Path, texts: Sequence[tuple[int, str]]) -> Path:
    import edfio

    start, onsets = staging.start, staging.onsets
    second = 0.0 if start is None else start.microsecond / 1e6
    # edfio adds the part of a second to every onset: taken off what is rounded, or digits of
    # floating-point noise would be written.
    marks = [
        edfio.EdfAnnotation(
            round(float(onsets[e]) + second, DECIMALS) - second, staging.epoch_s, text
        )
        for e, text in texts
    ]
    dated = start is not None and start.year in EDF_YEARS and start.date() != UNTOLD.date()
    edf = edfio.Edf(
        [],
        recording=edfio.Recording(
            startdate=start.date() if dated else None,
            investigator_technician_code=f"partsig_{__version__}",
            additional=_scorer(staging),
        ),
        starttime=None if start is None else start.time(),
        annotations=marks or [edfio.EdfAnnotation(0.0, None, EMPTY)],
    )
    with files.atomic(path) as temporary:
        edf.write(temporary)
    return path


def _scorer(staging: Staging) -> list[str]:
    """Return the run's name as a part of the header's field, without spaces, where there is one."""
    name = Path(str(staging.stager.get("run", ""))).name
    word = re.sub(r"[^\x21-\x7e]+", "_", name)
    taken = len(f"Startdate 01-JAN-1985 X partsig_{__version__} X ")
    return [word[: EDF_FIELD - taken]] if word else []
