"""Labels on images: budgets, probes, neighbours, full training, and what evaluation says."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import partsig
from partsig.data.images import arrays
from partsig.data.images import store as image_store
from partsig.data.images.examples import LabelledImages
from partsig.data.images.store import open_images
from partsig.data.signals.windows import Shuffled
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.interop import PartEmbedder, PartStager
from partsig.metrics.calibration import calibration_error, reliability
from partsig.metrics.resampling import bootstrap
from partsig.modalities import registry
from partsig.modalities.image_dataset import ImageDataset
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs import directory as runs
from partsig.runs.method_names import method_of
from partsig.runs.models import load_encoder
from partsig.sleep.stager import load
from partsig.tasks import frozen
from partsig.tasks.classification import Classification
from partsig.tasks.classification_scores import share_interval
from partsig.tasks.networks import settings_of
from partsig.verbs.compare import compare
from partsig.verbs.evaluate import evaluate
from partsig.verbs.export import run_file
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

SHAPE = {"encoder.width": 32, "encoder.depth": 2, "encoder.heads": 2, "patch_px": 2}
SHORT = {"fit.epochs": 6, "fit.batch_size": 50, "optim.lr": 2e-2, "optim.warmup_epochs": 1}
SHORT |= {"drop_path": 0.0, "pool": "mean+sd"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pretrained(digits, tmp_path_factory):
    settings = SHAPE | {"size": 8, "objective.patches": 12, "windows_per_epoch": 256}
    settings |= {"fit.epochs": 2, "fit.batch_size": 64, "optim.warmup_epochs": 0}
    run = tmp_path_factory.mktemp("runs") / "part"
    return pretrain(digits, run, modality="image", overrides=settings, gpus="0")


def tune(origin, store, run, settings=(), **options):
    options = {"segments_per_class": 20, "device": "cpu"} | options
    return finetune(origin, store, run, overrides=dict(settings), **options)


@pytest.fixture(scope="module")
def probe(pretrained, digits, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "probe"
    return tune(pretrained, digits, run, {"train": "probe", "pool": "mean+sd"})


def test_a_budget_is_so_many_images_of_every_class_and_nested(digits):
    store = open_images(digits)
    some, _ = ImageDataset(store).draw(5, 0)
    more, val = ImageDataset(store).draw(20, 0)
    assert np.bincount(store.labels[some]).tolist() == [5] * 10
    assert set(some) < set(more)
    assert set(store.roles[more]) == {"train"}
    assert set(store.roles[val]) == {"val"}
    every = ImageDataset(store).draw(0, 0)[0]
    assert every.tolist() == store.members("train").tolist()
    assert ImageDataset(store).draw(5, 1)[0].tolist() != some.tolist()


def test_repeats_put_copies_side_by_side_in_an_epoch_of_the_same_length():
    order = Shuffled(10, 10, seed=0, repeats=3).order(1)
    assert len(order) == 10
    assert np.unique(order[:9], return_counts=True)[1].tolist() == [3, 3, 3]
    assert sorted(Shuffled(10, 10, seed=0).order(1).tolist()) == list(range(10))


def test_a_linear_head_is_scikit_learns_and_beats_chance_by_far_on_pixels(digits):
    store = open_images(digits)
    train, val = (store.members(role) for role in ("train", "val"))
    x, x_val = (store.batch(i).reshape(len(i), -1).astype(float) for i in (train, val))
    y, y_val = store.labels[train], store.labels[val]

    def score(truth, predicted):
        return float((truth == predicted).mean())

    weight, bias, strength, value = frozen.fit_logistic(x, y, x_val, y_val, 10, score)
    logits = x_val @ weight.T + bias
    assert score(y_val, logits.argmax(1)) == value > 0.9
    spread = np.where(x.std(0) > 0, x.std(0), 1)
    judge = LogisticRegression(C=strength, max_iter=2000).fit((x - x.mean(0)) / spread, y)
    expected = judge.decision_function((x_val - x.mean(0)) / spread)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    with pytest.raises(ConfigError, match="one class only among the training labels"):
        frozen.fit_logistic(x, np.zeros_like(y), x_val, y_val, 10, score)


def test_neighbours_vote_by_their_cosine():
    rng = np.random.default_rng(0)
    x, x_test, y = rng.normal(size=(40, 6)), rng.normal(size=(9, 6)), rng.integers(0, 3, 40)
    classes, votes = frozen.knn(x, y, x_test, 5)
    for at, found in zip(x_test, votes, strict=True):
        cosine = x @ at / np.linalg.norm(x, axis=1) / np.linalg.norm(at)
        nearest = np.argsort(-cosine)[:5]
        weights = np.exp(cosine[nearest] / 0.07)
        expected = np.bincount(y[nearest], weights, minlength=3) / weights.sum()
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert classes.tolist() == [0, 1, 2]


def test_a_probe_leaves_the_encoder_alone_and_beats_chance(probe, pretrained, digits):
    model, trained = load_classifier(probe)
    record, settings = trained.facts, settings_of(trained)
    encoder = load_encoder(pretrained).encoder
    for key, value in encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[key], value), key
    assert (settings.size, settings.patch_px, settings.positions) == (8, 2, "none")
    assert record["pretraining"] == {"objective": "part", "seed": 0}
    assert record["n_images"]["train"] == 200
    assert trained.labels.classes == tuple(map(str, range(10)))
    store = open_images(digits)
    names = json.loads((probe / "split.json").read_text())["train"]
    assert {store.roles[store.names.index(name)] for name in names} == {"train"}
    assert evaluate(probe, device="cpu", figures=False).metrics["accuracy"] > 0.6


def test_neighbours_are_kept_with_the_run(pretrained, digits, tmp_path):
    run = tune(pretrained, digits, tmp_path / "run", {"train": "knn", "pool": "mean+sd"})
    model, trained = load_classifier(run)
    record = trained.facts
    store = open_images(digits)
    val = ImageDataset(store).draw(20, 0)[1]
    p = frozen.predict_examples(model, LabelledImages(store, val, 8), CPU)
    right = p.argmax(1) == store.labels[val]
    assert right.mean() == record["val_accuracy"] > 0.25  # chance is 0.1
    assert model.known.shape == (200, 64)


def test_the_first_blocks_of_an_encoder_can_be_kept(pretrained, digits, tmp_path):
    run = tune(pretrained, digits, tmp_path / "one", {"train": "probe", "blocks": 1})
    model, trained = load_classifier(run)
    settings = settings_of(trained)
    assert settings.encoder.depth == len(model.encoder.blocks) == 1
    whole = load_encoder(pretrained).encoder
    theirs, ours = whole.state_dict(), model.encoder.state_dict()
    assert set(ours) == {key for key in theirs if not key.startswith("blocks.1.")}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert method_of(trained) == "part, first block, probe"
    deeper = {"train": "probe", "blocks": 3}
    with pytest.raises(ConfigError, match=r"blocks is 3; the encoder has 2 of them"):
        tune(pretrained, digits, tmp_path / "three", deeper)
    with pytest.raises(ConfigError, match=r"from scratch, set encoder\.depth"):
        tune("scratch", digits, tmp_path / "scratch", SHAPE | {"train": "probe", "blocks": 1})


def test_full_training_learns_is_the_same_again_and_goes_on(digits, tmp_path):
    settings = SHAPE | SHORT | {"loss.mixup": 0.2, "loss.cutmix": 1.0, "repeats": 2}
    settings |= {"fit.average": 0.5, "drop_path": 0.1}
    a, b = (tune("scratch", digits, tmp_path / name, settings, seed=3) for name in "ab")
    weights = [load_classifier(run)[0].state_dict() for run in (a, b)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    record = runs.read(a)
    assert record["val_accuracy"] > 0.2  # chance is 0.1; seeds 0 to 4 end between 0.13 and 0.35
    (tmp_path / "b" / "run.json").write_text(json.dumps(record | {"state": "running"}))
    before = (tmp_path / "b" / "metrics.jsonl").read_text()
    tune("scratch", digits, tmp_path / "b", settings, seed=3)
    assert runs.read(tmp_path / "b")["calibration"] == record["calibration"]
    assert (tmp_path / "b" / "metrics.jsonl").read_text() == before
    other = tune("scratch", digits, tmp_path / "c", settings | {"fit.epochs": 1}, seed=1)
    assert runs.read(other)["n_images"] == record["n_images"]
    with pytest.raises(CheckpointError, match=r"fit\.epochs: 1, now 2"):
        tune("scratch", digits, tmp_path / "c", settings | {"fit.epochs": 2}, seed=1)


def test_augmented_training_does_not_depend_on_timing(pretrained, digits, tmp_path):
    pytest.importorskip("torchvision", reason="augmentations are torchvision's")
    settings = SHORT | {"augment.crop": "pad", "augment.jitter": 0.4, "augment.erase": 0.5}
    settings |= {"fit.epochs": 2, "drop_path": 0.3, "loss.cutmix": 1.0, "train": "probe+full"}
    found = []
    for workers in (0, 1, 3):
        run = tune(pretrained, digits, tmp_path / str(workers), settings | {"fit.workers": workers})
        found.append(load_classifier(run)[0].state_dict())
    assert all(torch.equal(found[0][key], other[key]) for other in found[1:] for key in other)


def test_evaluation_tells_what_its_predictions_say(probe, digits):
    found = evaluate(probe, device="cpu")
    with open(found.path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    store = open_images(digits)
    assert [row["image"] for row in rows] == [store.names[i] for i in store.members("test")]
    right = np.array([row["truth"] == row["prediction"] for row in rows])
    values = found.metrics
    assert values["accuracy"] == pytest.approx(right.mean())
    low, high = values["accuracy_interval_95"]
    assert low < right.mean() < high
    assert "top5_accuracy" not in values
    threes = np.array([row["truth"] == "3" for row in rows])
    assert values["accuracy_per_class"]["3"] == pytest.approx(right[threes].mean())
    p = np.array([[float(row[f"p_{i}"]) for i in range(10)] for row in rows])
    truth = np.array([int(row["truth"]) for row in rows])
    ece = calibration_error(reliability(truth, p))
    assert values["calibration"]["ece"] == pytest.approx(float(ece), abs=2e-3)
    assert json.loads((found.path / "metrics.json").read_text())["split_unit"] == "image"
    assert [figure.read_bytes()[:4] for figure in found.figures] == [b"\x89PNG"] * 2


def test_the_interval_is_the_bootstrap_over_images():
    right = np.random.default_rng(0).random(300) < 0.7
    units = [np.array([r, 1.0]) for r in right]
    drawn = bootstrap(units, lambda sums: sums[:, 0] / sums[:, 1])
    np.testing.assert_allclose(share_interval(right, 0), drawn, atol=0.01)


def test_five_guesses_count_where_there_are_many_classes():
    p = np.tile(np.linspace(1, 2, 20), (20, 1))
    test = SimpleNamespace(
        labels=np.arange(20), classes=tuple(map(str, range(20))), unit="image", grouped=False
    )
    found = Classification().score(test, p / p.sum(1, keepdims=True), 0)
    assert (found["accuracy"], found["top5_accuracy"]) == (1 / 20, 5 / 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": 10}, "holds images, which --subjects is not for; pass --segments-per-class"),
        ({"teacher": "run"}, "--teacher is not for"),
        ({"segments_per_class": 10_000}, "there are only [0-9]+ training images of class 0"),
        ({"segments_per_class": -1}, "--segments-per-class is -1"),
        ({"settings": {"size": 9}}, "size is 9; it must be a multiple of patch_px"),
        ({"settings": {"size": 6}}, "holds images of 8 x 8; size can be at most that"),
        ({"settings": {"encoder.width": 48}}, r"leave out encoder\.width: 32, now 48"),
        ({"settings": {"patch_px": 1}}, r"comes from .*; leave out patch_px: 2, now 1\.$"),
        ({"settings": {"model": "yasa"}}, "unknown key 'model'"),
        ({"config": "few-labels"}, "few-labels is for signals; the store holds images"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_mistakes_are_told_in_a_sentence(options, message, pretrained, digits, tmp_path):
    with pytest.raises(ConfigError, match=message):
        tune(pretrained, digits, tmp_path / "run", **options)


def test_no_teacher_is_asked_about_images(digits):
    with pytest.raises(ConfigError, match="holds images, which --teacher is not for"):
        registry.get("image").open(digits).without_labels({"val": [], "test": []})


def test_runs_of_the_other_modality_are_refused(probe, sample_store, pretrained, digits, tmp_path):
    with pytest.raises(CheckpointError, match="classifies images; a run on signals is needed"):
        load(probe)
    with pytest.raises(CheckpointError, match=r"was pretrained on images; .* holds signals\.$"):
        finetune(pretrained, sample_store, tmp_path / "run", device="cpu")


@pytest.mark.parametrize("verb", ["report", "stage"])
def test_verbs_that_are_for_signals_say_so(verb, probe, tmp_path):
    (tmp_path / "night.edf").write_bytes(b"")
    given = [tmp_path / "night.edf", probe] if verb == "stage" else [probe]
    with pytest.raises(CheckpointError, match="classifies images; a run on signals is needed here"):
        getattr(partsig, verb)(*given)


def test_embeddings_of_images_are_what_the_heads_see(probe, pretrained, digits, tmp_path):
    store = open_images(digits)
    done = partsig.embed(probe, device="cpu")
    assert (done.n, done.what, done.width, done.pool) == (1797, "images", 64, "mean+sd")
    found = np.load(done.path)
    assert found["image"].tolist() == list(store.names)
    assert found["role"].tolist() == store.roles.tolist()
    assert found["label"].tolist() == [store.classes[label] for label in store.labels]
    model = load_classifier(probe)[0]
    index = np.arange(len(store))
    own = frozen.features(model, LabelledImages(store, index, 8), CPU)
    np.testing.assert_allclose(found["embeddings"], own, atol=1e-5)
    # A probe is frozen: its encoder is the pretrained one.
    other = partsig.embed(pretrained, output=tmp_path / "e.parquet", device="cpu")
    table = pytest.importorskip("pyarrow.parquet").read_table(other.path)
    assert table.num_rows == 1797
    first = np.stack([table[f"e_{i}"].to_numpy() for i in range(64)], axis=1)
    np.testing.assert_array_equal(first, found["embeddings"])
    told = json.loads(table.schema.metadata[b"partsig"])
    assert (told["kind"], told["labelled_store"]) == ("encoder", None)
    assert json.loads(str(found["meta"]))["pretraining_store"] == digits.name
    cls = np.load(partsig.embed(pretrained, output=tmp_path / "c.npz", pool="cls").path)
    assert cls["embeddings"].shape == (1797, 32)
    # After one block they are those of a run that kept one block.
    kept = tune(pretrained, digits, tmp_path / "kept", {"train": "probe", "blocks": 1})
    one, same = (
        np.load(partsig.embed(run, output=tmp_path / f"{name}.npz", pool="mean", **more).path)
        for name, run, more in (("one", pretrained, {"blocks": 1}), ("kept", kept, {}))
    )
    np.testing.assert_array_equal(one["embeddings"], same["embeddings"])
    assert not np.allclose(one["embeddings"], found["embeddings"][:, :32])
    assert json.loads(str(one["meta"]))["blocks"] == 1
    with pytest.raises(ConfigError, match="blocks is 3; the encoder has 2"):
        partsig.embed(pretrained, output=tmp_path / "x.npz", blocks=3)
    with pytest.raises(ConfigError, match="on images, which --recording is not for"):
        partsig.embed(probe, recordings=["a"])
    with pytest.raises(ConfigError, match=r"must end in \.npz or \.parquet"):
        partsig.embed(probe, output=tmp_path / "e.csv")


def test_runs_on_images_are_compared_by_accuracy_over_images(probe, pretrained, digits, tmp_path):
    settings = SHAPE | {"train": "probe", "pool": "mean+sd"}
    bare = [tune("scratch", digits, tmp_path / f"r-{seed}", settings, seed=seed) for seed in (0, 1)]
    found = compare([probe, *bare], against="random, probe", output=tmp_path / "table")
    assert (found.measure, found.unit) == ("accuracy", "images per class")
    assert found.n_units == found.n_answers == len(open_images(digits).members("test"))
    part, rand = sorted(found.rows, key=lambda row: row.method)
    assert (part.method, rand.method) == ("part, probe", "random, probe")
    own = [evaluate(run, device="cpu", figures=False).metrics for run in (probe, *bare)]
    assert part.score == pytest.approx(own[0]["accuracy"])
    assert part.macro_f1 == pytest.approx(own[0]["macro_f1"])
    assert part.n_train == 200
    # The interval is of the binomial that evaluate draws from, by other draws.
    np.testing.assert_allclose(part.interval, own[0]["accuracy_interval_95"], atol=0.02)
    assert rand.score == pytest.approx((own[1]["accuracy"] + own[2]["accuracy"]) / 2)
    # Paired: the draw of labels that both have, image by image.
    right = []
    for run in (probe, bare[0]):
        with open(run / "evaluation" / "predictions.csv", newline="") as handle:
            right.append([line["truth"] == line["prediction"] for line in csv.DictReader(handle)])
    gain = np.subtract(*np.array(right, dtype=float))
    assert part.gain == pytest.approx(gain.mean())
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    np.testing.assert_allclose(part.gain_interval, (part.gain - half, part.gain + half), atol=0.01)
    text = found.markdown
    assert "| 20 (200 images) | part, probe | 1 |" in text
    assert f"Test: {found.n_units} images, the same for every row. Accuracy is pooled" in text
    assert found.figure.read_bytes().startswith(b"\x89PNG")
    header = (tmp_path / "table" / "compare.csv").read_text().partition("\n")[0]
    assert "accuracy" in header.split(",")


def test_what_cannot_stand_in_one_table_with_images_is_refused(
    probe, sample_store, digits, tmp_path
):
    stager = finetune(
        "scratch", sample_store, tmp_path / "s", subjects=10, overrides={"model": "logistic"}
    )
    with pytest.raises(CheckpointError, match="classifies signals; a run on images is needed here"):
        compare([probe, stager], output=tmp_path)
    with pytest.raises(ConfigError, match="are both part, probe with 20 images per class, seed 0"):
        compare([probe, probe], output=tmp_path)
    bare = tune("scratch", digits, tmp_path / "run", SHAPE | {"train": "probe"})
    found = evaluate(bare, device="cpu", figures=False)
    names = found.path / "predictions.csv"
    whole = names.read_text()
    names.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="has other images than the first run's"):
        compare([probe, bare], output=tmp_path)
    names.write_text(whole.partition("\n")[0] + "\n")
    with pytest.raises(DataError, match=r"predictions\.csv is damaged; evaluate .*run again"):
        compare([probe, bare], output=tmp_path)
    names.write_text(whole)
    other = found.metrics | {"images_sha256": "of other pixels by the same names"}
    (found.path / "metrics.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="has other images than the first run's"):
        compare([probe, bare], output=tmp_path)
    (found.path / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"predictions\.csv is damaged; evaluate .*run again"):
        compare([probe, bare], output=tmp_path)
    shutil.rmtree(found.path)
    record = json.loads((bare / "run.json").read_text()) | {"store": str(tmp_path / "gone")}
    (bare / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"its store is no longer at .*gone: run `partsig evaluate"):
        compare([probe, bare], output=tmp_path)
    other = tmp_path / digits.name  # the same settings, number of images and name: another store
    shutil.copytree(digits, other)
    lines = (digits / "index.csv").read_text().splitlines(keepends=True)
    renamed = [lines[0], *(f"x{line}" for line in lines[1:])]
    (other / "index.csv").write_text("".join(renamed))
    foreign = evaluate(bare, other, device="cpu", figures=False)
    assert (foreign.path.name, foreign.metrics["external"]) == (f"evaluation-{digits.name}", True)
    further = tmp_path / "further" / digits.name
    shutil.copytree(other, further)
    assert (
        evaluate(bare, further, device="cpu", figures=False).path.name
        == f"evaluation-{digits.name}-2"
    )
    assert evaluate(bare, other, device="cpu", figures=False).path == foreign.path
    again = evaluate(bare, digits, device="cpu", figures=False)
    assert (again.path, again.metrics["external"]) == (found.path, False)
    assert again.metrics["images_sha256"] == found.metrics["images_sha256"]
    record = json.loads((bare / "run.json").read_text()) | {"provenance": "of another val_share"}
    (bare / "run.json").write_text(json.dumps(record))
    compare([probe, bare], output=tmp_path / "table")  # the test images are the same


def test_images_of_one_class_teach_nothing(digits, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(digits, store)
    rows = (store / "index.csv").read_text().splitlines()
    alike = [rows[0], *(",".join([r.split(",")[0], "3", *r.split(",")[2:]]) for r in rows[1:])]
    (store / "index.csv").write_text("\n".join(alike) + "\n")
    with pytest.raises(DataError, match="are all of one class"):
        tune("scratch", store, tmp_path / "run", SHAPE | {"train": "knn"}, segments_per_class=0)


def test_images_that_trained_the_classifier_are_not_tested_on(probe, digits, tmp_path):
    """Also in another store and under other names; those it never saw are."""
    store = open_images(digits)
    names = json.loads((probe / "split.json").read_text())["train"]
    trained = [store.names.index(name) for name in names[:2]]
    unused = next(i for i in store.members("train") if store.names[i] not in names)

    def other(path, numbers):
        pixels = store.batch(np.array(numbers))
        items = [
            image_store.Item(f"test/{k}", int(store.labels[i]), "test", "")
            for k, i in enumerate(numbers)
        ]
        source = image_store.Source(
            name="images",
            size=store.size,
            ch_names=store.ch_names,
            classes=store.classes,
            items=items,
            read=lambda i: pixels[i],
        )
        meta = image_store.make_meta(source, 0.1)
        image_store.create(path, meta)
        layers, some = arrays.layers_of(meta), enumerate(pixels[:, None])
        arrays.write_arrays(path, 0, layers, len(pixels), some, True)
        rows = [image_store.index_row(item, i) for i, item in enumerate(items)]
        image_store.write_index(path, rows)
        return path

    with pytest.raises(DataError, match=r"2 of the images to test on trained .*test/0, test/1"):
        evaluate(probe, other(tmp_path / "seen", [*trained, unused]), device="cpu")
    assert evaluate(probe, other(tmp_path / "new", [unused]), device="cpu", figures=False).metrics[
        "external"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "torch", "onnx"])
def test_a_classifier_of_images_is_exported_and_gives_the_same(form, probe, digits, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    evaluate(probe, device="cpu", figures=False)
    done = partsig.export(probe, tmp_path / "out", format=form)
    card = (done.path / "README.md").read_text(encoding="utf-8")
    assert "8 x 8 pixels; values from 0 to" in card
    assert "- accuracy: 0." in card
    store = open_images(digits)
    x = store.batch(store.members("test")[:5]).astype(np.float32)
    model, trained = load_classifier(probe)
    with torch.inference_mode():
        expected = (model.eval().logits(torch.from_numpy(x)) / trained.temperature).softmax(-1)
        if form == "safetensors":
            again = load_model(done.path)
            found = again.model.eval().logits(torch.from_numpy(x)) / again.facts["temperature"]
            found = found.softmax(-1).numpy()
        else:
            found = run_file(done.file, x)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_what_takes_signals_refuses_a_run_on_images(probe):
    for use in (PartStager.from_run, lambda run: PartEmbedder(run).fit(np.zeros((2, 1, 64)))):
        with pytest.raises(CheckpointError, match="is on images; a model of signals is needed"):
            use(probe)


def test_neighbours_are_embedded_as_they_see(pretrained, digits, tmp_path):
    run = tune(pretrained, digits, tmp_path / "run", {"train": "knn", "pool": "cls"})
    assert partsig.embed(run, output=tmp_path / "e.npz", device="cpu").pool == "cls"


def test_a_refused_teacher_leaves_no_run_behind(sample_store, tmp_path):
    with pytest.raises(CheckpointError, match="no run at"):
        finetune("scratch", sample_store, tmp_path / "r", teacher=tmp_path / "none", device="cpu")
    assert not (tmp_path / "r").exists()
