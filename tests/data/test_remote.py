"""Folders of servers that lie: nothing of theirs leaves its copy, nothing of the user's goes."""

import csv
import io
import json
import os
import shutil
import stat
import subprocess
import time
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from partsig.cli import app
from typer.testing import CliRunner

import partsig
from partsig.data import remote, web
from partsig.data.copies import Copy
from partsig.data.signals.store import open_store
from partsig.data.store import arrays_of, locate
from partsig.errors import ConfigError, DataError

SECRET = "S3cr3tW0rd"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory of the user's, with a file of theirs around it."""
    (tmp_path / "home" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home" / "work")
    (tmp_path / "home" / "x.csv").write_text("the user's own")
    remote.listing.cache_clear()
    remote.system_of.cache_clear()
    return tmp_path / "home"


def all_files(top):
    return {p.relative_to(top).as_posix() for p in Path(top).rglob("*") if p.is_file()}


def copied(folder):
    return {name: (folder / name).read_bytes() for name in all_files(folder)}


def pulled(url):
    folder = remote.mirror(url, "store")
    remote.pull(url, folder)
    return folder


# Names.

CLIMBING = ["../x.csv", "../../../x.csv", "%2e%2e/x.csv", "a/%2E%2E/%2e%2e/x.csv", "..%2fx.csv"]
CLIMBING += [
    "..%5cx.csv",
    "..\\x.csv",
    "%00.csv",
    "a%0a.csv",
    "/nights/%2e%2e/x.csv",
    "x%1b[2J.csv",
]
CLIMBING += ["{url}nights/%2e%2e/x.csv", "./../x.csv", "a//../../../x.csv"]


@pytest.mark.parametrize("link", CLIMBING)
@pytest.mark.parametrize("answer", [b"recording\nevil\n", None])
def test_a_listing_that_climbs_is_refused(serve, elsewhere, link, answer):
    """Also where the server then says that there is no such file."""
    site = serve()
    site.folder("/nights/", link.format(url=site.url), "meta.json")
    site.pages |= {"/nights/meta.json": b"{}"}
    if answer is not None:
        site.pages |= dict.fromkeys(("/x.csv", "/nights/x.csv", "/nights/../x.csv"), answer)
    before = all_files(elsewhere)
    with pytest.raises(DataError) as caught:
        locate(f"{site.url}nights", allow_http=True)
    assert str(caught.value).isprintable()
    assert all_files(elsewhere) == before
    with pytest.raises(DataError, match="no recordings in") as caught:
        partsig.preprocess(
            "edf", f"{site.url}nights", "store", allow_http=True, overrides={"channels": ["a"]}
        )
    assert str(caught.value).isprintable()
    come = {name for name in all_files(elsewhere) - before if ".copied/" not in name}
    assert {Path(name).name for name in come} == {"meta.json"}  # the one that has a name
    assert (elsewhere / "x.csv").read_text() == "the user's own"


@pytest.mark.parametrize(
    "link",
    [
        "/x.csv",
        "//127.0.0.1:9/nights/x.csv",
        "http://127.0.0.1:9/nights/x.csv",
        "https://host/nights/x.csv",
        "ftp://host/x.csv",
        "file:///x.csv",
        "C:/x.csv",
        "mailto:x.csv",
        "javascript:x.csv",
        "x.csv?C=N;O=D",
        "x.csv?../../x.csv",
        "x.csv#a",
        "http://[::1/x.csv",
        "../",
        "../../",
        "/",
        ".",
        "",
        "?C=M",
        "%2e%2e/",
    ],
)
def test_what_is_no_file_of_the_folder_is_not_fetched(serve, elsewhere, link):
    site, other = serve(), serve()
    link = link.replace("127.0.0.1:9", other.url.split("/")[2])
    site.folder("/nights/", link, "meta.json")
    site.pages |= dict.fromkeys(("/x.csv", "/nights/x.csv"), b"recording\nevil\n")
    site.pages |= {"/nights/meta.json": b"{}", "/": b"", "/nights/../": b""}
    folder = pulled(f"{site.url}nights")
    assert copied(folder) == {"meta.json": b"{}"}
    assert other.asked == []
    assert set(site.paths) == {"/nights/", "/nights/meta.json"}


def test_usual_listings_are_read(serve):
    site = serve()
    site.folder("/a b/", "../", "?C=N;O=D", "./x%20y.csv", "/a%20b/deep/", "z%C3%A4.bin", "n+1.bin")
    site.folder("/a b/deep/", "../", "q.bin")
    site.pages = {path.replace(" ", "%20"): page for path, page in site.pages.items()}
    contents = {"x%20y.csv": b"1", "deep/q.bin": b"22", "z%C3%A4.bin": b"333", "n+1.bin": b"4"}
    site.pages |= {f"/a%20b/{name}": data for name, data in contents.items()}
    assert pulled(f"{site.url}a%20b/") == remote.mirror(f"{site.url}a%20b", "store")
    folder = pulled(f"{site.url}a%20b")
    assert copied(folder) == {
        "x y.csv": b"1",
        "deep/q.bin": b"22",
        "zä.bin": b"333",
        "n+1.bin": b"4",
    }


@pytest.mark.parametrize("names", [("a.EDF", "a.edf"), ("n\u00e4.edf", "na\u0308.edf")])
def test_names_that_are_one_file_elsewhere_are_refused(names):
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name in names:
        system.pipe_file(f"/bucket/nights/{name}", b"x")
    with pytest.raises(DataError, match="the same file on some disks"):
        pulled("memory://bucket/nights")


class Evil(fsspec.AbstractFileSystem):
    """An object store whose keys are whatever was put there, as those of S3 are."""

    protocol = "evil"
    cachable = False
    keys = ()

    def find(self, path, **options):
        return {key: {"name": key, "size": 3, "type": "file"} for key in self.keys}

    def get_file(self, rpath, lpath, **options):
        Path(lpath).write_bytes(b"abc")


@pytest.mark.parametrize(
    "key",
    [
        "bucket/nights/../../../../x.csv",
        "bucket/nights//etc/x.csv",
        "bucket/other/x.csv",
        "bucket/nightsx.csv",
        "/x.csv",
        "x.csv",
        "bucket/nights/..",
        "bucket/nights/a\\..\\x.csv",
        "bucket/nights/C:x.csv",
        "bucket/nights/x\0.csv",
        "bucket/nights",
    ],
)
def test_keys_of_an_object_store_stay_below_the_copy(elsewhere, monkeypatch, key):
    fsspec.register_implementation("evil", Evil, clobber=True)
    monkeypatch.setattr(Evil, "keys", ("bucket/nights/good.csv", key))
    before = all_files(elsewhere)
    with pytest.raises(DataError):
        pulled("evil://bucket/nights")
    assert all_files(elsewhere) == before


def zipped(path, members, link=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        if link:
            about = zipfile.ZipInfo("link.csv")
            about.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(about, link)
    return path


def test_names_at_the_root_of_an_archive_are_whole(elsewhere, serve):
    members = {"index.csv": b"1", "a/b.bin": b"22"}
    file = zipped(elsewhere / "n.zip", members)
    assert copied(pulled(f"zip://::{file}")) == members
    assert copied(pulled(f"zip://::file://{file}")) == members
    assert copied(pulled(f"zip://a::{file}")) == {"b.bin": b"22"}
    site = serve()
    site.pages["/n.zip"] = file.read_bytes()
    assert copied(pulled(f"zip://::{site.url}n.zip")) == members
    assert copied(pulled(f"zip://a::{site.url}n.zip")) == {"b.bin": b"22"}


@pytest.mark.parametrize("name", ["../../x.csv", "a/../../../x.csv", "..\\x.csv", "a/./x.csv"])
def test_members_of_an_archive_stay_below_the_copy(elsewhere, name):
    file = zipped(elsewhere / "n.zip", {"index.csv": b"1", name: b"evil"})
    before = all_files(elsewhere)
    with pytest.raises(DataError):
        pulled(f"zip://::{file}")
    assert all_files(elsewhere) == before


@pytest.mark.parametrize("name", ["/etc/x.csv", "/x.csv"])
def test_absolute_members_of_an_archive_stay_below_the_copy(elsewhere, name):
    file = zipped(elsewhere / "n.zip", {"index.csv": b"1", name: b"evil"})
    before = all_files(elsewhere)
    try:
        folder = pulled(f"zip://::{file}")
    except DataError:
        assert all_files(elsewhere) == before
    else:
        assert all(folder.resolve() in p.resolve().parents for p in folder.rglob("*"))


def test_a_link_in_an_archive_is_no_link_here(elsewhere):
    file = zipped(elsewhere / "n.zip", {"index.csv": b"1"}, link=str(elsewhere / "x.csv"))
    folder = pulled(f"zip://::{file}")
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert b"the user's own" not in copied(folder).values()


def test_a_file_is_no_folder(serve, elsewhere):
    (elsewhere / "one.edf").write_bytes(b"x")
    with pytest.raises(DataError, match="is a file, and a folder is needed"):
        pulled(f"file://{elsewhere / 'one.edf'}")


# What comes.


@pytest.mark.parametrize("what", ["chunked", "closed", "announced", "head"])
def test_more_than_was_announced_is_cut_off(serve, what):
    site = serve()
    site.folder("/nights/", "a.bin")

    def more(handler):
        if handler.command == "HEAD":
            told = str(10**15) if what == "announced" else "100"
            return handler.say(200, b"", {"Content-Length": told})
        if what == "closed":
            return site.endless(handler)
        if what == "announced":
            return handler.say(200, b"x" * 100, {"Content-Length": str(10**15)})
        if what == "head":
            return handler.say(200, b"x" * 101)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            return None

    site.pages["/nights/a.bin"] = more
    with pytest.raises(DataError, match=r"a\.bin cannot be fetched"):
        pulled(f"{site.url}nights")
    assert all_files("data") == set()


def test_what_has_no_size_and_no_end_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr(web, "PAGE_BYTES", 2**20)
    site = serve()
    site.folder("/nights/", "a.bin")
    site.pages["/nights/a.bin"] = site.endless
    with pytest.raises(DataError, match=r"a\.bin cannot be fetched \(.*cut off"):
        pulled(f"{site.url}nights")
    site.pages["/nights/"] = site.endless
    with pytest.raises(DataError, match="there should be; it was cut off"):
        pulled(f"{site.url}nights")
    assert all_files("data") == set()


def test_folders_without_end_are_refused(serve, monkeypatch):
    site = serve()
    for depth in range(40):
        site.folder("/nights/" + "a/" * depth, "a/")
    with pytest.raises(DataError, match="folders within folders"):
        pulled(f"{site.url}nights")
    monkeypatch.setattr(web, "MOST_FILES", 10)
    site.folder("/nights/", *(f"{i}.bin" for i in range(11)))
    with pytest.raises(DataError, match="more folders or files than can be recordings"):
        pulled(f"{site.url}nights")


def test_less_than_was_announced_is_no_file(serve):
    site = serve()
    site.folder("/nights/", "a.bin")

    def less(handler):
        handler.say(200, b"x" * (50 if handler.command == "GET" else 0), {"Content-Length": "100"})

    site.pages["/nights/a.bin"] = less
    with pytest.raises(DataError, match=r"a\.bin cannot be fetched"):
        pulled(f"{site.url}nights")
    assert all_files("data") == set()


def test_compressed_unasked_is_refused(serve):
    site = serve()
    site.folder("/nights/", "a.bin")
    site.pages["/nights/a.bin"] = lambda h: h.say(200, b"x", {"Content-Encoding": "gzip"})
    with pytest.raises(DataError, match="the server sends it compressed, unasked"):
        pulled(f"{site.url}nights")


@pytest.mark.parametrize("what", ["/nights/", "/nights/a.bin"])
@pytest.mark.parametrize(
    "target", ["{other}nights/a.bin", "//{place}/nights/", "ftp://h/a", "http://[::1/", "file:///a"]
)
def test_a_redirect_to_elsewhere_is_not_followed(serve, what, target):
    site, other = serve(), serve()
    site.files("/nights/", a_bin=b"x")
    other.files("/nights/", a_bin=b"evil")
    place = other.url.split("/")[2]
    site.pages[what] = site.sends_to(target.format(other=other.url, place=place))
    with pytest.raises(DataError, match="which is not followed; pass that address itself"):
        pulled(f"{site.url}nights")
    assert other.asked == []
    assert all_files("data") == set()


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that nobody has signed, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    file = tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-keyout", str(file), "-out", str(tmp_path / "public.pem")]
    subprocess.run(words, check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "public.pem").read_text())
    return file


def test_https_needs_no_word_and_does_not_lead_to_http(serve, certificate, monkeypatch):
    safe, plain = serve(certificate), serve()
    safe.files("/nights/", a_bin=b"x", index_csv=b"")
    plain.files("/nights/", a_bin=b"evil", index_csv=b"")
    url = f"{safe.url}nights"
    with pytest.raises(DataError, match="certificate verify failed"):
        locate(url)
    assert safe.asked == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name("public.pem")))
    assert copied(locate(url)) == {"a.bin": b"x", "index.csv": b""}
    for path in ("/nights/", "/nights/a.bin", "/nights/index.csv"):
        for target in (f"{plain.url}{path[1:]}", f"http://{url.split('/')[2]}{path}"):
            kept, safe.pages[path] = safe.pages[path], safe.sends_to(target)
            for allowed in (False, True):
                with pytest.raises(DataError, match="which is not followed"):
                    locate(url, allow_http=allowed)
            safe.pages[path] = kept
    assert plain.asked == []


