"""Epochs labelled from those around them: what helps, what must not be seen, any length."""

import json
import shutil

import numpy as np
import pytest
import torch

import partsig
from partsig.core.objectives.settings import LossConfig
from partsig.data.shuffling import Shuffled
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.tasks.frozen import InputShape, predict_examples
from partsig.tasks.night_context import ContextNetwork, StretchBatches, Stretches
from partsig.tasks.settings import ContextConfig

CPU = torch.device("cpu")
TINY = {
    "context.width": 16,
    "context.dropout": 0.0,
    "loss.smoothing": 0.0,
    "split.val_subjects": 2,
    "optim.lr": 0.1,
    "optim.warmup_epochs": 1,
    "fit.batch_size": 16,
    "fit.epochs": 4,
    "fit.validate_every": 2,
}
KINDS = ("gru", "transformer", "viterbi")


@pytest.fixture(scope="module")
def store(made_once, nights):
    """Twelve subjects, thirteen nights of 160 epochs; the second subject's has a gap."""

    def make(folder):
        at = np.r_[0:70, 90:180]
        raw = nights.write_nights(folder / "raw", **{"01__1": {"t": 30.0 * at}})
        partsig.preprocess("feature-nights", raw, folder / "store", jobs=1)

    return made_once("nights", make) / "store"


def train(store, run, **own):
    settings = TINY | own.pop("settings", {})
    own = {"subjects": 5, "seed": 0, "device": "cpu"} | own
    return partsig.finetune("scratch", store, run, task="night-context", overrides=settings, **own)


def examples(store, names=None):
    opened = open_store(store)
    return LabelledWindows(opened, names or list(opened.recordings))


def network(store, kind="gru", epochs=21, whole=False, seed=0, n_times=1):
    opened = open_store(store)
    shape = InputShape(
        ch_names=opened.ch_names,
        samples_per_unit=opened.sfreq,
        window=(n_times,),
        patch=(1,),
        classes=opened.classes,
    )
    torch.manual_seed(seed)
    config = ContextConfig(model=kind, epochs=epochs, width=16, whole=whole)
    return ContextNetwork("context", shape, LossConfig(smoothing=0.0), config)


def kappa_of(run, **own):
    return partsig.evaluate(run, figures=False, device="cpu", **own).metrics["kappa"]


def test_a_run_is_trained_judged_and_compared_like_any_stager(store, tmp_path):
    run = train(store, tmp_path / "gru")
    facts = json.loads((run / "run.json").read_text())
    assert facts["task"] == "night-context"
    assert facts["calibration"]["temperature"] > 0
    metrics = partsig.evaluate(run, figures=False, device="cpu").metrics
    assert metrics["split_unit"] == "subject"
    low, high = metrics["kappa_interval_95"]
    assert low <= metrics["kappa"] <= high
    assert 0 <= metrics["calibration"]["ece"] < 1
    alone = partsig.finetune(
        "scratch", store, tmp_path / "alone", subjects=5, seed=0, device="cpu",
        overrides={"model": "logistic", "split.val_subjects": 2},
    )  # fmt: skip
    partsig.evaluate(alone, figures=False, device="cpu")
    compared = partsig.compare([alone, run], against="logistic", output=tmp_path / "compare")
    assert [row.method for row in compared.rows] == ["logistic", "gru-21"]
    assert compared.rows[1].gain is not None
    # The store was made anew in between, by the same settings: its scoring, or its length.
    file = run / "evaluation" / "predictions.csv"
    lines = file.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.split(",")[4] == "W")
    rescored = [line.replace(",W,", ",N2,", 1) if i == at else line for i, line in enumerate(lines)]
    for changed in (rescored, lines[:-1]):
        file.write_text("\n".join(changed) + "\n")
        with pytest.raises(DataError, match="do not test the same epochs, one by one, with the sa"):
            partsig.compare([alone, run], output=tmp_path / "compare")


