"""Stages among other events, and labels that nobody listed."""

import pytest

from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.annotations import from_marks
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.readers.edf_marks import Mark
from partsig.errors import DataError

STAGES = [0, 1, 2, 2, 3, 3, 4, 4, 2, 0]
NAMES = ("W", "N1", "N2", "N3", "R")


def marks(*events, form="Sleep stage {}", duration=30.0, words=NAMES):
    """Return a stage for each 30 s, and (onset, duration, text) of other events."""
    rows = [(30.0 * k, duration, form.format(words[s])) for k, s in enumerate(STAGES)]
    rows = sorted([*rows, *events], key=lambda row: row[0])
    return [Mark(onset=at, duration=span, text=text) for at, span, text in rows]


def epochs(rows, **options):
    hypnogram = from_marks("f", rows, HypnogramConfig(**options))
    return to_epochs("n", hypnogram, 0.0, 300.0)[0].tolist(), hypnogram.notes


@pytest.mark.parametrize("form", ["Sleep stage {}", "{}"])
@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (3.0, "Movement"),
        (5.0, "Artifact"),
        (4.0, "Arousal"),
        (1.0, "REM"),
        (None, "W"),
        (None, "Unknown"),
        (2.0, "N3"),
        (0.0, "N1"),
    ],
)
def test_short_events_within_stages_are_none(form, duration, text):
    events = [(30.0 * k + at, duration, text) for k, at in ((2, 12.0), (5, 0.0), (7, 20.0))]
    stages, _ = epochs(marks(*events, form=form))
    assert stages == STAGES


def test_what_is_said_to_be_unscored_wins_for_a_whole_epoch():
    stages, _ = epochs(marks((60.0, 30.0, "Movement")))
    assert stages == [*STAGES[:2], -1, *STAGES[3:]]


def test_two_whole_stages_at_one_time_are_refused_or_left_out():
    rows = marks((60.0, 30.0, "stage W"))
    with pytest.raises(DataError, match=r"two stages at 60 s; mend the file, or leave a label out"):
        epochs(rows)
    assert epochs(rows, ignore=("STAGE w",))[0] == STAGES


@pytest.mark.parametrize("form", ["{}", "Sleep stage {}"])
def test_words_in_other_languages_are_refused_until_they_are_mapped(form):
    words = ("Éveil", "N1", "N2", "N3", "SP")
    label = form.format("Éveil")
    message = (
        rf"have 40\.0% of the scored time, '{label}' \(2, 20\.00%\), '{form.format('SP')}' \(2, "
        r"20\.00%\): say what each means, with --set 'hypnogram\.stages=.*hypnogram\.ignore="
    )
    with pytest.raises(DataError, match=message):
        epochs(marks(words=words, form=form))
    own = {label: "W", form.format("SP"): "REM"}
    assert epochs(marks(words=words, form=form), stages=own) == (STAGES, ())
    ignored, notes = epochs(marks(words=words, form=form), ignore=("*veil", "*SP"))
    assert ignored == [-1 if s in (0, 4) else s for s in STAGES]
    assert notes == ()


def test_a_label_that_is_understood_nowhere_ends_the_stage_before():
    """Changes of stage without durations: 'Wach' may be one."""
    rows = [(0.0, "Stage N2"), (3000.0, "Wach"), (3020.0, "Stage N3")]
    found = from_marks(
        "f", [Mark(onset=a, duration=None, text=t) for a, t in rows], HypnogramConfig()
    )
    stages, _, _ = to_epochs("n", found, 0.0, 3120.0)
    assert stages.tolist() == [2] * 100 + [-1, 3, 3, 3]
    assert found.notes == (
        "labels not understood (how many, of the scored time): 'Wach' (1, 0.66%)",
    )
    rows[1] = (1500.0, "Wach")
    with pytest.raises(DataError, match=r"'Wach' \(1, "):
        from_marks("f", [Mark(onset=a, duration=None, text=t) for a, t in rows], HypnogramConfig())
    rows[1] = (1500.0, "Lights off")  # an event by its words
    found = from_marks(
        "f", [Mark(onset=a, duration=None, text=t) for a, t in rows], HypnogramConfig()
    )
    assert (found.stages.tolist(), found.notes) == ([2, 3], ())