def test_what_comes_with_a_redirect_is_not_read(serve):
    site = serve()
    site.files("/real/", a_bin=b"x")

    def endless_redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", "/real/")
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            return

    site.pages["/nights/"] = endless_redirect
    site.pages["/nights/a.bin"] = site.pages["/real/a.bin"]
    assert copied(pulled(f"{site.url}nights")) == {"a.bin": b"x"}


def test_a_redirect_to_its_own_is_followed_and_no_circle(serve):
    site = serve()
    site.files("/real/", a_bin=b"x")
    site.pages["/nights/"] = site.sends_to("/real/")
    site.pages["/nights/a.bin"] = site.sends_to("../real/a.bin")
    place = site.url.split("/")[2]
    folder = pulled(f"http://me:{SECRET}@{place}/nights")
    assert copied(folder) == {"a.bin": b"x"}
    assert None not in site.logins
    site.pages["/nights/"] = site.sends_to("/nights/")
    with pytest.raises(DataError, match="sends in circles"):
        pulled(f"{site.url}nights")


@pytest.mark.parametrize(
    ("url", "location", "follows"),
    [
        ("https://h/a", "http://h/a", False),
        ("https://h/a", "/b", True),
        ("https://h/a", "https://h:443/b", True),
        ("https://h/a", "https://h:444/b", False),
        ("https://h/a", "https://h.evil/b", False),
        ("https://h/a", "https://h@evil/b", False),
        ("https://h/a", "https://evil/h", False),
        ("https://h/a", "//evil/a", False),
        ("https://h/a", "\\\\evil\\a", True),
        ("http://h/a", "https://h/a", True),
        ("http://h:81/a", "https://h/a", False),
        ("http://127.0.0.1/a", "http://localhost/a", False),
    ],
)
def test_who_sends_to_another_server_or_out_of_https_is_not_followed(url, location, follows):
    target = web._target(url, location)
    assert (target is not None) == follows
    if follows:
        assert web.urlsplit(target).hostname == web.urlsplit(url).hostname


