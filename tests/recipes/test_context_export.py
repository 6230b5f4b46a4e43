"""Networks over features, exported: what the run itself says, and that they take features."""

import json

import numpy as np
import onnxruntime
import pytest

import partsig
from partsig.data.signals.store import open_store
from partsig.errors import CheckpointError, ConfigError
from partsig.metrics.calibration import tempered
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.exported import CARD, CONFIG

TINY = {
    "context.width": 8, "context.epochs": 7, "split.val_subjects": 2, "optim.warmup_epochs": 1,
    "fit.batch_size": 16, "fit.epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(made_once, nights):
    """Runs by kind of network on nights of features of elsewhere."""

    def make(folder):
        raw = nights.write_nights(folder / "raw", n_subjects=8, n=60)
        partsig.preprocess("feature-nights", raw, folder / "store", jobs=1)
        for name, own in (
            ("gru", {}),
            ("transformer", {"context.model": "transformer"}),
            ("viterbi", {"context.model": "viterbi"}),
            ("whole", {"context.whole": True}),
        ):
            partsig.finetune(
                "scratch", folder / "store", folder / name, subjects=4, seed=0, device="cpu",
                task="night-context", overrides=TINY | own,
            )  # fmt: skip

    return made_once("context-export", make)


def snippet(card):
    """Return the code of a card's example."""
    return card.partition("```python\n")[2].partition("```")[0]


SLOW = pytest.param("transformer", marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", ["gru", SLOW])
def test_the_cards_example_gives_what_the_run_gives(runs, tmp_path, monkeypatch, kind):
    done = partsig.export(runs / kind, tmp_path, format="onnx")
    assert done.difference < 1e-5
    card, config = (tmp_path / CARD).read_text(), (tmp_path / CONFIG).read_text()
    assert "takes features, not a signal" in card
    assert "Features that are made or scaled otherwise are others." in card
    facts = json.loads(config)
    assert (facts["kind"], facts["input"], facts["window"]) == ("context", "features", 7)
    assert facts["features"] is None  # made elsewhere
    subjects = json.loads((runs / kind / "split.json").read_text())
    assert len(subjects["train"]) == facts["training"]["labelled_subjects"] == 4
    assert "subjects_labelled" not in config + card
    with pytest.raises(CheckpointError, match="holds a graph over features of epochs"):
        load_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(snippet(card), scope)
    x = np.ascontiguousarray(open_store(runs / "store").signal("01__1").T)
    model, run = load_classifier(runs / kind)
    expected = tempered(model.predict_signal(np.ascontiguousarray(x.T)), run.temperature)
    np.testing.assert_allclose(scope["stage"](x), expected, atol=1e-5)
    assert "is less its median, over its interquartile range" in card
    assert "how they are made" not in card  # which is not known
    with pytest.raises(ValueError, match="6 epochs: the graph takes 7 or more"):
        scope["stage"](x[:6])
    given = onnxruntime.InferenceSession("model.onnx").get_inputs()[0]
    assert (given.name, given.shape[1:]) == ("features", [7, 4])


@pytest.mark.slow
def test_a_card_does_not_speak_of_scaling_where_there_was_none(runs, tmp_path, nights, monkeypatch):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=8, n=40)
    own = {"normalise": "none"}
    partsig.preprocess("feature-nights", raw, tmp_path / "store", jobs=1, overrides=own)
    run = partsig.finetune(
        "scratch", tmp_path / "store", tmp_path / "run", subjects=4, seed=0, device="cpu",
        task="night-context", overrides=TINY,
    )  # fmt: skip
    out = tmp_path / "out"
    partsig.export(run, out, format="onnx")
    card = (out / CARD).read_text()
    assert "interquartile" not in card
    assert "No feature is scaled by its recording: each is as the store had it." in card
    assert "scaled features" not in card
    assert json.loads((out / CONFIG).read_text())["unit"] == "units of its own"
    monkeypatch.chdir(out)
    scope = {}
    exec(snippet(card), scope)
    x = np.ascontiguousarray(open_store(tmp_path / "store").signal("01__1").T)
    model, opened = load_classifier(run)
    expected = tempered(model.predict_signal(np.ascontiguousarray(x.T)), opened.temperature)
    np.testing.assert_allclose(scope["stage"](x), expected, atol=1e-5)
    # Nor is anything of microvolts said where such a store is audited.
    partsig.audit(tmp_path / "store", output=tmp_path / "audit", jobs=1)
    assert "are not measured" not in (tmp_path / "audit" / "audit.json").read_text()


@pytest.mark.slow
def test_torch_export_holds_the_same(runs, tmp_path):
    assert partsig.export(runs / "gru", tmp_path, format="torch").difference < 1e-5
    assert json.loads((tmp_path / CONFIG).read_text())["input"] == "features"


@pytest.mark.parametrize(
    ("kind", "format", "told"),
    [
        ("gru", "safetensors", "has no encoder for safetensors: pass --format onnx or torch"),
        ("viterbi", "onnx", "decodes whole nights"),
        ("viterbi", "safetensors", "decodes whole nights"),
        ("whole", "torch", "labels whole nights at once"),
    ],
)
def test_what_has_no_such_form_is_one_sentence(runs, tmp_path, kind, format, told):
    with pytest.raises(ConfigError, match=told):
        partsig.export(runs / kind, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()
