"""Download from a server of our own that drops, truncates, lies, refuses and remembers."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from partsig.cli import app
from typer.testing import CliRunner

import partsig
from partsig.data import fetch, transfer
from partsig.data.fetch import part_of
from partsig.data.signals.readers import physionet2018, physionet2018_index
from partsig.errors import ConfigError, DataError, DiskFullError
from partsig.verbs.download import download as download_any

TRAINING = ("tr03-0001", "tr03-0002", "tr04-0001")
TEST = ("te03-0001", "te04-0001")
ENDS = {"training": (".hea", ".mat", ".arousal", "-arousal.mat"), "test": (".hea", ".mat")}
DATA = [f"training/{r}/{r}{end}" for r in TRAINING for end in ENDS["training"]]
DATA += [f"test/{r}/{r}{end}" for r in TEST for end in ENDS["test"]]
MAT = "training/tr03-0002/tr03-0002.mat"


def download(source="physionet2018", raw=None, **options):
    """From the tiny challenge, whose checksums nobody has published."""
    return download_any(source, raw, **({"allow_http": True, "trust_mirror": True} | options))


class Handler(BaseHTTPRequestHandler):
    """Serves files with Range; each GET takes the first of the path's faults, "always" stays."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer("HEAD")

    def do_GET(self):
        self.answer("GET")

    def answer(self, method):
        site, name = self.server.site, self.path.lstrip("/")
        entry = {"method": method, "name": name, "range": self.headers.get("Range"), "sent": 0}
        entry["agent"] = self.headers["User-Agent"]
        site.log.append(entry)
        faults = site.faults.get(name, []) if method == "GET" else []
        fault = faults[0] if faults else None
        if fault and faults[-1] != "always":
            faults.pop(0)
        file = site.root / name
        if fault in ("503", "404") or not file.is_file():
            self.send_response(int(fault or 404))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, start, status = file.read_bytes(), 0, 200
        size = len(body)
        if fault == "flip":
            body = body[: size // 2] + bytes([body[size // 2] ^ 1]) + body[size // 2 + 1 :]
        if entry["range"] and site.ranges:
            start = int(entry["range"].removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < size else 416
            start = 0 if fault == "other part" else start
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        body = b"" if status == 416 else body[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method == "HEAD":
            return
        if fault in ("drop", "truncate"):
            body = body[: len(body) // 2]
            self.close_connection = True
        try:
            for at in range(0, len(body), site.chunk):
                self.wfile.write(body[at : at + site.chunk])
                entry["sent"] += len(body[at : at + site.chunk])
                time.sleep(site.slow_s)
        except OSError:
            self.close_connection = True
        if fault == "drop":  # a reset, not an end
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture(scope="session")
def challenge(tmp_path_factory):
    """The folder of a tiny challenge: five records of 600 kB, lists, ages and sexes."""
    root = tmp_path_factory.mktemp("challenge")
    rng = np.random.default_rng(0)
    for part, names in (("training", TRAINING), ("test", TEST)):
        for name in names:
            signal_ = rng.integers(-500, 500, (6, 50_000), dtype=np.int16)
            stages = np.array([0, 1, 2, 3, 4, 0, 1, 2]) if part == "training" else None
            folder = root / part / name
            physionet2018.write_recording(
                folder, name, signal_, physionet2018.CHANNELS, 200, stages=stages
            )
            if part == "training":
                (folder / f"{name}-arousal.mat").write_bytes(rng.bytes(5_000))
        sums = ["db7eb4f7c0d699ad983951d4921f4754d32e91fc  RECORDS"]
        for path in sorted((root / part).rglob("*.*")):
            digits = hashlib.sha1(path.read_bytes()).hexdigest()
            sums.append(f"{digits}  {path.relative_to(root / part)}")
        (root / f"{part}_SHA1SUMS").write_text("\n".join(sums) + "\n")
    rows = [f"{name},F,{50 + n}" for n, name in enumerate((*TEST, *TRAINING))]
    (root / "age-sex.csv").write_text("\n".join(["Record,Sex,Age", *rows]) + "\n")
    return root


@pytest.fixture
def site(challenge, monkeypatch):
    """A running server of the challenge: its url, log and faults."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSES_S", (0.01, 0.02, 0.03, 0.04))
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a slow disk is not under test
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = SimpleNamespace(
        root=challenge, log=[], faults={}, ranges=True, slow_s=0.0, chunk=1 << 20
    )
    server.site.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.site
    server.shutdown()
    thread.join()
    server.server_close()


def gets(site, names=DATA):
    return [entry for entry in site.log if entry["method"] == "GET" and entry["name"] in names]


def whole(raw, root, names=DATA):
    return [name for name in names if (raw / name).read_bytes() == (root / name).read_bytes()]


def there(raw):
    """The data files below ``raw``, the half-fetched ones too."""
    found = (path for part in ("training", "test") for path in (raw / part).rglob("*"))
    return sorted(str(path.relative_to(raw)) for path in found if path.is_file())


def run(*words):
    return CliRunner().invoke(app, ["download", *words, "--allow-http", "--trust-mirror"])


def test_all_that_is_published_comes(site, tmp_path):
    found = download(raw=tmp_path / "raw", mirror=site.url)
    raw = found.path
    assert (found.n_records, found.failed) == (5, {})
    assert found.n_bytes == sum((site.root / name).stat().st_size for name in DATA)
    small = ["training_SHA1SUMS", "test_SHA1SUMS", "age-sex.csv"]
    assert whole(raw, site.root, DATA + small) == DATA + small
    assert there(raw) == sorted(DATA)
    assert {entry["agent"] for entry in site.log} == {f"partsig/{partsig.__version__}"}
    # preprocess finds them, and the header is the last of each record's files.
    assert [path.stem for path in physionet2018.find_records(raw)] == sorted(TRAINING + TEST)
    for name in TRAINING:
        order = [entry["name"] for entry in gets(site) if name in entry["name"]]
        assert order[-1].endswith(".hea")


def test_a_second_call_fetches_nothing(site, tmp_path):
    download(raw=tmp_path, mirror=site.url)
    site.log.clear()
    found = download(raw=tmp_path, mirror=site.url)
    assert (found.n_records, found.n_bytes, site.log) == (5, 0, [])


def test_files_that_were_there_are_hashed_once(site, tmp_path, monkeypatch):
    shutil.copytree(site.root, tmp_path, dirs_exist_ok=True)
    damaged = bytearray((tmp_path / MAT).read_bytes())
    damaged[1000] ^= 1
    (tmp_path / MAT).write_bytes(damaged)
    found = download(raw=tmp_path, mirror=site.url)
    assert [entry["name"] for entry in gets(site)] == [MAT]
    assert found.failed == {}
    assert whole(tmp_path, site.root) == DATA

    def hashed(*args):
        raise AssertionError("a verified file was read again")

    monkeypatch.setattr(fetch.pooch, "file_hash", hashed)
    assert download(raw=tmp_path, mirror=site.url).n_records == 5
    remembered = json.loads((tmp_path / ".verified.json").read_text())
    assert sorted(remembered) == sorted(DATA)


@pytest.mark.parametrize("fault", ["drop", "truncate"])
def test_an_answer_cut_short_is_continued(site, tmp_path, fault):
    site.faults[MAT] = [fault, "503", fault]
    found = download(raw=tmp_path, mirror=site.url, records="tr03-0002")
    assert found.failed == {}
    assert whole(tmp_path, site.root, [n for n in DATA if "tr03-0002" in n]).count(MAT) == 1
    first, busy, second, third = gets(site, [MAT])
    assert first["range"] is None
    assert busy["range"] == second["range"]
    size = (site.root / MAT).stat().st_size
    begins = [int(e["range"].removeprefix("bytes=").removesuffix("-")) for e in (second, third)]
    assert size // 2 - fetch.CHUNK <= begins[0] <= size // 2 < begins[1] < size
    assert third["sent"] == size - begins[1]  # the missing bytes, no others


@pytest.mark.parametrize("refusal", ["no ranges", "other part"])
def test_a_server_that_does_not_continue_sends_all_again(site, tmp_path, refusal):
    site.faults[MAT] = ["truncate"]
    if refusal == "no ranges":
        site.ranges = False
    else:
        site.faults[MAT].append("other part")
    assert download(raw=tmp_path, mirror=site.url, records="tr03-0002").failed == {}
    assert whole(tmp_path, site.root, [MAT]) == [MAT]
    assert gets(site, [MAT])[-1]["sent"] == (site.root / MAT).stat().st_size


def test_a_part_that_is_whole_is_not_fetched_again(site, tmp_path):
    """As after a kill between the last byte and the name; a part that is too long is dropped."""
    part = part_of(tmp_path / MAT)
    part.parent.mkdir(parents=True)
    shutil.copy(site.root / MAT, part)
    other = part_of(tmp_path / MAT.replace("0002", "0001"))
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(700_000))
    assert download(raw=tmp_path, mirror=site.url, records="tr03-*").failed == {}
    assert gets(site, [MAT]) == []
    assert len(whole(tmp_path, site.root, [n for n in DATA if "tr03" in n])) == 8


def test_one_wrong_byte_is_healed(site, tmp_path):
    site.faults[MAT] = ["flip"]
    assert download(raw=tmp_path, mirror=site.url).failed == {}
    assert whole(tmp_path, site.root) == DATA
    assert [entry["range"] for entry in gets(site, [MAT])] == [None, None]


def test_a_byte_that_stays_wrong_is_reported(site, tmp_path):
    site.faults[MAT] = ["flip", "always"]
    found = download(raw=tmp_path, mirror=site.url)
    assert found.failed == {
        "tr03-0002": f"{site.url}{MAT} came twice with another checksum than the published one; "
        "nothing of it was kept; try another --mirror."
    }
    assert len(gets(site, [MAT])) == 2
    assert found.n_records == 4
    others = [name for name in DATA if "tr03-0002" not in name]
    assert whole(tmp_path, site.root, others) == others
    assert there(tmp_path) == sorted(others)


@pytest.mark.parametrize(
    ("fault", "tries", "reason"),
    [
        ("503", 5, "the server answers 503 Service Unavailable, 5 times in a row"),
        ("404", 1, "the server answers 404 Not Found"),
    ],
)
def test_what_does_not_come_is_reported_and_the_others_come(site, tmp_path, fault, tries, reason):
    site.faults[MAT] = [fault, "always"]
    done = run("physionet2018", "--raw", str(tmp_path), "--mirror", site.url, "--jobs", "2")
    assert done.exit_code == 2
    assert done.stdout.startswith("records: 4 whole, 2.4 MB fetched\n")
    failed, error = done.stderr.splitlines()[-2:]
    assert failed.startswith(f"failed tr03-0002: cannot fetch {site.url}{MAT} ({reason})")
    assert error == (
        "partsig: error: 1 could not be fetched: tr03-0002; run the same command again."
    )
    assert len(gets(site, [MAT])) == tries
    assert len(whole(tmp_path, site.root, [n for n in DATA if "tr03-0002" not in n])) == 12
    site.faults.clear()
    site.log.clear()
    done = run("physionet2018", "--raw", str(tmp_path), "--mirror", site.url)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"records: 5 whole, 0.6 MB fetched\nraw: {tmp_path}\n"
    assert {entry["name"].split("/")[1] for entry in gets(site)} == {"tr03-0002"}


def test_the_pauses_grow(site, tmp_path):
    site.faults[MAT] = ["503", "always"]
    pauses = []
    with (
        fetch.session() as session,
        pytest.raises(DataError, match="5 times in a row"),
    ):
        fetch.resume(site.url + MAT, tmp_path / "x", session=session, sleep=pauses.append)
    assert pauses == [0.01, 0.02, 0.03, 0.04]


def test_ages_that_do_not_come_cost_no_record(site, tmp_path):
    site.faults["age-sex.csv"] = ["404"]
    found = download(raw=tmp_path, mirror=site.url)
    assert (found.n_records, list(found.failed)) == (5, ["age-sex.csv"])
    assert download(raw=tmp_path, mirror=site.url).failed == {}
    assert whole(tmp_path, site.root, ["age-sex.csv"])


@pytest.fixture
def interruptible():
    """Processes that the test starts heed SIGINT, also where these tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_goes_on(site, tmp_path, kill):
    site.slow_s, site.chunk = 0.005, 20_000
    words = [sys.executable, "-m", "partsig", "download", "physionet2018", "--raw", str(tmp_path)]
    words += ["--mirror", site.url, "--jobs", "2", "--allow-http", "--trust-mirror"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    mats = [name for name in DATA if name.endswith("0001.mat") or name == MAT]
    deadline = time.monotonic() + 60
    while sum(entry["sent"] for entry in gets(site, mats)) < 900_000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(kill)
    said = process.communicate()[1].splitlines()
    assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[kill]
    if kill == signal.SIGINT:
        told = "partsig: interrupted; what was finished is kept, and the same command continues."
        assert said[-1] == told
    left = there(tmp_path)
    final = [name for name in left if not name.endswith(".part")]
    parts = [name for name in left if name.endswith(".part")]
    assert 0 < len(parts) <= 2
    assert len(final) < len(DATA)
    assert whole(tmp_path, site.root, final) == final  # what has its name is whole
    held = sum((tmp_path / name).stat().st_size for name in left)
    site.slow_s = 0.0
    time.sleep(0.1)  # the server's threads notice
    site.log.clear()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("records: 5 whole, ")
    assert whole(tmp_path, site.root) == DATA
    assert there(tmp_path) == sorted(DATA)
    total = sum((site.root / name).stat().st_size for name in DATA)
    assert sum(entry["sent"] for entry in gets(site)) == total - held
    assert not {entry["name"] for entry in gets(site)} & set(final)


def test_too_little_space_is_refused_with_both_numbers(site, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000))
    with pytest.raises(DiskFullError) as caught:
        download(raw=tmp_path, mirror=site.url)
    assert str(caught.value) == (
        f"5 records need 3.0 MB more and there are 2.0 MB free at {tmp_path}: free some space, "
        "pass another --raw, or fewer --records."
    )
    assert gets(site) == []
    assert there(tmp_path) == []
    assert download(raw=tmp_path, mirror=site.url, records="tr*").n_records == 3
    # Those that are there need no more space.
    assert download(raw=tmp_path, mirror=site.url).n_records == 5


def test_the_space_of_many_records_is_estimated(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "ASKED_RECORDS", 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=600_000_000))
    with pytest.raises(DiskFullError, match=r"^5 records need 670\.7 MB more and there are 600\.0"):
        download(raw=tmp_path, mirror=site.url)
    assert not [entry for entry in site.log if entry["method"] == "HEAD"]
    assert pytest.approx(266e9, rel=1e-6) == 1983 * physionet2018_index.RECORD_BYTES


def test_a_disk_that_fills_up_stops_it_and_what_came_is_kept(site, tmp_path, monkeypatch):
    def full(handle):
        if len(gets(site, [name for name in DATA if name.endswith("0001.mat")])) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match="no space left while writing"):
            download(raw=tmp_path, mirror=site.url, jobs=1)
    kept = [name for name in there(tmp_path) if not name.endswith(".part")]
    assert 4 <= len(kept) < len(DATA)
    site.log.clear()
    assert download(raw=tmp_path, mirror=site.url).failed == {}
    assert not {entry["name"] for entry in gets(site)} & set(kept)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("tr03-0001", ["tr03-0001"]),
        ("te04-0001, tr03-0001", ["tr03-0001", "te04-0001"]),
        ("tr03-*", ["tr03-0001", "tr03-0002"]),
        (["t?04-0001"], ["tr04-0001", "te04-0001"]),
        ("a file", ["tr03-0002", "te03-0001"]),
        (None, [*TRAINING, *TEST]),
    ],
)
def test_records_are_chosen_by_name_pattern_or_file(tmp_path, wanted, expected):
    if wanted == "a file":
        wanted = tmp_path / "RECORDS"
        wanted.write_text("training/tr03-0002/\ntest/te03-0001/te03-0001\n")
    assert physionet2018_index.choose([*TRAINING, *TEST], wanted) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--records tr03-0001,tr03-0009",
            "--records: 'tr03-0009' is none of the 5 published records, and no file of names; the "
            "nearest is 'tr03-000",
        ),
        ("--records tr99-*", "--records: 'tr99-*' is none of the 5 published records"),
        ("--records nofile.txt", "--records: there is no file 'nofile.txt' of names."),
        ("--records ,", "--records names no record; give names such as tr03-0005"),
        ("--jobs 9", "--jobs is 9; it must be between 1 and 8."),
        ("--jobs 0", "--jobs is 0; it must be between 1 and 8."),
        (
            "--mirror ftp://here",
            "--mirror is 'ftp://here'; it must be an address that begins with https:// or http://.",
        ),
        ("--mirror http://", "--mirror is 'http://'; it must be an address that begins with"),
        ("--raw file", "cannot read or write file (File exists); choose another --raw."),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_fetched(
    site, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    done = run("physionet2018", "--mirror", site.url, *words.split())
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"partsig: error: {message}")
    assert done.stderr.count("\n") == 1
    assert gets(site) == []


