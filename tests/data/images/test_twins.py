"""One image under two names: re-encoded, resized or mirrored; on one side of every split."""

import csv
import io

import numpy as np
import pytest
from PIL import Image, ImageOps

import partsig
from partsig.data.images import perceptual
from partsig.data.images.decoding import decode
from partsig.data.images.perceptual import find_pairs, fingerprints
from partsig.data.images.store import open_images

SIZE = 48


def picture(seed, size=96):
    """Blobs of every size, so that it looks like nothing else."""
    rng = np.random.default_rng([7, seed])
    layers = []
    for cells, weight in ((3, 1.0), (6, 0.7), (12, 0.5), (24, 0.3)):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        layers.append(weight * np.asarray(fine, np.float32))
    return Image.fromarray((sum(layers) / 2.5).astype(np.uint8))


def coded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


COPIES = {
    "the same": coded,
    "JPEG": lambda i: coded(i, "JPEG", quality=60),
    "WebP": lambda i: coded(i, "WEBP", quality=70),
    "smaller": lambda i: coded(i.resize((60, 60), Image.Resampling.BICUBIC)),
    "larger": lambda i: coded(i.resize((200, 200), Image.Resampling.BICUBIC)),
    "mirrored": lambda i: coded(ImageOps.mirror(i)),
    "upside down": lambda i: coded(ImageOps.flip(i)),
    "turned by half": lambda i: coded(i.rotate(180)),
    "mirrored JPEG": lambda i: coded(ImageOps.mirror(i), "JPEG", quality=60),
}


def print_of(data):
    return fingerprints(decode(data, SIZE)[None])[0]


@pytest.fixture(scope="module")
def prints():
    return [print_of(coded(picture(seed))) for seed in range(40)]


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_and_nothing_else(copy, prints):
    for number in (3, 17):
        own = print_of(COPIES[copy](picture(number)))
        assert find_pairs([*prints, own]) == [(number, len(prints))]


def test_other_images_are_others(prints):
    assert find_pairs(prints) == []
    assert find_pairs([]) == find_pairs(prints[:1]) == find_pairs(["", ""]) == []


def test_small_and_blank_images_are_told_by_all_of_their_pixels():
    blank = np.full((3, 3, 32, 32), 250, np.uint8)
    blank[1, 0, 4, 4] = 251
    small = np.random.default_rng(0).integers(256, size=(3, 1, 8, 8), dtype=np.uint8)
    small[2] = small[0]
    assert find_pairs(fingerprints(blank)) == [(0, 2)]
    assert find_pairs(fingerprints(small)) == [(0, 2)]
    assert all(told.startswith(perceptual.EXACT) for told in fingerprints(small))


def test_many_images_at_a_time_are_the_same_as_each_by_itself():
    images = np.stack([decode(coded(picture(seed)), SIZE) for seed in range(5)])
    assert fingerprints(images) == [fingerprints(image[None])[0] for image in images]


def write(root, name, data):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    for seed in range(12):
        write(root, f"train/{'ab'[seed % 2]}/{seed:02}.png", coded(picture(seed)))
    for seed in range(20, 24):
        write(root, f"test/{'ab'[seed % 2]}/{seed}.png", coded(picture(seed)))
        write(root, f"val/{'ab'[seed % 2]}/{seed + 10}.png", coded(picture(seed + 10)))
    write(root, "test/a/copy of 04.jpg", coded(ImageOps.mirror(picture(4)), "JPEG", quality=70))
    write(root, "train/a/copy of 30.png", coded(picture(30).resize((70, 70))))
    write(root, "train/b/copy of 05.png", coded(picture(5)))
    return root


def roles(store):
    return dict(zip(store.names, store.roles.tolist(), strict=True))


def test_what_is_tested_on_is_not_trained_on(raw, tmp_path):
    done = partsig.preprocess("images", raw, tmp_path / "s", overrides=[f"size={SIZE}"], jobs=1)
    told = [note for note in done.notes if note.startswith("the same image under two names")]
    assert len(told) == 1
    assert "test/a/copy of 04.jpg = train/a/04.png" in told[0]
    assert told[0].endswith("2 are left out, being of another side too")
    side = roles(open_images(tmp_path / "s"))
    assert side["test/a/copy of 04.jpg"] == "test"
    assert side["train/a/04.png"] == side["train/a/copy of 30.png"] == "twin"
    assert side["val/a/30.png"] == "val"
    assert side["train/b/05.png"] == side["train/b/copy of 05.png"] == "train"
    assert done.counts == {"train": 12, "val": 4, "test": 5}
    index = (tmp_path / "s" / "index.csv").read_bytes()
    partsig.preprocess("images", raw, tmp_path / "s", overrides=[f"size={SIZE}"], jobs=1)
    assert (tmp_path / "s" / "index.csv").read_bytes() == index


def test_a_drawn_validation_share_keeps_twins_together(raw, tmp_path):
    for seed in range(12):
        write(raw, f"train/a/again {seed:02}.jpg", coded(picture(seed), "JPEG", quality=80))
    for file in (raw / "val").rglob("*.png"):
        file.unlink()
    options = [f"size={SIZE}", "val_share=0.5"]
    partsig.preprocess("images", raw, tmp_path / "s", overrides=options, jobs=1)
    side = roles(open_images(tmp_path / "s"))
    pairs = [
        (side[f"train/{'ab'[k % 2]}/{k:02}.png"], side[f"train/a/again {k:02}.jpg"])
        for k in range(12)
    ]
    assert all(one == other for one, other in pairs)
    assert {("train", "train"), ("val", "val")} <= set(pairs)
    assert pairs[4] == ("twin", "twin")  # the test has it


def test_a_store_of_earlier_days_opens_and_is_completed(raw, tmp_path):
    options = [f"size={SIZE}"]
    partsig.preprocess("images", raw, tmp_path / "s", overrides=options, jobs=1)
    index = tmp_path / "s" / "index.csv"
    whole = index.read_bytes()
    with open(index, newline="", encoding="utf-8") as handle:
        rows = [row[:-2] for row in csv.reader(handle)]
    with open(index, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)
    assert "twin" not in roles(open_images(tmp_path / "s")).values()
    partsig.preprocess("images", raw, tmp_path / "s", overrides=options, jobs=1)
    assert index.read_bytes() == whole
