"""Names of other machines that may be files here, and those that may not."""

import pytest

from partsig.data.remote_names import check_names, local_path
from partsig.errors import DataError


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is an absolute path"),
        ("//host/x", "is an absolute path"),
        ("../x.csv", "climbs"),
        ("a/../../x.csv", "climbs"),
        ("a/..", "climbs"),
        ("a/.. /x", "climbs"),
        ("..", "climbs"),
        ("./x", "has an empty part"),
        ("a//x", "has an empty part"),
        ("a/", "has an empty part"),
        ("..\\x", "has a backslash"),
        ("C:\\x", "has a backslash"),
        ("C:/x", "begins with a drive"),
        ("c:x", "begins with a drive"),
        ("ab::zip/y.hea", "reads as a chain"),
        ("x\0.csv", "has characters that cannot be seen"),
        ("x\n.csv", "has characters that cannot be seen"),
        ("x\x1b[2J.csv", "has characters that cannot be seen"),
        ("x\u202egva.csv", "has characters that cannot be seen"),
        ("x\udc80.csv", "has characters that cannot be seen"),
    ],
)
def test_names_that_are_none_of_a_file_are_refused(name, why, tmp_path):
    for check in (lambda: check_names([name], "it"), lambda: local_path(tmp_path, name, "it")):
        with pytest.raises(DataError, match=why) as caught:
            check()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "names",
    [
        ("A.edf", "a.edf"),
        ("straße.edf", "STRASSE.edf"),
        ("n\u00e4chte.edf", "na\u0308chte.edf"),
        ("\ufb01t.edf", "fit.edf"),
        ("a/X/b.edf", "a/x/b.edf"),
        ("K.edf", "\u212a.edf"),
    ],
)
def test_names_that_are_one_file_on_some_disks_are_refused(names):
    with pytest.raises(DataError, match="the same file on some disks: neither is fetched"):
        check_names(names, "it")


def test_usual_names_are_taken(tmp_path):
    names = ["tr03/tr03-0001.hea", "sub-01/eeg/sub-01_eeg.edf", "Nächte/n 1 (a).edf", ".hidden"]
    names += ["a..b.edf", "ab:c.edf", "2024-01-01T10:00.edf"]
    check_names(names, "it")
    for name in names:
        assert local_path(tmp_path, name, "it") == tmp_path / name


def test_a_link_does_not_lead_out_of_the_copy(tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "copy" / "a").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="is a link that leads out of"):
        local_path(tmp_path / "copy", "a/x.edf", "it")