def test_another_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="source is 'floppy'; it can be 'physionet2018'"):
        download("floppy", tmp_path)


def test_a_server_that_is_not_there_is_named(site, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(DataError) as caught:
        download(raw=tmp_path, mirror=url)
    assert str(caught.value) == (
        f"cannot fetch {url}training_SHA1SUMS (the server cannot be reached, 3 times in a row); "
        "run the same command again later, or try another --mirror."
    )


@pytest.mark.parametrize("name", ["{}/SHA1SUMS", "SHA256SUMS.txt"])
def test_the_lists_may_lie_elsewhere(site, challenge, tmp_path, name):
    site.root = tmp_path / "served"
    shutil.copytree(challenge, site.root)
    lines = []
    for part in ("training", "test"):
        (site.root / f"{part}_SHA1SUMS").rename(site.root / part / "SHA1SUMS")
        if name == "SHA256SUMS.txt":
            (site.root / part / "SHA1SUMS").unlink()
            for path in sorted((site.root / part).rglob("*.*")):
                digits = hashlib.sha256(path.read_bytes()).hexdigest()
                lines.append(f"{digits} {path.relative_to(site.root)}\n")
    if lines:
        (site.root / name).write_text("".join(lines))
    site.faults[MAT] = ["flip"]
    assert download(raw=tmp_path / "raw", mirror=site.url).failed == {}
    assert whole(tmp_path / "raw", challenge) == DATA
    assert (tmp_path / "raw" / name.format("test")).is_file()


def test_a_server_without_lists_is_refused(site, tmp_path):
    site.root = tmp_path / "nothing"
    with pytest.raises(DataError, match=r"has no list of checksums of training/ \(asked for train"):
        download(raw=tmp_path / "raw", mirror=site.url)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>Log in</html>\n", r"line 1: expected a checksum and a path, got '<html>Log in"),
        ("db7eb4f7c0d699ad983951d4921f4754d32e91fc  RECORDS\n", "has no records of training/"),
        (
            "db7eb4f7c0d699ad983951d4921f4754d32e91fc  tr03-0001/tr03-0001.hea\n",
            "has only 1 files of tr03-0001 of training/: it is damaged; delete it",
        ),
    ],
)
def test_a_damaged_list_is_refused_and_not_kept(site, tmp_path, text, message):
    site.root = tmp_path / "served"
    site.root.mkdir()
    (site.root / "training_SHA1SUMS").write_text(text)
    with pytest.raises(DataError, match=message):
        download(raw=tmp_path / "raw", mirror=site.url)
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.fixture
def mirror(challenge, serve, monkeypatch):
    """A mirror that does with the tiny challenge what a test tells it to."""
    monkeypatch.setattr(fetch, "PAUSES_S", (0.01, 0.02))
    site = serve()
    for path in challenge.rglob("*.*"):
        site.pages[f"/{path.relative_to(challenge).as_posix()}"] = path.read_bytes()
    for part in ("training", "test"):
        name = f"{part}_SHA1SUMS"
        site.pages[f"/{name}"] = (challenge / name).read_bytes()
    return site


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_lists_that_nobody_has_published_are_not_believed(mirror, tmp_path):
    with pytest.raises(DataError) as caught:
        download(raw=tmp_path / "raw", mirror=mirror.url, trust_mirror=False)
    assert str(caught.value) == (
        f"training_SHA1SUMS of {mirror.url} is not the list of checksums of training/ that "
        "PhysioNet has published, so that what it is held against may be anything: take another "
        "--mirror, or pass --trust-mirror (trust_mirror=True) if you trust who made it."
    )
    assert files_below(tmp_path / "raw") == []
    # Nor those that an earlier call has left there, believing them.
    found = download(raw=tmp_path / "raw", mirror=mirror.url, records="te03-0001")
    assert found.notes == (
        f"The checksums of training/ and test/ are what {mirror.url} itself tells: partsig knows "
        "no digest of these lists to hold them against.",
    )
    with pytest.raises(DataError, match=r"training_SHA1SUMS of .*/raw is not the list"):
        download(raw=tmp_path / "raw", mirror=mirror.url, trust_mirror=False)