@pytest.mark.parametrize("word", ["X", "No Stage", "?", "Unscored", "None"])
def test_no_stage_is_none(word):
    rows = [(0.0, "Stage - N2"), (90.0, f"Stage - {word}"), (150.0, "Stage - R")]
    found = from_marks(
        "f", [Mark(onset=a, duration=None, text=t) for a, t in rows], HypnogramConfig()
    )
    assert to_epochs("n", found, 0.0, 210.0)[0].tolist() == [2, 2, 2, -1, -1, 4, 4]
    assert found.notes == ()


def test_labels_over_stages_are_told_and_do_not_block():
    stages, notes = epochs(marks((100.0, 40.0, "关灯"), (200.0, None, "Lumière éteinte")))
    assert stages == STAGES
    assert notes == (
        "labels not understood (how many, of the scored time): '关灯' (1, 0.00%), "
        "comments (1, 0.00%)",
    )


def test_a_word_for_light_sleep_is_no_light():
    with pytest.raises(DataError, match="'Light sleep' "):
        epochs(marks(words=("W", "Light sleep", "N2", "N3", "R"), form="{}"))


def test_a_table_with_other_events(tmp_path):
    rows = [(30 * k, 30, NAMES[s] if s else "Vigilia") for k, s in enumerate(STAGES)]
    rows.insert(3, (65, "", "Lights off"))
    text = "onset,duration,description\n" + "".join(f"{a},{d},{t}\n" for a, d, t in rows)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"a\.csv: .* have 20\.0% .*'Vigilia' \(2, 20\.00%\)"):
        read_hypnogram(tmp_path / "a.csv", HypnogramConfig())
    settings = HypnogramConfig(stages={"Vigilia": "W"})
    found = read_hypnogram(tmp_path / "a.csv", settings)
    offset, _ = find_offset("a", found, None, 300.0, settings)
    assert to_epochs("a", found, offset, 300.0)[0].tolist() == STAGES


def test_what_is_ignored_in_a_list_is_an_epoch_all_the_same(tmp_path):
    (tmp_path / "a.txt").write_text("W\nbanana\nN2\n")
    found = read_hypnogram(tmp_path / "a.txt", HypnogramConfig(ignore=("ban*",)))
    assert found.stages.tolist() == [0, -1, 2]


def test_decimal_commas(tmp_path):
    text = "Onset;Duration;Annotation\n" + "".join(
        f"{30 * k},5;30,0;Sleep stage {NAMES[s]}\n" for k, s in enumerate(STAGES)
    )
    (tmp_path / "a.csv").write_text(text)
    found = read_hypnogram(tmp_path / "a.csv", HypnogramConfig())
    assert found.onsets.tolist() == [30 * k + 0.5 for k in range(10)]
    assert found.durations.tolist() == [30.0] * 10
    (tmp_path / "a.csv").write_text(text.replace("0,5;30,0", "0,500;30,0"))
    with pytest.raises(DataError, match="'0,500' is no number of seconds"):
        read_hypnogram(tmp_path / "a.csv", HypnogramConfig())


def test_ignored_patterns_are_taken_literally_but_for_stars():
    rows = marks((60.0, 30.0, "stage W"))
    assert epochs(rows, ignore=("stage*",))[0] == STAGES


def test_what_may_be_a_name_is_counted_and_never_shown():
    """A comment stands there once and has no duration; what speaks of stages is named."""
    spoken = [(100.0, None, "Jane Doe"), (130.0, None, "Doe"), (160.0, None, "Schlaf?")]
    stages, notes = epochs(marks(*spoken))
    assert stages == STAGES
    assert notes == (
        "labels not understood (how many, of the scored time): 'Schlaf?' (1, 0.00%), "
        "comments (2, 0.00%)",
    )
    changes = [Mark(onset=30.0 * k, duration=None, text=f"Stage N{k % 3 + 1}") for k in range(9)]
    changes.insert(4, Mark(onset=100.0, duration=None, text="Jane Doe"))
    with pytest.raises(DataError, match=r"comments \(1, 7\.41%\)") as told:
        from_marks("f", changes, HypnogramConfig())
    assert "Jane" not in str(told.value)
    assert "hypnogram.stages={LABEL: STAGE}" in str(told.value)
