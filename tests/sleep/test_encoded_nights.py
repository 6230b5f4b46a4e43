"""The encoder of epochs trained together with the network over them, on raw nights."""

import csv
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
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.interop.embedder import PartEmbedder
from partsig.metrics.calibration import tempered
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.exported import CARD, CONFIG
from partsig.runs.models import load_encoder
from partsig.tasks.encoded_nights import check_signals
from partsig.tasks.frozen import predict_examples
from partsig.train.journal import read_metrics

place = Path(__file__).parents[1] / "raw_nights.py"
spec = importlib.util.spec_from_file_location("raw_nights", place)
raw_nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raw_nights)

pytestmark = pytest.mark.slow

THROUGH = {
    "context.through": True, "context.width": 8, "context.epochs": 5, "split.val_subjects": 2,
    "optim.warmup_epochs": 1, "fit.batch_size": 4, "fit.epochs": 2, "pool": "mean+sd",
}  # fmt: skip
GAP, GAPPY = raw_nights.GAP, raw_nights.GAPPY


@pytest.fixture(scope="module")
def made(made_once):
    """Raw nights, a store of them and one of features, an encoder, and a run through it."""

    def make(folder):
        raw_nights.write_nights(folder)
        bands = {"as_store": True, "features_of": "bands", "output": folder / "bands"}
        partsig.embed(None, folder / "store", **bands)
        train(folder / "part", folder / "store", folder / "run")

    return made_once("encoded-nights", make)


def train(origin, store, run, **own):
    settings = THROUGH | own.pop("settings", {})
    own = {"subjects": 4, "seed": 0, "device": "cpu", "task": "night-context"} | own
    return partsig.finetune(origin, store, run, overrides=settings, **own)


def drawn(model, n=5, rows=2, seed=0):
    """Return stretches of n epochs of noise, labels, weights, and that all epochs are there."""
    rng = np.random.default_rng(seed)
    x = 30 * rng.standard_normal((rows, n, np.prod(model.epoch))).astype(np.float32)
    labels = torch.from_numpy(rng.integers(0, 5, (rows, n)))
    present = torch.ones(rows, n, dtype=torch.bool)
    return torch.from_numpy(x), labels, present


def test_the_loss_reaches_the_encoder_and_not_the_head_it_does_not_use(made):
    model, _ = load_classifier(made / "run")
    x, labels, present = drawn(model)
    model.train()
    model(x, labels, weights=torch.ones(2, 5) / 5, present=present)["loss"].backward()
    for name, parameter in model.named_parameters():
        known = parameter.grad is not None and parameter.grad.abs().sum() > 0
        used = name.removeprefix("net.") not in ("head.weight", "head.bias")
        # A bias of what is normalised afterwards, or of keys, moves nothing.
        assert known == used or (used and name.endswith("bias")), name


def test_probabilities_are_those_of_its_features_in_the_network_around(made):
    model, _ = load_classifier(made / "run")
    model.eval()
    x, _, _ = drawn(model, n=7, rows=1)
    signal = x[0].unflatten(-1, model.epoch).transpose(0, 1).flatten(1).numpy()  # (C, 7 * T)
    with torch.no_grad():
        features = model.net.features(x[0].unflatten(-1, model.epoch))
    expected = model.around.predict_signal(features.numpy().T)
    np.testing.assert_allclose(model.predict_signal(signal), expected, atol=1e-6)
    assert not np.allclose(expected[0], expected[1], atol=1e-4)


@torch.no_grad()
def test_what_is_not_there_changes_nothing(made):
    model, _ = load_classifier(made / "run")
    model.eval()
    x, labels, present = drawn(model)
    present[1, 3:] = False
    other = x.clone()
    other[1, 3:] = 1e3
    weights = present / present.sum()
    results = [
        model(given, labels, weights=weights, present=present)["loss"] for given in (x, other)
    ]
    assert results[0] == results[1]
    logits = model.context_logits(x, present)[1, :3]
    torch.testing.assert_close(logits, model.context_logits(x[1:, :3])[0])


def test_a_dropped_channel_is_silent_in_a_whole_stretch(made):
    model, _ = load_classifier(made / "run")
    seen = []
    model.net.features = lambda windows: seen.append(windows) or torch.zeros(len(windows), 32)
    model.loss = replace(model.loss, channel_dropout=0.5)
    x, labels, present = drawn(model, rows=20)
    model.train()
    model(x, labels, weights=torch.ones(20, 5), present=present)
    silent = (seen[0].unflatten(0, (20, 5)) == 0).all(-1)  # (B, N, C)
    assert (silent.all(1) == silent.any(1)).all()
    assert 0 < silent.float().mean() < 1


