"""An encoder of whole nights, trained further together with the network over its tokens."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import partsig
from partsig.core.geometry import grid_index
from partsig.core.position import sincos
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.amid import tokens_amid
from partsig.runs.method_names import method_of
from partsig.runs.models import load_encoder
from partsig.runs.run import Run
from partsig.tasks.encoded_stretches import check_stretches
from partsig.tasks.frozen import predict_examples
from partsig.tasks.settings import ContextConfig
from partsig.train import checkpoint
from partsig.train.journal import read_metrics

place = Path(__file__).parents[1] / "raw_nights.py"
spec = importlib.util.spec_from_file_location("raw_nights", place)
raw_nights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(raw_nights)

pytestmark = pytest.mark.slow

EPOCHS, PATCH, FEATURES = 20, 5, 4
PRETRAINED = {
    "window_s": 600, "patch_s": 150, "windows_per_epoch": 16, "encoder.width": 16,
    "encoder.depth": 2, "encoder.heads": 2, "objective.patches": 4, "objective.loss": "histogram",
    "objective.relative": "pairwise-mlp", "fit.epochs": 1, "fit.batch_size": 8,
    "optim.warmup_epochs": 1,
}  # fmt: skip
THROUGH = {
    "context.through": True, "context.width": 8, "context.epochs": EPOCHS, "split.val_subjects": 2,
    "optim.warmup_epochs": 1, "fit.batch_size": 4, "fit.epochs": 2, "drop_path": 0.0,
}  # fmt: skip
SHORT = {"context.epochs": 9, "fit.epochs": 1}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(made_once, nights):
    """Nights of features, one with a gap, an encoder pretrained on them, and a run through it."""

    def make(folder):
        at = np.r_[0:30, 50:70]
        changed = {"01__1": {"t": 30.0 * at}}
        raw = nights.write_nights(folder / "raw", n_subjects=8, n=50, **changed)
        partsig.preprocess("feature-nights", raw, folder / "store", jobs=1)
        partsig.pretrain(folder / "store", folder / "part", overrides=PRETRAINED)
        train(folder / "part", folder / "store", folder / "run")

    return made_once("encoded-stretches", make)


def train(origin, store, run, **own):
    settings = THROUGH | own.pop("settings", {})
    own = {"subjects": 4, "seed": 0, "device": "cpu", "task": "night-context"} | own
    return partsig.finetune(origin, store, run, overrides=settings, **own)


def drawn(n=EPOCHS, rows=2, seed=0):
    """Return stretches of n epochs of noise, labels, and that all epochs are there."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((rows, n, FEATURES)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 5, (rows, n)))
    return x, labels, torch.ones(rows, n, dtype=torch.bool)


class Night:
    """Examples of one recording: features (N, F), between which nothing is missing."""

    n_times = 1

    def __init__(self, x):
        self.x, self.n_epochs = x, {"a": len(x)}

    def signal(self, _name):
        return self.x.numpy().T

    def stretches(self, _name):
        return [(0, len(self.x))]


def examples(made, name):
    return LabelledWindows(open_store(made / "store"), [name], labelled=False)


@torch.no_grad()
def test_a_token_is_that_of_the_patch_about_its_epochs_middle(made):
    model, _ = load_classifier(made / "run")
    model.eval()
    x, _, present = drawn(rows=1)
    tokens = model._features(x, None)[0, :, FEATURES:]
    # By hand: the window whose patches lie about epochs 2, 7, 12 and 17 is the stretch itself.
    own, _, _ = model.net.encode(x.transpose(1, 2), "mean")
    torch.testing.assert_close(tokens[2::PATCH], own[0])
    # About epochs 4, 9, … it begins two epochs later, and is continued by its last.
    later = torch.cat([x[:, 2:], x[:, -1:], x[:, -1:]], dim=1)
    own, _, _ = model.net.encode(later.transpose(1, 2), "mean")
    torch.testing.assert_close(tokens[4::PATCH], own[0])
    torch.testing.assert_close(model._features(x, present)[0, :, FEATURES:], tokens)


@torch.no_grad()
def test_tokens_are_those_that_embed_gives_a_stretch_as_long_as_a_window(made):
    model, _ = load_classifier(made / "run")
    model.eval()

    x, _, _ = drawn(rows=1)
    expected = tokens_amid(model.net, EPOCHS, PATCH, Night(x[0]), "a", CPU)
    own = model._features(x, None)[0, :, FEATURES:].numpy()
    np.testing.assert_allclose(own, expected, atol=1e-5)


@torch.no_grad()
def test_what_is_not_there_changes_nothing(made):
    model, _ = load_classifier(made / "run")
    model.eval()
    x, labels, present = drawn()
    present[1, 13:] = False
    other = x.clone()
    other[1, 13:] = 1e3
    weights = present / present.sum()
    losses = [model(one, labels, weights=weights, present=present)["loss"] for one in (x, other)]
    assert losses[0] == losses[1]
    logits = model.context_logits(x, present)[1, :13]
    torch.testing.assert_close(logits, model.context_logits(x[1:, :13])[0], atol=1e-5, rtol=1e-4)


