"""Runs and folders of others: what does not belong together is refused before it is built."""

import json
import resource
import shutil
import zipfile

import pytest
import torch

import partsig
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.models import load_encoder, load_part
from partsig.runs.run import Run
from partsig.train import checkpoint

pytestmark = pytest.mark.slow


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


def test_an_encoder_that_a_run_does_not_use_is_not_built(sample_store, tmp_path):
    """Whatever its record says of one: a logistic regression has no encoder."""
    run = tmp_path / "logistic"
    settings = {"model": "logistic", "split.val_subjects": 1}
    partsig.finetune("scratch", sample_store, run, subjects=2, overrides=settings, device="cpu")
    edit(run, lambda facts: facts["config"]["encoder"].update(width=16_384, depth=256))
    before = peak()
    assert load_classifier(run)[1].path == run
    assert peak() - before < GIB


def test_an_encoder_that_a_record_adds_is_not_of_its_weights(nights, tmp_path):
    raw = nights.write_nights(tmp_path / "raw", n_subjects=6, n=40)
    partsig.preprocess("feature-nights", raw, tmp_path / "store", jobs=1)
    run = partsig.finetune(
        "scratch", tmp_path / "store", tmp_path / "run", subjects=2, task="night-context",
        device="cpu",
        overrides={
            "split.val_subjects": 1, "fit.epochs": 1, "context.width": 8,
            "optim.warmup_epochs": 0.1,
        },
    )  # fmt: skip
    edit(run, lambda facts: facts["config"]["context"].update(through=True))
    with pytest.raises(CheckpointError, match="they do not belong together"):
        load_classifier(run)


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
    for use in (lambda: Run.read(tuned).calibration, lambda: load_model(tuned)):
        with pytest.raises(CheckpointError, match=r"has the temperature|is no number"):
            use()


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


def test_a_checkpoint_that_lies_about_what_it_unpacks_to_is_refused(pretrained):
    file = newest(pretrained)
    packed = file.with_suffix(".packed")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), compress_type=zipfile.ZIP_STORED)
        new.writestr("archive/data/more", b"0123456789abcdef")
    packed.replace(file)
    with pytest.raises(CheckpointError, match="has packed members"):
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


BENT = {
    "no extra field's end": lambda entry: entry[:30] + b"\x04\x00" + entry[32:],
    "a later version": lambda entry: entry[:6] + b"\x46\x00" + entry[8:],
}


@pytest.mark.parametrize("bent", BENT)
def test_an_archive_that_only_torch_can_read_is_refused(bent, pretrained):
    """Else what bounds it would not see what is read."""
    file = newest(pretrained)
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at:] = BENT[bent](bytes(content[at:]))
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read|does not fit"):
        load_encoder(pretrained)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j])
def test_weights_that_are_no_finite_numbers_are_refused(value, pretrained):
    """A hypnogram would come of them as of others."""
    file = newest(pretrained)
    content = torch.load(file, weights_only=True)
    name = next(key for key in content["model"] if key.startswith("encoder.blocks"))
    content["model"][name] = torch.full(content["model"][name].shape, value)
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="are not finite real numbers"):
        load_encoder(pretrained)


@pytest.mark.parametrize(
    "content", [b"\x80\x02h\x05.", b"\x80\x02K\x01s.", b"\x80\x02)R.", b"]" * 99]
)
def test_a_bare_pickle_is_no_checkpoint(content, pretrained):
    newest(pretrained).write_bytes(content.ljust(60_000, b"\0"))
    with pytest.raises(CheckpointError, match=r"cannot be read|do not belong together"):
        load_encoder(pretrained)


LIES = {
    "store": [None, 3, {}, "a\ud800"],
    "state": [3, []],
    "ch_names": ["C4", [["C4"]], [3], {}],
    "sfreq": [{}, 0, -1, "fast", 1e300],
    "split": ["test", {"test": "all"}, {"test": [3]}, []],
    "seed": [{}, -1, 1.5, True, 10**30],
    "environment": ["x", {"python": 3}],
    "calibration": ["x", [], {"temperature": "hot"}],
    "labels": ["x", [None]],
    "pretraining_subjects": ["x", [[]], 10**30],
    "config": ["x", []],
}


def used(run):
    """Use a run for what there is."""
    load_model(run)
    partsig.evaluate(run, device="cpu", figures=False)
    partsig.report(run)
    partsig.compare([run])


@pytest.mark.parametrize("key", LIES)
def test_a_record_of_other_types_is_one_sentence(key, tuned):
    for value in LIES[key]:
        edit(tuned, lambda facts, value=value: facts.update({key: value}))
        with pytest.raises((CheckpointError, ConfigError, DataError)):
            used(tuned)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"kind": ' + "[" * 200_000,
        "[]",
        '{"kind": "pretrain"',
        "{}",
        '"kind"',
        "NaN",
    ],
    ids=["lists", "within", "a list", "cut", "empty", "a text", "no number"],
)
def test_a_record_that_is_none_is_one_sentence(text, pretrained, sample_store, tmp_path):
    (pretrained / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(pretrained)
    store = tmp_path / "store"
    shutil.copytree(sample_store, store)
    (store / "meta.json").write_text(text)
    with pytest.raises(DataError):
        partsig.pretrain(store, tmp_path / "new", gpus="0")


@pytest.mark.parametrize("key", ["state", "store", "ch_names", "config", "split"])
def test_what_a_record_does_not_tell_is_one_sentence(key, tuned):
    edit(tuned, lambda facts: facts.pop(key, None))
    with pytest.raises((CheckpointError, DataError, ConfigError)):
        used(tuned)


def test_nothing_is_written_or_deleted_through_a_link_in_a_run(tuned, pretrained, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("metrics.json", "predictions.csv", "step-000000000.pt"):
        (mine / name).write_text("mine")
    (tuned / "evaluation").symlink_to(mine)
    with pytest.raises(DataError, match="evaluation is a link"):
        partsig.evaluate(tuned, device="cpu")
    shutil.copy(newest(pretrained), mine)
    shutil.rmtree(pretrained / "checkpoints")
    (pretrained / "checkpoints").symlink_to(mine)
    with pytest.raises(DataError, match="checkpoints is a link"):
        checkpoint.prune(pretrained, 1, 10**6)
    with pytest.raises(DataError, match="checkpoints is a link"):
        checkpoint.save(checkpoint.path_of(pretrained, 9), {"kind": "pretrain"})
    for name in ("metrics.json", "predictions.csv", "step-000000000.pt"):
        assert (mine / name).read_text() == "mine"
