"""What an audit says of stages and of their fit to the signal, without any signal."""

import numpy as np
import pytest

from partsig.sleep.audit.measure import MeasuredRecording
from partsig.sleep.audit.rules import (
    LEAD_IN_S,
    SHARES,
    UNSCORED_SHARE,
    StageSignalAgreement,
    judge,
    stage_signal_agreement,
)

# Two hours in which every stage is there.
STAGES = np.repeat([0, 1, 2, 3, 2, 4, 2, 3, 2, 1, 0, 4], 21).astype(np.int8)


def said(stages, **given) -> list[tuple[str, str, str]]:
    stages = np.asarray(stages, np.int8)
    given = {"duration_s": 30.0 * len(stages)} | given
    found = judge(
        MeasuredRecording(name="n", stages=stages, **given), StageSignalAgreement(n3_above_w=0.99)
    )
    return [(f.level, f.kind, f.text) for f in found]


def test_stages_that_were_not_held_against_the_signal_are_told():
    night = MeasuredRecording(name="n", stages=np.full(60, 2, np.int8), duration_s=1800.0)
    (found,) = judge(night, StageSignalAgreement())
    assert (found.level, found.kind) == ("remark", "unchecked")


def test_stage_shares_are_held_against_published_nights():
    assert said(STAGES) == []
    assert said(np.repeat([2, 2, 2, 2, 2, 2, 2, 2, 0, 1, 3, 4], 25)) == []  # two thirds N2
    ((level, kind, text),) = said(np.repeat([0, 0, 0, 1, 2, 2, 4, 3, 3, 3, 3, 3, 3, 3], 25))
    assert (level, kind) == ("warning", "stages")
    assert text == (
        "N3 is 50 % of the scored epochs; 99 % of 994 published nights have 0 % to 39 %, over all "
        "11 %."
    )
    assert said(np.repeat([2, 2, 2, 2, 2, 0, 1, 4], 40)) == [
        ("remark", "stages", "No epoch is scored N3.")
    ]
    assert said([2] * 200) == []  # too short to have shares


def test_the_published_band_is_that_of_the_published_nights(challenge_files):
    with np.load(challenge_files / "pc18_hypnograms_30s.npz") as held:
        nights = [held[key] for key in held.files if key.endswith("/stage")]
    counts = np.array([np.bincount(night, minlength=6) for night in nights])
    shares = counts[:, :5] / counts[:, :5].sum(1, keepdims=True)
    low, high = np.percentile(shares, [0.5, 99.5], axis=0)
    assert pytest.approx(np.array([low, high]), abs=1e-4) == np.array(list(SHARES.values())).T
    leads = [30 * np.flatnonzero(night < 5)[0] for night in nights]
    assert np.percentile(leads, 99) == pytest.approx(LEAD_IN_S, abs=10)
    assert np.percentile(counts[:, 5] / counts.sum(1), 99) == pytest.approx(
        UNSCORED_SHARE, abs=0.01
    )


def test_the_hypnogram_is_held_against_the_signal():
    assert said(STAGES, duration_s=250 * 30.0)[0] == (
        "fault",
        "hypnogram length",
        "The hypnogram is 2 epochs longer than the signal.",
    )
    assert said(STAGES, duration_s=255 * 30.0)[0][:2] == ("warning", "hypnogram length")
    assert said(STAGES, duration_s=252 * 30.0 + 29.9) == []
    late = np.append(np.full(190, -1), np.tile(STAGES, 4))
    assert [item[:2] for item in said(late)] == [("warning", "lead-in")]
    holes = np.append(STAGES, np.full(100, -1))
    assert [item[:2] for item in said(holes)] == [("warning", "unscored")]
    assert said(STAGES, notes=("the clock was set back",)) == [
        ("warning", "reader", "The clock was set back.")
    ]


@pytest.mark.parametrize(
    ("fit", "levels"),
    [
        (
            StageSignalAgreement(
                n3_above_w=0.9, n3_above_rem=0.95, shift=0, moved=0.9, unmoved=0.9
            ),
            [],
        ),
        (StageSignalAgreement(n3_above_w=0.65, n3_above_rem=0.45), ["fault", "warning"]),
        (StageSignalAgreement(shift=-1, moved=0.90, unmoved=0.88), []),
        (StageSignalAgreement(shift=-3, moved=0.90, unmoved=0.85), ["warning"]),
        (StageSignalAgreement(shift=9, moved=0.90, unmoved=0.75), ["fault"]),
        (StageSignalAgreement(shift=20, moved=0.56, unmoved=0.45), []),  # they fit nowhere
    ],
)
def test_stages_that_do_not_fit_the_signal_are_called_so(fit, levels):
    assert [
        f.level for f in judge(MeasuredRecording(name="n", stages=STAGES, duration_s=7560), fit)
    ] == levels


def test_too_few_epochs_tell_nothing_of_the_fit():
    assert (
        stage_signal_agreement(MeasuredRecording(name="n", stages=STAGES)) == StageSignalAgreement()
    )
