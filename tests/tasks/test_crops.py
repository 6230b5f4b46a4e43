"""Crops of images as labelled items: judged by kappa, with intervals over the images."""

import csv
import json

import numpy as np
import pytest

import partsig
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.metrics.agreement import confusion, confusions, kappa
from partsig.metrics.resampling import bootstrap
from partsig.runs.run import Run
from partsig.runs.test_results import load
from partsig.tasks import registry

IMAGES, CROPS, SIZE = 40, 3, 8
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 1, "patch_px": 4, "pool": "mean"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three crops an image, of which the class shows in most: stripes along rows or columns."""
    path = tmp_path_factory.mktemp("crops") / "store"
    rng = np.random.default_rng(0)
    pixels, items = [], []
    for image in range(IMAGES):
        role = "test" if image % 4 == 0 else "val" if image % 4 == 1 else "train"
        for crop in range(CROPS):
            label = (image + crop) % 2
            stripes = 90 * (np.arange(SIZE) // 2 % 2)
            stripes = stripes[:, None] if label ^ (rng.random() < 0.15) else stripes[None]
            noise = rng.integers(0, 120, (1, SIZE, SIZE))
            pixels.append((np.broadcast_to(stripes, (1, SIZE, SIZE)) + noise).astype(np.uint8))
            items.append(images.Item(f"{image}.jpg#{crop}", label, role, "", f"{image}.jpg"))
    source = images.Source(
        name="made",
        size=(SIZE, SIZE),
        ch_names=("grey",),
        classes=("columns", "rows"),
        items=items,
        read=pixels.__getitem__,
    )
    meta = images.make_meta(source, 0.1)
    images.create(path, meta)
    some = ((i, [image]) for i, image in enumerate(pixels))
    arrays.write_arrays(path, 0, arrays.layers_of(meta), len(pixels), some, True)
    images.write_index(path, [images.index_row(item, i) for i, item in enumerate(items)])
    return path


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Return a run by neighbours and a linear probe, of an encoder from scratch, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for train in ("knn", "probe"):
        overrides = {**TINY, "train": train}
        made[train] = partsig.finetune("scratch", store, folder / train, overrides=overrides)
        partsig.evaluate(made[train], figures=False)
    return made


def predictions(run):
    with open(run / "evaluation" / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("train", ["knn", "probe"])
def test_intervals_are_over_the_images(runs, train):
    result = json.loads((runs[train] / "evaluation" / "metrics.json").read_text())
    rows = predictions(runs[train])
    truth, predicted = (
        np.array([row[key] == "rows" for row in rows], int) for key in ("truth", "prediction")
    )
    names = sorted({row["image"] for row in rows}, key=[row["image"] for row in rows].index)
    numbers = np.array([names.index(row["image"]) for row in rows])
    assert (len(names), len(rows)) == (10, 30)
    assert (result["n_images"], result["n_crops"], result["split_unit"]) == (10, 30, "image")
    assert (result["train_images"], result["val_images"]) == (20, 10)
    tables = confusions(truth, predicted, 2, numbers)
    assert result["kappa"] == pytest.approx(float(kappa(confusion(truth, predicted, 2))))
    assert result["kappa_interval_95"] == pytest.approx(list(bootstrap(tables, kappa, seed=0)))
    assert result["bootstrap"]["unit"] == "image"
    assert result["accuracy"] > 0.6
    summary = registry.get("classification").summary(result)
    assert summary[0].startswith("10 test images, 30 crops of them, of store")
    assert "bootstrap over images" in summary[1]
    assert rows[0]["crop"] == f"{rows[0]['image']}#0"


def test_a_run_counts_images(runs):
    run = Run.read(runs["knn"])
    assert (run.unit, run.grouped, run.n_train) == ("image", True, 60)
    assert [run.n_units(role) for role in ("train", "val", "test")] == [20, 10, 10]


def test_runs_are_compared_over_images(runs, tmp_path):
    named = [f"knn={runs['knn']}", f"probe={runs['probe']}"]
    results, metric = load(named)
    assert (metric.name, metric.units, metric.answers) == ("kappa", "images", "crops")
    assert results[0].counts.shape == (10, 2, 2)
    result = json.loads((runs["knn"] / "evaluation" / "metrics.json").read_text())
    assert results[0].confusion.tolist() == result["confusion"]
    found = partsig.compare(named, output=tmp_path / "out")
    assert (found.n_units, found.n_answers) == (10, 30)
    assert "30 crops of 10 images" in (tmp_path / "out" / "compare.md").read_text()


def test_crops_are_embedded_with_their_images(runs, store, tmp_path):
    made = partsig.embed(runs["probe"], store, output=tmp_path / "e.npz")
    with np.load(made.path, allow_pickle=False) as file:
        assert file["group"].tolist()[:4] == ["0.jpg", "0.jpg", "0.jpg", "1.jpg"]
        assert file["image"].tolist()[3] == "1.jpg#0"


def test_figures_name_what_is_judged(runs):
    result = json.loads((runs["probe"] / "evaluation" / "metrics.json").read_text())
    task = registry.get("classification")
    examples = type("Examples", (), {"grouped": True, "unit": "image", "item": "crop"})
    examples.__len__ = lambda self: 30
    assert task.headline(result, examples()).endswith("10 images, 30 crops")
