"""What has the name of a file and is a pipe, a device, a folder, or a link to one, is refused."""

import errno
import os
import shutil
import socket

import numpy as np
import pytest

import partsig
from partsig import regular
from partsig.data.images.arrays import are_whole, array_path, layers_of
from partsig.data.signals.store import open_store
from partsig.data.store import index_digest
from partsig.errors import PartsigError
from partsig.files import read_columns, read_json
from partsig.runs.features import _read
from partsig.runs.test_results import load
from partsig.train.journal import read_metrics


def a_pipe(path):
    os.mkfifo(path)


def a_link_to_a_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def a_link_to_a_device(path):
    path.symlink_to("/dev/zero")


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as held:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            held.bind(path.name)
        finally:
            os.chdir(here)


def a_folder(path):
    path.mkdir()


KINDS = {
    "a pipe": a_pipe,
    "a pipe ": a_link_to_a_pipe,
    "a device": a_link_to_a_device,
    "a socket": a_socket,
    "a folder": a_folder,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [regular.open_bytes, regular.open_text, regular.read_text])
def test_only_regular_files_are_opened(kind, read, tmp_path):
    KINDS[kind](tmp_path / "a.npy")
    with pytest.raises(regular.IrregularError) as caught:
        read(tmp_path / "a.npy")
    assert str(caught.value) == f"{kind.strip()}, not a regular file"
    assert caught.value.errno == errno.EINVAL


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_text("ä", encoding="utf-8")
    assert regular.read_text(tmp_path / "a") == "ä"
    with regular.open_bytes(tmp_path / "a") as handle:
        assert handle.read() == "ä".encode()
    with pytest.raises(FileNotFoundError):
        regular.check(tmp_path / "b")


def test_a_text_without_end_is_not_read(tmp_path):
    with open(tmp_path / "run.json", "wb") as handle:
        handle.truncate(2**40)  # on the disk it takes nothing
    with pytest.raises(OSError, match="longer than any that partsig writes"):
        read_json(tmp_path / "run.json")


# Each file of a run, and of a store, that a verb reads.
OF_RUNS = ("run.json", "best.pt", "split.json", "metrics.jsonl", "evaluation/metrics.json")
OF_RUNS += ("evaluation/predictions.csv",)
OF_STORES = ("meta.json", "index.csv", "split.csv", "signals/{}.npy", "labels/{}.npy")


@pytest.fixture(scope="module")
def judged(stager_run, made_once):
    def make(folder):
        shutil.copytree(stager_run, folder / "run")
        partsig.evaluate(folder / "run", device="cpu", figures=False)

    return made_once("judged", make) / "run"


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_no_verb_waits_for_a_file_of_a_run(name, kind, judged, tmp_path):
    run = shutil.copytree(judged, tmp_path / "run")
    (run / name).unlink(missing_ok=True)
    KINDS[kind](run / name)
    told = []
    for use in (
        lambda: partsig.evaluate(run, output=tmp_path / "own", device="cpu", figures=False),
        lambda: partsig.compare([run], output=tmp_path / "compared", device="cpu"),
        lambda: partsig.export(run, tmp_path / "exported"),
        lambda: read_metrics(run),
        lambda: load([run]),
    ):
        try:
            use()
        except PartsigError as error:
            told.append(str(error))
    assert all("\n" not in sentence for sentence in told)


@pytest.mark.parametrize("name", OF_STORES)
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_no_verb_waits_for_a_file_of_a_store(name, kind, sample_store, tmp_path):
    store = shutil.copytree(sample_store, tmp_path / "store")
    recording = open_store(store).rows[0]["recording"]
    file = store / name.format(recording)
    file.unlink(missing_ok=True)
    KINDS[kind](file)
    try:
        opened = open_store(store)
        if name.startswith("signals"):
            with pytest.raises(PartsigError, match=f"{kind}, not a regular file"):
                opened.signal(recording)
        elif name.startswith("labels"):
            with pytest.raises(PartsigError, match=f"{kind}, not a regular file"):
                opened.labels(recording)
        else:
            assert name == "split.csv"
            assert opened.roles == {}
    except PartsigError as error:
        assert str(error).startswith(("no store at", f"{store} has no index.csv"))  # noqa: PT017


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_reads_names_what_is_there(kind, tmp_path):
    file = tmp_path / "index.csv"
    KINDS[kind](file)
    told = f"{kind.strip()}, not a regular file"
    with pytest.raises(PartsigError, match=told):
        index_digest(tmp_path)
    with pytest.raises(OSError, match=told):
        list(read_columns(file, ("a", "b")))
    with pytest.raises(OSError, match=told):
        read_json(file)
    assert _read(file, 3) is None
    (tmp_path / "images").mkdir()
    KINDS[kind](array_path(tmp_path, 0))
    layers = layers_of({"size": [8, 8], "ch_names": ["grey"]})
    assert not are_whole(tmp_path, 0, layers, 1)


def test_labels_that_are_none_are_refused(sample_store, tmp_path):
    store = shutil.copytree(sample_store, tmp_path / "store")
    row = open_store(store).rows[0]
    name, n = row["recording"], row["n_epochs"]
    file = store / "labels" / f"{name}.npy"
    for labels in (np.full(n, 7, np.int8), np.full(n, -2, np.int8), np.zeros(n), np.full(n, "a")):
        np.save(file, labels)
        with pytest.raises(PartsigError, match=r"other labels than -1 to 4 in int8"):
            open_store(store).labels(name)
    with open(file, "wb") as handle:  # nor is there room for what a header claims
        header = {"descr": "|i1", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(handle, header)
    with pytest.raises(PartsigError, match="its array ends at 1,000,000"):
        open_store(store).labels(name)
