"""What a frozen network makes of inputs is computed once, and never taken for another's."""

import numpy as np
import pytest
import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.runs import features
from partsig.runs.features import FrozenNetwork, folder_of
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

CPU = torch.device("cpu")
TINY = {"encoder.width": 16, "encoder.depth": 2, "encoder.heads": 2}


@pytest.fixture
def examples(sample_store):
    store = open_store(sample_store)
    return LabelledWindows(store, list(store.recordings)[:6], labelled=False)


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=16, depth=2, heads=2), 3, (100,))
    config = ClassifierConfig(positions="none", pool="mean+sd+spectrum")
    return Classifier(config, encoder, (3000,), (100,), 5).eval()


class Counted:
    def __init__(self, model):
        self.model, self.windows = model, 0

    def __call__(self, x):
        self.windows += len(x)
        return self.model.features(x)


def network(model, folder):
    return FrozenNetwork(take=Counted(model), network=model, folder=folder)


def whole(frozen_network, examples):
    return np.concatenate(list(frozen_network.features(examples, CPU)))


def test_many_are_computed_once_and_are_the_same(model, examples, tmp_path, monkeypatch):
    expected = whole(network(model, None), examples)
    few = network(model, tmp_path / "few")
    np.testing.assert_array_equal(whole(few, examples), expected)
    assert not (tmp_path / "few").exists()
    monkeypatch.setattr(features, "KEPT_FROM", 5)
    many = network(model, tmp_path / "many")
    for _ in range(2):
        np.testing.assert_allclose(whole(many, examples), expected, atol=1e-5)
    assert many.take.windows == len(examples)
    assert len(list((tmp_path / "many").iterdir())) == len(examples.names)


def test_a_part_that_was_kept_serves_other_draws(model, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_FROM", 1)
    whole(network(model, tmp_path), examples)
    some = LabelledWindows(examples.store, examples.names[2:4], labelled=False)
    again = network(model, tmp_path)
    assert len(whole(again, some)) == len(some)
    assert again.take.windows == 0


def test_other_weights_or_other_inputs_are_other_features(model, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_FROM", 1)
    first = whole(network(model, tmp_path), examples)
    with torch.no_grad():
        model.head.weight.add_(1.0)
    same = network(model, tmp_path)
    np.testing.assert_array_equal(whole(same, examples), first)
    assert same.take.windows == 0, "a head changes no features"
    with torch.no_grad():
        model.encoder.norm.weight.mul_(2.0)
    changed = network(model, tmp_path)
    assert np.abs(whole(changed, examples) - first).max() > 0.1
    assert changed.take.windows == len(examples)
    name = examples.names[0]
    louder = examples.store.signal(name) * 2
    original = type(examples.store).signal
    monkeypatch.setattr(
        type(examples.store),
        "signal",
        lambda self, asked: louder if asked == name else original(self, asked),
    )
    altered = network(model, tmp_path)
    whole(altered, examples)
    assert altered.take.windows == examples.counts[0], "a store changed in place"


def test_damaged_files_are_made_anew_and_places_that_cannot_be_written_let_be(
    model, examples, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "KEPT_FROM", 1)
    expected = whole(network(model, tmp_path / "kept"), examples)
    file, *others = sorted((tmp_path / "kept").iterdir())
    kept = np.load(file)
    file.write_bytes(file.read_bytes()[:100])
    others[0].write_bytes(b"")
    np.save(others[1], kept * np.nan)
    np.save(others[2], kept[:, :5])
    np.save(others[3], np.float32(1))
    flipped = bytearray(others[4].read_bytes())
    flipped[-40] ^= 1
    others[4].write_bytes(flipped)
    np.testing.assert_array_equal(whole(network(model, tmp_path / "kept"), examples), expected)
    (tmp_path / "file").write_text("no folder")
    elsewhere = network(model, tmp_path / "file")
    np.testing.assert_array_equal(whole(elsewhere, examples), expected)


def test_tokens_are_those_of_the_encoder_after_any_block(model, examples):
    x = torch.from_numpy(next(examples.in_order(4)))
    tokens = features.embed_tokens(model, x, blocks=1)
    assert tokens.shape == (4, 31, 16)
    for pool, part in (("mean", tokens[:, :-1].mean(1)), ("cls", tokens[:, -1])):
        own = features.embed_windows(model, 3000, x, pool, blocks=1)
        torch.testing.assert_close(own, part, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("train", ["probe", "knn"])
def test_probes_of_one_encoder_share_their_features(sample_store, tmp_path, monkeypatch, train):
    settings = TINY | {"fit.epochs": 1, "fit.batch_size": 8, "windows_per_epoch": 8}
    settings |= {"optim.warmup_epochs": 0, "split.monitor_subjects": 0}
    origin = pretrain(sample_store, tmp_path / "pretrain", overrides=settings, gpus="0")
    options = {"subjects": 6, "overrides": {"train": train}, "device": "cpu"}
    usual = finetune(origin, sample_store, tmp_path / "usual", **options)
    expected = evaluate(usual, device="cpu", figures=False).metrics
    assert not (origin / "features").exists()
    monkeypatch.setattr(features, "KEPT_FROM", 1)
    run = finetune(origin, sample_store, tmp_path / "kept", **options)
    measured = evaluate(run, device="cpu", figures=False).metrics
    assert folder_of(origin, run) == origin / "features"
    assert list((origin / "features").iterdir())
    assert measured["kappa"] == pytest.approx(expected["kappa"], abs=1e-6)
    assert measured["confusion"] == expected["confusion"]
    monkeypatch.setattr(Classifier, "features", None)  # nothing is computed any more
    again = finetune(origin, sample_store, tmp_path / "again", **options)
    assert evaluate(again, device="cpu", figures=False).metrics["kappa"] == measured["kappa"]


def test_from_scratch_they_are_kept_with_the_run(tmp_path):
    assert folder_of("scratch", tmp_path / "run") == tmp_path / "run" / "features"
    assert folder_of("timm:vit_tiny_patch16_224", tmp_path) == tmp_path / "features"
