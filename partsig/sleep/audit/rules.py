"""What an audit says of a recording: sentences, each a remark, a warning or a fault."""

from dataclasses import dataclass

import numpy as np

from partsig.data.signals.channels import DERIVED
from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES, UNSCORED
from partsig.data.signals.quality import CLIPPED, EEG_UV, FLAT, OTHER_UV, RANGE, Quality, is_eeg
from partsig.data.signals.readers.physionet2018 import N_TRAINING, PUBLISHED
from partsig.sleep.audit.measure import MeasuredRecording
from partsig.sleep.label_fit import best_shift, mean_delta, separation

# A fault would spoil training, a warning wants a look, a remark is good to know.
LEVELS = ("remark", "warning", "fault")
# The 994 labelled nights of PhysioNet/CinC Challenge 2018. Least and greatest share of the scored
# epochs: their 0.5 and 99.5 % quantiles, so that 1 % of them lie outside, a wide band chosen from
# patients; then what 99 % stay below. Computed once from the challenge's per-sample stages.
SHARES = {
    "W": (0.0099, 0.6976),
    "N1": (0.0177, 0.5753),
    "N2": (0.0309, 0.7691),
    "N3": (0.0, 0.3888),
    "REM": (0.0, 0.4359),
}
MIN_SCORED_EPOCHS = 60  # scored epochs from which one expects the stages to be checked
UNSCORED_SHARE, LEAD_IN_S = 0.18, 5530.0
# Scored epochs (2 h) from which shares of stages mean something; the published least: 318.
MIN_EPOCHS_FOR_SHARES = 240
# Shares of seconds (flat), of samples (clipped), of epochs (bad): own choice, 1 % of a night of
# eight hours is five minutes.
FLAT_WARNING, FLAT_FAULT, FLAT_THROUGHOUT = 0.01, 0.5, 0.99
CLIPPED_WARNING, CLIPPED_FAULT = 1e-3, 0.05
RANGE_WARNING, RANGE_FAULT = 0.05, 0.5
LINE_DB = 10.0  # over its neighbours, before it is a peak at all
LINE_REMARK, LINE_WARNING = 0.01, 0.5  # of a second's variance
# How often an N3 epoch has more delta power than one of another stage: 0.5 by chance.
FIT_WARNING = 0.7
# Gain of that by moving the stages. With delta drawn as in real excerpts, none of 252 published
# nights gains 0.011 by a wrong shift; moved by 10 epochs all but one gain 0.03, half of them 0.14.
SHIFT_WARNING, SHIFT_FAULT = 0.03, 0.10


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence on a recording; ``channels`` are those it is about, () for the whole."""

    level: str
    kind: str
    text: str
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageSignalAgreement:
    """How stages and delta power agree; None where there are too few epochs to tell.

    ``n3_above_w`` and ``n3_above_rem``: how often an N3 epoch has more (0 to 1); ``shift``: epochs
    to move the stages by, with the separation of N3 from the others then and as they are.
    """

    n3_above_w: float | None = None
    n3_above_rem: float | None = None
    shift: int | None = None
    moved: float | None = None
    unmoved: float | None = None


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One recording: what was measured, how its stages fit, and what there is to say."""

    recording: MeasuredRecording
    fit: StageSignalAgreement
    findings: list[Finding]

    def count(self, level: str) -> int:
        """Return the number of findings of this level."""
        return sum(finding.level == level for finding in self.findings)


def audited(recording: MeasuredRecording) -> Audited:
    """Return a recording with what there is to say of it."""
    fit = stage_signal_agreement(recording)
    return Audited(recording=recording, fit=fit, findings=judge(recording, fit))


def stage_signal_agreement(recording: MeasuredRecording) -> StageSignalAgreement:
    """Return how stages fit the delta power of the EEG (of all channels where there is none)."""
    eeg = [q.delta for name, q in recording.measured.items() if is_eeg(name)]
    deltas = eeg or [q.delta for q in recording.measured.values()]
    if not deltas:
        return StageSignalAgreement()
    n = min([len(recording.stages), *map(len, deltas)])
    delta, stages = mean_delta([d[:n] for d in deltas]), recording.stages[:n]
    w, deep, rem = (stages == STAGES.index(stage) for stage in ("W", "N3", "REM"))
    shift, moved, unmoved = best_shift(delta, stages, STAGES.index("N3")) or (None,) * 3
    return StageSignalAgreement(
        n3_above_w=separation(delta, deep, w),
        n3_above_rem=separation(delta, deep, rem),
        shift=shift,
        moved=moved,
        unmoved=unmoved,
    )