def test_the_loss_reaches_the_encoder_and_not_the_head_it_does_not_use(made):
    model, _ = load_classifier(made / "run")
    x, labels, present = drawn()
    model.train()
    weights = torch.ones(2, EPOCHS) / EPOCHS
    model(x, labels, weights=weights, present=present)["loss"].backward()
    for name, parameter in model.named_parameters():
        known = parameter.grad is not None and parameter.grad.abs().sum() > 0
        used = name.removeprefix("net.") not in ("head.weight", "head.bias")
        assert known == used or (used and name.endswith("bias")), name


@pytest.mark.parametrize(("share", "moves"), [(0.0, True), (1.0, False)])
def test_the_encoder_stays_as_it_is_where_that_is_asked(made, tmp_path, share, moves):
    settings = {"frozen_first": share, "fit.epochs": 1}
    run = train(made / "part", made / "store", tmp_path / "run", settings=settings)
    before = load_encoder(made / "part").encoder.state_dict()
    after = load_classifier(run)[0].net.encoder.state_dict()
    same = [torch.equal(value, after[key]) for key, value in before.items()]
    assert not any(same) if moves else all(same)


def test_it_is_staged_judged_reported_and_embedded_like_any_stager(made, tmp_path):
    model, run = load_classifier(made / "run")
    assert run.pretraining["objective"] == "part"
    assert not model.net.positions
    metrics = partsig.evaluate(made / "run", figures=False, device="cpu").metrics
    assert metrics["split_unit"] == "subject"
    one = examples(made, "01__1")
    stretches = one.stretches("01__1")
    assert stretches[0] == (0, 30)
    assert stretches[-1] == (50, 70)  # each epoch between them is by itself
    p = predict_examples(model, one, CPU)
    assert p.shape == (70, 5)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    # No stretch crosses the gap: what lies before it changes nothing behind.
    signal = np.array(one.signal("01__1"))
    signal[:, :30] = 9.0
    changed = model.predict_signal(signal, stretches)
    np.testing.assert_allclose(changed[50:], p[50:], atol=1e-6)
    assert not np.allclose(changed[:30], p[:30], atol=1e-3)
    target = partsig.embed(
        made / "run", made / "store", as_store=True, output=tmp_path / "tokens"
    ).path
    assert len(open_store(target).ch_names) == 16
    with pytest.raises(ConfigError, match=r"embed --as-store`. `partsig stage` uses it"):
        load_model(made / "run")
    report = partsig.report(made / "run", output=tmp_path / "report")
    assert "encoder and gru over 20 epochs" in report.page.read_text()


def test_a_raw_night_is_staged_as_evaluate_stages_the_store(tmp_path):
    """Features by the run's own recipe, then the encoder of whole nights over them."""
    raw_nights.write_nights(tmp_path)
    bands = {"as_store": True, "features_of": "bands", "output": tmp_path / "bands"}
    partsig.embed(None, tmp_path / "store", **bands)
    shape = {"window_s": 300, "patch_s": 90, "objective.patches": 3}
    partsig.pretrain(tmp_path / "bands", tmp_path / "night", overrides=PRETRAINED | shape)
    run = train(tmp_path / "night", tmp_path / "bands", tmp_path / "run", settings=SHORT)
    assert raw_nights.staged_as_evaluated(run, tmp_path / "raw") >= raw_nights.EPOCHS


