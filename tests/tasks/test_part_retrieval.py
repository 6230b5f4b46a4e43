"""Part retrieval: on crops of images and on stretches of signals, by the same code."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

import partsig
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.data.images.store import open_images
from partsig.errors import CheckpointError, ConfigError
from partsig.metrics.resampling import bootstrap
from partsig.metrics.retrieval import by_label, mean_average_precision

N, EACH, SIZE = 24, 4, 8
TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
CPU = {"device": "cpu"}
PARTS = ("beak", "tail", "wing")


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Crops of three parts, stripes of another width each, in noise; four an image."""
    path = tmp_path_factory.mktemp("parts") / "store"
    rng = np.random.default_rng(0)
    pixels, items = [], []
    for image in range(N):
        role = ("test", "val", "train")[image % 3]
        for crop in range(EACH):
            label = int(rng.integers(3))
            wave = 60 * np.sign(np.sin(np.arange(SIZE) * (label + 1)))
            made = 128 + wave[None, :, None] + rng.normal(0, 40, (1, SIZE, SIZE))
            pixels.append(made.clip(0, 255).astype(np.uint8))
            items.append(images.Item(f"{image}.jpg#{crop}", label, role, "", f"{image}.jpg"))
    source = images.Source(
        name="made", size=(SIZE, SIZE), ch_names=("grey",), classes=PARTS, items=items,
        read=pixels.__getitem__,
    )  # fmt: skip
    meta = images.make_meta(source, 0.1)
    images.create(path, meta)
    some = ((i, [image]) for i, image in enumerate(pixels))
    arrays.write_arrays(path, 0, arrays.layers_of(meta), len(pixels), some, True)
    images.write_index(path, [images.index_row(item, i) for i, item in enumerate(items)])
    return path


@pytest.fixture(scope="module")
def run(crops, tmp_path_factory):
    overrides = TINY | {"patch_px": 4, "pool": "mean"}
    path = tmp_path_factory.mktemp("runs") / "run"
    partsig.finetune("scratch", crops, path, task="part-retrieval", overrides=overrides, **CPU)
    partsig.evaluate(path, **CPU)
    return path


def results(run):
    return json.loads((run / "evaluation" / "metrics.json").read_text())


def queries(run):
    with open(run / "evaluation" / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_query_has_scikit_learns_precision(run, crops):
    partsig.embed(run, crops, output=run / "e.npz", **CPU)
    with np.load(run / "e.npz") as found:
        of_test = found["role"] == "test"
        names, features = found["image"][of_test], found["embeddings"][of_test]
    assert features.shape == (N // 3 * EACH, 16)  # the mean of the tokens, as asked for
    store = open_images(crops)
    labels = store.labels[[store.names.index(name) for name in names]]
    likeness = cosine_similarity(features.astype(np.float64)).round(6)
    rows = {row["crop"]: row for row in queries(run)}
    assert set(rows) == set(names)
    for i, name in enumerate(names):
        others = np.arange(len(names)) != i
        expected = average_precision_score(labels[others] == labels[i], likeness[i, others])
        assert float(rows[name]["average_precision"]) == pytest.approx(expected, abs=2e-2)
        assert rows[name]["truth"] == PARTS[labels[i]]


def test_the_figures_are_means_of_the_queries_and_their_interval_is_over_images(run):
    found, rows = results(run), queries(run)
    precision = np.array([float(row["average_precision"]) for row in rows])
    labels = np.array([PARTS.index(row["truth"]) for row in rows])
    each = [precision[labels == k].mean() for k in range(3)]
    for name, value in zip(PARTS, each, strict=True):
        assert found["average_precision"][name] == pytest.approx(value, abs=1e-6)
    assert found["mean_average_precision"] == pytest.approx(np.mean(each), abs=1e-6)
    assert found["average_precision_of_queries"] == pytest.approx(precision.mean(), abs=1e-6)
    assert (found["n_images"], found["n_crops"], found["split_unit"]) == (8, 32, "image")
    groups = [row["image"] for row in rows]
    tables = [
        by_label(precision[mine], labels[mine], 3)
        for mine in (np.array([g == name for g in groups]) for name in dict.fromkeys(groups))
    ]
    ends = bootstrap(tables, mean_average_precision, seed=0)
    assert found["mean_average_precision_interval_95"] == pytest.approx(ends, abs=1e-6)
    counts = np.bincount(labels)
    assert found["chance"] == pytest.approx(((counts - 1) / 31).mean())


def test_it_says_what_was_found_and_draws_it(run):
    found = partsig.evaluate(run, **CPU)
    assert found.summary[0].startswith("mean average precision 0.")
    assert "bootstrap over images; chance 0." in found.summary[0]
    assert found.summary[1].startswith("by part: beak 0.")
    assert [path.name for path in found.figures] == ["confusion.png"]


def test_nothing_is_trained_and_the_run_is_called_after_the_task(run, crops, tmp_path, monkeypatch):
    record = json.loads((run / "run.json").read_text())
    assert record["task"] == "part-retrieval"
    assert record["config"]["train"] == "probe"  # the encoder is left as it is
    assert 0 < record["val_mean_average_precision"] <= 1
    monkeypatch.chdir(tmp_path)
    made = partsig.finetune(
        "scratch", crops, task="part-retrieval", overrides=TINY | {"patch_px": 4}, **CPU
    )
    assert made.name == "finetune-scratch-probe-part-retrieval-k0-s0"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train": "knn"}, "trains nothing: leave out train=knn"),
        ({"train": "probe+full"}, r"trains nothing: leave out train=probe\+full"),
    ],
)
def test_what_it_has_no_use_for_is_refused(crops, tmp_path, overrides, message):
    overrides = TINY | {"patch_px": 4} | overrides
    with pytest.raises(ConfigError, match=message):
        partsig.finetune(
            "scratch", crops, tmp_path / "run", task="part-retrieval", overrides=overrides, **CPU
        )
    assert not (tmp_path / "run").exists()


