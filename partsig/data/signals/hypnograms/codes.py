"""Codes of stages by the labels that scorers and their programs use."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence

from partsig import commands
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.stages import STAGES, UNSCORED
from partsig.errors import DataError
from partsig.text import LONGEST_VALUE, quoted, shown

NAMES = {
    **dict.fromkeys(("W", "S0", "WAKE", "AWAKE", "WAKEFULNESS", "WK"), 0),
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
# What no scorer means as a stage, in the codes that do not say what else they mean by it: 6 is
# movement in Profusion, 9 not scored in the NSRR, -1 an artefact in YASA.
NONE = dict.fromkeys((-3, -2, -1, 6, 7, 8, 9, 10), UNSCORED)
RK = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4, **NONE}
YASA = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, **NONE}
# St. Vincent's University Hospital / University College Dublin (doi 10.13026/C26C7D): 6 is an
# artefact, 7 indeterminate.
UCDDB = {0: 0, 1: 4, 2: 1, 3: 2, 4: 3, 5: 3, 6: UNSCORED, 7: UNSCORED}
# The DREAMS subjects (doi 10.5281/zenodo.2650142), epochs of 5 s: -1 is movement, the rest unknown.
DREAMS = {5: 0, 3: 1, 2: 2, 1: 3, 0: 3, 4: 4, **dict.fromkeys((-1, -2, -3), UNSCORED)}
PRESETS = {"rk": RK, "yasa": YASA, "ucddb": UCDDB, "dreams": DREAMS}
ANY = {number: UNSCORED for codes in PRESETS.values() for number in codes}
# "Sleep stage 2", "Stage 2 sleep", "SLEEP-S2", "sleep_stage_w"
PREFIX = re.compile(r"^(SLEEP[ _-]*)?STAGES?[ _:-]+|^SLEEP[ _:-]+|[ _]SLEEP$")


# What stands after "Sleep stage" where there is none.
NO_STAGE = ("X", "NO STAGE", "NONE", "UNSTAGED", "NOT STAGED", "INVALID")


def is_prefixed(label: str) -> bool:
    """Tell whether a label says that it is a stage, as "Sleep stage N2" does.

    >>> is_prefixed("Sleep stage N2"), is_prefixed("SLEEP-S2"), is_prefixed("REM")
    (True, True, False)
    """
    return PREFIX.search(label[:LONGEST_LABEL].strip().upper()) is not None


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
    if text != head and text in NO_STAGE:
        return UNSCORED
    if text != head and DIGIT.fullmatch(text):
        code = RK.get(int(text), UNSCORED)  # "stage 4" is Rechtschaffen and Kales' word
    elif BARE.fullmatch(head):
        code = numbers.get(int(float(head)))
    else:
        code = NAMES.get(text)
    again = label.partition("|")[2].strip()  # "Stage 1 sleep|1" says it twice
    if DIGIT.fullmatch(again) and RK.get(int(again), UNSCORED) != code:
        return None
    return code


def is_stage_word(label: str) -> bool:
    """Tell whether a label may be a stage, or say that there is none, in one code or another.

    >>> [is_stage_word(label) for label in ("N2", "5", "?", "0.93", "banana")]
    [True, True, True, False, False]
    """
    return stage_code(label, ANY, {}) is not None


def is_ignored(label: str, settings: HypnogramConfig) -> bool:
    """Tell whether the user has said that a label is no stage; * matches, and case does not count.

    >>> is_ignored("Lights off", HypnogramConfig(ignore=("lights *",)))
    True
    """
    low = label.strip().lower()
    return any(fnmatch.fnmatchcase(low, pattern.strip().lower()) for pattern in settings.ignore)


def number_codes(
    place: str, labels: Iterable[str], settings: HypnogramConfig
) -> tuple[dict[int, int], str]:
    """Return what bare numbers mean among these labels, and a sentence on it, "" without any.

    Raises DataError where nothing says it: where the presets that have all of these numbers give
    them more than one meaning, and where none has them.
    """
    numbers = {
        int(float(label))
        for label in map(str.strip, labels)
        if label not in settings.stages and len(label) <= LONGEST_LABEL and BARE.fullmatch(label)
    }
    if not numbers:
        return RK, ""
    if settings.codes != "auto":
        return PRESETS[
            settings.codes
        ], f"numbers by {settings.codes}: {_table(settings.codes, numbers)}"
    fitting = [name for name, codes in PRESETS.items() if numbers <= codes.keys()]
    meanings = {tuple(PRESETS[name][n] for n in sorted(numbers)) for name in fitting}
    if len(meanings) == 1:
        return PRESETS[fitting[0]], f"numbers by {fitting[0]}: {_table(fitting[0], numbers)}"
    there = shown(", ".join(map(str, sorted(numbers))), 200)
    own = "what each number means, with --set 'hypnogram.stages={5: W, …}'"
    if not fitting:
        raise DataError(f"{place}: the numbers {there} are of no known code; say {own}.")
    known = "; ".join(f"{name}: {_table(name, numbers)}" for name in fitting)
    raise DataError(
        f"{place}: the numbers {there} mean different stages by {' and '.join(fitting)} ({known}); "
        f"say which, with --set hypnogram.codes={fitting[0]} (or {', '.join(fitting[1:])}), or "
        f"{own}; `partsig audit` then holds the stages against the signal."
    )


def _table(preset: str, numbers: Iterable[int]) -> str:
    """Return what numbers mean by a preset, in words.

    >>> _table("yasa", [3, 4, -1])
    '-1 unscored, 3 N3, 4 REM'
    """
    stages = {n: PRESETS[preset].get(n) for n in sorted(numbers)}
    named = {None: "nothing", UNSCORED: "unscored", **dict(enumerate(STAGES))}
    return ", ".join(f"{n} {named[stage]}" for n, stage in stages.items())


def stage_codes(
    place: str, labels: Sequence[str], settings: HypnogramConfig, *, events: bool
) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the labels' stages, None for other events where there may be ``events``, and notes.

    Raises DataError for a label that is no stage where there may be none.
    """
    numbers, told = number_codes(place, labels, settings)
    codes = [stage_code(label, numbers, settings.stages) for label in labels]
    unknown = [
        label
        for label, code in zip(labels, codes, strict=True)
        if code is None and not is_ignored(label, settings)
    ]
    if unknown and not events:
        raise DataError(
            f"{place}: {quoted(unknown[0])} is no stage that is known; say what it means, with "
            f"{commands.option('hypnogram.stages', {unknown[0][:LONGEST_VALUE]: 'N2'})} (or "
            "unscored), or leave it out, with hypnogram.ignore."
        )
    return codes, ((told,) if told else ())
