"""Raw recordings staged with context: the features are a store's, gaps are never crossed."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import partsig
from partsig.data.signals.altered import altered
from partsig.data.signals.store import open_store
from partsig.data.signals.store_index import gaps_within
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.metrics.agreement import confusion, kappa
from partsig.recipes.loading import load_classifier
from partsig.runs.epoch_features import read_recipe
from partsig.sleep import stager as staging
from partsig.sleep.settings import StageConfig
from partsig.sleep.stager import load
from partsig.tasks.frozen import predict_examples

place = Path(__file__).parents[1] / "raw_nights.py"
spec = importlib.util.spec_from_file_location("raw_nights", place)
raw_nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raw_nights)

TINY = {
    "context.width": 8, "split.val_subjects": 2, "optim.warmup_epochs": 1, "fit.batch_size": 16,
    "fit.epochs": 2, "optim.lr": 0.05,
}  # fmt: skip
GAP, GAPPY, PLAIN = raw_nights.GAP, raw_nights.GAPPY, "s04"
KINDS = ("bands", "both")
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def made(made_once):
    """Raw nights, a store of each type, stores of features, and runs of each kind on them."""

    def make(folder):
        raw_nights.write_nights(folder)
        for kind in KINDS:
            partsig.embed(
                folder / "part" if kind == "both" else None, folder / "store", as_store=True,
                features_of=kind,
                output=folder / kind, device="cpu",
            )  # fmt: skip
            train(folder / kind, folder / f"gru-{kind}")
        # What they were made with is gone: a run needs nothing else.
        shutil.rmtree(folder / "part")
        (folder / "moved").mkdir()
        shutil.move(folder / "gru-both", folder / "moved" / "gru")

    return made_once("raw-nights", make)


def train(store, run, **own):
    settings = TINY | own.pop("settings", {})
    own = {"subjects": 4, "seed": 0, "device": "cpu", "task": "night-context"} | own
    return partsig.finetune("scratch", store, run, overrides=settings, **own)


def run_of(made, kind):
    return made / "moved" / "gru" if kind == "both" else made / f"gru-{kind}"


def features_of(path, stager):
    """Return the features (F, E) that staging makes of a recording."""
    settings = StageConfig()
    recording = staging.read(path, stager, settings)
    signal = staging._filtered(recording, staging._settings(stager, settings))
    end = recording.start_s + signal.shape[1] / stager.features.recipe.sfreq
    return stager.features.of_signal(signal, gaps_within(recording.gaps, recording.start_s, end))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [GAPPY, PLAIN])
def test_features_are_those_of_the_store(made, kind, name):
    stager = load(run_of(made, kind), "cpu")
    found = features_of(made / "raw" / f"{name}.edf", stager)
    stored = open_store(made / kind).signal(name)
    assert found.shape == stored.shape
    assert abs(found).max() > 1
    np.testing.assert_allclose(found, stored, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorder_that_was_left_on_changes_nothing_before(made, kind):
    """Nor does it in a store: zeros are as many epochs as the night, and would be its median."""
    stager = load(run_of(made, kind), "cpu")
    recording = staging.read(made / "raw" / f"{PLAIN}.edf", stager, StageConfig())
    signal = staging._filtered(recording, staging._settings(stager, StageConfig()))
    longer = np.concatenate([signal, np.zeros_like(signal)], axis=1)
    expected = stager.features.of_signal(signal, [])
    found = stager.features.of_signal(longer, [])
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_night_is_staged_as_evaluate_stages_the_store(made, kind, tmp_path):
    shutil.copytree(run_of(made, kind), tmp_path / "run")
    compared = raw_nights.staged_as_evaluated(tmp_path / "run", made / "raw", made / kind)
    assert compared >= raw_nights.EPOCHS


def test_the_usual_files_are_written_and_tell_what_it_was(made, tmp_path):
    staged = partsig.stage(made / "raw" / f"{GAPPY}.edf", run_of(made, "both"), output=tmp_path)
    assert staged.ch_names == raw_nights.CHANNELS
    reasons = [e for e, why in enumerate(staged.unusable) if why == "gap in the recording"]
    assert reasons == list(range(*GAP))
    assert np.isnan(staged.probabilities[GAP[0] : GAP[1]]).all()
    assert np.isfinite(staged.probabilities[: GAP[0]]).all()
    told = json.loads((tmp_path / f"{GAPPY}_staging.json").read_text())
    assert told["stager"]["ch_names"] == list(raw_nights.CHANNELS)
    width = len(load(run_of(made, "both"), "cpu").features.recipe.names) - 33
    by = f"{width} numbers of an encoder (mean+sd+spectrum) and 33 band powers"
    assert told["stager"]["features"] == by
    assert {path.suffix for path in tmp_path.iterdir()} >= {".csv", ".edf", ".json", ".png", ".svg"}
    again = partsig.verbs.stage.stage_all(
        [made / "raw" / f"{GAPPY}.edf"], run_of(made, "both"), output=tmp_path
    )
    assert again.summaries == {GAPPY: "staged before"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_makes_its_own_features_of_another_store(made, tmp_path, kind):
    """To be judged there, though its encoder's run is gone; a store of signals is told that way."""
    shutil.copytree(run_of(made, kind), tmp_path / "run")
    with pytest.raises(DataError, match=r"holds signals: make its features with `partsig embed"):
        partsig.evaluate(tmp_path / "run", made / "store", figures=False, device="cpu")
    again = tmp_path / "again"
    partsig.embed(tmp_path / "run", made / "store", as_store=True, output=again, device="cpu")
    for name in (GAPPY, PLAIN):
        expected = open_store(made / kind).signal(name)
        np.testing.assert_allclose(open_store(again).signal(name), expected, atol=1e-5)
    assert read_recipe(again).digest == read_recipe(made / kind).digest
    tested = json.loads((tmp_path / "run" / "split.json").read_text())["test"]
    partsig.embed(
        tmp_path / "run", made / "store", as_store=True, output=tmp_path / "tested",
        recordings=tested, device="cpu",
    )  # fmt: skip
    results = [
        partsig.evaluate(tmp_path / "run", store, figures=False, device="cpu").metrics["kappa"]
        for store in (made / kind, tmp_path / "tested")
    ]
    assert results[0] == results[1]


