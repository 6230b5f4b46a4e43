"""A pretrained encoder on a store of other channels, or of another rate."""

import json
import shutil

import numpy as np
import pytest
import torch
from partsig.cli.app import app
from typer.testing import CliRunner

import partsig
from partsig.core.channels import take_channels
from partsig.core.encoder import Encoder, EncoderConfig
from partsig.data import sample
from partsig.data.copies import array_sha256_of
from partsig.data.store import with_provenance
from partsig.errors import CheckpointError, ConfigError
from partsig.recipes.finetuning import FinetuneRequest, open_finetuning
from partsig.runs import directory as runs
from partsig.runs.encoder_sources import parse
from partsig.runs.models import load_encoder
from partsig.train import checkpoint
from partsig.verbs.preprocess import preprocess

A, B, _ = sample.CHANNELS
SHORT = {"fit.epochs": 1, "optim.warmup_epochs": 0, "fit.batch_size": 32}
CPU = {"device": "cpu"}


def renamed(store, folder, names, rows):
    """Copy a store; its channels are ``rows`` of the old ones, under other names."""
    shutil.copytree(store, folder)
    meta = json.loads((folder / "meta.json").read_text()) | {"ch_names": list(names)}
    labels = meta.pop("labels")
    del meta["provenance"]
    meta = with_provenance(meta | {"labels": labels})
    (folder / "meta.json").write_text(json.dumps(meta))
    index = (folder / "index.csv").read_text()
    for file in (folder / "signals").iterdir():
        before = array_sha256_of(file)
        np.save(file, np.ascontiguousarray(np.load(file)[rows]))
        index = index.replace(before, array_sha256_of(file))
    (folder / "index.csv").write_text(index)
    return folder


@pytest.fixture(scope="module")
def three(made_once, sample_store):
    """The sample's second channel, its first, and the first again, as of another laboratory."""

    def make(folder):
        renamed(sample_store, folder / "store", ["left", "right", "chin"], [1, 0, 0])

    return made_once("three-channels", make) / "store"


def tune(store, run, from_, channels=None, **settings):
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return partsig.finetune(
        from_, store, run, channels=channels, subjects=6, overrides=SHORT | settings, **CPU
    )


def begun(store, from_, seed=0, like=None, **settings):
    """The encoder that such a run starts with, without training it."""
    import partsig.modalities.signal_settings as signal

    request = FinetuneRequest(
        origin=parse(from_), like=like, store=store, task=None, teacher=None, run=None, seed=seed,
        budget=partsig.contracts.LabelBudget(subjects=6, per_class=None, teacher=False),
        settings=signal.SignalFinetuneConfig(**settings),
    )  # fmt: skip
    return open_finetuning(request).start.encoder(seed)


def test_a_channel_takes_the_weights_that_it_is_told_to(encoder_run, three):
    channels = {"left": B, "right": A, "chin": A}
    theirs = load_encoder(encoder_run).encoder
    mine = begun(three, encoder_run, channels=channels)
    for key, value in theirs.state_dict().items():
        if key not in ("embed.weight", "spectrum.weight"):
            assert torch.equal(mine.state_dict()[key], value)
    # One channel of three that is not silent gives what that channel gave alone.
    for row, whose in ((0, 1), (1, 0), (2, 0)):
        patches = torch.randn(2, 4, 1, 100, generator=torch.Generator().manual_seed(row))
        ours = torch.zeros(2, 4, 3, 100)
        ours[:, :, row] = patches[:, :, 0]
        old = torch.zeros(2, 4, 3, 100)
        old[:, :, whose] = patches[:, :, 0]
        embedded = [torch.nn.functional.linear(x.flatten(2), e.embed.weight)
                    for x, e in ((ours, mine), (old, theirs))]  # fmt: skip
        torch.testing.assert_close(*embedded)


@pytest.mark.parametrize("tokens", ["linear", "linear+spectrum"])
def test_channels_in_another_order_are_the_same_encoder(tokens):
    config = EncoderConfig(width=16, depth=1, heads=2, tokens=tokens, drop_path=0)
    theirs = Encoder(config, 3, (20,)).eval()
    mine = Encoder(config, 3, (20,)).eval()
    order = (2, 0, 1)
    mine.load_state_dict(take_channels(theirs.state_dict(), mine.state_dict(), order))
    patches, level = torch.randn(2, 5, 3, 20), torch.randn(2, 3)
    moved = mine(patches[:, :, list(order)], level[:, list(order)])
    for ours, known in zip(moved, theirs(patches, level), strict=True):
        torch.testing.assert_close(ours, known)


def test_what_is_new_is_drawn_by_the_seed_and_what_is_known_is_kept(encoder_run, three):
    theirs = load_encoder(encoder_run).encoder
    settings = {"adapt": "channels", "channels": {"right": A}}
    first, again, other = (begun(three, encoder_run, seed, **settings) for seed in (1, 1, 2))
    parts = [e.embed.weight.unflatten(1, (3, 100)) for e in (first, again, other, theirs)
             if e is not theirs]  # fmt: skip
    known = theirs.embed.weight.unflatten(1, (3, 100))
    for part in parts:
        assert torch.equal(part[:, 1], known[:, 0])
    assert torch.equal(parts[0], parts[1])
    for row in (0, 2):
        assert not torch.equal(parts[0][:, row], parts[2][:, row])
        assert 0 < parts[0][:, row].abs().max() < 0.1  # as drawn


