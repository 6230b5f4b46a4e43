"""Part and object segmentation: the whole way on a tiny store, and by heart on real images."""

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

import partsig
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.data.images.masked import MaskedImages
from partsig.data.images.store import open_images
from partsig.errors import ConfigError
from partsig.metrics.resampling import bootstrap
from partsig.metrics.segmentation import mean_iou
from partsig.runs.run import Run
from partsig.tasks import registry as tasks
from partsig.tasks.segmentation_scores import tables

N, SIZE = 30, 16
CPU = {"device": "cpu"}
TINY = {"encoder.width": 16, "encoder.depth": 3, "encoder.heads": 2, "patch_px": 4}
SHORT = TINY | {"fit.epochs": 3, "fit.batch_size": 8, "optim.lr": 0.1}
PARTS = ("head", "body", "wheel", "background")
OBJECTS = {"head": "animal", "body": "animal", "wheel": "car"}
SAMPLES = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Images (n, 1, 16, 16) of rectangles of three kinds of grey, a corner without a label."""
    path = tmp_path_factory.mktemp("masks") / "store"
    rng = np.random.default_rng(0)
    made, items = [], []
    for i in range(N):
        mask = np.full((SIZE, SIZE), 3, np.uint8)
        left = int(rng.integers(1, 9))
        if i % 2:
            mask[2:6, left : left + 6], mask[6:14, left : left + 6] = 0, 1
        else:
            mask[8:14, left : left + 6] = 2
        grey = np.array([60, 110, 200, 20])[mask] + rng.normal(0, 12, mask.shape)
        mask[:2, :2] = 255
        made.append((grey.clip(0, 255).astype(np.uint8)[None], mask))
        role = ("test", "val", "train", "train", "train")[i % 5]
        items.append(images.Item(f"{i:02d}.jpg", -1, role, ""))
    masks = {"classes": list(PARTS), "objects": OBJECTS, "mirrored": {}}
    source = images.Source(
        name="made", size=(SIZE, SIZE), ch_names=("grey",), classes=(), items=items,
        read=made.__getitem__, facts={"masks": masks},
    )  # fmt: skip
    meta = images.make_meta(source, 0.1)
    images.create(path, meta)
    arrays.write_arrays(
        path, 0, arrays.layers_of(meta), N, ((i, list(pair)) for i, pair in enumerate(made)), True
    )
    images.write_index(path, [images.index_row(item, i) for i, item in enumerate(items)])
    return path


def segmented(store, path, task="part-segmentation", seed=0, **more):
    return partsig.finetune(
        "scratch", store, path, task=task, overrides=SHORT | more, seed=seed, **CPU
    )


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    path = segmented(store, tmp_path_factory.mktemp("runs") / "run")
    partsig.evaluate(path, **CPU)
    return path


def results(run):
    return json.loads((run / "evaluation" / "metrics.json").read_text())


def maps(run):
    """Predicted classes (n, H, W), by image."""
    with zipfile.ZipFile(run / "evaluation" / "predictions.zip") as file:
        told = list(csv.DictReader(io.TextIOWrapper(file.open("items.csv"), "utf-8")))
        found = {}
        for row in told:
            image = Image.open(io.BytesIO(file.read(row["file"])))
            assert image.mode == "P"
            found[row["image"]] = np.array(image)
    return found


def test_figures_are_scikit_learns_of_the_maps_that_were_written(run, store):
    found, made, opened = results(run), maps(run), open_images(store)
    index = opened.members("test")
    assert list(made) == [opened.names[i] for i in index]
    truth, predicted = opened.masks(index), np.stack(list(made.values()))
    seen = truth != 255
    truth, predicted = truth[seen], predicted[seen]
    expected = jaccard_score(truth, predicted, average=None, labels=range(4))
    told = [found["iou"][name] for name in PARTS]
    np.testing.assert_allclose(told, expected, atol=1e-12)
    assert found["mean_iou"] == pytest.approx(expected.mean())
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    table = confusion_matrix(truth, predicted, labels=range(4))
    assert found["confusion"] == table.tolist()
    assert found["no_label"] == pytest.approx(4 / SIZE**2)
    share = np.bincount(truth).max() / len(truth)
    assert found["of_commonest"] == pytest.approx(share / 4)
    assert found["mean_iou"] > found["of_commonest"]
    assert found["background"] == "a class"


def test_intervals_are_bootstraps_over_images(run, store):
    found, made, opened = results(run), maps(run), open_images(store)
    examples = MaskedImages(opened, opened.members("test"), SIZE)
    counts, _ = tables(examples, np.stack(list(made.values())))
    ends = bootstrap(list(counts), mean_iou, seed=0)
    assert found["mean_iou_interval_95"] == pytest.approx(ends)
    assert found["n_images"] == len(examples) == 6
    with open(run / "evaluation" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        k = PARTS.index(row["class"])
        i = list(made).index(row["image"])
        told = [int(row[key]) for key in ("both", "truth", "prediction")]
        assert told == counts[i, k].tolist()


def test_it_is_said_drawn_and_remembered(run):
    found = partsig.evaluate(run, **CPU)
    assert found.summary[0].startswith("mean IoU 0.")
    assert "by class: head 0." in found.summary[2]
    assert "background is a class; 1.6 % of all places have no label" in found.summary[3]
    assert [path.name for path in found.figures] == ["confusion.png", "segmentation.png"]
    record = json.loads((run / "run.json").read_text())
    assert record["labels"]["classes"] == list(PARTS)
    assert record["labels"]["objects"] == ["animal", "animal", "car", "background"]
    assert record["config"]["train"] == "probe"
    assert record["config"]["optim"]["weight_decay"] == 0.01  # of the usual configuration
    assert 0 < record["val_mean_iou"] <= 1
    assert record["chosen_epoch"] in (1, 2, 3)


def test_the_encoder_is_left_as_it_is(run, store, tmp_path):
    """Two runs of one seed that were trained for another time have the same encoder."""
    other = segmented(store, tmp_path / "other", **{"fit.epochs": 1, "optim.warmup_epochs": 0})
    one, two = (tasks.get("part-segmentation").load(Run.read(path)) for path in (run, other))
    for name, value in one.encoder.state_dict().items():
        torch.testing.assert_close(value, two.encoder.state_dict()[name], rtol=0, atol=0)
    assert not torch.equal(one.head.linear.weight, two.head.linear.weight)


def test_objects_are_the_parts_of_one_kind_together(run, store, tmp_path):
    path = segmented(store, tmp_path / "run", task="object-segmentation")
    partsig.evaluate(path, **CPU)
    found, opened = results(path), open_images(store)
    assert list(found["iou"]) == ["animal", "car", "background"]
    truth = opened.masks(opened.members("test"))
    merged = np.array([0, 0, 1, 2, *[255] * 252])[truth]
    counts = np.bincount(merged[merged != 255], minlength=3)
    assert np.sum(found["confusion"], 1).tolist() == counts.tolist()


def test_the_same_again_is_the_same(run, store, tmp_path):
    again = segmented(store, tmp_path / "again")
    partsig.evaluate(again, figures=False, **CPU)
    assert results(again)["confusion"] == results(run)["confusion"]
    one, two = ((path / "evaluation" / "predictions.csv").read_bytes() for path in (run, again))
    assert one == two


def test_runs_are_compared_by_it(run, store, tmp_path):
    other = segmented(store, tmp_path / "seed1", seed=1)
    partsig.evaluate(other, figures=False, **CPU)
    found = partsig.compare([f"a={run}", f"b={other}"], output=tmp_path / "table", **CPU)
    assert found.measure == "mean IoU"
    assert (found.n_units, found.n_answers) == (6, 6)
    for path, row in zip((run, other), found.rows, strict=True):
        assert row.score == pytest.approx(results(path)["mean_iou"])
        dice = [2 * v / (1 + v) for v in results(path)["iou"].values()]
        assert row.macro_f1 == pytest.approx(np.mean(dice))
    low, high = results(run)["mean_iou_interval_95"]
    assert found.rows[0].interval == pytest.approx((low, high), abs=0.01)


def test_damaged_counts_are_told(run, store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "evaluation" / "predictions.csv"
    lines = file.read_text().splitlines()
    name, part, truth, predicted, both = lines[1].split(",")
    lines[1] = ",".join([name, part, truth, predicted, str(int(both) - 1)])
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(partsig.errors.DataError, match="is damaged; evaluate"):
        partsig.compare([copy], output=tmp_path / "table", **CPU)


def test_windows_are_for_training_and_for_judging(run, store, tmp_path):
    path = segmented(store, tmp_path / "run", **{"segmentation.window": 8})
    model = tasks.get("part-segmentation").load(Run.read(path))
    assert (model.window, model.stride) == (8, 5)
    found = partsig.evaluate(path, figures=False, **CPU)
    assert found.metrics["segmentation"]["window"] == 8
    assert found.metrics["mean_iou"] > found.metrics["of_commonest"]


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        ("part-segmentation", {"train": "knn"}, "leave out model=encoder and train=knn"),
        ("part-segmentation", {"pool": "mean"}, "has no use for pool: leave it out"),
        ("part-segmentation", {"augment.flip": 0.5}, "has no use for augment: leave it out"),
        ("part-segmentation", {"segmentation.taps": [3]}, "there is no block 3"),
        ("part-segmentation", {"segmentation.stride": 4}, "at most segmentation.window"),
        ("part-segmentation", {"fit.epochs": 1, "optim.warmup_epochs": 2}, "would never reach"),
    ],
)
def test_what_it_has_no_use_for_is_refused(store, tmp_path, task, overrides, message):
    with pytest.raises(ConfigError, match=message):
        segmented(store, tmp_path / "run", task=task, **overrides)


def test_stores_without_masks_are_refused(digits, sample_store, tmp_path):
    for path in (digits, sample_store):
        with pytest.raises(ConfigError, match="has labels of class and no mask"):
            partsig.finetune("scratch", path, tmp_path / "run", task="part-segmentation", **CPU)


def test_no_vector_is_taken_of_it(run, store):
    with pytest.raises(ConfigError, match="--task part-segmentation, which gives no vector"):
        partsig.embed(run, store, **CPU)


def test_few_images_of_each_class_need_classes(store, tmp_path):
    with pytest.raises(ConfigError, match="--segments-per-class 2: not every training image"):
        partsig.finetune(
            "scratch", store, tmp_path / "run", task="part-segmentation", segments_per_class=2,
            overrides=SHORT, **CPU,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "folder", "n"),
    [("pascal-part", "pascal_part", 2), ("cihp", "cihp", 3), ("celebamask", "celebamask", 4),
     ("ade20k-part", "ade20k", 3)],
)  # fmt: skip
def test_a_handful_of_real_images_is_learned_by_heart(source, folder, n, tmp_path):
    """Mean IoU above .8 on what was trained on: nothing between pixels and figure is mixed up."""
    if not (SAMPLES / folder).is_dir():
        pytest.skip(f"{folder} is not among the real samples")
    from partsig.core.objectives.segmenter import Segmenter
    from partsig.interop.packaged import open_packaged

    size = 64
    partsig.preprocess(source, SAMPLES / folder, tmp_path / "store", overrides={"size": size})
    opened = open_images(tmp_path / "store")
    examples = MaskedImages(opened, np.arange(min(n, len(opened))), size)
    torch.manual_seed(0)
    encoder = open_packaged("efficientnet-lite0@128", None).encoder
    model = Segmenter(encoder, len(examples.classes)).train()
    model.look_at(examples)
    item = torch.arange(len(examples))
    x, y = (
        torch.from_numpy(made(item.numpy()).copy())
        for made in (examples.inputs_of, examples.masks_of)
    )
    optimiser = torch.optim.AdamW(model.head.parameters(), 2e-2, weight_decay=0)
    for _ in range(150):
        told = model(x, y, item=item)
        optimiser.zero_grad()
        told["loss"].backward()
        optimiser.step()
    task = tasks.get("part-segmentation")
    found = task.predict(model, examples, torch.device("cpu"))
    counts, _ = tables(examples, found)
    assert mean_iou(counts.sum(0)) > 0.8