def test_no_other_kind_of_list_is_believed_instead(mirror, challenge, tmp_path):
    """A mirror that hides the published lists, and has one of its own making."""
    lines = []
    for path in sorted(challenge.rglob("*.*")):
        digits = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digits} {path.relative_to(challenge)}\n")
    for part in ("training", "test"):
        del mirror.pages[f"/{part}_SHA1SUMS"]
    mirror.pages["/SHA256SUMS.txt"] = "".join(lines).encode()
    with pytest.raises(DataError, match=r"SHA256SUMS\.txt of .* is not the list of checksums"):
        download(raw=tmp_path / "raw", mirror=mirror.url, trust_mirror=False)


def test_any_mirror_may_keep_the_published_lists(mirror, challenge_files, tmp_path):
    name, record = "training/tr03-0005/tr03-0005.hea", "tr03-0005"
    for part in ("training", "test"):
        mirror.pages[f"/{part}/SHA1SUMS"] = (challenge_files / f"{part}_SHA1SUMS").read_bytes()
        mirror.pages[f"/{part}_SHA1SUMS"] += b"\n"  # a list that was changed, before them
    mirror.pages["/age-sex.csv"] = b"Record,Sex,Age\nte03-0024,F,99\n"
    for end in ENDS["training"]:
        file = challenge_files / f"{record}{end}"
        if file.is_file():
            mirror.pages[f"/training/{record}/{record}{end}"] = file.read_bytes()
    mirror.pages[f"/training/{record}/{record}.mat"] = b"forged"
    raw = tmp_path / "raw"
    found = download(raw=raw, mirror=mirror.url, records=record, trust_mirror=False)
    assert found.notes == ()
    assert "came twice with another checksum than the published one" in found.failed[record]
    assert "age-sex.csv is not the published one" in found.failed["age-sex.csv"]
    assert not (raw / "age-sex.csv").exists()
    assert not (raw / name).exists()  # the header is the last of them
    pinned = physionet2018_index.PINNED
    assert fetch.matches(challenge_files / "age-sex.csv", f"sha256:{pinned['age-sex.csv']}")
    mirror.pages["/age-sex.csv"] = (challenge_files / "age-sex.csv").read_bytes()
    again = download(raw=raw, mirror=mirror.url, records=record, trust_mirror=False)
    assert list(again.failed) == [record]


