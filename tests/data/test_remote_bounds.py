"""Servers and archives that would take all memory or all time; and single files that are bad."""

import io
import json
import resource
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

import partsig
from partsig.data import fetch, pace, remote, web
from partsig.errors import DataError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    remote.listing.cache_clear()
    remote.system_of.cache_clear()


def pulled(url):
    folder = remote.mirror(url, "store")
    remote.pull(url, folder)
    return folder


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


GIB = 2**20  # of kilobytes


# Archives.


def parts_of(content, size):
    """Return an answer that has a file of a claimed size, of which zeros follow the content."""

    def answer(handler):
        wanted = handler.headers.get("Range")
        if not wanted:
            return handler.say(200, b"", {"Content-Length": str(size)})
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, size)
        body = content(start, end)
        return handler.say(206, body, {"Content-Range": f"bytes {start}-{end - 1}/{size}"})

    return answer


def a_zip_whose_list_is_endless(size):
    """Its end says that its list begins at its beginning."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**40, 2**40, size - 98, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, size - 98, 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    tail = record + locator + end

    def content(start, stop):
        assert stop - start < 2**24, "so much of it is asked for at once"
        there = bytearray(stop - start)
        at = size - len(tail)
        for i in range(max(start, at), stop):
            there[i - start] = tail[i - at]
        return bytes(there)

    return content


def test_an_archive_whose_list_is_endless_is_not_asked_for(serve):
    site, size = serve(), 10**15
    site.pages["/n.zip"] = parts_of(a_zip_whose_list_is_endless(size), size)
    before = peak()
    with pytest.raises(DataError, match="would be needed at once, more than of any archive"):
        pulled(f"zip://::{site.url}n.zip")
    assert peak() - before < GIB


def test_a_member_of_an_archive_whose_name_is_endless_is_not_asked_for(serve):
    about = tarfile.TarInfo("x")
    about.type, about.size = tarfile.GNUTYPE_LONGNAME, 2**34
    head = about.tobuf(tarfile.GNU_FORMAT)
    site = serve()
    site.pages["/n.tar"] = parts_of(
        lambda start, end: (head + bytes(2**24))[start : min(end, 2**24)], 2**40
    )
    before = peak()
    with pytest.raises(DataError, match="would be needed at once, more than of any archive"):
        pulled(f"tar://::{site.url}n.tar")
    assert peak() - before < GIB


def test_an_archive_without_end_is_left(serve, monkeypatch):
    monkeypatch.setattr("partsig.data.remote_listing.MOST_FILES", 100)
    head = tarfile.TarInfo("x").tobuf()
    site = serve()

    def content(start, end):
        at = start % 512
        return (head * (2 + (end - start) // 512))[at : at + end - start]

    site.pages["/n.tar"] = parts_of(content, 10**15)
    with pytest.raises(DataError, match=r"cannot be listed|more files than can be recordings"):
        pulled(f"tar://::{site.url}n.tar")


def tarred(members, links=()):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
        for name, target in links:
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.SYMTYPE, target
            archive.addfile(about)
    return held.getvalue()


def test_a_tar_archive_is_read_and_its_links_are_left_out(serve):
    members = {"a/index.csv": b"1", "a/b/c.bin": b"22"}
    site = serve()
    site.pages["/n.tar"] = tarred(members, [("a/link", "/etc/passwd"), ("a/own", "index.csv")])
    folder = pulled(f"tar://a::{site.url}n.tar")
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        *("index.csv", "b/c.bin")
    }


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("where", ["server", "disk"])
def test_an_archive_that_unpacks_all_at_once_is_refused(serve, way, where, tmp_path):
    file = tmp_path / "n.zip"
    with zipfile.ZipFile(file, "w", way) as archive:
        archive.writestr("index.csv", bytes(10**7))
    site = serve()
    site.pages["/n.zip"] = file.read_bytes()
    url = f"zip://::{site.url}n.zip" if where == "server" else f"zip://::{file}"
    with pytest.raises(DataError, match=r"it is packed by (bzip2|lzma); pack it as \.zip files"):
        pulled(url)


def test_damaged_archives_are_one_sentence(serve):
    whole = tarred({"a": b"x" * 2000, "b": b"y"})
    site = serve()
    for place in range(0, 600, 7):
        site.pages["/n.tar"] = whole[:place] + b"\xff" + whole[place + 1 :]
        remote.system_of.cache_clear()
        try:
            pulled(f"tar://::{site.url}n.tar")
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


# Time.


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(pace, "HEAD_S", 0.5)
    monkeypatch.setattr(pace, "WHILE_S", 0.5)


def continuing(handler):
    """Say that it goes on, for ever."""
    try:
        while True:
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    except OSError:
        return


def dripping(begin):
    def answer(handler):
        try:
            handler.wfile.write(begin)
            while True:
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return

    return answer


ENDLESS = {
    "100 Continue": continuing,
    "a status": dripping(b"HTTP/1.1 200 "),
    "headers": dripping(b"HTTP/1.1 200 OK\r\nX: "),
    "a body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "a body without an end": dripping(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
    "chunks": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_server_that_takes_for_ever_is_given_up(serve, hurried, kind):
    site = serve()
    site.pages["/nights/"] = ENDLESS[kind]
    begun = time.monotonic()
    with pytest.raises(DataError, match="it is too slow, and was given up") as caught:
        pulled(f"{site.url}nights")
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="it is too slow"):
        fetch.resume(f"{site.url}nights/", "file", session=web.session())


def test_a_server_that_is_slow_at_times_is_waited_for(serve, hurried):
    def answer(handler):
        handler.say(200, b"", {"Content-Length": "20000"})
        for _ in range(20):
            if handler.command == "GET":
                handler.wfile.write(b"x" * 1000)
                time.sleep(0.1)

    site = serve()
    site.folder("/nights/", "a.bin")
    site.pages["/nights/a.bin"] = answer
    folder = pulled(f"{site.url}nights")
    assert (folder / "a.bin").read_bytes() == b"x" * 20_000


def test_some_bytes_and_an_end_are_not_gone_on_with_for_ever(serve):
    site, asked = serve(), []

    def answer(handler):
        asked.append(handler.headers.get("Range"))
        have = int((asked[-1] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if asked[-1] else 200)
        handler.send_header("Content-Range", f"bytes {have}-999999/1000000")
        handler.send_header("Content-Length", str(1_000_000 - have))
        handler.end_headers()
        handler.wfile.write(b"x" * 10)

    site.pages["/a"] = answer
    with pytest.raises(DataError, match="the connection breaks off, 3 times in a row"):
        fetch.resume(f"{site.url}a", "file", session=web.session(), pauses=(0, 0), limit=10**6)
    assert len(asked) == 3


# One bad file among others.


@pytest.fixture
def nights(write_night, tmp_path, serve, monkeypatch):
    """Three records on a web server: their site and their address."""
    monkeypatch.setattr(remote, "SMALL", 10_000)  # these records are short
    site = serve()
    top = tmp_path / "published"
    for i in (1, 2, 3):
        name = f"tr03-000{i}"
        folder = write_night(top, name, stages=(0, 1, 2, 3, 4)).parent
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        site.folder(f"/raw/{name}/", *files)
        site.pages |= {f"/raw/{name}/{file}": data for file, data in files.items()}
    site.folder("/raw/", "../", *(f"tr03-000{i}/" for i in (1, 2, 3)))
    return site, f"{site.url}raw"


def preprocess(url):
    return partsig.preprocess("physionet2018", url, "store", jobs=1, allow_http=True)


def cut_short(handler):
    body = b"x" * (50 if handler.command == "GET" else 0)
    handler.say(200, body, {"Content-Length": "100"})


BAD = {
    "gone": None,
    "cut short": cut_short,
    "elsewhere": lambda handler: handler.say(302, b"", {"Location": "http://127.0.0.9/x"}),
    "broken": lambda handler: handler.say(500),
    "compressed": lambda handler: handler.say(200, b"x", {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("suffix", ["hea", "arousal"])
@pytest.mark.parametrize("kind", BAD)
def test_one_bad_small_file_costs_one_recording(nights, kind, suffix):
    site, url = nights
    site.pages[f"/raw/tr03-0002/tr03-0002.{suffix}"] = BAD[kind]
    result = preprocess(url)
    assert result.n_recordings == 2
    assert list(result.failed) == ["tr03-0002"]
    assert f"tr03-0002.{suffix} cannot be fetched" in result.failed["tr03-0002"]


@pytest.mark.parametrize(
    ("links", "failed", "told"),
    [
        (["../tr03-0009.hea"], "tr03-0009", "climbs out of its folder: it is not fetched"),
        (["tr03%00.hea"], "tr03_", "has characters that cannot be seen: it is not fetched"),
        (["a%5Cb.hea"], "a_b", "has a backslash: it is not fetched"),
        (["n.hea", "N.hea"], "n", "the same file on some disks: neither is fetched"),
        (["b/x.hea", "c/x.hea"], "x", "has several recordings x; rename all but one"),
    ],
)
def test_a_name_that_may_be_none_costs_one_recording(nights, links, failed, told):
    site, url = nights
    site.folder("/raw/", "../", *(f"tr03-000{i}/" for i in (1, 2, 3)), *links)
    site.pages |= {f"/raw/{link}": b"x" for link in links}
    result = preprocess(url)
    assert result.n_recordings == 3
    assert failed in result.failed
    assert told in result.failed[failed]
    assert not list(Path().glob("tr03-0009*"))


def test_a_bad_table_of_people_costs_their_ages(nights):
    site, url = nights
    site.folder("/raw/", "age-sex.csv", *(f"tr03-000{i}/" for i in (1, 2, 3)))
    site.pages["/raw/age-sex.csv"] = b"Record,Age,Sex\ntr03-0001,\xff,F\n"
    result = preprocess(url)
    assert result.n_recordings == 3
    assert any("age-sex.csv is not a readable table" in note for note in result.notes)
    site.pages["/raw/age-sex.csv"] = BAD["gone"]
    again = preprocess(url)
    assert any("age-sex.csv cannot be fetched (404" in note for note in again.notes)


def test_a_server_that_is_gone_is_not_asked_for_every_file(serve, monkeypatch):
    """Each would be waited for."""
    site, asked = serve(), []
    site.folder("/raw/", *(f"{i}.hea" for i in range(50)))

    def answer(handler):
        if handler.command == "HEAD":
            return handler.say(200, b"", {"Content-Length": "3"})
        asked.append(handler.path)
        return handler.connection.close()

    site.pages |= {f"/raw/{i}.hea": answer for i in range(50)}
    with pytest.raises(DataError, match="cannot be fetched"):
        preprocess(f"{site.url}raw")
    assert len(set(asked)) == remote.MOST_IN_VAIN


def test_a_table_that_is_unreadable_here_costs_ages_too(write_night, tmp_path):
    write_night(tmp_path / "raw", "tr03-0001", stages=(0, 1, 2))
    (tmp_path / "raw" / "age-sex.csv").write_bytes(b"\xff\xfe")
    result = partsig.preprocess("physionet2018", tmp_path / "raw", "store", jobs=1)
    assert result.n_recordings == 1
    assert any("ages and sexes are left out" in note for note in result.notes)
    assert json.loads((result.path / "meta.json").read_text())["format"] == 1