def test_what_a_channel_is_worth_is_told_of_all_its_bands_at_once(made, tmp_path):
    shutil.copytree(run_of(made, "bands"), tmp_path / "run")
    asked = {"figures": True, "ablate_channels": True, "device": "cpu"}
    told = partsig.evaluate(tmp_path / "run", made / "bands", **asked)
    found = told.metrics["channel_ablation"]
    assert found["channels"] == list(raw_nights.CHANNELS)
    labels = [row["label"] for row in found["rows"]]
    assert labels == [
        "all", "without C3-M2", "without C4-M1", "without E1-M2", "C3-M2 alone", "C4-M1 alone",
        "E1-M2 alone",
    ]  # fmt: skip
    # By hand: zeros in the place of eleven bands of the first.
    model, run = load_classifier(tmp_path / "run")
    opened = open_store(made / "bands")
    plain = LabelledWindows(opened, opened.recordings_of(run.split["test"]))
    silent = altered(plain, [None] * 11 + list(run.ch_names[11:]))
    answers = predict_examples(model, silent, torch.device("cpu"))
    table = confusion(silent.labels, answers.argmax(1), 5)
    assert found["rows"][1]["kappa"] == pytest.approx(float(kappa(table)))


def test_a_run_of_an_earlier_partsig_stages_as_it_was_trained(made, tmp_path):
    """Its features were scaled by all of a recording; such are made no more."""
    run = shutil.copytree(run_of(made, "bands"), tmp_path / "run")
    earlier = replace(read_recipe(run), scaling="recording")
    earlier.write(run)
    facts = json.loads((run / "run.json").read_text()) | {"epoch_features": earlier.digest}
    (run / "run.json").write_text(json.dumps(facts))
    found = features_of(made / "raw" / f"{GAPPY}.edf", load(run, "cpu"))
    low, middle, high = np.quantile(found.astype(float), (0.25, 0.5, 0.75), axis=1)
    np.testing.assert_allclose(high - low, 1, rtol=1e-3)
    np.testing.assert_allclose(middle, 0, atol=1e-3)
    now = features_of(made / "raw" / f"{GAPPY}.edf", load(run_of(made, "bands"), "cpu"))
    assert abs(now - found).max() > 1
    with pytest.raises(DataError, match="an earlier partsig scaled by whole recordings, pauses"):
        partsig.embed(run, made / "store", as_store=True, output=tmp_path / "a", device="cpu")