def test_plain_http_is_allowed_by_name(mirror, tmp_path):
    words = ["download", "physionet2018", "--raw", str(tmp_path / "raw"), "--mirror", mirror.url]
    done = CliRunner().invoke(app, [*words, "--trust-mirror"])
    assert done.exit_code == 2
    assert done.stderr == (
        f"partsig: error: --mirror is {mirror.url}; anyone on the way can read and change what "
        "comes without encryption: use https://, or pass --allow-http (allow_http=True) if you "
        "trust the way.\n"
    )
    assert mirror.asked == []
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", ["training_SHA1SUMS", MAT])
@pytest.mark.parametrize("what", ["endless", "announced", "chunked"])
def test_more_than_can_be_is_cut_off(mirror, tmp_path, monkeypatch, name, what):
    monkeypatch.setattr(fetch, "LIST_BYTES", 2**20)
    monkeypatch.setattr(physionet2018_index, "MOST_BYTES", 2**20)
    sent = []

    def more(handler):
        if handler.command == "HEAD":
            return handler.say(200, b"x" * 600_000)
        if what == "endless":
            return mirror.endless(handler)
        if what == "announced":
            return handler.say(200, b"x" * 1000, {"Content-Length": str(10**15)})
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent.append(65536)
        except OSError:
            return None

    mirror.pages[f"/{name}"] = more
    raw = tmp_path / "raw"
    if name == MAT:
        found = download(raw=raw, mirror=mirror.url, records="tr03-*")
        assert found.n_records == 1
        reason = found.failed["tr03-0002"]
    else:
        with pytest.raises(DataError) as caught:
            download(raw=raw, mirror=mirror.url, records="tr03-*")
        reason = str(caught.value)
    told = "announces 1,000,000,000,000,000 bytes" if what == "announced" else "it was cut off"
    assert told in reason
    if what != "announced":
        assert "more than the 600,000 bytes" in reason
    assert not [name for name in files_below(raw) if name.endswith(".part")]
    assert sum(sent) < 2**26  # what lay in the buffers of the system, and no more