def test_a_login_is_told_to_the_server_it_is_for():
    assert web._target("https://me:word@h/a", "/b") == "https://me:word@h/b"
    assert web._target("https://h/a", "https://evil:word@h/b") == "https://h/b"


# What is here.


def test_two_addresses_with_the_same_last_part_have_a_copy_each(serve):
    one, two = serve(), serve()
    one.files("/a/nights/", a_bin=b"of one, a", index_csv=b"1")
    one.files("/b/nights/", a_bin=b"of one, b", index_csv=b"2")
    two.files("/a/nights/", a_bin=b"of two, a", index_csv=b"3")
    urls = [f"{one.url}a/nights", f"{one.url}b/nights", f"{two.url}a/nights"]
    urls.append(f"{one.url}a/nights?x=1")
    folders = [pulled(url) for url in urls]
    assert len(set(folders)) == 4
    found = [(folder / "a.bin").read_bytes() for folder in folders]
    assert found == [b"of one, a", b"of one, b", b"of two, a", b"of one, a"]


@pytest.mark.parametrize("etags", [True, False])
def test_content_that_changed_is_fetched_though_its_size_did_not(serve, etags):
    site = serve()
    site.etags = etags
    site.files("/nights/", a_bin=b"old bytes", b_bin=b"the same")
    folder = pulled(f"{site.url}nights")
    times = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    site.files("/nights/", a_bin=b"new bytes", b_bin=b"the same")
    site.asked.clear()
    pulled(f"{site.url}nights")
    assert copied(folder) == {"a.bin": b"new bytes", "b.bin": b"the same"}
    fetched = {path for method, path in site.asked if method == "GET"}
    assert ("/nights/b.bin" in fetched) == (not etags)
    assert (times["b.bin"] == (folder / "b.bin").stat().st_mtime_ns) == etags