def test_signals_and_their_features_are_not_taken_for_each_other(made, tmp_path):
    own = raw_nights.ENCODER
    part = partsig.pretrain(made / "store", tmp_path / "part", overrides=own)
    with pytest.raises(CheckpointError, match=r"takes signals at 100 Hz, and .* holds features of"):
        train_through(part, made / "bands", tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"pass the store of signals that they are made of"):
        partsig.embed(part, made / "bands", as_store=True, output=tmp_path / "b", device="cpu")
    nights = own | {"window_s": 300, "patch_s": 60, "objective.patches": 4}
    amid = partsig.pretrain(made / "bands", tmp_path / "amid", overrides=nights)
    with pytest.raises(CheckpointError, match=r"takes features of epochs, and .* holds signals: m"):
        train_through(amid, made / "store", tmp_path / "c")
    with pytest.raises(DataError, match=r"M2 0\.5-2 Hz, .*, …, E1-M2 25-30 Hz \(33 in all\)"):
        partsig.evaluate(run_of(made, "both"), made / "bands", figures=False, device="cpu")


def train_through(origin, store, run):
    own = TINY | {"context.through": True, "drop_path": 0.0}
    own = {"overrides": own, "subjects": 4, "device": "cpu", "task": "night-context"}
    return partsig.finetune(origin, store, run, **own)


def test_channels_that_were_filled_are_told_of_features_too(made, tmp_path, monkeypatch):
    shutil.copytree(run_of(made, "bands"), tmp_path / "run")
    monkeypatch.setattr(raw_nights, "CHANNELS", raw_nights.CHANNELS[:2])
    for number in (30, 31):
        raw_nights.write_night(tmp_path / "raw" / f"t{number}.edf", number)
    monkeypatch.undo()
    own = {"channels": list(raw_nights.CHANNELS), "missing": "fill"}
    partsig.preprocess("edf", tmp_path / "raw", tmp_path / "store", overrides=own, jobs=1)
    features = tmp_path / "features"
    partsig.embed(
        tmp_path / "run", tmp_path / "store", as_store=True, output=features, device="cpu"
    )
    assert {row["filled"] for row in open_store(features).recordings.values()} == {"E1-M2"}
    result = partsig.evaluate(tmp_path / "run", features, figures=False, device="cpu")
    assert result.metrics["channels_missing"] == {"E1-M2": 2}
    partsig.audit(features, output=tmp_path / "audit", jobs=1)
    assert "zeros instead: E1-M2" in (tmp_path / "audit" / "audit.html").read_text()


@pytest.mark.parametrize(
    "other", [{"pool": "cls"}, {"blocks": 1}, {"components": 2}, {"features_of": "both"}]
)
def test_a_run_that_tells_its_features_takes_no_others(made, tmp_path, other):
    with pytest.raises(ConfigError, match="tells itself which features it takes: leave out"):
        partsig.embed(
            run_of(made, "both"), made / "store", as_store=True, output=tmp_path / "a", **other
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "model", ["gru", *(pytest.param(kind, marks=SLOW) for kind in ("transformer", "viterbi"))]
)
def test_nothing_is_seen_beyond_a_gap(made, tmp_path, model):
    """Another night after the gap, of the same spreads: what comes before it is staged the same."""
    run = train(made / "bands", tmp_path / "run", settings={"context.model": model})
    stager = load(run, "cpu")
    path = made / "raw" / f"{GAPPY}.edf"
    recording = staging.read(path, stager, StageConfig())
    signal = staging._filtered(recording, staging._settings(stager, StageConfig()))
    sfreq = stager.features.recipe.sfreq
    of_signal = type(stager.features).of_signal
    before = stager.probabilities(recording, signal, sfreq)

    def other(features, *given):
        made = of_signal(features, *given)
        made[:, GAP[1] :] = np.random.default_rng(0).standard_normal(made[:, GAP[1] :].shape)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stager.features), "of_signal", other)
        after = stager.probabilities(recording, signal, sfreq)
    np.testing.assert_array_equal(before[: GAP[0]], after[: GAP[0]])
    assert abs(before[GAP[1] :] - after[GAP[1] :]).max() > 1e-4


