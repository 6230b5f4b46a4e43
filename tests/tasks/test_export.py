import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from partsig.core.encoder import Encoder, EncoderConfig, log_spectrum
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.recipes.loading import load_model
from partsig.runs import directory as runs
from partsig.runs import exported as packed
from partsig.runs import portable_graph
from partsig.runs.model_card import write_card
from partsig.verbs.evaluate import evaluate
from partsig.verbs.export import export, run_file
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
TINY |= {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}
SHORT = {"optim.warmup_epochs": 1, "fit.epochs": 6, "fit.batch_size": 32, "optim.lr": 2e-2}
TOKENS = ("linear", "linear+spectrum")
TEMPERATURE = 1.7
# Each kind of token and each pool at least once; the eager graph below has them all.
CASES = [
    ("linear", "cls", "learned"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("linear+spectrum", "mean", "none"),
            ("linear", "mean+sd+spectrum", "none"),
            ("linear+spectrum", "mean+sd", "sincos"),
        )
    ),
]


@pytest.fixture(scope="module")
def pretrained(sample_store, tmp_path_factory):
    run = tmp_path_factory.mktemp("export") / "pretrain"
    own = {"encoder.tokens": "linear+spectrum"}
    return pretrain(sample_store, run, overrides=TINY | own, gpus="0")


@pytest.fixture(scope="module")
def tuned(pretrained, sample_store):
    run = pretrained.parent / "finetune"
    own = {"pool": "mean+sd+spectrum"}
    run = finetune(pretrained, sample_store, run, subjects=9, overrides=SHORT | own, device="cpu")
    evaluate(run, device="cpu", figures=False)
    return run


@pytest.fixture(scope="module")
def real_epochs(sample_store):
    store = open_store(sample_store)
    epochs = LabelledWindows(store, list(store.recordings)[:6], labelled=False)
    x = epochs.windows(range(40)).astype(np.float32)
    x[3, 1] = 0  # a flat channel
    return x


def classifier(tokens, pool, positions, x):
    """A stager whose logits of these epochs have SD 2: as small errors show as in a trained one."""
    torch.manual_seed(5)
    encoder = Encoder(EncoderConfig(width=16, depth=2, heads=2, tokens=tokens), 3, (100,))
    config = ClassifierConfig(positions=positions, pool=pool)
    model = Classifier(config, encoder, (3000,), (100,), 5).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        seen = model.features(torch.from_numpy(x))
        model.head.weight.copy_(torch.randn(5, seen.shape[1]) / seen.std(0))
        model.head.weight.mul_(2 / (seen @ model.head.weight.T).std(0)[:, None])
        model.head.bias.copy_(-model.head.weight @ seen.mean(0))
    return model


@torch.inference_mode()
def probabilities(model, x):
    return (model.logits(torch.from_numpy(x)) / TEMPERATURE).softmax(-1).numpy()


@pytest.mark.parametrize("pool", packed.POOLS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_the_graph_is_the_classifier(tokens, pool, real_epochs):
    model = classifier(tokens, pool, "learned", real_epochs)
    expected = probabilities(model, real_epochs)
    assert expected.std(0).min() > 0.1  # it does tell epochs apart
    with torch.inference_mode():
        found = portable_graph.PortableStager(model, TEMPERATURE)(
            torch.from_numpy(real_epochs)
        ).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2, 7, 100])
def test_sines_and_cosines_are_the_transform(patch):
    torch.manual_seed(0)
    patches, level = torch.randn(3, 4, 2, patch), torch.randn(3, 2)
    found = portable_graph.LogSpectrum(patch)(patches, level)
    torch.testing.assert_close(found, log_spectrum(patches, level), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("tokens", "pool", "positions"), CASES)