def test_runs_are_compared_by_it(run, crops, tmp_path):
    other = tmp_path / "other"
    overrides = TINY | {"patch_px": 4, "pool": "cls"}
    partsig.finetune("scratch", crops, other, task="part-retrieval", overrides=overrides, **CPU)
    partsig.evaluate(other, figures=False, **CPU)
    found = partsig.compare([f"mean={run}", f"cls={other}"], output=tmp_path / "table", **CPU)
    assert "mean average precision" in found.markdown
    values = [results(path)["mean_average_precision"] for path in (run, other)]
    for value in values:
        assert f"{value:.3f}" in found.markdown


def test_it_does_not_know_that_images_have_two_axes(encoder_run, sample_store, tmp_path):
    """Epochs of a night are items, too: which other epochs are of the same stage?"""
    path = partsig.finetune(
        encoder_run, sample_store, tmp_path / "run", task="part-retrieval", subjects=6, **CPU
    )
    found = partsig.evaluate(path, figures=False, **CPU)
    assert found.metrics["split_unit"] == "subject"
    assert set(found.metrics["average_precision"]) == {"W", "N1", "N2", "N3", "REM"}
    assert found.metrics["mean_average_precision"] > found.metrics["chance"]


@pytest.mark.slow
def test_what_lies_nearest_is_drawn_and_told(run, tmp_path):
    found = partsig.inspect(run, what="retrieval", n=3, output=tmp_path / "look", **CPU)
    assert sorted(path.name for path in found.figures) == ["retrieval.png", "retrieval.svg"]
    assert sorted(query["part"] for query in found.metrics["queries"]) == sorted(PARTS)
    rows = {row["crop"]: row for row in queries(run)}
    for query in found.metrics["queries"]:
        own = rows[query["query"]]
        assert query["average_precision"] == float(own["average_precision"])
        assert len(query["nearest"]) == 24
        assert query["query"] not in query["nearest"]
        right = [rows[name]["truth"] == query["part"] for name in query["nearest"]]
        assert query["right"] == right
        # The nearest of all is the one whose part evaluate took for an answer.
        assert rows[query["nearest"][0]]["truth"] == own["prediction"]
    again = partsig.inspect(run, what="retrieval", n=3, output=tmp_path / "look", **CPU)
    assert again.metrics == found.metrics


def test_signals_are_drawn_alike_and_other_runs_refused(encoder_run, sample_store, tmp_path):
    path = partsig.finetune(
        encoder_run, sample_store, tmp_path / "run", task="part-retrieval", subjects=6, **CPU
    )
    found = partsig.inspect(path, what="retrieval", n=2, **CPU)
    assert found.path == path / "inspection"
    assert all(file.stat().st_size > 10_000 for file in found.figures)
    assert len(found.metrics["queries"][0]["query"].split()) == 3  # recording, subject, epoch
    probe = partsig.finetune(
        encoder_run, sample_store, tmp_path / "probe", subjects=6,
        overrides={"train": "probe"}, **CPU,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="name one of --task part-retrieval with --run"):
        partsig.inspect(probe, what="retrieval", **CPU)
