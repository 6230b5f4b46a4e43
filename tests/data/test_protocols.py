"""Published ways to divide subjects, by name."""

import numpy as np
import pytest

import partsig
from partsig.data import protocols
from partsig.data.protocols import PROTOCOLS, Protocol, held_out
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.data.splits import SplitConfig, split_finetuning, split_pretraining
from partsig.errors import ConfigError, DataError
from partsig.runs.run import Run

LABELLED = [f"tr{i:04}" for i in range(994)]
EVERYBODY = [*LABELLED, *(f"te{i:04}" for i in range(989))]
PART = SplitConfig(protocol="part")


def split(config):
    return split_finetuning(LABELLED, 10, 0, config)


def fold(number):
    return SplitConfig(protocol="folds5", fold=number)


def test_part_is_the_papers():
    split = split_pretraining(EVERYBODY, LABELLED, PART)
    assert {role: len(names) for role, names in split.items()} == {
        "train": 1653,
        "monitor": 20,
        "test": 200,
    }
    tuned = split_finetuning(LABELLED, protocols.labels_of("part", None), 0, PART)
    assert {role: len(names) for role, names in tuned.items()} == {
        "train": 10,
        "val": 5,
        "test": 200,
    }
    assert tuned["test"] == split["test"]
    assert set(split["test"]) <= set(LABELLED)
    assert not set(split["test"]) & set(split["train"] + split["monitor"])
    assert split_finetuning(LABELLED, 10, 1, PART)["test"] == tuned["test"]
    assert split_finetuning(LABELLED, 10, 1, PART)["train"] != tuned["train"]


def test_five_folds_are_those_of_the_sorted_names():
    blocks = np.array_split(sorted(LABELLED), 5)
    splits = [split_finetuning(LABELLED[::-1], 0, 0, fold(k)) for k in range(5)]
    for split, block in zip(splits, blocks, strict=True):
        assert split["test"] == block.tolist()
        assert len(split["val"]) == 50
        assert len(split["train"]) == 994 - len(block) - 50
        assert not set(split["val"]) & set(split["test"])
    assert sorted(name for split in splits for name in split["test"]) == LABELLED
    assert split_finetuning(LABELLED, 0, 7, fold(2))["val"] == splits[2]["val"]
    assert protocols.labels_of("folds5", None) == 0
    pretrained = split_pretraining(EVERYBODY, LABELLED, fold(3))
    assert pretrained["test"] == splits[3]["test"]
    assert len(pretrained["train"]) + len(pretrained["monitor"]) == 1983 - 199


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: split_pretraining(EVERYBODY[:1852], LABELLED, PART), "1,653 .* beside 200 .* 1,8"),
        (lambda: split_pretraining(EVERYBODY[:300], LABELLED[:209], PART), "has 209"),
        (lambda: split_finetuning(LABELLED[:150], 10, 0, PART), "200 to test on.*has 150"),
        (lambda: split_finetuning(LABELLED[:62], 0, 0, fold(0)), "50 to validate on.*has 62"),
        (lambda: split_finetuning(LABELLED, 10, 0, PART, {"test": ["tr0001"]}), "split of its own"),
        (lambda: SplitConfig(protocol="folds"), "no such protocol; nearest is 'folds5'"),
        (lambda: fold(5), "--fold 5: it must be between 0 and 4"),
        (lambda: fold(-1), "split.fold is -1; it must be at least 0"),
        (lambda: SplitConfig(protocol="part", fold=1), "--fold 1: it has no folds"),
        (lambda: split(SplitConfig(fold=1)), "without a protocol of folds"),
        (lambda: split(SplitConfig(protocol="part", test_max=9)), r"decides split\.test_max"),
        (
            lambda: split(SplitConfig(protocol="folds5", val_subjects=9)),
            r"decides split\.val_subjects",
        ),
        (lambda: protocols.labels_of("part", 20), "10 labelled subjects, not 20"),
    ],
)
def test_what_does_not_go_is_refused_with_numbers(do, message):
    with pytest.raises(ConfigError, match=message):
        do()


def test_the_smallest_stores_that_do():
    assert len(split_pretraining(EVERYBODY[:1853], LABELLED, PART)["train"]) == 1653
    assert len(split_finetuning(LABELLED[:215], 10, 0, PART)["train"]) == 10
    assert len(split_finetuning(LABELLED[:64], 0, 0, fold(0))["train"]) == 1