@pytest.mark.parametrize("name", ["training_SHA1SUMS", "age-sex.csv", MAT])
def test_a_mirror_that_sends_elsewhere_is_not_followed(mirror, serve, tmp_path, name):
    other = serve()
    other.pages[f"/{name}"] = mirror.pages[f"/{name}"]
    mirror.pages[f"/{name}"] = mirror.sends_to(f"{other.url}{name}")
    raw = tmp_path / "raw"
    try:
        reason = " ".join(download(raw=raw, mirror=mirror.url, jobs=1).failed.values())
    except DataError as error:
        reason = str(error)
    assert "which is not followed" in reason
    assert other.asked == []
    assert not (raw / name).exists()


@pytest.mark.parametrize(
    "line",
    [
        "{}  ../../x.hea",
        "{}  /etc/x.hea",
        "{}  tr03-0001/../../x.hea",
        "{}  ..\\x.hea",
        "{}  ../tr03-0009/../tr03-0009.hea",
    ],
)
def test_a_list_names_no_file_elsewhere(mirror, tmp_path, line):
    mirror.pages["/training_SHA1SUMS"] += (line.format("a" * 40) + "\n").encode()
    (tmp_path / "home").mkdir()
    (tmp_path / "x.hea").write_text("mine")
    found = download(raw=tmp_path / "home" / "raw", mirror=mirror.url)
    assert (found.n_records, found.failed) == (5, {})
    assert (tmp_path / "x.hea").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("home", "x.hea")] == []
    assert not [path for path in mirror.paths if ".." in path]


