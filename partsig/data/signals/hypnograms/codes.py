"""Codes of stages by the labels that scorers and their programs use."""

import re
from collections.abc import Iterable, Mapping, Sequence

from partsig import commands
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.errors import DataError
from partsig.text import LONGEST_VALUE, quoted

NAMES = {
    **dict.fromkeys(("W", "WAKE", "AWAKE", "WAKEFULNESS", "WK"), 0),
    **dict.fromkeys(("N1", "S1", "NREM1", "NREM 1", "I"), 1),
    **dict.fromkeys(("N2", "S2", "NREM2", "NREM 2", "II"), 2),
    # Rechtschaffen and Kales' stages 3 and 4 are the AASM manual's N3.
    **dict.fromkeys(("N3", "S3", "NREM3", "NREM 3", "III"), 3),
    **dict.fromkeys(("N4", "S4", "NREM4", "NREM 4", "IV", "SWS"), 3),
    **dict.fromkeys(("R", "REM"), 4),
    **dict.fromkeys(("?", "U", "UNS", "UNSCORED", "UNKNOWN", "UNDEFINED", "NOT SCORED"), UNSCORED),
    **dict.fromkeys(("M", "MT", "MVT", "MOVEMENT", "MOVEMENT TIME", "BODY MOVEMENT"), UNSCORED),
    **dict.fromkeys(("ART", "ARTEFACT", "ARTIFACT", "NS", "NAN", "NONE", "-", ""), UNSCORED),
}
BARE = re.compile(r"-?[0-9]{1,4}(\.0*)?")
LONGEST_LABEL = 1000  # characters; no text that long names a stage
DIGIT = re.compile(r"[0-9]")
RK = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4}
YASA = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
# "Sleep stage 2", "Stage 2 sleep", "SLEEP-S2", "sleep_stage_w"
PREFIX = re.compile(r"^(SLEEP[ _-]*)?STAGES?[ _:-]+|^SLEEP[ _:-]+|[ _]SLEEP$")


def stage_code(label: str, numbers: Mapping[int, int], own: Mapping[str, str]) -> int | None:
    """Return a label's stage, -1 where it says that nothing was scored, None for other texts.

    >>> [stage_code(t, RK, {}) for t in ("Sleep stage 4", "Stage 1 sleep|1", "R", "5", "MT")]
    [3, 1, 4, 4, -1]
    >>> stage_code("Lights off", RK, {}) is None
    True
    """
    label = label.strip()
    if len(label) > LONGEST_LABEL:
        return None
    if label in own:
        return STAGES.index(own[label]) if own[label] in STAGES else UNSCORED
    head = label.partition("|")[0].strip().upper()
    text = PREFIX.sub("", PREFIX.sub("", head)).strip()
    if text != head and DIGIT.fullmatch(text):
        code = RK.get(int(text), UNSCORED)  # "stage 4" is Rechtschaffen and Kales' word
    elif BARE.fullmatch(head):
        code = numbers.get(int(float(head)), UNSCORED)
    else:
        code = NAMES.get(text)
    again = label.partition("|")[2].strip()  # "Stage 1 sleep|1" says it twice
    if DIGIT.fullmatch(again) and RK.get(int(again), UNSCORED) != code:
        return None
    return code


def number_codes(place: str, labels: Iterable[str], settings: HypnogramConfig) -> dict[int, int]:
    """Return what bare numbers mean among these labels.

    Raises DataError where 4 occurs without 5: stage 4 of a night without REM, or REM.
    """
    if settings.codes != "auto":
        return {"rk": RK, "yasa": YASA}[settings.codes]
    numbers = {
        int(float(label))
        for label in map(str.strip, labels)
        if label not in settings.stages and len(label) <= LONGEST_LABEL and BARE.fullmatch(label)
    }
    if 4 in numbers and 5 not in numbers:
        raise DataError(
            f"{place}: 4 may be REM (YASA) or stage 4 (Rechtschaffen and Kales), and no 5 tells "
            "which; pass --set hypnogram.codes=yasa or rk."
        )
    return RK


def stage_codes(
    place: str, labels: Sequence[str], settings: HypnogramConfig, *, events: bool
) -> list[int | None]:
    """Return the labels' stages, None for other events where there may be ``events``.

    Raises DataError for a label that is no stage where there may be none.
    """
    numbers = number_codes(place, labels, settings)
    codes = [stage_code(label, numbers, settings.stages) for label in labels]
    unknown = [label for label, code in zip(labels, codes, strict=True) if code is None]
    if unknown and not events:
        raise DataError(
            f"{place}: {quoted(unknown[0])} is no stage that is known; say what it means, with "
            f"{commands.option('hypnogram.stages', {unknown[0][:LONGEST_VALUE]: 'N2'})} (or "
            "unscored)."
        )
    return codes