def test_a_copy_that_was_changed_here_is_fetched_anew(serve):
    site = serve()
    site.etags = True
    site.files("/nights/", a_bin=b"as it is")
    folder = pulled(f"{site.url}nights")
    (folder / "a.bin").write_bytes(b"tampered")
    pulled(f"{site.url}nights")
    assert copied(folder) == {"a.bin": b"as it is"}


def test_a_weak_etag_is_no_proof(serve):
    site = serve()
    site.folder("/nights/", "a.bin")
    for content in (b"one", b"two"):
        site.pages["/nights/a.bin"] = lambda h, c=content: h.say(200, c, {"ETag": 'W/"1"'})
        assert copied(pulled(f"{site.url}nights")) == {"a.bin": content}


def test_a_404_takes_nothing_away(serve):
    site = serve()
    site.files("/nights/", index_csv=b"recording\n", a_bin=b"x")
    folder = pulled(f"{site.url}nights")
    del site.pages["/nights/index.csv"]
    with pytest.raises(DataError, match=r"index\.csv cannot be fetched \(404"):
        pulled(f"{site.url}nights")
    assert copied(folder) == {"index.csv": b"recording\n", "a.bin": b"x"}


def test_a_folder_of_the_users_is_not_taken_for_a_copy(serve):
    site = serve()
    site.files("/nights/", index_csv=b"theirs", a_bin=b"theirs")
    url = f"{site.url}nights"
    mine = remote.mirror(url, "store")
    mine.mkdir(parents=True)
    (mine / "index.csv").write_bytes(b"mine")
    with pytest.raises(DataError, match="it has files that were not copied from there: move it"):
        pulled(url)
    assert copied(mine) == {"index.csv": b"mine"}


