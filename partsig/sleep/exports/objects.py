"""A staging as objects of other packages: MNE's annotations, YASA's hypnogram."""

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.errors import ConfigError, DataError
from partsig.sleep.exports.edf import TEXTS
from partsig.sleep.staging import Staging

if TYPE_CHECKING:
    import mne
    import yasa


def to_annotations(staging: Staging) -> "mne.Annotations":
    """Return the stages as MNE has them, one per epoch, for ``raw.set_annotations``.

    Onsets count from the recording's first sample; the texts are those of
    :func:`~partsig.sleep.exports.edf.write_edf`.

    Raises ConfigError when MNE is not installed.
    """
    try:
        import mne
    except ImportError:
        raise ConfigError("to_annotations needs MNE: pip install 'partsig[mne]'.") from None
    texts = [TEXTS[name] for name in staging.names]
    return mne.Annotations(staging.onsets, np.full(len(texts), staging.epoch_s), texts)


def to_yasa(staging: Staging, *, scored: bool = False) -> "yasa.Hypnogram":
    """Return the hypnogram as YASA has it, unusable epochs as UNS; or the ``scored`` stages.

    It begins with the first epoch, ``start_s`` after the recording's start. Probabilities go with
    it; those of an unusable epoch are all on UNS, since YASA's must add up to 1.

    Raises ConfigError when YASA is not installed, DataError when no stages came with the recording.
    """
    try:
        import pandas as pd
        import yasa
    except ImportError:
        raise ConfigError("to_yasa needs YASA: pip install 'partsig[yasa]'.") from None
    stages, shares, scorer = staging.stages, None, "partsig"
    if scored and staging.scored is None:
        raise DataError(f"{staging.name}: no stages came with this recording.")
    if scored:
        stages, scorer = staging.scored, "scored"
    else:
        shares = pd.DataFrame(staging.probabilities, columns=list(STAGES), dtype=float)
        unusable = stages == UNSCORED
        shares[unusable] = 0.0
        shares["UNS"] = unusable.astype(float)
    start = staging.start
    return yasa.Hypnogram(
        ["UNS" if code == UNSCORED else STAGES[code] for code in stages],
        freq=f"{staging.epoch_s:g}s",
        start=None if start is None else start + timedelta(seconds=staging.start_s),
        scorer=scorer,
        proba=shares,
    )