@pytest.mark.parametrize("answer", [404, 401, 500, "cut", "forged", "elsewhere"])
@pytest.mark.parametrize("way", ["login", "token", "amazon"])
def test_a_mirrors_password_is_told_to_nobody_else(mirror, tmp_path, way, answer):
    secret, place = "S3cr3tW0rd", mirror.url.split("/")[2]
    url = {
        "login": f"http://me:{secret}@{place}/",
        "token": f"http://{place}/?token={secret}",
        "amazon": f"http://{place}?X-Amz-Credential=k&X-Amz-Signature={secret}",
    }[way]
    mirror.pages[f"/{MAT}"] = {
        "cut": lambda handler: handler.say(200, b"x", {"Content-Length": "9"}),
        "forged": b"forged",
        "elsewhere": mirror.sends_to(f"http://me:{secret}@127.0.0.1:9/?token={secret}"),
    }.get(answer, lambda handler: handler.say(answer))
    raw = tmp_path / "raw"
    done = run("physionet2018", "--raw", str(raw), "--mirror", url)
    assert done.exit_code == 2
    assert "failed tr03-0002: " in done.stderr
    assert done.stdout.startswith("records: 4 whole, ")
    assert secret not in done.stdout + done.stderr
    for path in raw.rglob("*"):
        assert secret not in str(path)
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    if way == "login":
        assert None not in mirror.logins
    else:
        assert all(secret in path for _, path in mirror.asked)
    mirror.pages["/test_SHA1SUMS"] = mirror.pages[f"/{MAT}"]
    (raw / "test_SHA1SUMS").unlink()
    with pytest.raises(DataError) as caught:
        download(raw=raw, mirror=url)
    error = caught.value
    while error is not None:
        assert secret not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