@pytest.fixture
def nights(write_night, tmp_path, serve, monkeypatch):
    """Two records on a web server: their site and their address."""
    monkeypatch.setattr(remote, "SMALL", 10_000)  # these records are short
    site = serve()
    top = tmp_path / "published"
    for name in ("tr03-0001", "tr03-0002"):
        folder = write_night(top, name, stages=(0, 1, 2, 3, 4)).parent
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        site.folder(f"/raw/{name}/", *files)
        site.pages |= {f"/raw/{name}/{file}": data for file, data in files.items()}
    site.folder("/raw/", "../", "tr03-0001/", "tr03-0002/")
    return site, f"{site.url}raw"


def preprocess(url, store="store", **options):
    given = {"jobs": 1, "allow_http": True} | options
    return partsig.preprocess("physionet2018", url, store, **given)


def test_recordings_of_a_web_server_come_one_by_one_and_go_again(nights, tmp_path):
    _, url = nights
    assert preprocess(url).n_recordings == 2
    here = preprocess(tmp_path / "published", "other")
    names = [f"{kind}/tr03-000{i}.npy" for i in (1, 2) for kind in ("signals", "labels")]
    for name in names:
        assert Path("store", name).read_bytes() == (here.path / name).read_bytes()
    assert {Path(name).suffix for name in all_files("data/raw")} <= {".hea", ".arousal", ".json"}


