"""Budgets per class, probes, baselines, teachers, averaging, and the table of all of them."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from partsig.core.objectives.supervised import LossConfig
from partsig.data.shuffling import Shuffled, balanced_order
from partsig.data.signals.bands import band_powers
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows, ShiftedBatches
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.metrics.agreement import kappa
from partsig.recipes.loading import load_classifier
from partsig.runs import directory as runs
from partsig.sleep.stagers import YasaStager
from partsig.tasks.distillation import PseudoConfig, predict_targets
from partsig.tasks.frozen import InputShape, predict_examples
from partsig.verbs.compare import compare
from partsig.verbs.evaluate import evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
SHORT = {"fit.epochs": 2, "fit.batch_size": 16, "optim.lr": 1e-2, "optim.warmup_epochs": 1}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    """A store of 150 segments whose stage shows in the frequency of a wave, mostly."""
    raw = tmp_path_factory.mktemp("segments")
    rng = np.random.default_rng(0)
    stages = np.repeat(np.arange(5), 30)
    hz = np.array([10.0, 6.0, 13.0, 1.5, 4.0])[stages] * rng.uniform(0.7, 1.4, 150)
    t = np.arange(12_000) / 200
    wave = np.sin(2 * np.pi * hz[:, None] * t)[:, None] * [[[30.0], [15.0], [4.0]]]
    x = wave + 25 * rng.standard_normal((150, 3, 12_000))
    np.savez(
        raw / "labelled.npz",
        x=x.astype(np.int16),
        y=stages.astype(np.int8),
        group=np.arange(150, dtype=np.int32),
        segment=np.arange(150, dtype=np.int32),
        ch_names=np.array(["O2-M1", "E1-M2", "Chin1-Chin2"]),
        sfreq=np.float64(200),
    )
    return preprocess("pc18-segments", raw, raw / "store", jobs=1).path


@pytest.fixture(scope="module")
def pretrained(segments, tmp_path_factory):
    """One run of each rival, by name."""
    folder = tmp_path_factory.mktemp("runs")
    short = {"fit.epochs": 1, "fit.batch_size": 8, "windows_per_epoch": 16, "window_s": 30}
    short |= {"optim.warmup_epochs": 0, "split.monitor_subjects": 4}
    found = {}
    for name in ("part", "mae", "mp3", "droppos"):
        settings = TINY | short | {"objective.name": name}
        run = folder / f"pretrain-{name}-s0"
        found[name] = pretrain(segments, run, overrides=settings, gpus="0")
    return found


def tune(origin, store, run, settings=(), **options):
    options = {"segments_per_class": 5, "device": "cpu"} | options
    return finetune(origin, store, run, overrides=dict(settings), **options)


@pytest.fixture(scope="module")
def bands(segments, tmp_path_factory):
    """Logistic regression on band powers: two budgets, three draws."""
    folder = tmp_path_factory.mktemp("bands")
    return {
        (budget, seed): tune(
            "scratch",
            segments,
            folder / f"b-{budget}-{seed}",
            {"model": "logistic"},
            segments_per_class=budget,
            seed=seed,
        )
        for budget in (3, 10)
        for seed in (0, 1, 2)
    }


def test_a_budget_per_class_is_so_many_segments_of_each(bands, segments):
    store = open_store(segments)
    record = runs.read(bands[3, 0])
    drawn = [next(iter(store.classes_of(name))) for name in record["recordings"]]
    assert np.bincount(drawn).tolist() == [3] * 5
    assert record["n_epochs_train"] == 30
    subjects = {store.recordings[name]["subject"] for name in record["recordings"]}
    assert subjects == set(record["split"]["train"])
    assert not subjects & set(record["split"]["val"] + record["split"]["test"])
    assert record["split"]["test"] == store.roles["test"]
    assert record["split"]["val"] == store.roles["val"]
    assert set(record["recordings"]) < set(runs.read(bands[10, 0])["recordings"])
    assert record["recordings"] != runs.read(bands[3, 1])["recordings"]


def test_the_band_power_stager_is_scikit_learns(bands, segments):
    """Scaling folded into the head, the penalty of the best validation kappa."""
    record = runs.read(bands[10, 1])
    store = open_store(segments)
    train = LabelledWindows(store, record["recordings"])
    test = LabelledWindows(store, [n for s in record["split"]["test"] for n in store.subjects[s]])
    x, x_test = (band_powers(e.windows(range(len(e))), 100.0) for e in (train, test))
    scaler = StandardScaler().fit(x)
    judge = LogisticRegression(C=record["strength"], max_iter=2000)
    judge.fit(scaler.transform(x), train.labels)
    model, _ = load_classifier(bands[10, 1])
    found = predict_examples(model, test, CPU)
    np.testing.assert_allclose(found, judge.predict_proba(scaler.transform(x_test)), atol=1e-3)
    assert evaluate(bands[10, 1], device="cpu", figures=False).metrics["kappa"] > 0.5


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # in U-Sleep
@pytest.mark.parametrize("model", ["boosting", "chambon2018", "usleep"])
def test_baselines_are_trained_kept_and_loaded(model, segments, tmp_path):
    settings = SHORT | {"model": model}
    run = tune("scratch", segments, tmp_path / "run", settings)
    first, trained = load_classifier(run)
    record = trained.facts
    again, _ = load_classifier(run)
    store = open_store(segments)
    test = LabelledWindows(store, [n for s in record["split"]["test"] for n in store.subjects[s]])
    found = predict_examples(first, test, CPU)
    np.testing.assert_array_equal(found, predict_examples(again, test, CPU))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    if model == "boosting":
        assert (
            evaluate(run, device="cpu", figures=False).metrics["kappa"] > 0.2
        )  # the trees of a leaf of 20
    else:
        train = LabelledWindows(store, record["recordings"])
        spread = train.windows(range(len(train))).astype(float).std(-1)
        expected = np.sqrt((spread**2).mean(0))
        np.testing.assert_allclose(first.scale.squeeze(1).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["part", "mae", "mp3", "droppos"])
def test_a_probe_leaves_the_encoder_alone(name, pretrained, segments, tmp_path):
    settings = {"train": "probe", "pool": "mean+sd"}
    run = tune(pretrained[name], segments, tmp_path / "run", settings)
    model, trained = load_classifier(run)
    record = trained.facts
    from partsig.runs.models import load_encoder

    encoder = load_encoder(pretrained[name]).encoder
    for key, value in encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[key], value), key
    wanted = "sincos" if name in ("mae", "droppos") else "none"
    assert record["config"]["positions"] == wanted
    assert record["pretraining"] == {"objective": name, "seed": 0}
    assert -0.2 < record["val_kappa"] <= 1


def test_blocks_of_an_encoder_are_kept_from_the_first_on(pretrained, segments, tmp_path):
    with pytest.raises(ConfigError, match="blocks is 9; the encoder has 1 of them"):
        tune(pretrained["part"], segments, tmp_path / "a", {"train": "probe", "blocks": 9})
    with pytest.raises(ConfigError, match=r"from scratch, set encoder\.depth"):
        tune("scratch", segments, tmp_path / "b", {"blocks": 1})
    run = tune(pretrained["part"], segments, tmp_path / "c", {"train": "probe", "blocks": 1})
    model, trained = load_classifier(run)
    record = trained.facts
    assert record["config"]["encoder"]["depth"] == len(model.encoder.blocks) == 1


def test_full_training_may_start_from_the_probe(pretrained, segments, tmp_path):
    still = {"optim.lr": 0.0, "optim.min_lr": 0.0, "optim.warmup_lr": 0.0, "fit.epochs": 1}
    probe = tune(pretrained["part"], segments, tmp_path / "a", {"train": "probe"})
    both = tune(
        pretrained["part"], segments, tmp_path / "b", SHORT | still | {"train": "probe+full"}
    )
    a, b = (load_classifier(run)[0] for run in (probe, both))
    assert torch.equal(a.head.weight, b.head.weight)
    assert runs.read(probe)["val_kappa"] == pytest.approx(runs.read(both)["val_kappa"])
    moved = tune(pretrained["part"], segments, tmp_path / "c", SHORT | {"train": "probe+full"})
    assert not torch.equal(load_classifier(moved)[0].head.weight, b.head.weight)


def test_everything_at_once_runs_and_is_the_same_again(pretrained, segments, tmp_path):
    options = {
        "balanced": True,
        "shift_s": 15,
        "loss.mixup": 0.3,
        "loss.channel_dropout": 0.1,
        "optim.layer_decay": 0.7,
        "fit.average": 0.9,
        "pool": "mean",
    }
    first, second = (
        tune(pretrained["part"], segments, tmp_path / name, SHORT | options) for name in "ab"
    )
    a, b = (load_classifier(run)[0].state_dict() for run in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)


def places(epochs):
    names = [epochs.names[i] for i in epochs.recording]
    return set(zip(names, epochs.epoch.tolist(), strict=True))


def rows_of(*batches):
    rows = (zip(batch.inputs, batch.targets, strict=True) for batch in batches)
    return {(x.numpy().tobytes(), y.numpy().tobytes()) for pairs in rows for x, y in pairs}


def test_a_teacher_adds_sure_epochs_and_hides_their_labels(bands, segments, tmp_path):
    teacher, trained = load_classifier(bands[10, 0])
    record = trained.facts
    store = open_store(segments)
    kept = set(record["split"]["val"] + record["split"]["test"])
    names = [name for name, row in store.recordings.items() if row["subject"] not in kept]
    train = LabelledWindows(store, record["recordings"])
    every = LabelledWindows(store, names, labelled=False)
    config = PseudoConfig(confidence=0.6, share=2.0, distil=0.25)
    guide = predict_targets(teacher, every, train, config, CPU)
    found = predict_examples(teacher, every, CPU)
    labelled = places(train)
    assert len(guide.extra) > 20
    for number, opinion in zip(guide.extra, guide.opinions, strict=True):
        assert (every.names[every.recording[number]], every.epoch[number]) not in labelled
        assert opinion.max() >= 0.6
        np.testing.assert_array_equal(opinion, found[number])
    hard = np.eye(5)[train.labels]
    expected = 0.75 * hard + 0.25 * predict_examples(teacher, train, CPU)
    np.testing.assert_allclose(guide.targets, expected, atol=1e-6)
    more, shift, opinions = guide.draw(np.random.default_rng(0), 6, 100)
    assert set(more) <= set(guide.extra)
    assert abs(shift).max() <= 100
    assert opinions.shape == (12, 5)
    batches = ShiftedBatches(
        examples=train, shuffled=Shuffled(len(train), 6, 0), reach=100, teacher=guide
    )
    assert batches(0).inputs.shape == (18, 3, 3000)
    assert batches(0).targets.shape == (18, 5)
    np.testing.assert_allclose(batches(0).targets.sum(1), 1, atol=1e-5)
    shares = [
        ShiftedBatches(
            examples=train,
            shuffled=Shuffled(len(train), 6, 0, place=(rank, 2)),
            reach=100,
            teacher=guide,
        )(0)
        for rank in range(2)
    ]
    assert [share.share[1] for share in shares] == [18, 18]
    assert rows_of(*shares) == rows_of(batches(0))
    run = tune(
        "scratch",
        segments,
        tmp_path / "student",
        SHORT | TINY | {"pseudo.confidence": 0.6},
        segments_per_class=10,
        teacher=bands[10, 0],
    )
    assert runs.read(run)["n_epochs_pseudo"] == len(guide.extra)
    other = json.loads((bands[3, 0] / "run.json").read_text())
    other["split"]["train"] = other["split"]["test"]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(json.dumps(other))
    (tmp_path / "bad" / "best.pt").write_bytes((bands[3, 0] / "best.pt").read_bytes())
    with pytest.raises(DataError, match="validates or tests on"):
        tune("scratch", segments, tmp_path / "x", SHORT | TINY, teacher=tmp_path / "bad")


def test_balanced_draws_use_every_stage_alike_and_every_epoch():
    stages = np.array([0] * 50 + [1] * 10 + [4] * 4)
    order = balanced_order(stages, seed=1, epoch=2)
    assert len(order) == 64
    counts = np.bincount(stages[order], minlength=5)
    assert counts[[0, 1, 4]].min() >= 20  # 22 each, two of the 66 left out
    assert set(order[stages[order] == 4]) == set(range(60, 64))


def test_shifted_windows_stay_in_the_recording(segments):
    store = open_store(segments)
    epochs = LabelledWindows(store, ["segment-00000"])
    signal = np.asarray(store.signal("segment-00000"))
    found = epochs.windows([0, 0, 1, 1], [-700, 400, -250, 5000])
    for window, first in zip(found, (0, 400, 2750, 3000), strict=True):
        np.testing.assert_array_equal(window, signal[:, first : first + 3000])


@pytest.mark.slow
def test_the_table_has_means_intervals_and_paired_gains(bands, segments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = {
        seed: tune(
            "scratch", segments, tmp_path / f"t-{seed}", {"model": "boosting"}, seed=seed,
            segments_per_class=10,
        )
        for seed in (0, 1)
    }  # fmt: skip
    found = compare([*bands.values(), *other.values()], against="logistic")
    rows = {(row.method, row.budget): row for row in found.rows}
    assert list(rows) == [("logistic", 3), ("logistic", 10), ("boosting", 10)]
    kappas = {
        run: evaluate(run, device="cpu", figures=False).metrics["kappa"]
        for run in [*bands.values(), *other.values()]
    }
    own = [kappas[bands[10, seed]] for seed in (0, 1, 2)]
    assert rows["logistic", 10].score == pytest.approx(np.mean(own))
    assert rows["logistic", 10].sd == pytest.approx(np.std(own, ddof=1))
    assert rows["logistic", 10].gain is None
    gains = [kappas[other[seed]] - kappas[bands[10, seed]] for seed in (0, 1)]
    assert rows["boosting", 10].gain == pytest.approx(np.mean(gains))
    assert rows["boosting", 10].gain_sd == pytest.approx(np.std(gains, ddof=1))
    low, high = rows["boosting", 10].gain_interval
    assert low <= rows["boosting", 10].gain <= high
    assert found.n_units == 30
    assert found.n_answers == 60
    assert found.measure == "kappa"
    text = (tmp_path / "runs" / "compare" / "compare.csv").read_text()
    lines = list(csv.DictReader(text.splitlines()))
    assert [line["method"] for line in lines] == ["logistic", "logistic", "boosting"]
    assert float(lines[2]["gain"]) == pytest.approx(np.mean(gains), abs=1e-5)
    own = [kappas[other[seed]] for seed in (0, 1)]
    assert float(lines[2]["kappa"]) == pytest.approx(np.mean(own), abs=1e-5)
    text = (tmp_path / "runs" / "compare" / "compare.md").read_text()
    assert "| 10 (100 epochs) | boosting | 2 |" in text
    assert "60 epochs of 30 subjects" in text
    assert found.figure.read_bytes().startswith(b"\x89PNG")


def test_the_interval_of_the_mean_is_the_bootstrap_of_one_run(bands, tmp_path):
    """With one run, the table's interval is evaluate's own (same unit, other draws)."""
    found = compare([bands[3, 0]], output=tmp_path)
    own = evaluate(bands[3, 0], device="cpu", figures=False).metrics["kappa_interval_95"]
    np.testing.assert_allclose(found.rows[0].interval, own, atol=0.03)
    assert found.rows[0].sd is None
    assert np.isfinite(kappa(np.eye(len(STAGES))))


@pytest.mark.parametrize(
    ("pick", "options", "error", "message"),
    [
        ([], {}, ConfigError, "no run to compare"),
        ([(3, 0), (3, 0)], {}, ConfigError, "are both logistic with 3 segments per class, seed 0"),
        ([(3, 0)], {"against": "scratch"}, ConfigError, "no such method; there are logistic"),
    ],
)
def test_what_cannot_be_compared_is_told(pick, options, error, message, bands, tmp_path):
    with pytest.raises(error, match=message):
        compare([bands[key] for key in pick], output=tmp_path, **options)


def test_another_split_or_kind_of_budget_is_refused(bands, pretrained, segments, tmp_path):
    with pytest.raises(CheckpointError, match="is a pretrain run"):
        compare([bands[3, 0], pretrained["mae"]], output=tmp_path)
    by_subject = tune(
        "scratch", segments, tmp_path / "n", {"model": "logistic"}, segments_per_class=None,
        subjects=40,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="some runs have a budget of subjects"):
        compare([bands[3, 0], by_subject], output=tmp_path)
    record = json.loads((by_subject / "run.json").read_text())
    record["split"]["test"] = record["split"]["test"][1:]
    (by_subject / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="their test subjects are not the same"):
        compare([bands[3, 0], by_subject], output=tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"segments_per_class": 40}, ConfigError, "only 2[0-9] recordings of training subjects"),
        ({"segments_per_class": -1}, ConfigError, "--segments-per-class is -1"),
        ({"settings": {"model": "logistic", "train": "probe"}}, ConfigError, "is for model=enc"),
        ({"settings": {"model": "tree"}}, ConfigError, "model"),
    ],
)
def test_mistakes_are_told(options, error, message, segments, tmp_path):
    with pytest.raises(error, match=message):
        tune("scratch", segments, tmp_path / "run", **options)


def test_baselines_have_no_pretraining(pretrained, segments, tmp_path):
    with pytest.raises(ConfigError, match="model=usleep is trained from scratch: add --from scr"):
        tune(pretrained["part"], segments, tmp_path / "run", {"model": "usleep"})


def test_nights_of_several_stages_have_no_segments(sample_store, tmp_path):
    with pytest.raises(ConfigError, match=r"recordings of one stage each; .* Use --subjects"):
        tune("scratch", sample_store, tmp_path / "run", TINY)


@pytest.mark.slow
def test_yasa_stages_whole_recordings_off_the_shelf(write_night, tmp_path):
    """It learns nothing here: its probabilities are those of YASA itself, per recording."""
    stages = (0, 1, 2, 2, 3, 4, 2, 2, 2, 0, 0, 1)
    for number in range(6):
        write_night(tmp_path / "raw", f"tr03-000{number}", stages=stages, seconds=365.0)
    settings = {"channels": ["C4-M1", "O1-M2", "E1-M2"]}
    store = preprocess(raw=tmp_path / "raw", store=tmp_path / "s", overrides=settings, jobs=1).path
    choice = {"model": "yasa", "split.val_subjects": 1, "split.test_fraction": 0.4}
    run = tune(
        "scratch", store, tmp_path / "run", choice, segments_per_class=None, subjects=1
    )  # fmt: skip
    model, trained = load_classifier(run)
    record = trained.facts
    assert (model.eeg, model.eog, model.emg) == ("C4-M1", "E1-M2", None)
    found = evaluate(run, device="cpu", figures=False).metrics
    assert found["n_epochs"] == 12 * len(record["split"]["test"])
    opened = open_store(store)
    name = record["split"]["test"][0]
    given = predict_examples(model, LabelledWindows(opened, [name]), CPU)
    np.testing.assert_allclose(given, model.predict_signal(opened.signal(name)))
    np.testing.assert_allclose(given.sum(1), 1)


def test_yasa_says_what_it_cannot_stage(segments, tmp_path):
    with pytest.raises(DataError, match="YASA stages recordings of five minutes and more"):
        tune("scratch", segments, tmp_path / "run", {"model": "yasa"})
    names = {"ch_names": ("E1-M2",), "classes": STAGES}
    shape = InputShape(samples_per_unit=100.0, window=(3000,), patch=(100,), **names)
    with pytest.raises(ConfigError, match="model=yasa needs an EEG channel; there are E1-M2"):
        YasaStager("yasa", shape, LossConfig())
    model = YasaStager("yasa", replace(shape, ch_names=("C4-M1",)), LossConfig())
    with pytest.raises(ConfigError, match="model=yasa stages whole recordings, never windows"):
        model.logits(torch.zeros(1, 1, 3000))


def test_yasa_refuses_slow_signals_before_anything_is_written(write_night, tmp_path):
    """YASA itself ends in an AssertionError at 80 Hz and below."""
    for number in range(6):
        write_night(tmp_path / "raw", f"tr03-000{number}")
    slow = {"channels": ["C4-M1"], "sfreq": 80, "h_freq": 30}
    store = preprocess(raw=tmp_path / "raw", store=tmp_path / "s", overrides=slow, jobs=1).path
    with pytest.raises(ConfigError, match="model=yasa needs more than 80 Hz; the store has 80 Hz"):
        tune("scratch", store, tmp_path / "run", {"model": "yasa"})
    assert not (tmp_path / "run").exists()
