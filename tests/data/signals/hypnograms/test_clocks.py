"""Times of day in hypnograms: midnight, changed clocks, and the forms they are written in."""

from datetime import datetime, time

import numpy as np
import pytest

from partsig.data.signals.hypnograms.reading import read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.hypnograms.times import clock
from partsig.errors import DataError


def read(tmp_path, times):
    text = "time,stage\n" + "".join(f"{at},N2\n" for at in times)
    (tmp_path / "h.csv").write_text(text)
    return read_hypnogram(tmp_path / "h.csv", HypnogramConfig())


SPRING = ["01:58:30", "01:59:00", "01:59:30", "03:00:00", "03:00:30", "03:01:00"]
AUTUMN = ["02:58:30", "02:59:00", "02:59:30", "02:00:00", "02:00:30", "02:01:00"]


@pytest.mark.parametrize("date", ["", "2020-03-29 "])
@pytest.mark.parametrize("times", [SPRING, AUTUMN])
def test_changed_clocks_are_refused(tmp_path, date, times):
    with pytest.raises(DataError, match=r"h\.csv: .*clocks (may have been|were) chang"):
        read(tmp_path, [date + at for at in times])


@pytest.mark.parametrize(
    ("times", "zones"),
    [(SPRING, ("+01:00", "+02:00")), (AUTUMN, ("+02:00", "+01:00"))],
)
def test_zones_tell_how_clocks_were_changed(tmp_path, times, zones):
    stamps = [f"2020-03-29T{at}{zones[k >= 3]}" for k, at in enumerate(times)]
    found = read(tmp_path, stamps)
    np.testing.assert_array_equal(found.onsets, 30.0 * np.arange(6))
    assert found.start == datetime.fromisoformat(f"2020-03-29 {times[0]}")
    with pytest.raises(DataError, match="or a zone"):
        read(tmp_path, [stamps[0], stamps[1].split("+")[0]])


def test_an_hour_without_stages_by_day_is_a_gap(tmp_path):
    times = ["13:58:30", "13:59:00", "13:59:30", "15:00:00", "15:00:30"]
    assert read(tmp_path, times).onsets.tolist() == [0, 30, 60, 3690, 3720]


def test_midnight(tmp_path):
    found = read(tmp_path, ["23:59:00", "23:59:30", "00:00:00", "00:00:30"])
    assert found.onsets.tolist() == [0, 30, 60, 90]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9:05:30", time(9, 5, 30)),
        ("22:31:00,500", time(22, 31, 0, 500_000)),
        ("10:31:00 PM", time(22, 31)),
        ("12:00:30 a.m.", time(0, 0, 30)),
        ("01.02.2020 22:31:00", datetime(2020, 2, 1, 22, 31)),
        ("2020-02-01T22:31:00Z", datetime(2020, 2, 1, 22, 31)),
    ],
)
def test_forms_that_can_mean_one_time(text, expected):
    assert clock("h", text) == expected


@pytest.mark.parametrize("text", ["01/02/2020 22:31:00", "13:31:00 PM", "22.31", "25:00:00"])
def test_other_forms_are_refused(text):
    with pytest.raises(DataError, match=r"may come first; write dates as|is neither seconds nor"):
        clock("h", text)


def test_twelve_hours_that_do_not_say_which_are_refused(tmp_path):
    with pytest.raises(DataError, match="01:00:00 does not follow 12:59:30"):
        read(tmp_path, ["12:59:00", "12:59:30", "01:00:00"])
