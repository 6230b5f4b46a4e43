"""Objects and parts side by side: levels, paired intervals, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pytest

import partsig
from partsig.contracts import Labels, labels_of
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.errors import ConfigError, DataError
from partsig.recipes.part_comparison import level_of
from partsig.recipes.part_levels import CROSSING
from partsig.runs.run import Run

N, SIZE = 42, 8
CPU = {"device": "cpu"}
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "patch_px": 4}
PARTS, KINDS = ("beak", "tail", "wing"), ("finch", "heron")


def written(path, items, pixels, classes, facts):
    source = images.Source(
        name="made", size=(SIZE, SIZE), ch_names=("grey",), classes=classes, items=items,
        read=pixels.__getitem__, facts=facts,
    )  # fmt: skip
    meta = images.make_meta(source, 0.1)
    images.create(path, meta)
    some = ((i, [image]) for i, image in enumerate(pixels))
    arrays.write_arrays(path, 0, arrays.layers_of(meta), len(pixels), some, True)
    images.write_index(path, [images.index_row(item, i) for i, item in enumerate(items)])
    return path


def stripes(rng, label):
    wave = 60 * np.sign(np.sin(np.arange(SIZE) * (label + 1)))
    made = 128 + wave[None, :, None] + rng.normal(0, 40, (1, SIZE, SIZE))
    return made.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Birds, each an image with a kind; and parts of most of them, cut out of the same images."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("birds")
    wholes, parts = ([], []), ([], [])
    for number in range(N):
        role, name = ("test", "val", "train")[number % 3], f"{number}.jpg"
        kind = number // 3 % 2
        wholes[0].append(images.Item(name, kind, role, ""))
        wholes[1].append(stripes(rng, kind + 3))
        for crop in range(number % 4):  # of some images there are none
            label = (number + crop) % 3
            parts[0].append(images.Item(f"{name}#{crop}", label, role, "", name))
            parts[1].append(stripes(rng, label))
    cut = {"cut": {"cut": "parts"}}
    return {
        "object": written(folder / "object", *wholes, KINDS, {}),
        "parts": written(folder / "parts", *parts, PARTS, cut),
    }


def asked(stores, store, path, *, width=16, **more):
    task = more.pop("task", None)
    seed = more.pop("seed", 0)
    overrides = TINY | {"encoder.width": width, "pool": "mean", "train": "probe"} | more
    run = partsig.finetune(
        "scratch", stores[store], path, task=task, seed=seed, overrides=overrides, **CPU
    )
    partsig.evaluate(run, figures=False, **CPU)
    return run


@pytest.fixture(scope="module")
def named(stores, tmp_path_factory):
    """Two encoders, asked in three ways; one of them by two seeds of part classification."""
    folder, every = tmp_path_factory.mktemp("runs"), []
    for encoder, width in (("narrow", 8), ("wide", 32)):
        for way, (store, more) in {
            "kind": ("object", {}),
            "part": ("parts", {}),
            "found": ("parts", {"task": "part-retrieval"}),
        }.items():
            path = asked(stores, store, folder / f"{encoder}-{way}", width=width, **more)
            every.append(f"{encoder}={path}")
    path = asked(stores, "parts", folder / "wide-part-1", width=32, seed=1)
    return [*every, f"wide={path}"]


@pytest.fixture(scope="module")
def table(named, tmp_path_factory):
    where = tmp_path_factory.mktemp("table")
    return partsig.compare(named, task="parts", against="narrow", output=where / "t", **CPU)


def measured(named, name, key):
    path = next(item.partition("=")[2] for item in named if item.endswith(name))
    return json.loads((Run.read(path).path / "evaluation" / "metrics.json").read_text())[key]


def test_what_a_store_or_a_task_says_is_the_level(stores, named):
    meta = {name: json.loads((path / "meta.json").read_text()) for name, path in stores.items()}
    assert {name: labels_of(told).level for name, told in meta.items()} == {
        "object": "object", "parts": "part",
    }  # fmt: skip
    runs = [Run.read(item.partition("=")[2]) for item in named]
    assert [level_of(run) for run in runs] == ["object", "part", "part"] * 2 + ["part"]
    told = runs[1].facts["labels"]
    assert told["level"] == "part"
    assert Labels(classes=PARTS) == Labels(classes=PARTS, level="part")
    assert "level" not in runs[0].facts["labels"]
    del told["level"]  # of a run from before labels had one, its store says it
    assert level_of(runs[1]) == "part"


def test_scores_are_those_of_the_evaluations(table, named):
    assert [column.title for column in table.columns] == [
        "object: linear, mean", "part: linear, mean", "part: retrieval, mean",
    ]  # fmt: skip
    kinds, parts, found = table.columns
    for encoder in ("narrow", "wide"):
        assert kinds.cells[encoder].score == pytest.approx(
            measured(named, f"{encoder}-kind", "accuracy")
        )
        assert found.cells[encoder].score == pytest.approx(
            measured(named, f"{encoder}-found", "mean_average_precision"), abs=1e-5
        )
    both = [measured(named, name, "accuracy") for name in ("wide-part", "wide-part-1")]
    assert parts.cells["wide"].score == pytest.approx(np.mean(both))
    assert parts.cells["wide"].sd == pytest.approx(np.std(both, ddof=1))
    assert (parts.measure, parts.cells["narrow"].n_runs) == ("accuracy", 1)
    assert len(parts.names) < len(kinds.names) == N // 3


def test_differences_are_paired_over_images(table, named):
    """By hand: every image's right answers, drawn anew as often, the same for both encoders."""
    kinds = table.columns[0]
    right = {}
    for encoder in ("narrow", "wide"):
        path = next(i.partition("=")[2] for i in named if i.endswith(f"{encoder}-kind"))
        with open(f"{path}/evaluation/predictions.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        right[encoder] = np.array([row["truth"] == row["prediction"] for row in rows], float)
    from partsig.metrics.resampling import BOOTSTRAP_DRAWS
    from partsig.seeds import Stream, rng_of

    n = len(kinds.names)
    times = rng_of(Stream.BOOTSTRAP, 0).multinomial(n, np.full(n, 1 / n), BOOTSTRAP_DRAWS)
    drawn = times @ (right["wide"] - right["narrow"]) / n
    wide = table.encoders[1]
    found = wide.differences["object: linear, mean"]
    assert found.mean == pytest.approx((right["wide"] - right["narrow"]).mean())
    assert found.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    parts = [wide.differences[column.title].mean for column in table.columns[1:]]
    assert wide.by_level["part"].mean == pytest.approx(np.mean(parts))
    assert wide.by_level[CROSSING].mean == pytest.approx(np.mean(parts) - found.mean)
    low, high = wide.by_level[CROSSING].interval
    assert low < wide.by_level[CROSSING].mean < high


def test_it_is_written_as_other_comparisons_are(table):
    assert table.reference == "narrow"
    assert sorted(path.name for path in table.path.iterdir()) == [
        "parts.csv", "parts.json", "parts.md", "parts.png",
    ]  # fmt: skip
    assert table.figure.stat().st_size > 10_000
    with open(table.path / "parts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == ["object", "part", "part"] * 2
    assert [bool(row["difference"]) for row in rows] == [False] * 3 + [True] * 3
    told = json.loads((table.path / "parts.json").read_text())
    assert told["encoders"][1]["object"]["difference"] == pytest.approx(
        table.encoders[1].by_level["object"].mean
    )
    assert table.markdown.splitlines()[0].startswith("| encoder | object: linear, mean (accuracy)")
    assert "Difference to narrow:" in table.markdown


@pytest.mark.parametrize(
    ("chosen", "against", "message"),
    [
        (["narrow-kind", "wide-kind"], "narrow", "no run is of parts: fine-tune with --task part-"),
        (["narrow-part", "wide-found"], "narrow", "no run is of objects: fine-tune with train=pr"),
        (["narrow-kind", "wide-part"], "broad", "--against broad: no such encoder; there are narr"),
        (["narrow-kind", "wide-part"], None, "name it with --against, one of narrow, wide"),
    ],
)
def test_what_cannot_be_compared_is_told(named, tmp_path, chosen, against, message):
    runs = [next(item for item in named if item.endswith(name)) for name in chosen]
    with pytest.raises(ConfigError, match=message):
        partsig.compare(runs, task="parts", against=against, output=tmp_path / "t", **CPU)
    assert not (tmp_path / "t").exists()


def test_an_encoder_that_was_trained_is_refused(stores, named, tmp_path):
    path = asked(
        stores, "object", tmp_path / "full",
        **{"train": "full", "fit.epochs": 1, "optim.warmup_epochs": 0},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"has trained its encoder on the labels \(train=full\)"):
        partsig.compare([*named, path], task="parts", against="narrow", **CPU)


def test_stores_of_other_images_are_refused(stores, named, tmp_path):
    rng = np.random.default_rng(1)
    items = [
        images.Item(f"other-{i}.jpg", i // 3 % 2, ("test", "val", "train")[i % 3], "")
        for i in range(N)
    ]
    pixels = [stripes(rng, item.label) for item in items]
    other = written(tmp_path / "other", items, pixels, KINDS, {})
    path = asked({"other": other}, "other", tmp_path / "run", width=8)
    parts = next(item for item in named if item.endswith("narrow-part"))
    with pytest.raises(DataError, match=r"the test images of 'part: linear, mean' are not among"):
        partsig.compare(
            [f"narrow={path}", parts], task="parts", against="narrow", output=tmp_path / "t", **CPU
        )


def test_a_run_from_before_levels_goes_on(stores, tmp_path):
    path = asked(stores, "parts", tmp_path / "run")
    record = json.loads((path / "run.json").read_text())
    del record["labels"]["level"]
    (path / "run.json").write_text(json.dumps(record))
    assert asked(stores, "parts", tmp_path / "run") == path


def masked(path):
    """A store of images whose places are labelled: two parts of one object, and background."""
    rng, made, items = np.random.default_rng(0), [], []
    for i in range(20):
        mask = np.full((SIZE, SIZE), 2, np.uint8)
        at = int(rng.integers(0, 4))
        mask[1:3, at : at + 4], mask[3:7, at : at + 4] = 0, 1
        grey = np.array([80, 200, 20])[mask] + rng.normal(0, 12, mask.shape)
        made.append((grey.clip(0, 255).astype(np.uint8)[None], mask))
        items.append(images.Item(f"{i}.jpg", -1, ("test", "val", "train", "train")[i % 4], ""))
    told = {"classes": ["head", "body", "background"], "mirrored": {}}
    told["objects"] = {"head": "animal", "body": "animal"}
    source = images.Source(
        name="made", size=(SIZE, SIZE), ch_names=("grey",), classes=(), items=items,
        read=made.__getitem__, facts={"masks": told},
    )  # fmt: skip
    meta = images.make_meta(source, 0.1)
    images.create(path, meta)
    rows = ((i, list(pair)) for i, pair in enumerate(made))
    arrays.write_arrays(path, 0, arrays.layers_of(meta), len(made), rows, True)
    images.write_index(path, [images.index_row(item, i) for i, item in enumerate(items)])
    return path


def test_segmentations_are_columns_of_both_levels(tmp_path):
    store, named, told = masked(tmp_path / "masks"), [], {}
    settings = TINY | {"patch_px": 2, "fit.epochs": 2, "fit.batch_size": 4}
    for encoder, width in (("narrow", 8), ("wide", 16)):
        for level in ("object", "part"):
            path = partsig.finetune(
                "scratch", store, tmp_path / f"{encoder}-{level}", task=f"{level}-segmentation",
                overrides=settings | {"encoder.width": width}, **CPU,
            )  # fmt: skip
            found = partsig.evaluate(path, figures=False, **CPU)
            told[encoder, level] = found.metrics["mean_iou"]
            named.append(f"{encoder}={path}")
    table = partsig.compare(named, task="parts", against="narrow", output=tmp_path / "t", **CPU)
    assert [(column.title, column.measure) for column in table.columns] == [
        ("object: segmentation", "mean IoU"), ("part: segmentation", "mean IoU"),
    ]  # fmt: skip
    for column in table.columns:
        for encoder, cell in column.cells.items():
            assert cell.score == pytest.approx(told[encoder, column.level])


def test_a_damaged_evaluation_is_told(named, tmp_path):
    path = tmp_path / "wide-found"
    shutil.copytree(next(i for i in named if i.endswith("wide-found")).partition("=")[2], path)
    (path / "evaluation" / "metrics.json").write_text("[]")
    with pytest.raises(DataError, match=r"metrics\.json is damaged; evaluate .*wide-found again"):
        partsig.compare([*named, path], task="parts", against="narrow", **CPU)


def test_a_table_that_there_is_not_is_told(named):
    with pytest.raises(ConfigError, match="--task is 'part'; nearest is 'parts'; it can be"):
        partsig.compare(named, task="part")