@pytest.mark.parametrize("n", [1, 5])
def test_short_recordings_are_staged(made, tmp_path, n):
    path = raw_nights.write_night(tmp_path / "short.edf", 50, n=n)
    for kind in KINDS:
        staged = partsig.stage(path, run_of(made, kind))
        assert staged.n_epochs == n
        np.testing.assert_allclose(staged.probabilities.sum(1), 1, atol=1e-6)


def test_what_is_refused_of_any_stager_is_refused_here(made, tmp_path):
    stager = load(run_of(made, "bands"), "cpu")
    path = raw_nights.write_night(tmp_path / "other.edf", 51)
    content = path.read_bytes().replace(b"C4-M1", b"C4-M9")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"needs C3-M2, C4-M1, E1-M2; not found: C4-M1"):
        partsig.stage(path, stager)
    signals = [raw_nights.edf_bytes.signal(name, 100, 20) for name in raw_nights.CHANNELS]
    path = raw_nights.edf_bytes.write_edf(tmp_path / "short.edf", signals)
    with pytest.raises(DataError, match=r"20 s hold no whole epoch of 30 s"):
        partsig.stage(path, stager)


def test_any_classifier_on_features_stages_raw_recordings(made, tmp_path):
    run = partsig.finetune(
        "scratch", made / "bands", tmp_path / "run", subjects=4, seed=0, device="cpu",
        overrides={"model": "logistic", "split.val_subjects": 2},
    )  # fmt: skip
    staged = partsig.stage(made / "raw" / f"{PLAIN}.edf", run)
    assert np.isfinite(staged.probabilities).all()


def test_stores_of_half_numbers_and_scaled_signals_have_the_same_features(made, tmp_path):
    usual = {"channels": list(raw_nights.CHANNELS), "dtype": "float16", "normalise": "recording"}
    raw = made / "raw"
    partsig.preprocess("edf", raw, tmp_path / "store", overrides=usual, jobs=1)
    done = partsig.embed(
        None, tmp_path / "store", as_store=True, features_of="bands", output=tmp_path / "bands"
    )
    run = train(done.path, tmp_path / "run", settings={"fit.epochs": 1})
    found = features_of(raw / f"{PLAIN}.edf", load(run, "cpu"))
    np.testing.assert_allclose(found, open_store(done.path).signal(PLAIN), atol=1e-5)


def test_what_is_missing_or_not_its_own_is_one_sentence(made, tmp_path):
    run = tmp_path / "run"

    def copied(kind):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(run_of(made, kind), run)
        return run

    (copied("both") / "epoch_encoder.pt").unlink()
    with pytest.raises(CheckpointError, match=r"epoch_encoder\.pt is missing.*put it back"):
        load(run, "cpu")
    (copied("both") / "epoch_features.json").unlink()
    with pytest.raises(CheckpointError, match=r"lost its epoch_features\.json"):
        load(run, "cpu")
    other = json.loads((copied("bands") / "epoch_features.json").read_text())
    (run / "epoch_features.json").write_text(json.dumps(other | {"sfreq": 200.0}))
    with pytest.raises(CheckpointError, match="not of the features"):
        load(run, "cpu")
    (run / "epoch_features.json").write_text(json.dumps(other | {"bands": 5}))
    with pytest.raises(CheckpointError, match=r"is damaged \(33 features are not 5 band powers"):
        load(run, "cpu")
    facts = json.loads((copied("bands") / "run.json").read_text())
    del facts["epoch_features"]
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="does not know how they were made"):
        load(run, "cpu")
