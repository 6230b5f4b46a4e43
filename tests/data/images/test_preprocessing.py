"""``partsig preprocess`` for images: the whole verb on small sources, damaged, killed, changed."""

import csv
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from partsig.cli import app
from PIL import Image
from typer.testing import CliRunner

import partsig
from partsig.data.images import store as images
from partsig.data.images.store import open_images
from partsig.errors import ConfigError, DataError, DiskFullError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def raw(tmp_path):
    """25 PNG of 8 x 8 in two classes; the number in the name is the seed of the pixels."""
    folder = tmp_path / "raw"
    for i in range(25):
        role = "test" if i % 5 == 0 else "train"
        path = folder / role / ("cat", "dog")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(path)
    return folder


@pytest.fixture
def short_arrays(monkeypatch):
    monkeypatch.setattr(images, "PER_FILE", 10)


def preprocess(raw, store, *overrides, jobs=2, source="images"):
    return partsig.preprocess(source, raw, store, overrides=("size=8", *overrides), jobs=jobs)


def contents(store):
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def inodes(store):
    return [path.stat().st_ino for path in sorted((store / "images").iterdir())]


def check(path, without=()):
    """Hold every image of a store against the seed in its name."""
    store = open_images(path)
    seeds = [int(name[-6:-4]) for name in store.names]
    assert sorted(seeds) == [i for i in range(25) if i not in without]
    expected = np.stack([picture(seed) for seed in seeds]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(store.batch(np.arange(len(store))), expected)
    assert store.labels.tolist() == [seed % 2 for seed in seeds]


def index(path):
    with open(path / "index.csv", newline="") as handle:
        return {row["image"]: row for row in csv.DictReader(handle)}


def test_files_to_a_store(raw, tmp_path, short_arrays):
    result = preprocess(raw, tmp_path / "store")
    check(result.path)
    store = open_images(result.path)
    assert (store.size, store.classes) == ((8, 8), ("cat", "dog"))
    assert result.n_recordings == 25
    assert sum(result.counts.values()) == 25
    assert result.counts["test"] == 5
    assert result.counts["val"] == len(store.members("val"))
    assert result.failed == {}
    assert result.notes == [f"25 images of 3×8×8 in {result.path}", "2 classes: cat, dog"]
    assert [len(np.load(file)) for file in sorted((result.path / "images").iterdir())] == [
        10,
        10,
        5,
    ]
    assert store.meta["modality"] == "image"
    assert store.meta["val_share"] == 0.05


def test_the_number_of_threads_changes_nothing(raw, tmp_path, short_arrays):
    preprocess(raw, tmp_path / "one", jobs=1)
    preprocess(raw, tmp_path / "four", jobs=4)
    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_a_corrupt_image_is_skipped_with_its_reason_and_tried_again(raw, tmp_path, short_arrays):
    path = raw / "train" / "dog" / "07.png"
    path.write_bytes(b"no image")
    result = CliRunner().invoke(
        app,
        [
            "preprocess",
            "images",
            "--raw",
            str(raw),
            "--store",
            str(tmp_path / "s"),
            "--set",
            "size=8",
        ],
    )
    assert result.exit_code == 2
    assert "skipped train/dog/07.png: it is none of JPEG, PNG" in result.output
    check(tmp_path / "s", without=(7,))
    row = index(tmp_path / "s")["train/dog/07.png"]
    assert (row["status"], row["row"]) == ("failed", "")
    before = inodes(tmp_path / "s")
    Image.fromarray(picture(7)).save(path)
    assert preprocess(raw, tmp_path / "s").failed == {}
    check(tmp_path / "s")
    kept = [old == new for old, new in zip(before, inodes(tmp_path / "s"), strict=True)]
    assert kept == [True, False, True]


def test_only_what_changed_is_made_again(raw, tmp_path, short_arrays):
    preprocess(raw, tmp_path / "s")
    before, whole = inodes(tmp_path / "s"), contents(tmp_path / "s")
    preprocess(raw, tmp_path / "s")
    assert inodes(tmp_path / "s") == before
    assert contents(tmp_path / "s") == whole
    (raw / "train" / "dog" / "23.png").unlink()
    preprocess(raw, tmp_path / "s")
    check(tmp_path / "s", without=(23,))
    assert inodes(tmp_path / "s")[:2] == before[:2]  # 23 is the last by name
    Image.fromarray(picture(99)).save(raw / "test" / "cat" / "00.png")
    preprocess(raw, tmp_path / "s")
    store = open_images(tmp_path / "s")
    np.testing.assert_array_equal(store.batch(np.array([0]))[0], picture(99).transpose(2, 0, 1))
    for path in raw.rglob("1?.png"):
        path.unlink()
    preprocess(raw, tmp_path / "s")
    assert len(open_images(tmp_path / "s")) == len(list(raw.rglob("*.png"))) == 14
    assert len(inodes(tmp_path / "s")) == 2


def test_labels_and_shares_may_change_without_new_pixels_but_not_the_size(raw, tmp_path):
    preprocess(raw, tmp_path / "s")
    (raw / "train" / "dog").rename(raw / "train" / "wolf")
    assert preprocess(raw, tmp_path / "s", "val_share=0.5").counts["val"] > 4
    assert open_images(tmp_path / "s").classes == ("cat", "dog", "wolf")
    (raw / "train" / "wolf").rename(raw / "train" / "dog")
    preprocess(raw, tmp_path / "s")
    before = inodes(tmp_path / "s")
    assert preprocess(raw, tmp_path / "s", "val_share=0.0").counts["val"] == 0
    assert inodes(tmp_path / "s") == before
    with pytest.raises(
        DataError, match=r"was made with other settings: size \[8, 8\] \(now \[9, 9"
    ):
        preprocess(raw, tmp_path / "s", "size=9")
    with pytest.raises(DataError, match=r"other settings: .*ch_names"):
        preprocess(raw, tmp_path / "s", "grey=true")
    check(tmp_path / "s")


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_killed_at_any_moment_it_continues(raw, tmp_path, after, short_arrays):
    store = tmp_path / "s"
    code = (
        "import sys, time, partsig\nfrom partsig.data.images import folders, store\n"
        "store.PER_FILE = 10\nread = folders.decode\n"
        "def slow(*given):\n    time.sleep(0.02)\n    return read(*given)\n"
        "folders.decode = slow\nprint('ready', flush=True)\n"
        "partsig.preprocess('images', sys.argv[1], sys.argv[2], overrides=['size=8'], jobs=1)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(raw), str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout.readline() == b"ready\n"
    time.sleep(after)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    n_arrays = len(list((store / "images").glob("0*.npy")))
    assert n_arrays < 3
    if (store / "index.csv").is_file() and any(r["status"] == "ok" for r in index(store).values()):
        opened = open_images(store)  # what the index names can be read
        for i, name in enumerate(opened.names):
            pixels = opened.batch(np.array([i]))[0]
            np.testing.assert_array_equal(pixels, picture(int(name[-6:-4])).transpose(2, 0, 1))
    preprocess(raw, store)
    check(store)
    preprocess(raw, tmp_path / "whole")
    assert contents(store) == contents(tmp_path / "whole")


def test_a_full_disk_keeps_what_is_whole(raw, tmp_path, short_arrays):
    preprocess(raw, tmp_path / "s")
    (tmp_path / "s" / "images" / "00002.npy").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskFullError, match="no space left while writing"):
            preprocess(raw, tmp_path / "t")
        with pytest.raises(DiskFullError, match="no space left while writing"):
            preprocess(raw, tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list((tmp_path / "t" / "images").iterdir())
    preprocess(raw, tmp_path / "s")
    check(tmp_path / "s")


def test_digits_need_no_folder(tmp_path):
    result = partsig.preprocess("digits", store=tmp_path / "s", jobs=1)
    assert result.n_recordings == 1797
    assert result.counts["test"] == 359
    assert 40 <= result.counts["val"] <= 100
    store = open_images(result.path)
    assert (store.size, store.ch_names, len(store.classes)) == ((8, 8), ("grey",), 10)
    assert store.batch(np.array([0]))[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


def test_grey_and_default_folders(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "raw").mkdir(parents=True)
    raw.rename(tmp_path / "data" / "raw" / "images")
    result = partsig.preprocess("images", overrides={"size": 8, "grey": True})
    assert result.path.as_posix() == "data/store/images"
    store = open_images(result.path)
    expected = np.asarray(Image.fromarray(picture(0)).convert("L"))
    np.testing.assert_array_equal(store.batch(np.array([0]))[0, 0], expected)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"shard": "1/2"}, "images is preprocessed by one machine, .*: leave out --shard"),
        ({"merge": True}, "leave out --merge"),
        ({"scheduler": "tcp://x:1"}, "leave out --scheduler"),
        ({"raw": "s3://bucket/x"}, "leave out s3://bucket/x"),
        ({"jobs": 0}, "--jobs is 0; it can be"),
        ({"overrides": ["sizes=3"]}, "sizes"),
        (
            {"source": "digits", "overrides": ["size=9"]},
            "the images of digits have 8 pixels a side",
        ),
        ({"source": "cifar10", "overrides": ["size=9"]}, "cifar10 have 32 pixels a side: leave it"),
    ],
)
def test_what_does_not_go_with_images_is_refused(arguments, sentence, raw, tmp_path):
    given = {"source": "images", "raw": raw, "store": tmp_path / "s"} | arguments
    with pytest.raises(ConfigError, match=sentence):
        partsig.preprocess(**given)
    assert not (tmp_path / "s").exists()