@pytest.mark.parametrize("n_times", [1, 3])
def test_features_are_dropped_to_zeros_as_they_are_where_they_are_missing(n_times, monkeypatch):
    """Whatever is usual of them: evaluate and stage put zeros, too. All samples of one at once."""
    shape = InputShape(
        ch_names=("a", "b", "c"), samples_per_unit=n_times / 30, window=(n_times,),
        patch=(1,), classes=("W", "N1", "N2", "N3", "REM"), n_train=0,
    )  # fmt: skip
    net = ContextNetwork("context", shape, LossConfig(channel_dropout=0.5), ContextConfig(epochs=4))
    net.centre.fill_(50.0)
    seen = []
    inner = net.context_logits
    monkeypatch.setattr(net, "context_logits", lambda x, present: (seen.append(x), inner(x))[1])
    x = torch.full((64, 4, 3 * n_times), 50.0)
    net.train()(x, torch.zeros(64, 4, dtype=torch.long), weights=torch.ones(64, 4))
    (given,) = seen
    kept = given.unflatten(-1, (3, n_times))
    assert set(given.unique().tolist()) == {0.0, 50.0}
    assert (kept == kept[:, :1, :, :1]).all()  # in all of a stretch, all samples of an epoch
    assert (kept[:, 0, :, 0] > 0).any(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_context_helps_where_stages_last(store, tmp_path, kind):
    """Three draws, seven subjects, tested on two: better in each, and far better on average."""
    gains = []
    for seed in range(3):
        both = []
        for name, epochs, model in (("alone", 1, "gru"), ("context", 21, kind)):
            settings = {"context.model": model, "context.epochs": epochs}
            settings |= {"fit.epochs": 60, "fit.validate_every": 10}
            if epochs == 1:
                settings |= {"fit.batch_size": 256, "optim.lr": 0.01}
            run = train(store, tmp_path / f"{name}{seed}", seed=seed, subjects=7, settings=settings)
            both.append(kappa_of(run))
        gains.append(both[1] - both[0])
    assert min(gains) > 0.05, gains
    assert np.mean(gains) > 0.1, gains


def test_labels_of_unscored_epochs_are_never_used(store):
    """Other features and labels of unscored epochs: what is learned of labels is the same."""
    train = examples(store)
    stretches = Stretches(train, 21)
    batches = StretchBatches(
        stretches=stretches,
        order=Shuffled(len(stretches), len(stretches), 0),
        weights=np.ones(5),
    )
    model = network(store)
    model.look_at(train)
    model.eval()
    batch = batches(0)
    hidden = batch.targets == -1
    assert hidden.any()
    other = batch.targets.clone()
    other[hidden] = 3
    losses = [
        model(batch.inputs, targets, **batch.extras)["loss"].item()
        for targets in (batch.targets, other)
    ]
    assert losses[0] == losses[1]
    assert (batch.extras["weights"][hidden] == 0).all()
    assert batch.extras["weights"].sum().item() == pytest.approx(len(stretches), rel=1e-5)
    counted = model.prior * (len(train) + 5)
    np.testing.assert_allclose(counted, np.bincount(train.labels, minlength=5) + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_nothing_is_seen_beyond_a_gap(store, tmp_path, kind, whole):
    if whole and kind == "transformer":
        pytest.skip("a transformer labels no night as a whole")
    model = network(store, kind, whole=whole)
    model.look_at(examples(store))
    mine = examples(store, ["01__1"])
    assert [s for s in mine.stretches("01__1") if s[1] - s[0] > 1] == [(0, 70), (90, 180)]
    before = predict_examples(model, mine, CPU)
    shutil.copytree(store, tmp_path / "store")
    file = tmp_path / "store" / "signals" / "01__1.npy"
    signal = np.load(file)
    signal[:, 90:] = np.random.default_rng(5).standard_normal(signal[:, 90:].shape)
    np.save(file, signal)
    after = predict_examples(model, examples(tmp_path / "store", ["01__1"]), CPU)
    first = mine.epoch < 70
    np.testing.assert_array_equal(before[first], after[first])
    assert abs(before[~first] - after[~first]).max() > 1e-3


def test_no_stretch_of_training_crosses_a_gap(store):
    stretches = Stretches(examples(store, ["01__1"]), 21)
    index = np.repeat(np.arange(len(stretches)), 21)
    shift = np.tile(np.arange(-10, 11), len(stretches))
    x, y, present = stretches.cut(index, shift)
    signal = open_store(store).signal("01__1")
    for row, there in zip(x, present, strict=True):
        n = int(there.sum())
        place = np.flatnonzero((row[0] == signal[:, : 181 - n].T).all(1))
        assert len(place) == 1
        assert place[0] + n <= 70 or place[0] >= 90
        np.testing.assert_array_equal(signal[:, place[0] : place[0] + n].T, row[:n])
    assert y.shape == present.shape == (len(index), 21)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 5, 2880])
