"""Fine-tuning in several processes: the course of one, whatever their number."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from partsig.contracts import Batch
from partsig.data.images.augment import AugmentConfig, transform
from partsig.data.images.examples import AugmentedBatches, LabelledImages
from partsig.data.images.store import open_images
from partsig.data.shuffling import Shuffled
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows, ShiftedBatches
from partsig.errors import ConfigError
from partsig.runs import directory as runs
from partsig.train import checkpoint, distributed
from partsig.verbs.finetune import finetune
from partsig.verbs.preprocess import preprocess

pytestmark = pytest.mark.slow

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "drop_path": 0.0}
SHORT = {"optim.warmup_epochs": 0, "fit.epochs": 2, "optim.lr": 1e-2}


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def weights(run):
    return checkpoint.load(run / "best.pt", "finetune")["model"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for role, n in (("train", 13), ("val", 4), ("test", 4)):
        for label in ("dark", "light"):
            place = folder / "raw" / role / label
            place.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 120, (16, 16, 3)) + (100 if label == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    done = preprocess(
        raw=folder / "raw",
        source="images",
        store=folder / "store",
        overrides={"size": 16},
        jobs=1,
    )
    return done.path


def whole_and_shares(make, steps, processes):
    """Yield a whole batch, and what all processes are given of it, one after the other."""
    one, several = make((0, 1)), [make((rank, processes)) for rank in range(processes)]
    for step in range(steps):
        yield one(step), [batches(step) for batches in several]


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_epochs_make_up_the_whole_batch(sample_store, processes):
    store = open_store(sample_store)
    train = LabelledWindows(store, store.recordings_of(store.labelled_subjects[:6]))

    def make(place):
        shuffled = Shuffled(len(train), 16, 3, train.labels, place=place)
        return ShiftedBatches(examples=train, shuffled=shuffled, reach=50)

    for whole, shares in whole_and_shares(make, 3, processes):
        assert [share.share for share in shares] == [
            (sum(map(len, shares[:rank])), len(whole)) for rank in range(processes)
        ]
        torch.testing.assert_close(torch.cat([s.inputs for s in shares]), whole.inputs)
        torch.testing.assert_close(torch.cat([s.targets for s in shares]), whole.targets)


def test_shares_of_augmented_images_make_up_the_whole_batch(images):
    store = open_images(images)
    train = LabelledImages(store, store.members("train"), 16)
    change = transform(AugmentConfig(crop="pad", flip=0.5, erase=0.3), 16)

    def make(place):
        shuffled = Shuffled(len(train), 10, 1, place=place)
        return AugmentedBatches(examples=train, shuffled=shuffled, change=change)

    for whole, shares in whole_and_shares(make, 3, 3):
        torch.testing.assert_close(torch.cat([s.inputs for s in shares]), whole.inputs)
        torch.testing.assert_close(torch.cat([s.targets for s in shares]), whole.targets)


def test_parts_of_a_share_know_their_place():
    parts = Batch(torch.zeros(5, 1), first=3, total=20).split(2)
    assert [part.share for part in parts] == [(3, 20), (6, 20)]
    assert Batch(torch.zeros(5, 1)).share == (0, 5)
    assert Batch(torch.zeros(5, 1))[-2:].share == (3, 5)


def test_two_processes_take_the_course_of_one(sample_store, tmp_path):
    """The last batch of a pass is odd: its halves are of two sizes, and still weigh rightly."""
    options = {
        "subjects": 4,
        "overrides": TINY | SHORT | {"fit.batch_size": 15, "fit.log_every": 1},
    }
    one, two = (
        finetune("scratch", sample_store, tmp_path / str(n), cpu_processes=n, **options)
        for n in (1, 2)
    )
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-4)
    assert losses(one)[-1][1] < losses(one)[0][1]
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-3, atol=1e-4)
    facts = [{k: v for k, v in runs.read(run).items() if k != "finished"} for run in (one, two)]
    for record in facts:
        record.pop("started")
        assert record.pop("calibration")["temperature"] > 0
        record.pop("val_kappa")
    assert facts[0] == facts[1]


def test_a_probe_is_shared_with_every_process(sample_store, tmp_path):
    """The head that the main process has fitted is where all of them begin."""
    settings = TINY | SHORT | {"train": "probe+full", "fit.batch_size": 32, "fit.log_every": 1}
    one, two = (
        finetune(
            "scratch",
            sample_store,
            tmp_path / str(n),
            cpu_processes=n,
            subjects=4,
            overrides=settings,
        )
        for n in (1, 2)
    )
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-4)
    assert runs.read(two)["strength"] == runs.read(one)["strength"]


@pytest.mark.parametrize("train", ["probe", "knn"])
def test_what_is_not_trained_by_steps_is_done_once(sample_store, tmp_path, train):
    run = finetune(
        "scratch",
        sample_store,
        tmp_path / "run",
        cpu_processes=2,
        subjects=4,
        overrides=TINY | {"train": train},
    )
    assert runs.read(run)["state"] == "finished"


def test_images_in_two_processes(images, tmp_path):
    settings = {**TINY, **SHORT, "patch_px": 4, "size": 16, "fit.batch_size": 9}
    settings |= {"augment.crop": "pad", "repeats": 1, "fit.log_every": 1, "fit.workers": 0}
    settings |= {"loss.mixup": 0.0, "loss.cutmix": 0.0}
    one, two = (
        finetune("scratch", images, tmp_path / str(n), cpu_processes=n, overrides=settings)
        for n in (1, 2)
    )
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-4)


def test_a_run_that_lost_a_process_goes_on_in_one(sample_store, tmp_path):
    settings = TINY | SHORT | {"fit.batch_size": 16, "fit.keep": 99, "fit.checkpoint_minutes": 0}
    options = {"subjects": 4, "overrides": settings}
    whole = finetune("scratch", sample_store, tmp_path / "whole", cpu_processes=2, **options)
    expected = checkpoint.load(checkpoint.newest(whole), "finetune")
    files = sorted((whole / "checkpoints").iterdir())
    assert len(files) > 3
    for file in files[2:]:
        file.unlink()
    record = json.loads((whole / "run.json").read_text())
    del record["finished"]
    (whole / "run.json").write_text(json.dumps(record | {"state": "running"}))
    assert checkpoint.load(checkpoint.newest(whole), "finetune")["step"] < expected["step"]
    again = finetune("scratch", sample_store, whole, **options)
    found = checkpoint.load(checkpoint.newest(again), "finetune")
    assert found["step"] == expected["step"]
    for name, value in expected["model"].items():
        torch.testing.assert_close(found["model"][name], value, rtol=1e-3, atol=1e-4)


def test_more_processes_than_a_batch_has_items_are_refused(sample_store, tmp_path):
    with pytest.raises(ConfigError, match=r"the last batch of a pass over 7 .* fewer than 2"):
        Shuffled(7, 3, seed=0, place=(0, 2))
    with pytest.raises(ConfigError, match="fewer than 2 processes: pass another"):
        finetune(
            "scratch",
            sample_store,
            tmp_path / "run",
            cpu_processes=2,
            subjects=4,
            overrides=TINY | SHORT | {"fit.batch_size": 1},
        )
    assert not (tmp_path / "run").exists()


def test_devices_and_processes_exclude_each_other():
    assert distributed.choose("cpu", None, 1) == ("cpu", 1)
    assert distributed.choose("auto", "0", 3) == ("cpu", 3)
    assert distributed.choose("auto", None, 2) == ("cpu", 2)
    with pytest.raises(ConfigError, match="--device cpu is for one process"):
        distributed.choose("cpu", None, 2)
    with pytest.raises(ConfigError, match="--gpus 99, but"):
        distributed.choose("auto", "99", 1)