def test_twins_are_one_subject_of_a_protocol():
    twins = {f"tr{i:04}": f"tr{i - 500:04}" for i in range(500, 520)}
    for split in (
        split_pretraining(EVERYBODY, LABELLED, PART, {}, twins),
        *(split_finetuning(LABELLED, 0, 0, fold(k), {}, twins) for k in range(5)),
    ):
        side = {name: role for role, names in split.items() for name in names}
        assert all(side.get(one) == side.get(other) for one, other in twins.items())
        assert len({twins.get(n, n) for n in split["test"]}) in (194, 195, 200)


def test_a_new_protocol_is_one_entry(monkeypatch):
    thirds = Protocol(source="here", folds=3, val=2, labelled=0)
    monkeypatch.setitem(PROTOCOLS, "thirds", thirds)
    assert [len(held_out("thirds", "abcdefghijk", k)[0]) for k in range(3)] == [4, 4, 3]
    split = split_finetuning(list("abcdefghijk"), 0, 0, SplitConfig(protocol="thirds", fold=2))
    assert split["test"] == ["i", "j", "k"]
    assert len(split["val"]) == 2


# Runs.

SMALL = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.batch_size": 8}
SMALL |= {"optim.warmup_epochs": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Seventy sleepers of two epochs."""
    from partsig.data.signals.recordings import Recording

    path = tmp_path_factory.mktemp("p") / "store"
    meta = make_meta(
        source="edf", ch_names=("A",), sfreq=100.0, l_freq=None, h_freq=None, dtype="float32"
    )
    create_store(path, meta)
    rng, rows = np.random.default_rng(0), []
    for number in range(70):
        recording = Recording(
            name=f"n{number:02}",
            subject=f"s{number:02}",
            ch_names=("A",),
            parts=(),
            stages=np.array([number % 2, 2], np.int8),
            source="",
        )
        signal = 30 * rng.standard_normal((1, 6000)).astype(np.float32)
        rows.append(write_recording(path, meta, recording, signal))
    write_index(path, rows)
    return path


def test_folds_are_pretrained_tuned_and_pooled(store, tmp_path):
    more = {"windows_per_epoch": 8, "fit.epochs": 1}
    knn = {"train": "knn"}
    encoder = partsig.pretrain(
        store, tmp_path / "p", overrides=SMALL | more, gpus=0, protocol="folds5", fold=1
    )
    run = partsig.finetune(
        encoder, store, tmp_path / "f1", overrides=knn, device="cpu", protocol="folds5", fold=1
    )
    names = [f"s{i:02}" for i in range(70)]
    recorded = Run.read(run)
    assert recorded.split["test"] == names[14:28]
    assert recorded.config["split"]["protocol"] == "folds5"
    assert recorded.config["split"]["fold"] == 1
    assert Run.read(encoder).facts["subjects_held_out"] == names[14:28]
    with pytest.raises(DataError, match="14 of those that the protocol holds out were pretrained"):
        partsig.finetune(
            encoder, store, tmp_path / "f2", overrides=knn, device="cpu", protocol="folds5", fold=2
        )
    other = partsig.finetune(
        "scratch",
        store,
        tmp_path / "f0",
        overrides=knn | {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2},
        device="cpu",
        protocol="folds5",
    )
    pooled = partsig.evaluate([run, other], device="cpu", figures=False, output=tmp_path / "pooled")
    assert pooled.metrics["subjects_seen_in_pretraining"] == []
    assert pooled.metrics["n_subjects"] == 28


def test_runs_are_named_by_their_protocol(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"train": "knn", "encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
    run = partsig.finetune(
        "scratch", store, overrides=settings, device="cpu", protocol="folds5", fold=4
    )
    assert run.name == "finetune-scratch-knn-folds5.4-n0-s0"


def test_too_few_subjects_and_images_are_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"200 to test on.* the store has 70"):
        partsig.pretrain(store, tmp_path / "p", overrides=SMALL, gpus=0, protocol="part")
    with pytest.raises(ConfigError, match=r"200 to test on.* the store has 70"):
        partsig.finetune("scratch", store, tmp_path / "f", device="cpu", protocol="part")
    assert not list(tmp_path.iterdir())
    images = tmp_path / "digits"
    partsig.preprocess("digits", ".", images)
    with pytest.raises(ConfigError, match="divide subjects, which images here have none of"):
        partsig.pretrain(images, tmp_path / "i", gpus=0, protocol="folds5")