def test_the_users_own_recordings_are_not_touched(nights):
    """A file of theirs where the copy goes, of the same name and size: not used, not deleted."""
    site, url = nights
    folder = remote.mirror(url, "raw")
    remote.pull_small(url, folder, "a call")
    size = len(site.pages["/raw/tr03-0001/tr03-0001.mat"])
    own = folder / "tr03-0001" / "tr03-0001.mat"
    own.write_bytes(b"m" * size)
    result = preprocess(url)
    assert result.n_recordings == 1
    assert "was not fetched from" in result.failed["tr03-0001"]
    assert own.read_bytes() == b"m" * size


def test_a_folder_named_by_file_is_left_as_it_is(write_night, elsewhere):
    """Where it lies just where copies lie, too."""
    raw = elsewhere / "work" / "data" / "raw" / "nights"
    write_night(raw, "tr03-0001", stages=(0, 1))
    before = {name: (raw / name).stat().st_mtime_ns for name in all_files(raw)}
    assert preprocess(f"file://{raw}").n_recordings == 1
    assert preprocess(f"file://{raw}", "second").n_recordings == 1
    assert {name: (raw / name).stat().st_mtime_ns for name in all_files(raw)} == before


def test_a_recording_that_is_said_to_be_huge_is_skipped(nights):
    site, url = nights
    site.pages["/raw/tr03-0001/tr03-0001.mat"] = lambda handler: handler.say(
        200, b"", {"Content-Length": str(10**16)}
    )
    result = preprocess(url)
    assert result.n_recordings == 1
    assert "more than there is room for" in result.failed["tr03-0001"]


# Stores, and what their index says.


def test_the_index_decides_what_a_recording_is(nights, serve):
    made = preprocess(nights[1]).path
    site = serve()
    for etags in (False, True):
        site.etags = etags
        site.folder("/s/", *(name for name in sorted(all_files(made))))
        site.pages |= {f"/s/{name}": (made / name).read_bytes() for name in all_files(made)}
        folder = locate(f"{site.url}s", allow_http=True)
        assert copied(folder) == copied(made)
        assert set(arrays_of(folder)) == {f"signals/tr03-000{i}.npy" for i in (1, 2)}
        site.asked.clear()
        locate(f"{site.url}s", allow_http=True)
        again = {path for method, path in site.asked if method == "GET"}
        assert not [path for path in again if "signals" in path]
        name = "signals/tr03-0001.npy"
        array = np.load(made / name)
        array[0, 5] += 1
        changed = io.BytesIO()
        np.save(changed, array)
        site.pages[f"/s/{name}"] = changed.getvalue()
        shutil.rmtree("data")
        with pytest.raises(DataError, match=r"tr03-0001\.npy is not what its index\.csv says"):
            locate(f"{site.url}s", allow_http=True)
        shutil.rmtree("data")


