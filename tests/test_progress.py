"""The progress bar: often drawn before people, seldom in a log file."""

import sys

import pytest

from partsig.progress import bar


@pytest.mark.parametrize(("seen", "seconds"), [(True, 0.5), (False, 30.0)])
def test_it_is_drawn_seldom_where_nobody_looks(seen, seconds, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: seen, raising=False)
    with bar(unit="step", desc="train", total=4, initial=1) as shown:
        shown.update()
        assert (shown.mininterval, shown.n, shown.total) == (seconds, 2, 4)


def test_bytes_are_told_in_powers_of_a_thousand(capsys):
    with bar(unit="B", desc="download", total=3_000_000) as shown:
        shown.update(1_500_000)
    assert "1.50M/3.00M" in capsys.readouterr().err