def test_the_encoder_has_learned_and_the_rate_falls_towards_its_first_layers(made, tmp_path):
    before = load_encoder(made / "part").encoder.state_dict()
    model, run = load_classifier(made / "run")
    changed = [
        k for k, v in model.net.encoder.state_dict().items() if not torch.equal(v, before[k])
    ]
    assert "embed.weight" in changed
    assert any("attention.qkv" in name for name in changed)
    assert run.task == "night-context"
    above = {name: model.distance_from_head(name) for name, _ in model.named_parameters()}
    assert above["net.encoder.embed.weight"] > above["around.net.head.weight"] == 0


def test_a_raw_night_is_staged_and_reported_as_evaluate_judges_the_store(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    result = partsig.evaluate(run, figures=False, device="cpu")
    with open(result.path / "predictions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    staged = {
        name: partsig.stage(made / "raw" / f"{name}.edf", run)
        for name in sorted({row["recording"] for row in rows})
    }
    for row in rows:
        p = [float(row[f"p_{stage}"]) for stage in ("W", "N1", "N2", "N3", "REM")]
        found = staged[row["recording"]].probabilities[int(row["epoch"])]
        np.testing.assert_allclose(found, p, atol=2e-3)  # the store holds 16 bits
    assert len(rows) >= raw_nights.EPOCHS
    assert "encoder and gru over 5 epochs, trained full" in partsig.report(run).page.read_text()


def test_nothing_is_seen_beyond_a_gap(made):
    model, _ = load_classifier(made / "run")
    x, _, _ = drawn(model, n=8, rows=1)
    signal = x[0].unflatten(-1, model.epoch).transpose(0, 1).flatten(1).numpy()
    other = signal.copy()
    half = 4 * model.epoch[1]
    other[:, half:] = other[:, half:][:, ::-1]
    pieces = [(0, 4), (4, 8)]
    first, second = (model.predict_signal(each, pieces) for each in (signal, other))
    np.testing.assert_array_equal(first[:4], second[:4])
    assert not np.allclose(first[4:], second[4:], atol=1e-5)
    whole = [model.predict_signal(each) for each in (signal, other)]
    assert not np.array_equal(whole[0][:4], whole[1][:4])


def test_two_processes_take_the_course_of_one(made, tmp_path):
    plain = {"context.dropout": 0.0, "fit.log_every": 1, "fit.batch_size": 6}
    courses = []
    for n in (1, 2):
        own = {"settings": plain, "cpu_processes": n, "device": "auto"}
        run = train(made / "part", made / "store", tmp_path / str(n), **own)
        courses.append([row["loss"] for row in read_metrics(run) if "loss" in row])
    assert len(courses[0]) == 6
    np.testing.assert_allclose(*courses, rtol=1e-3)


def test_epochs_cut_later_and_channels_left_out_are_judged_in_their_context(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    asked = {"shift": True, "ablate_channels": True, "figures": False, "device": "cpu"}
    metrics = partsig.evaluate(run, made / "store", **asked).metrics
    shifts = metrics["epoch_shift"]["rows"]
    assert [row["shift_s"] for row in shifts] == [0, 5, 10, 15, 20, 25]
    assert len({row["kappa"] for row in shifts}) > 1
    # By hand: the signal from 5 s on, each stretch without its last epoch.
    model, _ = load_classifier(run)
    opened = LabelledWindows(open_store(made / "store"), [GAPPY])
    later = altered(opened, later_s=5.0)
    pieces = [(a, b - 1) for a, b in opened.stretches(GAPPY) if b - 1 > a]
    assert len(pieces) == 2
    expected = model.predict_signal(opened.signal(GAPPY)[:, 500:], pieces)[later.epoch]
    found = predict_examples(model, later, torch.device("cpu"))
    np.testing.assert_array_equal(found, expected)
    assert len(found) == sum(b - a for a, b in pieces)


def test_runs_of_several_stores_are_compared_where_they_test_the_same_epochs(made, tmp_path):
    gru = train("scratch", made / "bands", tmp_path / "gru", settings={"context.through": False})
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    told = partsig.compare([gru, run], output=tmp_path / "table", device="cpu")
    assert [row.method for row in told.rows] == ["gru-5", "part, gru-5"]
    assert told.rows[1].gain == pytest.approx(told.rows[1].score - told.rows[0].score)
    assert (
        "several stores, with the same test epochs, one by one: gru-5 of bands; part"
        in (told.path / "compare.md").read_text()
    )
    assert "learned from other subjects" not in told.markdown
    # Of another store the same seed may have drawn other sleepers: that is no pair.
    facts = json.loads((run / "run.json").read_text())
    facts["split"]["train"][0] = "somebody else"
    (run / "run.json").write_text(json.dumps(facts))
    told = partsig.compare([gru, run], output=tmp_path / "table", device="cpu")
    assert told.rows[1].gain is None
    assert told.rows[1].other_labels == 1
    assert "gru-5 learned from other subjects in 1 of the draws that both have" in told.markdown
    file = run / "evaluation" / "predictions.csv"
    lines = file.read_text().splitlines()
    # One epoch is scored otherwise.
    at = next(i for i, line in enumerate(lines) if line.split(",")[4] == "W")
    lines[at] = lines[at].replace(",W,", ",N2,", 1)
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="and not tested on the same epochs, one by one"):
        partsig.compare([gru, run], output=tmp_path / "table", device="cpu")


def test_an_encoder_that_cannot_be_trained_has_no_way_through(made, tmp_path):
    with pytest.raises(ConfigError, match=r"as context\.through=true would: start from a p"):
        train("packaged:cbramod", made / "store", tmp_path / "run")


@pytest.mark.parametrize("model", ["transformer", "viterbi"])
def test_other_networks_around_and_from_scratch(made, tmp_path, model):
    own = raw_nights.ENCODER
    shape = {key: own[key] for key in own if key.startswith("encoder.")}
    run = train(
        "scratch", made / "store", tmp_path / "run", settings=shape | {"context.model": model}
    )
    result = partsig.evaluate(run, figures=False, device="cpu")
    assert -1 <= result.metrics["kappa"] <= 1
    assert json.loads((run / "run.json").read_text())["task"] == "night-context"


def test_its_encoder_can_be_embedded_with(made, tmp_path):
    done = partsig.embed(made / "run", made / "store", output=tmp_path / "e.npz", device="cpu")
    assert done.width == 32
    model, _ = load_classifier(made / "run")
    x = torch.randn(2, *model.epoch)
    theirs = PartEmbedder(made / "run", device="cpu").fit_transform(x.numpy())
    expected = model.net.eval().features(x).detach().numpy()
    np.testing.assert_allclose(theirs, expected, atol=1e-5)


def test_the_example_of_its_card_gives_what_the_run_gives(made, tmp_path, monkeypatch):
    assert partsig.export(made / "run", tmp_path, format="onnx").difference < 1e-5
    card, facts = (tmp_path / CARD).read_text(), json.loads((tmp_path / CONFIG).read_text())
    assert (facts["kind"], facts["input"], facts["window"]) == ("context", "signals", 5)
    assert "Hz; microvolts; windows of 30 s. Band-pass:" in " ".join(card.split())
    assert "In volts instead of microvolts" in card
    assert "(gru, width 8, 1 layer)" in " ".join(card.split())
    with pytest.raises(CheckpointError, match="holds a graph over stretches of signals"):
        load_model(tmp_path)
    model, run = load_classifier(made / "run")
    x, _, _ = drawn(model, n=8, rows=1)
    epochs = x[0].unflatten(-1, model.epoch).numpy()
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(card.partition("```python\n")[2].partition("```")[0], scope)
    signal = epochs.transpose(1, 0, 2).reshape(model.epoch[0], -1)
    expected = tempered(model.predict_signal(signal), run.temperature)
    np.testing.assert_allclose(scope["stage"](epochs), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="for which safetensors has no form here"):
        partsig.export(made / "run", tmp_path / "out")


def test_torch_export_holds_the_same(made, tmp_path):
    assert partsig.export(made / "run", tmp_path, format="torch").difference < 1e-5


def test_stores_and_settings_that_do_not_go_together_are_told(made, tmp_path):
    with pytest.raises(ConfigError, match=r"pass --task night-context without context\.through"):
        train("scratch", made / "bands", tmp_path / "a")
    with pytest.raises(ConfigError, match="trains an encoder of signals, and epochs of this store"):
        check_signals(4)
    with pytest.raises(ConfigError, match=r"or train the encoder too, with --set context\.through"):
        train("scratch", made / "store", tmp_path / "b", settings={"context.through": False})
    with pytest.raises(ConfigError, match=r"context\.through is for --task night-context"):
        train(made / "part", made / "store", tmp_path / "d", task=None)
    with pytest.raises(ConfigError, match="leave out model and train"):
        train(made / "part", made / "store", tmp_path / "c", settings={"train": "probe"})
    assert not list(tmp_path.iterdir())