def test_a_graph_says_what_the_run_says(made, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = partsig.export(made / "run", tmp_path / "graph", format="onnx")
    card = (folder.path / "README.md").read_text()
    assert "An encoder of whole nights (width 16, depth 2" in card
    model, _ = load_classifier(made / "run")
    x, _, present = drawn()
    session = onnxruntime.InferenceSession(folder.file)
    (found,) = session.run(None, {"features": x.numpy()})
    with torch.no_grad():
        expected = model.eval().context_logits(x, present).softmax(-1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ConfigError, match="safetensors"):
        partsig.export(made / "run", tmp_path / "no", format="safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context.epochs": 9}, "10 epochs at least"),
        ({"context.whole": True}, "leave out context.whole"),
        ({"context.model": "viterbi"}, "context.model=viterbi"),
        ({"pool": "mean"}, "nothing to pool"),
        ({"context.through": False}, "Or train the encoder, too: --config night-through"),
        ({"train": "probe", "frozen_first": 0.5}, r"none does here \(train=probe\)"),
        ({"adapt": "channels", "frozen_first": 0.5}, "frozen_first leaves the encoder as it is"),
    ],
)
def test_what_it_cannot_be_is_told_and_leaves_no_run(made, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(made / "part", made / "store", tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_without_the_task_or_for_a_label_by_itself_it_is_refused(made, tmp_path):
    with pytest.raises(CheckpointError, match="--config night-through"):
        partsig.finetune(made / "part", made / "store", tmp_path / "a", device="cpu")
    with pytest.raises(ConfigError, match=r"context\.through is for --task night-context"):
        train(made / "part", made / "store", tmp_path / "b", task=None)
    with pytest.raises(ConfigError, match=r"2\.5 epochs: take patches of whole epochs"):
        train("scratch", made / "store", tmp_path / "c", settings={"patch_s": 75.0})
    with pytest.raises(ConfigError, match="are for stores of features"):
        check_stretches(3000, 6000, ContextConfig(epochs=EPOCHS), "cls")


def test_from_scratch_it_has_the_same_shape(made, tmp_path):
    run = train(
        "scratch", made / "store", tmp_path / "run", like=made / "part", settings={"fit.epochs": 1}
    )
    model, _ = load_classifier(run)
    assert [p.shape for p in model.parameters()] == [
        p.shape for p in load_classifier(made / "run")[0].parameters()
    ]


def test_two_processes_take_the_course_of_one(made, tmp_path):
    plain = {
        "context.dropout": 0.0, "fit.log_every": 1, "fit.batch_size": 6, "optim.lr": 2.0,
        "optim.warmup_epochs": 0, "fit.epochs": 3,
    }  # fmt: skip
    courses, weights = [], []
    for n, share in ((1, 0.5), (2, 0.5), (1, 0.0)):
        own = {"settings": plain | {"frozen_first": share}, "cpu_processes": n, "device": "auto"}
        run = train(made / "part", made / "store", tmp_path / f"{n}-{share}", **own)
        courses.append([row["loss"] for row in read_metrics(run) if "loss" in row])
        weights.append(newest_weights(run))
    assert len(courses[0]) == 6
    np.testing.assert_allclose(*courses[:2], rtol=1e-4)
    assert abs(courses[0][-1] / courses[2][-1] - 1) > 1e-3  # this tells it from being frozen never
    pretrained = before(made)
    assert max((value - pretrained[k]).abs().max() for k, value in weights[0].items()) > 1e-3
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=1e-3)


def newest_weights(run):
    """Return the encoder's weights at the end of a run."""
    model = checkpoint.load(checkpoint.newest(run))["model"]
    return {k: v for k, v in model.items() if k.startswith("net.encoder.")}


def before(made):
    """Return the encoder's weights as they were pretrained."""
    state = load_encoder(made / "part").encoder.state_dict()
    return {f"net.encoder.{key}": value for key, value in state.items()}


def test_position_codes_that_came_with_an_encoder_are_still_too(made, tmp_path):
    masked = {k: v for k, v in PRETRAINED.items() if not k.startswith("objective")}
    masked |= {"objective.name": "mae", "objective.decoder.width": 16, "objective.decoder.depth": 1}
    partsig.pretrain(made / "store", tmp_path / "mae", overrides=masked)
    for share in (1.0, 0.0):
        settings = {"frozen_first": share, "fit.epochs": 1, "optim.lr": 1.0}
        run = train(tmp_path / "mae", made / "store", tmp_path / f"{share}", settings=settings)
        net = load_classifier(run)[0].net
        assert net.config.positions == "sincos"
        codes = sincos(grid_index((EPOCHS,), (PATCH,)), 16)
        assert torch.equal(net.positions[:-1], codes) == (share == 1.0)


@torch.no_grad()
def test_a_short_stretch_is_continued_on_both_sides_as_embed_does(made):
    model, _ = load_classifier(made / "run")
    model.eval()
    x, _, present = drawn()
    present[1, 8:] = False

    expected = tokens_amid(model.net, EPOCHS, PATCH, Night(x[1, :8]), "a", CPU)
    for found in (model._features(x, present)[1, :8], model._features(x[1:, :8], None)[0]):
        np.testing.assert_allclose(found[:, FEATURES:], expected, atol=1e-5)


def test_runs_that_differ_in_how_long_it_was_still_are_called_differently(made, tmp_path):
    run = train(
        made / "part", made / "store", tmp_path / "run",
        settings={"frozen_first": 0.25, "fit.epochs": 1},
    )  # fmt: skip
    assert method_of(Run.read(run)) == "part, gru-20, frozen for 0.25 of the steps"
    assert method_of(Run.read(made / "run")) == "part, gru-20"


def test_stretches_that_are_not_as_long_as_in_pretraining_are_told(made, tmp_path, capsys):
    train(made / "part", made / "store", tmp_path / "same", settings={"fit.epochs": 1})
    assert "pretrained on windows" not in capsys.readouterr().out
    shorter = {"context.epochs": 12, "fit.epochs": 1}
    train(made / "part", made / "store", tmp_path / "shorter", settings=shorter)
    told = "pretrained on windows of 20 epochs and is given stretches of 12: set context.epochs=20"
    assert told in capsys.readouterr().out