def judge(recording: MeasuredRecording, fit: StageSignalAgreement) -> list[Finding]:
    """Return what there is to say of a recording, the worst first."""
    if recording.reason:
        return [Finding(level="fault", kind="unreadable", text=f"Not readable: {recording.reason}")]
    findings = []
    for note in recording.notes:
        if note.startswith(DERIVED):
            findings.append(Finding(level="remark", kind="derived", text=_upper(note)))
        elif not note.startswith("stages from "):
            findings.append(Finding(level="warning", kind="reader", text=_upper(note)))
    if recording.listed:
        findings.append(Finding(level="remark", kind="channels", text=_upper(recording.listed)))
    for name, why in recording.unread.items():
        text = f"Not readable: {name} ({why.rstrip('.')})."
        findings.append(Finding(level="fault", kind="unreadable", text=text, channels=(name,)))
    findings += _hypnogram(recording) + _fit(fit, recording.stages) + _channels(recording)
    return sorted(findings, key=lambda f: -LEVELS.index(f.level))


def _upper(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _hypnogram(recording: MeasuredRecording) -> list[Finding]:
    findings = []

    def add(level: str, kind: str, text: str) -> None:
        findings.append(Finding(level=level, kind=kind, text=text))

    missing = recording.n_whole - len(recording.stages)
    if missing < 0:
        add(
            "fault",
            "hypnogram length",
            f"The hypnogram is {-missing} epochs longer than the signal.",
        )
    if missing > 0:
        add(
            "warning",
            "hypnogram length",
            f"The last {missing} epochs of the signal have no place in the hypnogram.",
        )
    scored = recording.stages[recording.stages != UNSCORED]
    if not len(scored):
        add("remark", "unscored", "Nothing is scored.")
        return findings
    if recording.unscored_share > UNSCORED_SHARE:
        add(
            "warning",
            "unscored",
            f"{_percent(recording.unscored_share)} of the epochs are unscored; "
            f"of {N_TRAINING} published nights 99 % have less than 18 %.",
        )
    if recording.lead_in_s > LEAD_IN_S:
        add(
            "warning",
            "lead-in",
            f"Scoring starts after {recording.lead_in_s / 60:.0f} min; in 99 % of "
            f"{N_TRAINING} published nights before 92.",
        )
    if len(scored) >= MIN_EPOCHS_FOR_SHARES:
        share = dict(zip(STAGES, np.bincount(scored, minlength=5) / len(scored), strict=True))
        absent = [stage for stage in STAGES if share[stage] == 0]
        if absent:
            add("remark", "stages", f"No epoch is scored {' or '.join(absent)}.")
        for stage in STAGES:
            low, high = SHARES[stage]
            if share[stage] and not low <= share[stage] <= high:
                usual = PUBLISHED[stage] / sum(PUBLISHED.values())
                add(
                    "warning",
                    "stages",
                    f"{stage} is {_percent(share[stage])} of the scored "
                    f"epochs; 99 % of {N_TRAINING} published nights have {_percent(low)} to "
                    f"{_percent(high)}, over all {_percent(usual)}.",
                )
    return findings


def _fit(fit: StageSignalAgreement, stages: np.ndarray) -> list[Finding]:
    findings = []
    if fit == StageSignalAgreement() and (stages != UNSCORED).sum() >= MIN_SCORED_EPOCHS:
        text = "Whether the stages fit the signal was not checked: too few epochs of N3, W or REM."
        findings.append(Finding(level="remark", kind="unchecked", text=text))
    for other, share in (("wake", fit.n3_above_w), ("REM", fit.n3_above_rem)):
        if share is not None and share < FIT_WARNING:
            text = (
                f"An N3 epoch has more delta power than one of {other} in only {_percent(share)} "
                "of pairs: the stages do not fit the signal."
            )
            level = "fault" if share < 0.5 else "warning"
            findings.append(Finding(level=level, kind="delta", text=text))
    if fit.shift:
        gain = fit.moved - fit.unmoved
        if gain >= SHIFT_WARNING and fit.moved >= FIT_WARNING:  # else no shift makes them fit
            text = (
                f"The stages fit delta power better {abs(fit.shift)} epochs "
                f"({abs(fit.shift) * EPOCH_S:.0f} s) {'later' if fit.shift > 0 else 'earlier'}: "
                f"N3 above the other stages in {_percent(fit.moved)} of pairs, now in "
                f"{_percent(fit.unmoved)}."
            )
            level = "fault" if gain >= SHIFT_FAULT else "warning"
            findings.append(Finding(level=level, kind="shift", text=text))
    return findings


def _channels(recording: MeasuredRecording) -> list[Finding]:
    """Return the findings on channels, those of one kind and level in one sentence."""
    grouped: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    for name, measured in recording.measured.items():
        if name not in recording.filled:
            for level, kind, head, value, tail in _of_channel(name, measured):
                grouped.setdefault((level, kind, head, tail), []).append((name, value))
    findings = []
    for (level, kind, head, tail), items in grouped.items():
        named = ", ".join(f"{name} ({value})" if value else name for name, value in items)
        names = tuple(name for name, _ in items)
        findings.append(
            Finding(level=level, kind=kind, text=f"{head}: {named}{tail}.", channels=names)
        )
    for name, reason in recording.refused.items():
        text = f"Not measured: {name} ({reason})."
        findings.append(Finding(level="warning", kind="unmeasured", text=text, channels=(name,)))
    if recording.filled:
        text = f"Not there, zeros instead: {', '.join(recording.filled)}."
        findings.append(
            Finding(level="warning", kind="filled", text=text, channels=recording.filled)
        )
    return findings


def _of_channel(name: str, q: Quality) -> list[tuple[str, str, str, str, str]]:
    """Return (level, kind, head, value, tail) of what is to be said of one channel."""
    findings = []
    if q.not_finite:
        findings.append(
            ("fault", "not finite", "Samples that are no numbers", f"{q.not_finite:,}", "")
        )
    if q.flat >= FLAT_THROUGHOUT:
        return [*findings, ("fault", "flat", "Flat throughout", "", "")]
    if q.flat > 0:
        level = _level(q.flat, FLAT_WARNING, FLAT_FAULT)
        findings.append((level, "flat", "Flat for a share of its seconds", _percent(q.flat), ""))
    if q.clipped > 0:
        level = _level(q.clipped, CLIPPED_WARNING, CLIPPED_FAULT)
        share = _percent(q.clipped)
        findings.append((level, "clipped", "Clipped for a share of its samples", share, ""))
    low, high = EEG_UV if is_eeg(name) else OTHER_UV
    value = f"{q.amplitude_uv:.3g} µV"
    if q.factor != 1:
        was, taken = {1e6: ("V", "µV"), 1e3: ("mV", "µV"), 1e-3: ("µV", "mV")}.get(
            q.factor, ("µV", "V")
        )
        head = f"The SD of a second looks like {was} taken for {taken}"
        findings.append(("fault", "unit", head, value, ""))
    elif not low <= q.amplitude_uv <= high:
        tail = f"; expected are {low:.2g} to {high:.3g} µV"
        findings.append(("warning", "amplitude", "SD of a second out of range", value, tail))
    else:
        share = float((q.epochs == RANGE).mean())
        if share >= RANGE_WARNING:
            level = _level(share, RANGE_WARNING, RANGE_FAULT)
            head = "Amplitude out of range in a share of the epochs"
            findings.append((level, "range", head, _percent(share), ""))
    for line, (decibels, rms) in q.line.items():
        share = (rms / q.amplitude_uv) ** 2
        if decibels >= LINE_DB and share >= LINE_REMARK:
            level, head = "remark", f"Line noise at {line:.0f} Hz"
            if share >= LINE_WARNING:
                level, head = "warning", f"Mostly line noise ({line:.0f} Hz)"
            findings.append((level, "line noise", head, f"{decibels:.0f} dB, {rms:.2g} µV", ""))
    return findings


def _level(value: float, warning: float, fault: float) -> str:
    return LEVELS[(value >= warning) + (value >= fault)]


def _percent(share: float) -> str:
    """Return a share in percent, exact enough to be told from 0 and 100.

    >>> _percent(0.0004), _percent(0.034), _percent(0.42), _percent(0.9996)
    ('0.04 %', '3.4 %', '42 %', '99.96 %')
    """
    value = 100 * share
    if 0 < value < 0.01:
        return "<0.01 %"
    away = min(value, 100 - value)
    digits = 0 if away >= 10 or away <= 0 else 1 if away >= 1 else 2
    return f"{value:.{digits}f} %"


def share_bad(q: Quality) -> float:
    """Return the share of a channel's epochs that are flat, clipped or out of range."""
    return float(np.isin(q.epochs, (FLAT, CLIPPED, RANGE)).mean())
