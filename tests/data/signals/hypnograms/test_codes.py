"""What a number means: by a preset, by what is told of it, or asked."""

import numpy as np
import pytest

from partsig.data.signals.hypnograms.codes import PRESETS, number_codes
from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.errors import DataError

TRUTH = [0, 1, 2, 3, 3, 4]
WRITTEN = {
    "rk": (0, 1, 2, 3, 4, 5),
    "yasa": (0, 1, 2, 3, 3, 4),
    "ucddb": (0, 2, 3, 4, 5, 1),
    "dreams": (5, 3, 2, 1, 0, 4),
}


def read(tmp_path, text: str, name: str = "h.txt", **options):
    (tmp_path / name).write_text(text)
    return read_hypnogram(tmp_path / name, HypnogramConfig(**options))


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_reads_its_own_numbers_and_no_other_does(tmp_path, preset):
    lines = "\n".join(map(str, WRITTEN[preset]))
    found = read(tmp_path, lines, codes=preset)
    assert found.stages.tolist() == TRUTH
    assert found.notes[0].startswith(f"numbers by {preset}: ")
    table = "onset,stage\n" + "".join(f"{30 * k},{n}\n" for k, n in enumerate(WRITTEN[preset]))
    assert read(tmp_path, table, "h.csv", codes=preset).stages.tolist() == TRUTH
    with pytest.raises(DataError, match=f"mean different stages by .*{preset}.*hypnogram.codes="):
        read(tmp_path, lines)


def test_the_question_names_the_presets_that_fit_and_their_tables(tmp_path):
    message = (
        r"the numbers 0, 1, 5 mean different stages by rk and ucddb and dreams \(rk: 0 W, 1 N1, "
        r"5 REM; ucddb: 0 W, 1 REM, 5 N3; dreams: 0 N3, 1 N3, 5 W\); say which, with --set "
        r"hypnogram\.codes=rk \(or ucddb, dreams\).*partsig audit"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path, "0\n1\n5\n")
    with pytest.raises(DataError, match="the numbers 0, 17 are of no known code"):
        read(tmp_path, "0\n17\n")


@pytest.mark.parametrize(
    ("numbers", "stages"),
    [
        ([0, 1, 5, 9], [0, 1, 4, -1]),  # 5 is no stage of YASA's, 9 none of the others'
        ([0, 3, 9], [0, 3, -1]),  # as rk and yasa both have it
    ],
)
def test_numbers_that_prove_their_code(tmp_path, numbers, stages):
    assert read(tmp_path, "\n".join(map(str, numbers))).stages.tolist() == stages


@pytest.mark.parametrize("numbers", [[0, 4, 9], [-1, 0, 5], [0, 1, 2, 3], [2], [0, 1, 6]])
def test_numbers_that_prove_none_are_asked_about(numbers):
    with pytest.raises(DataError, match="mean different stages"):
        number_codes("h", map(str, numbers), HypnogramConfig())


def test_own_labels_are_what_is_said_of_them(tmp_path):
    own = {"0": "W", "1": "REM", "2": "N2"}
    assert read(tmp_path, "0\n1\n2\n", stages=own).stages.tolist() == [0, 4, 2]


def test_a_number_that_a_preset_has_not_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'5' is no stage that is known"):
        read(tmp_path, "0\n5\n", codes="yasa")


def test_the_dreams_subjects_files(tmp_path):
    lines = ["[hypnogram]", *(str(n) for n in WRITTEN["dreams"] for _ in range(6))]
    found = read(tmp_path, "\n".join(lines), codes="dreams", epoch_s=5.0)
    assert found.stages.tolist() == np.repeat(TRUTH, 6).tolist()
    assert found.onsets[-1] == 35 * 5.0