def test_onnx_gives_the_same_for_any_number_of_epochs(
    tokens, pool, positions, real_epochs, tmp_path
):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, file = classifier(tokens, pool, positions, real_epochs), tmp_path / "model.onnx"
    expected = probabilities(model, real_epochs)
    program = portable_graph.exported(portable_graph.PortableStager(model, TEMPERATURE), 3, (3000,))
    facts = {"ch_names": ["O2-M1", "µ"], "sfreq": 100.0, "unit": "µV", "temperature": TEMPERATURE}
    portable_graph.write_onnx(file, program, facts)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for n in (1, 2, 7, 40):
        found = session.run(None, {"epochs": real_epochs[:n]})[0]
        np.testing.assert_allclose(found, expected[:n], atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert told["unit"] == "µV"
    assert {key: json.loads(told[key]) for key in ("ch_names", "sfreq", "temperature")} == {
        "ch_names": ["O2-M1", "µ"],
        "sfreq": 100.0,
        "temperature": TEMPERATURE,
    }
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("epochs", ["batch", 3, 3000])
    assert (returned.name, returned.shape) == ("probabilities", ["batch", 5])


@pytest.mark.slow
def test_torch_export_is_read_without_partsig(real_epochs, tuned, tmp_path):
    done = export(tuned, tmp_path / "out", format="torch")
    assert done.difference < 1e-5
    np.save(tmp_path / "x.npy", real_epochs)
    code = (
        "import json, sys, numpy as np, torch\n"
        "facts = {'config.json': ''}\n"
        f"program = torch.export.load({str(done.file)!r}, extra_files=facts)\n"
        f"x = torch.from_numpy(np.load({str(tmp_path / 'x.npy')!r}))\n"
        "found = [program.module()(x[:n]) for n in (1, 7, 40)]\n"
        f"np.savez({str(tmp_path / 'p.npz')!r}, *[p.detach().numpy() for p in found])\n"
        "assert not [name for name in sys.modules if name.startswith('partsig')]\n"
        "print(json.loads(facts['config.json'])['ch_names'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "['O2-M1', 'E1-M2', 'Chin1-Chin2']"
    held = load_model(tuned)
    with torch.inference_mode():
        logits = held.model.eval().logits(torch.from_numpy(real_epochs))
    expected = (logits / held.facts["temperature"]).softmax(-1).numpy()
    for n, found in zip((1, 7, 40), np.load(tmp_path / "p.npz").values(), strict=True):
        np.testing.assert_allclose(found, expected[:n], atol=1e-5)


@pytest.mark.slow
def test_onnx_of_a_run_holds_what_is_needed_to_use_it(tuned, tmp_path, real_epochs):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    done = export(tuned, tmp_path / "out", format="onnx")
    assert done.difference < 1e-4
    assert sorted(p.name for p in done.path.iterdir()) == ["README.md", "config.json", "model.onnx"]
    told = {p.key: p.value for p in onnx.load(done.file).metadata_props}
    assert json.loads(told["classes"]) == ["W", "N1", "N2", "N3", "REM"]
    assert json.loads(told["filter"])["h_freq"] == 30.0
    temperature = runs.read(tuned)["calibration"]["temperature"]
    assert json.loads(told["temperature"]) == temperature != 1.0
    found = run_file(done.file, real_epochs)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)


def test_a_folder_is_as_good_as_its_run(tuned, tmp_path, real_epochs):
    done = export(tuned, tmp_path / "out")
    ours, theirs = load_model(tuned), load_model(done.path)
    assert theirs.facts == ours.facts
    assert theirs.run is None
    x = torch.from_numpy(real_epochs)
    with torch.inference_mode():
        assert torch.equal(theirs.model.eval().logits(x), ours.model.eval().logits(x))
    assert export(done.path, tmp_path / "again").path == tmp_path / "again"
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == ours.facts


def test_an_encoder_is_exported_without_a_head(pretrained, tuned, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    done = export(pretrained, tmp_path / "out")
    with safetensors.safe_open(done.file, "pt") as file:
        assert not [key for key in file.keys() if key.startswith("head")]  # noqa: SIM118
    theirs, ours = load_model(done.path), load_model(pretrained)
    state = theirs.model.encoder.state_dict()
    assert all(torch.equal(state[k], v) for k, v in ours.model.encoder.state_dict().items())
    with pytest.raises(ConfigError, match="has no trained head: export it as safetensors"):
        export(pretrained, export(tuned, tmp_path / "other").path, format="onnx")
    assert load_model(tmp_path / "other").facts["kind"] == "stager"  # is left alone


def test_no_subject_is_named_in_what_is_exported(tuned, pretrained, sample_store, tmp_path):
    subjects = list(open_store(sample_store).subjects)
    for run in (tuned, pretrained):
        folder = export(run, tmp_path / run.name).path
        for file in folder.iterdir():
            content = file.read_bytes()
            assert not [name for name in subjects if name.encode() in content]
    facts = json.loads((tmp_path / tuned.name / "config.json").read_text())
    assert facts["training"]["labelled_subjects"] == 9
    assert facts["training"]["validation_subjects"] == 5


def test_the_card_says_what_was_measured_and_what_it_is_not_for(tuned, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    folder = export(tuned, tmp_path / "out").path
    measured = json.loads((tuned / "evaluation" / "metrics.json").read_text())
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "partsig"
    assert "license" not in front  # left to whoever publishes it
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(measured["kappa"], 4)
    low, high = measured["kappa_interval_95"]
    assert f"pooled: {measured['kappa']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "On 14 held-out subjects" in text
    assert "on 9 subjects" not in text
    assert "epochs of 9 subjects; 5 further labelled subjects" in text
    assert "It is no medical device" in text
    assert "In volts instead of microvolts" in text
    assert "0.1 Hz to 30 Hz" in text
    data = hub.ModelCard.load(folder / "README.md").data  # the hub's own reader
    assert data.library_name == "partsig"
    assert data.eval_results[0].metric_value == round(measured["kappa"], 4)
    bare = write_card(load_model(tuned).facts)
    assert "Nothing: it was exported without an evaluation" in bare


def test_mistakes_are_told(tuned, pretrained, sample_store, tmp_path):
    with pytest.raises(ConfigError, match="--format is 'tflite'; it can be 'safetensors'"):
        export(tuned, format="tflite")
    with pytest.raises(ConfigError, match="is the run itself"):
        export(tuned, tuned)
    (tmp_path / "notes").mkdir()
    note = tmp_path / "notes" / "README.md"
    note.write_text("mine")
    with pytest.raises(DataError, match=r"README\.md is there already and is not partsig's"):
        export(tuned, note.parent)
    assert [(path.name, path.read_text()) for path in note.parent.iterdir()] == [
        (note.name, "mine")
    ]
    with pytest.raises(ConfigError, match=r"README\.md is a file; name a folder"):
        export(tuned, note)
    folder = export(tuned, tmp_path / "out").path
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole, facts = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_model(folder)
    weights.write_bytes(whole)
    config.write_text(facts.replace('"width": 16', '"width": 32'))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read .*size mismatch"):
        load_model(folder)
    config.write_text(json.dumps({"library_name": "other", "format": 1}))
    with pytest.raises(CheckpointError, match="is no folder that `partsig export`"):
        load_model(folder)
    config.write_text(json.dumps({"library_name": "partsig", "format": 1}))
    with pytest.raises(CheckpointError, match=r"config\.json .*is damaged"):
        load_model(folder)


@pytest.mark.parametrize(
    ("package", "form", "told"),
    [
        ("safetensors", "safetensors", r"pip install 'partsig\[hub\]'"),
        ("onnx", "onnx", r"--format onnx needs more: pip install 'partsig\[onnx\]'"),
    ],
)
def test_a_missing_package_is_named(package, form, told, tuned, tmp_path, monkeypatch):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=told):
        export(tuned, tmp_path / "out", format=form)
    assert not [path for path in (tmp_path / "out").glob("*")]


def test_a_folder_never_holds_two_models(tuned, pretrained, tmp_path):
    folder = export(tuned, tmp_path / "out", format="torch").path
    export(pretrained, folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