def test_the_run_is_trained_judged_and_exported(encoder_run, three, tmp_path):
    run = tune(three, tmp_path / "run", encoder_run, adapt="channels")
    assert runs.read(run)["ch_names"] == ["left", "right", "chin"]
    weights = checkpoint.load(run / "best.pt")["model"]
    assert weights["encoder.embed.weight"].shape == (16, 300)
    partsig.evaluate(run, three, figures=False, **CPU)
    assert -1 <= json.loads((run / "evaluation" / "metrics.json").read_text())["kappa"] <= 1
    partsig.export(run, tmp_path / "package")
    config = json.loads((tmp_path / "package" / "config.json").read_text())
    assert config["ch_names"] == ["left", "right", "chin"]
    # The same call again finds it finished.
    assert tune(three, tmp_path / "run", encoder_run, adapt="channels") == run


def test_a_probe_of_borrowed_weights_is_one_and_of_drawn_ones_is_refused(
    encoder_run, three, tmp_path
):
    channels = {"left": B, "right": A, "chin": A}
    run = tune(three, tmp_path / "run", encoder_run, channels, train="probe")
    assert runs.read(run)["config"]["channels"] == channels
    with pytest.raises(ConfigError, match="train=knn leaves the encoder as it is, and adapt"):
        tune(three, tmp_path / "no", encoder_run, train="knn", adapt="channels")
    assert not (tmp_path / "no").exists()


def test_from_scratch_like_the_run_is_what_an_adapted_one_is_held_against(
    encoder_run, three, tmp_path
):
    mine = begun(three, "scratch", like=encoder_run, adapt="channels")
    adapted = begun(three, encoder_run, adapt="channels")
    shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (mine, adapted)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"was pretrained on .*; .* has left, right, chin\. Say whose weights each takes "
             r"\(--channels .?left=\S+ …\), .*--set adapt=channels"),
        ({"channels": {"left": B}}, r"has no channel right, chin: say whose .*--channels .?right="),
        ({"channels": {"left": "Cz"}}, r"^channels: .* has no channel 'Cz'; it has "),
        ({"channels": {"nose": A}}, r"^channels: .* has no channel 'nose'; it has left, right"),
    ],
)  # fmt: skip
def test_what_is_not_said_is_asked(encoder_run, three, tmp_path, settings, message):
    with pytest.raises((CheckpointError, ConfigError), match=message):
        tune(three, tmp_path / "run", encoder_run, **settings)
    assert not (tmp_path / "run").exists()


def test_another_rate_is_told_with_the_command_that_helps(encoder_run, sample_store, tmp_path):
    settings, store = {"channels": list(sample.CHANNELS), "sfreq": 128}, tmp_path / "store"
    preprocess(raw=sample_store.parent / "raw", store=store, overrides=settings, jobs=1)
    with pytest.raises(CheckpointError) as refused:
        tune(store, tmp_path / "run", encoder_run)
    told = str(refused.value)
    assert "was pretrained at 100 Hz" in told
    assert "is at 128 Hz" in told
    command = told[told.index("partsig preprocess") :]
    assert "--set sfreq=100" in command
    assert "--set l_freq=" in command
    assert command.startswith("partsig preprocess physionet2018 --raw RAW --store NEW --set ")


def test_scratch_and_images_have_no_use_for_it(sample_store, digits, tmp_path):
    with pytest.raises(ConfigError, match="leave them out --from scratch"):
        tune(sample_store, tmp_path / "run", "scratch", adapt="channels")
    with pytest.raises(ConfigError, match=r"^--channels is for signals"):
        partsig.finetune("scratch", digits, tmp_path / "run", channels={"a": "b"})


def test_the_command_takes_pairs(encoder_run, three, tmp_path):
    line = ["finetune", "--from", str(encoder_run), "--store", str(three), "--device", "cpu"]
    line += ["--subjects", "6", "--run", str(tmp_path / "run"), "--set", "train=probe"]
    given = [f"left={B}", f"right = {A}", f"chin={A}"]
    options = [part for pair in given for part in ("--channels", pair)]
    done = CliRunner().invoke(app, line + options)
    assert done.exit_code == 0, done.output
    assert runs.read(tmp_path / "run")["config"]["channels"] == {"left": B, "right": A, "chin": A}
    for bad, message in ((["left"], "give STORE'S=RUN'S"), (["left=a", "left=b"], "given twice")):
        options = [part for pair in bad for part in ("--channels", pair)]
        refused = CliRunner().invoke(app, [*line[:-1], "train=full", *options])
        assert refused.exit_code == 2
        assert message in refused.output