def test_no_readable_image_and_a_foreign_store_are_told(raw, tmp_path):
    for path in raw.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"none of the 25 images could be read; the first, test/cat/0"
    ):
        preprocess(raw, tmp_path / "s")
    with pytest.raises(DataError, match="exists and is no store; choose another --store"):
        preprocess(raw, raw)
    (tmp_path / "eeg").mkdir()
    (tmp_path / "eeg" / "meta.json").write_text('{"format": 1, "modality": "eeg"}')
    with pytest.raises(DataError, match="is a store of eeg, not of images; choose another"):
        preprocess(raw, tmp_path / "eeg")


@pytest.mark.slow
def test_the_real_zip_of_cifar_images(tmp_path):
    path = SHARED / "cifar10_jpeg_subset.zip"
    if not path.is_file():
        pytest.skip("the CIFAR-10 subset is not at hand (../shared/data/cifar10_jpeg_subset.zip)")
    result = partsig.preprocess("images", path, tmp_path / "s", overrides=["size=32"])
    # 13 of the 20,000 training images are in the test, or in validation, a second time.
    assert result.counts == {"train": 18_984, "val": 1_003, "test": 4_000}
    store = open_images(result.path)
    assert np.bincount(store.labels).tolist() == [2400] * 10
    assert len(list((result.path / "images").iterdir())) == 2
    # Means of CIFAR-10's training images are .491, .482, .447 of white.
    means = store.batch(store.members("train")).mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.491, 0.482, 0.447], atol=0.01)