def test_a_night_may_have_any_length(store, kind, n):
    model = network(store, kind)
    p = model.predict_signal(np.random.default_rng(0).standard_normal((4, n)).astype(np.float32))
    assert p.shape == (n, 5)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)


def test_stretches_and_whole_nights_agree_where_they_must(store):
    """Where a stretch is as long as the night, and where an epoch is alone."""
    x = np.random.default_rng(0).standard_normal((4, 90)).astype(np.float32)
    for epochs in (90, 200):
        apart = network(store, epochs=epochs).predict_signal(x)
        whole = network(store, epochs=epochs, whole=True).predict_signal(x)
        np.testing.assert_allclose(apart, whole, atol=1e-6)
    alone = network(store, epochs=1)
    one_by_one = np.concatenate([alone.predict_signal(x[:, i : i + 1]) for i in range(90)])
    np.testing.assert_allclose(alone.predict_signal(x), one_by_one, atol=1e-6)
    with torch.inference_mode():
        by_logits = alone.eval().logits(torch.from_numpy(x.T.copy())[..., None]).softmax(-1)
    np.testing.assert_allclose(one_by_one, by_logits, atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_what_fills_a_short_stretch_changes_nothing(store, kind):
    model = network(store, kind).eval()
    x = torch.randn(2, 21, 4)
    present = torch.ones(2, 21, dtype=torch.bool)
    present[1, 13:] = False
    with torch.inference_mode():
        both = model.context_logits(x, present)
        short = model.context_logits(x[1:, :13], present[1:, :13])
        x[1, 13:] = 99.0
        other = model.context_logits(x, present)
    torch.testing.assert_close(both[1, :13], short[0])
    torch.testing.assert_close(both[1, :13], other[1, :13])


def test_a_batch_divided_has_the_same_loss(store):
    stretches = Stretches(examples(store), 21)
    model = network(store).eval()
    whole, *parts = (
        StretchBatches(
            stretches=stretches,
            order=Shuffled(len(stretches), 9, 0, place=place),
            weights=np.array([1.0, 2, 3, 4, 5]),
        )(3)
        for place in ((0, 1), (0, 2), (1, 2))
    )
    losses = [
        model(b.inputs, b.targets, **b.extras)["loss"] * len(b) / len(whole)
        for b in (whole, *parts)
    ]
    torch.testing.assert_close(losses[0], losses[1] + losses[2])


def test_an_interrupted_run_takes_the_same_course(store, tmp_path):
    from partsig.train import loop
    from partsig.train.job import Stopped

    whole = train(store, tmp_path / "whole")
    begun, n_saved = tmp_path / "begun", 0
    original = loop.save

    def save_and_stop(job, *state):
        nonlocal n_saved
        original(job, *state)
        n_saved += 1
        if n_saved == 5:
            raise Stopped(143)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save", save_and_stop)
        with pytest.raises(Stopped):
            train(store, begun, settings={"fit.checkpoint_minutes": 0.0})
    train(store, begun, settings={"fit.checkpoint_minutes": 0.0})
    models = [torch.load(run / "best.pt", weights_only=True)["model"] for run in (whole, begun)]
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=0, atol=0)


