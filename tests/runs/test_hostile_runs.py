"""Runs and folders of others: what does not belong together is refused before it is built."""

import json
import resource
import shutil
import zipfile

import pytest
import torch

import partsig
from partsig.errors import CheckpointError, ConfigError
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.models import load_encoder, load_part
from partsig.runs.run import Run
from partsig.train import checkpoint


@pytest.fixture
def pretrained(encoder_run, tmp_path):
    return shutil.copytree(encoder_run, tmp_path / "pretrained")


@pytest.fixture
def tuned(stager_run, tmp_path):
    return shutil.copytree(stager_run, tmp_path / "tuned")


def edit(run, change, name="run.json"):
    """Change a run's record as somebody else could have written it."""
    facts = json.loads((run / name).read_text())
    change(facts)
    (run / name).write_text(json.dumps(facts))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


GIB = 2**20  # of kilobytes, which the system counts in
SHAPES = {
    "deep": ({"depth": 200_000}, ConfigError, r"encoder\.depth is 200000; it must be between"),
    "wide": ({"width": 2**30, "heads": 1}, ConfigError, r"encoder\.width is 1073741824"),
    "large": ({"width": 16_384, "depth": 256}, CheckpointError, "they do not belong together"),
    "fat": ({"mlp_ratio": 1e12}, ConfigError, r"encoder\.mlp_ratio is 1000000000000\.0"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("load", [load_encoder, load_part, load_model])
def test_a_pretrained_run_that_would_fill_the_memory_is_refused(shape, load, pretrained):
    change, error, told = SHAPES[shape]
    edit(pretrained, lambda facts: facts["config"]["encoder"].update(change))
    before = peak()
    with pytest.raises(error, match=told):
        load(pretrained)
    assert peak() - before < GIB


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fine_tuned_run_that_would_fill_the_memory_is_refused(shape, tuned):
    change, error, told = SHAPES[shape]
    edit(tuned, lambda facts: facts["config"]["encoder"].update(change))
    before = peak()
    with pytest.raises(error, match=told):
        load_classifier(tuned)
    assert peak() - before < GIB


def test_windows_that_would_fill_the_memory_are_refused(tuned):
    """Their position codes would."""
    edit(tuned, lambda facts: facts["config"].update(window_s=1e9))
    before = peak()
    with pytest.raises((CheckpointError, ConfigError)):
        load_classifier(tuned)
    assert peak() - before < GIB


def test_an_exported_folder_that_would_fill_the_memory_is_refused(tuned, tmp_path):
    folder = partsig.export(tuned, tmp_path / "out").path
    edit(folder, lambda facts: facts["encoder"].update(width=16_384, depth=256), "config.json")
    before = peak()
    with pytest.raises(CheckpointError, match="they do not belong together"):
        load_model(folder)
    assert peak() - before < GIB


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("nan"), float("inf"), "1", None, 1e9])
def test_a_temperature_that_nothing_can_be_divided_by_is_refused(temperature, tuned):
    edit(tuned, lambda facts: facts["calibration"].update(temperature=temperature))
    with pytest.raises(CheckpointError, match="has the temperature"):
        _ = Run.read(tuned).calibration
    with pytest.raises(CheckpointError, match="has the temperature"):
        load_model(tuned)


def test_a_folder_with_such_a_temperature_is_refused(tuned, tmp_path):
    folder = partsig.export(tuned, tmp_path / "out").path
    edit(folder, lambda facts: facts.update(temperature=0), "config.json")
    with pytest.raises(CheckpointError, match="has the temperature 0"):
        load_model(folder)


def newest(run):
    return max((run / "checkpoints").glob("*.pt"))


@pytest.mark.parametrize("change", ["lost", "left over", "another shape", "no weights"])
def test_weights_that_are_not_those_of_the_settings_are_refused(change, pretrained):
    file = newest(pretrained)
    content = torch.load(file, weights_only=True)
    name = next(key for key in content["model"] if key.startswith("encoder.blocks"))
    if change == "lost":
        del content["model"][name]
    elif change == "left over":
        content["model"]["encoder.more"] = torch.zeros(3)
    elif change == "another shape":
        content["model"][name] = torch.zeros(3, 3, 3)
    else:
        content["model"] = [1, 2]
    content.pop("average", None)
    torch.save(content, file)
    told = "holds no weights by name" if change == "no weights" else "does not fit its settings"
    with pytest.raises(CheckpointError, match=told):
        load_encoder(pretrained)


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused(pretrained):
    """Zeros pack a thousandfold."""
    file = newest(pretrained)
    packed = file.with_suffix(".packed")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("archive/data/more", bytes(10**8))
    packed.replace(file)
    with pytest.raises(CheckpointError, match=r"bytes that unpack to 1\d\d,\d\d\d,\d\d\d"):
        checkpoint.load(file)


class Shell:
    """What a pickle makes when it is read, where anything may be made."""

    def __reduce__(self):
        return (print, ("a stranger's code ran",))


def test_a_pickle_that_runs_code_is_refused(pretrained, capsys):
    file = newest(pretrained)
    torch.save({"format": 1, "kind": "pretrain", "model": Shell()}, file)
    capsys.readouterr()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(file)
    assert "stranger" not in "".join(capsys.readouterr())