def test_an_index_whose_names_climb_leads_nowhere(nights, serve, elsewhere):
    made = preprocess(nights[1]).path
    np.save(elsewhere / "mine.npy", np.zeros(3))
    with open(made / "index.csv", newline="") as handle:
        rows = list(csv.reader(handle))
    for row in rows[1:]:
        row[0] = "../../../../mine"
    with open(made / "index.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    site = serve()
    site.folder("/s/", *all_files(made))
    site.pages |= {f"/s/{name}": (made / name).read_bytes() for name in all_files(made)}
    before = (elsewhere / "mine.npy").read_bytes()
    folder = locate(f"{site.url}s", allow_http=True)
    assert (elsewhere / "mine.npy").read_bytes() == before
    with pytest.raises(DataError, match="which no file is called"):
        open_store(folder)


def test_web_servers_are_not_written_to(nights):
    site, url = nights
    site.asked.clear()
    with pytest.raises(ConfigError, match="folders of web servers can only be read"):
        preprocess(url, url)
    assert site.asked == []


# Words of the user, and words that are theirs alone.


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate", "embed", "inspect", "report"])
def test_plain_http_is_allowed_by_name(serve, verb, stager_run, encoder_run):
    site = serve()
    run = stager_run if verb in ("evaluate", "report") else encoder_run
    named = {"pretrain": [], "finetune": ["--from", str(run)]}.get(verb, ["--run", str(run)])
    done = CliRunner().invoke(app, [verb, *named, "--store", f"{site.url}s"])
    assert done.exit_code == 2
    assert done.stderr.endswith("pass --allow-http (allow_http=True) if you trust the way.\n")
    assert site.asked == []
    done = CliRunner().invoke(app, [verb, *named, "--store", f"{site.url}s", "--allow-http"])
    assert done.exit_code == 2
    assert "cannot be listed (404 Client Error" in done.stderr
    assert site.asked != []


def test_preprocess_needs_the_word_too(nights):
    site, url = nights
    words = ["preprocess", "physionet2018", "--raw", url, "--store", "store"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "pass --allow-http" in done.stderr
    assert site.asked == []
    done = CliRunner().invoke(app, [*words, "--allow-http", "--jobs", "1"])
    assert done.exit_code == 0, done.output


def leaks(top, *texts):
    found = [text for text in texts if SECRET in text]
    for path in Path(top).rglob("*"):
        found += [str(path)] if SECRET in str(path) else []
        if path.is_file() and SECRET.encode() in path.read_bytes():
            found.append(f"in {path}")
    return found


def told(error):
    """All that an exception says, and those that it came from."""
    said = []
    while error is not None:
        said += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return said


WAYS = {
    "login": lambda site, path: f"http://me:{SECRET}@{site.url[7:]}{path}",
    "token": lambda site, path: f"{site.url}{path}?token={SECRET}",
    "amazon": lambda site, path: f"{site.url}{path}?X-Amz-Credential=k&X-Amz-Signature={SECRET}",
    "azure": lambda site, path: f"{site.url}{path}/?sv=2024&se=2030&sig={SECRET}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_told_to_the_server_and_nobody_else(nights, way, elsewhere):
    site, _ = nights
    url = WAYS[way](site, "raw")
    site.pages["/raw/tr03-0002/tr03-0002.mat"] = lambda handler: handler.say(500)
    site.asked.clear()
    site.logins.clear()
    words = ["preprocess", "physionet2018", "--raw", url, "--allow-http", "--jobs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "skipped tr03-0002: " in done.stderr
    assert leaks(elsewhere, done.output, done.stderr) == []
    if way == "login":
        assert None not in site.logins
    else:
        assert all(SECRET in path for _, path in site.asked)
    shutil.rmtree("data")
    for gone in ("/raw/", "/raw/tr03-0001/tr03-0001.hea"):
        for answer in (
            lambda handler: handler.say(401),
            lambda handler: handler.connection.close(),
            site.sends_to(f"http://127.0.0.1:9/?token={SECRET}"),
            site.sends_to(f"http://me:{SECRET}@127.0.0.1:9/"),
        ):
            kept, site.pages[gone] = site.pages[gone], answer
            for call in (
                lambda: preprocess(url),
                lambda: locate(url, allow_http=True),
                lambda: locate(url),
            ):
                with pytest.raises((DataError, ConfigError)) as caught:
                    call()
                assert leaks(elsewhere, *told(caught.value)) == []
            site.pages[gone] = kept


def test_a_store_fetched_with_a_secret_is_remembered_without(nights, serve, elsewhere):
    made = preprocess(nights[1]).path
    site = serve()
    site.folder("/s/", *all_files(made))
    site.pages |= {f"/s/{name}": (made / name).read_bytes() for name in all_files(made)}
    small = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
    small |= {"fit.batch_size": 4, "windows_per_epoch": 4, "optim.warmup_epochs": 0}
    small |= {"window_s": 5, "objective.patches": 5, "split.monitor_subjects": 0}
    url = WAYS["token"](site, "s")
    words = ["pretrain", "--store", url, "--allow-http", "--run", "run", "--gpus", "0"]
    for key, value in small.items():
        words += ["--set", f"{key}={value}"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert leaks(elsewhere, done.output, done.stderr) == []
    place = json.loads(Path("run/run.json").read_text())["store"]
    assert open_store(Path(place)).meta == open_store(made).meta
    # Its store is at hand, so that nothing is asked.
    site.asked.clear()
    done = CliRunner().invoke(app, ["embed", "--run", "run"])
    assert done.exit_code == 0, done.output
    assert site.asked == []


def test_what_holds_an_address_does_not_show_it():
    from partsig.data.signals.parallel import Storage

    url = f"https://me:{SECRET}@host/nights?token={SECRET}"
    storage = Storage(raw=url, store=url)
    system = web.Web(url)
    there = remote.Listing(url, system, "", {}, {})
    assert leaks(".", repr(storage), repr(there), repr(Copy(url, Path("a")))) == []


# A run's own store.


@pytest.mark.parametrize("verb", ["evaluate", "embed", "report", "inspect", "finetune", "compare"])
@pytest.mark.parametrize(
    "recorded", ["{url}s", "http:/{place}/s", "http://me:" + SECRET + "@{place}/s?token=" + SECRET]
)
def test_a_recorded_address_is_not_followed(
    serve, verb, recorded, stager_run, encoder_run, elsewhere
):
    site = serve()
    site.files("/s/", meta_json=b"{}", index_csv=b"")
    run = Path("run")
    made = stager_run if verb in ("evaluate", "report", "compare") else encoder_run
    shutil.copytree(made, run)
    facts = json.loads((run / "run.json").read_text())
    facts["store"] = recorded.format(url=site.url, place=site.url.split("/")[2])
    (run / "run.json").write_text(json.dumps(facts))
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    named = {"finetune": ["--from", "run", "--run", "new"], "compare": ["run"]}
    words = named.get(verb, ["--run", "run"])
    for more in ([], ["--allow-http"] if verb != "compare" else []):
        done = CliRunner().invoke(app, [verb, *words, *more])
        assert done.exit_code == 2, done.output
        assert "addresses that stand in a file are not followed: pass --store." in done.stderr
        assert SECRET not in done.output + done.stderr
        assert done.stderr.count("\n") == 1
        assert site.asked == []
    assert not os.path.exists("data")


def test_a_store_that_the_user_names_is_used_instead(stager_run, sample_store, serve):
    site = serve()
    run = Path("run")
    shutil.copytree(stager_run, run)
    facts = json.loads((run / "run.json").read_text())
    facts["store"] = f"{site.url}s"
    (run / "run.json").write_text(json.dumps(facts))
    words = ["evaluate", "--run", "run", "--store", str(sample_store), "--no-figures"]
    done = CliRunner().invoke(app, words)
    assert "addresses that stand in a file" not in done.stderr
    assert site.asked == []


# Pages of all kinds.


@pytest.mark.parametrize(
    "piece",
    ["<a ", "<a href", "<a href=", '<a href="', "<!--", "<![CDATA[", "<a href=x", "&amp", "a"],
)
def test_no_page_takes_longer_than_it_is_long(piece):
    page = piece * (2**21 // len(piece))
    began = time.process_time()
    web.links_of(page, "https://host/nights/")
    assert time.process_time() - began < 10


def test_links_are_found_however_they_are_written():
    page = "<A class='x' HREF='a.bin'>a</A><a href=b.bin>b</a>"
    page += '\n<a\n title="q" href = "c&amp;d.bin">'
    page += "<link href='e.bin'><img src='f.bin'><abbr href='g.bin'>"
    assert web.links_of(page, "https://host/n/") == ["a.bin", "b.bin", "c&d.bin"]


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-1", "1e9", " ", "abc"])
def test_a_length_that_is_no_number_is_none(serve, length):
    site = serve()
    site.folder("/nights/", "a.bin")
    site.pages["/nights/a.bin"] = lambda handler: handler.say(200, b"x", {"Content-Length": length})
    # It is refused, or read to its end; never is it an error of another kind.
    try:
        found = copied(pulled(f"{site.url}nights"))
    except DataError:
        found = {}
    assert found in ({}, {"a.bin": b"x"})