def test_classes_can_weigh_the_same(store, tmp_path):
    run = train(store, tmp_path / "even", settings={"balanced": True, "fit.epochs": 2})
    facts = json.loads((run / "run.json").read_text())
    assert facts["calibration"]["prior"] == pytest.approx([0.2] * 5)


def test_what_is_not_for_it_is_refused_before_a_run_is_begun(
    store, sample_store, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"3,000 samples: make a store"):
        train(sample_store, run)
    with pytest.raises(ConfigError, match="leave out model and train"):
        train(store, run, settings={"model": "logistic"})
    with pytest.raises(ConfigError, match="mixes no nights"):
        train(store, run, settings={"loss.mixup": 0.2})
    with pytest.raises(ConfigError, match="leave out --teacher"):
        train(store, run, teacher=tmp_path)
    with pytest.raises(ConfigError, match=r"context\.whole is for gru"):
        train(store, run, settings={"context.model": "transformer", "context.whole": True})
    with pytest.raises(ConfigError, match="--task night-context"):
        partsig.finetune("scratch", store, run, overrides={"model": "context"})
    assert not run.exists()


def test_raw_recordings_are_refused_in_a_sentence(store, tmp_path):
    run = train(store, tmp_path / "run", settings={"fit.epochs": 1})
    with pytest.raises(CheckpointError, match="features of epochs"):
        partsig.stage(tmp_path / "night.edf", run, device="cpu")
    with pytest.raises(ConfigError, match="labels features of epochs, and has no encoder for safe"):
        partsig.export(run, tmp_path / "out")


def test_whom_the_features_were_learned_from_is_told_and_refused(store, tmp_path):
    """Of a store of embeddings: seen without labels a warning, with labels no test at all."""
    own = tmp_path / "store"
    shutil.copytree(store, own)
    run = train(own, tmp_path / "run", settings={"fit.epochs": 1})
    tested = json.loads((run / "run.json").read_text())["split"]["test"]
    meta = json.loads((own / "meta.json").read_text())

    def told(how):
        features = {"features": {how: tested[:1]}}
        (own / "meta.json").write_text(json.dumps(meta | {"reading": meta["reading"] | features}))

    told("subjects_pretraining")
    with pytest.warns(UserWarning, match="SEEN IN PRETRAINING"):
        partsig.evaluate(run, figures=False, device="cpu")
    told("subjects_labelled")
    with pytest.raises(DataError, match="trained or chose"):
        partsig.evaluate(run, figures=False, device="cpu")


def test_runs_of_one_row_that_differ_in_settings_are_told(store, tmp_path):
    """A mean over seeds is one over seeds only where nothing else differs."""
    runs = []
    for seed, balanced in ((0, False), (1, False), (2, True)):
        settings = {"model": "logistic", "split.val_subjects": 2, "balanced": balanced}
        run = partsig.finetune(
            "scratch", store, tmp_path / f"{seed}", subjects=5, seed=seed, device="cpu",
            overrides=settings | {"fit.workers": seed % 2},
        )  # fmt: skip
        partsig.evaluate(run, figures=False, device="cpu")
        runs.append(run)
    told = "The runs of logistic (5) differ in more than their seeds (balanced: False and True)"
    assert told in partsig.compare(runs, output=tmp_path / "three").markdown
    facts = json.loads((runs[1] / "run.json").read_text())
    del facts["config"]["frozen_first"], facts["config"]["context"]["through"]  # as of before
    (runs[1] / "run.json").write_text(json.dumps(facts))
    alike = partsig.compare(runs[:2], output=tmp_path / "two").markdown
    assert "differ in more" not in alike
    named = [*runs[:2], f"balanced={runs[2]}"]
    assert "differ in more" not in partsig.compare(named, output=tmp_path / "named").markdown
