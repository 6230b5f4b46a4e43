"""Texts of others as they are shown."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsig.errors import ConfigError, DataError
from partsig.text import LONGEST, is_text, quoted, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C4-M1 µV 脑电图 é", "C4-M1 µV 脑电图 é"),
        ("\x1b[2J\x1b[31m", "\\x1b[2J\\x1b[31m"),
        ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
        ("\x9b2J", "\\x9b2J"),  # the control sequence introducer in one character
        ("abc\u202efde", "abc\\u202efde"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("night\udcff", "night\\xff"),
        ("\ud800", "\\ud800"),
        ("line\u2028end", "line\\u2028end"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_seen_is_written_out(text, expected):
    assert shown(text) == expected
    shown(text).encode("utf-8")


def test_long_texts_keep_both_ends():
    told = shown("a" * 10**6 + "end", 40)
    assert len(told) == 40
    assert told.startswith("aaa")
    assert told.endswith("…aaaaaaaend")
    assert shown("\x1b" * 10**6, 30) == shown("\x1b" * 100, 30)
    assert len(shown("\x1b" * 10**6, 30)) == 30
    assert shown("a\nb", keep="\n") == "a\nb"


@given(st.text(st.characters(), max_size=50), st.integers(8, 60))
def test_every_text_is_bounded_and_can_be_printed(text, most):
    told = shown(text, most)
    assert len(told) <= most
    assert told.isprintable() or any(c in told for c in "\u200c\u200d\xa0\u3000 ") or told
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in told)
    told.encode("utf-8")


def test_quotation_marks():
    assert quoted("it's") == '"it\'s"'
    assert quoted("x" * 1000).count("x") < 90


def test_names_of_bytes_that_are_no_text():
    assert is_text("nächte$ \n")
    assert not is_text("night\udcff")


def test_errors_show_no_more_than_may_be_shown():
    error = DataError(f"night\x1b[2J\n: {'1' * 10**6} is none; copy it again.")
    assert str(error).startswith("night\\x1b[2J\\n: 111")
    assert str(error).endswith("is none; copy it again.")
    assert len(str(error)) == LONGEST
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(ConfigError("x" * 10**6))) == 10 * LONGEST
