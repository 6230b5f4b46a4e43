import json
import pickle

import mne
import pytest
import torch
from braindecode import EEGClassifier
from sklearn.base import clone
from skorch.dataset import ValidSplit

from partsig.core.position import resample
from partsig.errors import ConfigError, DataError
from partsig.interop import PartStager, to_braindecode
from partsig.recipes.loading import load_classifier, load_model
from partsig.verbs.finetune import finetune

FRESH = {"n_chans": 3, "n_outputs": 5, "sfreq": 100, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def probe_run(encoder_run, sample_store, tmp_path_factory):
    """A run without position codes."""
    run = tmp_path_factory.mktemp("module") / "probe"
    own = {"train": "probe", "pool": "mean+sd+spectrum"}
    return finetune(encoder_run, sample_store, run, subjects=12, overrides=own, device="cpu")


@torch.inference_mode()
def logits_of(run, x):
    return load_classifier(run)[0].eval().logits(torch.from_numpy(x))


def test_it_gives_the_runs_logits(stager_run, real_epochs):
    x = real_epochs[0][:8]
    stager = PartStager.from_run(stager_run)
    with torch.inference_mode():
        torch.testing.assert_close(stager(torch.from_numpy(x)), logits_of(stager_run, x))
    assert (stager.n_chans, stager.n_outputs, stager.n_times) == (3, 5, 3000)
    assert (stager.sfreq, stager.input_window_seconds) == (100.0, 30.0)
    record = json.loads((stager_run / "run.json").read_text())
    assert stager.temperature == record["calibration"]["temperature"]


@pytest.mark.parametrize(("kind", "off"), [("half", 2e-2), ("bfloat16", 0.2), ("double", 1e-4)])
def test_other_precisions_give_the_same(stager_run, probe_run, real_epochs, kind, off):
    x = torch.from_numpy(real_epochs[0][:6])
    for run in (stager_run, probe_run):
        expected = PartStager.from_run(run)(x)
        stager = getattr(PartStager.from_run(run), kind)()
        dtype = next(stager.parameters()).dtype
        scale = expected.abs().max()
        for given in (x, x.to(dtype)):
            found = stager(given)
            assert found.dtype == dtype
            assert (found - expected).abs().max() < off * scale
        found.float().sum().backward()
        assert stager.classifier.encoder.embed.weight.grad.dtype == dtype


def test_volts_are_converted_or_refused(stager_run, real_epochs):
    x = torch.from_numpy(real_epochs[0][:4])
    with torch.inference_mode():
        expected = PartStager.from_run(stager_run)(x)
        found = PartStager.from_run(stager_run, unit="V")(1e-6 * x)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    # What would happen unseen: every channel flat, one and the same answer for all epochs.
    silent = load_classifier(stager_run)[0].eval().logits(1e-6 * x)
    torch.testing.assert_close(silent, silent[:1].expand_as(silent))
    with pytest.raises(DataError, match=r"taken as uV: all of it would count as flat\. MNE and"):
        PartStager.from_run(stager_run)(1e-6 * x)
    with pytest.raises(DataError, match=r"taken as V: that is no biopotential"):
        PartStager.from_run(stager_run, unit="V")(x)
    flat = PartStager.from_run(stager_run)
    flat(torch.zeros(2, 3, 3000))  # says nothing of the unit: what follows is still looked at
    with pytest.raises(DataError, match="count as flat"):
        flat(1e-6 * x)


def test_other_lengths(stager_run, probe_run, encoder_run, real_epochs):
    x = torch.from_numpy(real_epochs[0][:2])
    assert PartStager(run=stager_run, n_times=3050).n_times == 3050
    # With position codes they are interpolated: half the patches, each between two codes.
    half, whole = (PartStager.from_run(stager_run, n_times=n) for n in (1500, 3000))
    codes = whole.classifier.positions
    assert half.classifier.positions.shape == (16, codes.shape[1])
    expected = resample(codes, (30,), (15,))
    torch.testing.assert_close(half.classifier.positions, expected)
    assert half(x[..., :1500]).shape == whole(x).shape
    short = PartStager.from_run(probe_run, n_times=1500)
    with torch.inference_mode():
        # Without position codes the same weights hold for any length.
        model = load_classifier(probe_run)[0].eval()
        torch.testing.assert_close(short(x[..., :1500]), model.logits(x[..., :1500]))
    assert PartStager(run=encoder_run, n_outputs=2, n_times=6000)(x.repeat(1, 1, 2)).shape == (2, 2)
    with pytest.raises(
        DataError, match=r"shape \(2, 3, 3000\); expected \(batch, 3 channels, 1500"
    ):
        short(x)


def test_the_head_is_replaced(stager_run, real_epochs):
    x = torch.from_numpy(real_epochs[0][:2])
    stager = PartStager.from_run(stager_run)
    before = {k: v.clone() for k, v in stager.classifier.encoder.state_dict().items()}
    stager.reset_head(3)
    assert stager(x).shape == (2, 3)
    assert (stager.n_outputs, stager.temperature) == (3, 1.0)
    after = stager.classifier.encoder.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert PartStager(run=stager_run, n_outputs=2)(x).shape == (2, 2)


def classifier_of(run, **settings):
    return EEGClassifier(
        PartStager,
        module__run=run,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__lr=2e-3,
        batch_size=32,
        max_epochs=2,
        train_split=ValidSplit(0.2, random_state=0),
        verbose=0,
        **settings,
    )


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")  # in braindecode 1.8.1
def test_braindecodes_classifier_trains_it_on_windows_of_a_store(encoder_run, sample_store):
    torch.manual_seed(0)
    names = ["sp00-0006", "sp00-0024", "sp00-0026", "sp00-0035", "sp00-0045"]
    dataset = to_braindecode(sample_store, names)
    net = classifier_of(encoder_run, classes=[0, 1, 2, 3, 4], module__n_outputs=5)
    net.fit(dataset, y=None)
    losses = net.history[:, "train_loss"]
    assert len(losses) == 2
    assert losses[1] < losses[0] < 1.8
    assert net.predict_proba(dataset).shape == (len(dataset), 5)
    assert net.module_.n_times == 3000


def test_a_frozen_encoder_stays_as_it_was(encoder_run, real_epochs):
    torch.manual_seed(0)
    x, y, _ = real_epochs
    net = classifier_of(encoder_run, module__freeze_encoder=True, module__drop_path=0.5)
    net.fit(x[::8], y[::8])  # shapes and classes are taken from the arrays
    before = load_model(encoder_run).model.encoder.state_dict()
    after = net.module_.classifier.encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not net.module_.classifier.encoder.training  # no drop path in what is not learned
    assert net.module_.classifier.head.weight.requires_grad
    assert net.module_.classifier.positions.abs().sum() > 0
    assert clone(net).module__run == encoder_run
    assert pickle.loads(pickle.dumps(net)).predict(x[:3]).shape == (3,)


def test_a_trained_one_is_saved_and_comes_back(stager_run, real_epochs, tmp_path):
    x = torch.from_numpy(real_epochs[0][:4])
    stager = PartStager.from_run(stager_run)
    again = PartStager.from_pretrained(stager.save_pretrained(tmp_path / "same"))
    assert again.facts == stager.facts
    with torch.inference_mode():
        assert torch.equal(again(x), stager(x))
    stager.train()
    assert stager.temperature == 1.0
    stager.reset_head(2)
    folder = stager.save_pretrained(tmp_path / "other", classes=["sleep", "wake"])
    back = PartStager.from_pretrained(folder)
    assert back.facts["classes"] == ["sleep", "wake"]
    assert set(back.facts["training"]) == {"pretraining", "pretraining_subjects"}
    with torch.inference_mode():
        assert torch.equal(back(x), stager.eval()(x))
    with pytest.raises(ConfigError, match="classes has 1 names; n_outputs=2"):
        stager.save_pretrained(tmp_path / "third", classes=["sleep"])


def test_channels_are_held_against_the_run(stager_run):
    names = ["EEG O2-A1", "E1-A2", "Chin1-Chin2"]
    info = mne.create_info(names, 100.0, "eeg")
    assert PartStager(chs_info=info["chs"], sfreq=100, run=stager_run).n_chans == 3
    info = mne.create_info([names[1], names[0], names[2]], 100.0, "eeg")
    with pytest.raises(ConfigError, match="in this order: pick and reorder"):
        PartStager(chs_info=info["chs"], run=stager_run)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_chans": 2}, r"n_chans is 2; .* has 3: O2-M1"),
        ({"sfreq": 128}, r"sfreq is 128 Hz; .* has 100 Hz: resample"),
        ({"width": 32, "patch_s": 2.0}, "leave out width, patch_s"),
        ({"pool": "mean"}, "pool is 'mean', but the run was trained with cls"),
        ({"unit": "pT"}, "unit is 'pT'"),
        ({"n_times": 50}, "n_times is 50; it must be at least 100"),
    ],
)
def test_settings_that_contradict_the_run_are_refused(stager_run, settings, told):
    with pytest.raises(ConfigError, match=told):
        PartStager(run=stager_run, **settings)


def test_without_a_run_it_starts_anew(encoder_run):
    torch.manual_seed(0)
    stager = PartStager(**FRESH, input_window_seconds=10, positions="none", pool="mean+sd")
    assert stager.n_times == 1000
    assert stager(20 * torch.randn(2, 3, 1000)).shape == (2, 5)
    n = sum(p.numel() for p in stager.parameters())
    # tokens 300 x 16 + 16, [CLS] 16, a block of 3,280, last norm 32, head 32 x 5 + 5.
    assert n == 4816 + 16 + 3280 + 32 + 165
    with pytest.raises(ConfigError, match="n_chans and sfreq must be given"):
        PartStager(n_outputs=5)
    with pytest.raises(ConfigError, match="n_outputs is not given, and there is no trained head"):
        PartStager(run=encoder_run)
    with pytest.raises(ConfigError, match=r"encoder\.width \(16\) must be a multiple"):
        PartStager(**FRESH | {"heads": 3})