def test_what_a_server_says_is_not_sent_to_the_terminal(mirror, tmp_path):
    def says(handler):
        handler.wfile.write(b"HTTP/1.1 404 \x1b[2Jall fetched\r\nContent-Length: 0\r\n\r\n")

    mirror.pages[f"/{MAT}"] = says
    found = download(raw=tmp_path, mirror=mirror.url, records="tr03-0002")
    assert found.failed["tr03-0002"].isprintable()
    assert "404" in found.failed["tr03-0002"]


def test_two_downloads_do_not_share_a_folder(site, tmp_path):
    with (
        fetch.alone(tmp_path),
        pytest.raises(DataError, match="another `partsig download` is writing to"),
    ):
        download(raw=tmp_path, mirror=site.url)
    assert site.log == []


def test_help_says_that_eeg_alone_cannot_be_fetched():
    done = CliRunner().invoke(app, ["download", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert {"--raw", "--records", "--mirror", "--jobs"} <= set(done.stdout.split())
    text = " ".join(done.stdout.split())
    assert "EEG alone cannot be fetched: a record's 13 channels are interleaved" in text
    assert "266 GB for all 1,983 records" in text


def test_the_real_lists_are_read(challenge_files):
    counts = {}
    for part in ("training", "test"):
        text = (challenge_files / f"{part}_SHA1SUMS").read_text()
        records = physionet2018_index.parse_list(text, part)
        counts[part] = len(records)
        if part == "training":
            name = "training/tr03-0005/tr03-0005.hea"
            known_hash = records["tr03-0005"][name]
            assert fetch.matches(challenge_files / Path(name).name, known_hash)
    assert counts == {"training": 994, "test": 989}
    text = (challenge_files / "age-sex.csv").read_text()
    assert physionet2018_index.parse_demographics(text) == 1983


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "pipe"])
@pytest.mark.parametrize("name", ["training_SHA1SUMS", MAT])
def test_nothing_is_written_through_what_lies_where_a_part_grows(kind, name, site, tmp_path):
    """In a folder that others write to, a link there would lead to any file of the user's."""
    precious, part = tmp_path / "precious", part_of(tmp_path / "raw" / name)
    part.parent.mkdir(parents=True)
    precious.write_text("kept")
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "hard link":
        os.link(precious, part)
    else:
        part.symlink_to(precious if kind == "link" else tmp_path / "elsewhere")
    found = []
    with contextlib.suppress(DataError):
        found = download(raw=tmp_path / "raw", mirror=site.url, records="tr03-0002").failed
    assert precious.read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "raw" / name).exists() or not found


def test_a_users_own_file_called_part_is_kept(site, tmp_path):
    own = tmp_path / "training_SHA1SUMS.part"
    own.write_text("mine")
    assert download(raw=tmp_path, mirror=site.url, records="tr03-0002").failed == {}
    assert own.read_text() == "mine"
