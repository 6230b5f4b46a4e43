"""Every value and every section of the JSON of runs, stores and exported models, by others' hands.

Whatever is put in its place: a verb works, or says in one sentence what is wrong.
"""

import copy
import json
import shutil
import warnings
import zlib

import pytest
import timm
import torch

import partsig
from partsig.data.store import read_meta
from partsig.errors import CheckpointError, DataError, PartsigError
from partsig.interop import PartStager
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.facts import read_facts
from partsig.runs.models import load_encoder, load_part
from partsig.runs.run import Run
from partsig.runs.test_results import load
from partsig.schema import Told

pytestmark = pytest.mark.slow

VALUES = (None, True, -1, 0, 0.5, 1e308, -1e308, 1e-308, 10**30, 2**63, "x", "", [], {}, [[]])
VALUES += ({"x": 1}, ["x"], ["x", "x"], [None], [1e308, -1e308], "a" * 10_000, "../x", "W")
AT_ONCE = 3  # of them for a place, a different choice for each; all in the slow test


def places(value, above=()):
    """Yield the places of all values and sections; of a list its first value stands for the rest"""
    if above:
        yield above
    items = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from places(inner, (*above, key))
        else:
            yield (*above, key)


def changed(facts, place, value):
    facts = copy.deepcopy(facts)
    inside = facts
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return facts


def chosen(place):
    first = zlib.crc32(repr(place).encode()) % len(VALUES)
    return [VALUES[(first + 8 * i) % len(VALUES)] for i in range(AT_ONCE)]


def one_sentence(use, what):
    """Use it; an error must be the user's, and one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use()
        return
    except PartsigError as error:
        told = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert "\n" not in told, what
    assert len(told) < 13_000, what


def tried(file, uses, some, only=None):
    """Use a file with every value changed; ``only`` those under these keys."""
    whole = file.read_text()
    facts = json.loads(whole)
    for place in places(facts):
        if only is not None and place[0] not in only:
            continue
        for value in chosen(place) if some else VALUES:
            file.write_text(json.dumps(changed(facts, place, value)))
            for name, use in uses.items():
                one_sentence(use, (name, place, str(value)[:40]))
    file.write_text(whole)


def of_a_tuned_run(run, out):
    return {
        "read": lambda: Run.read(run).summary(),
        "load": lambda: load_model(run),
        "compare": lambda: load([run, run]),
        "labels": lambda: (Run.read(run).labels, Run.read(run).budget, Run.read(run).calibration),
        "stager": lambda: PartStager.from_pretrained(run),
    }


def of_a_pretrained_run(run, out):
    return {
        "read": lambda: (Run.read(run).origin, Run.read(run).seen_unlabelled),
        "load": lambda: load_model(run),
        "encoder": lambda: (load_encoder(run), load_part(run)),
    }


@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["tuned", "pretrained"])
def test_every_value_of_a_run(kind, some, stager_run, encoder_run, tmp_path):
    (tmp_path / "runs").mkdir()
    source, uses = stager_run, of_a_tuned_run
    if kind == "pretrained":
        source, uses = encoder_run, of_a_pretrained_run
    run = shutil.copytree(source, tmp_path / "runs" / "run")
    if kind == "tuned":
        partsig.evaluate(run, device="cpu", figures=False)
    tried(run / "run.json", uses(run, tmp_path / "out"), some)


@pytest.fixture(scope="module")
def frozen_runs(made_once, bright_images):
    """Runs on an encoder that is used as it is: a head on it, and a ranking by it."""

    def make(folder):
        weights = folder / "vit.pth"
        torch.save(timm.create_model("test_vit").state_dict(), weights)
        given = {"weights": weights, "overrides": {"train": "probe", "pool": "mean"}}
        given |= {"segments_per_class": 0, "device": "cpu"}
        for task in ("classification", "part-retrieval"):
            run = folder / task
            partsig.finetune("timm:test_vit@32", bright_images, run, task=task, **given)
            partsig.evaluate(run, device="cpu", figures=False)

    return made_once("frozen-runs", make)


@pytest.mark.parametrize(
    ("task", "some"),
    [("part-retrieval", True), pytest.param("classification", False, marks=pytest.mark.slow)],
)
def test_every_value_of_a_run_on_a_frozen_encoder(task, some, frozen_runs, tmp_path):
    """What other runs tell, too, is tried on those."""
    run = shutil.copytree(frozen_runs / task, tmp_path / "run")
    own = ("frozen_encoder", "weights_licence", "weights_sha256", "n_groups", "like", "task")
    uses = {
        "read": lambda: Run.read(run).summary(),
        "load": lambda: load_model(run),
        "compare": lambda: load([run, run]),
        "classifier": lambda: load_classifier(run),
    }
    tried(run / "run.json", uses, some, own)


def test_every_value_of_a_run_that_is_judged(stager_run, tmp_path):
    run = shutil.copytree(stager_run, tmp_path / "run")
    given = {"device": "cpu", "figures": False}
    uses = {
        "evaluate": lambda: partsig.evaluate(run, output=tmp_path / "own", **given),
        "embed": lambda: partsig.embed(run, output=tmp_path / "e.npz", device="cpu"),
        "export": lambda: partsig.export(run, tmp_path / "exported"),
    }
    tried(run / "run.json", uses, some=True)


@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_value_of_an_exported_model(some, stager_run, tmp_path):
    folder = partsig.export(stager_run, tmp_path / "out").path

    def predict():
        loaded = load_model(folder)
        model = loaded.model.eval()
        with torch.inference_mode():
            model.logits(torch.zeros(1, len(loaded.facts["ch_names"]), *loaded.window))
        assert loaded.kind in ("stager", "encoder")

    uses = {"load": predict, "stager": lambda: PartStager.from_pretrained(folder)}
    tried(folder / "config.json", uses, some)


@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_value_of_an_exported_frozen_encoder(some, frozen_runs, tmp_path):
    folder = partsig.export(frozen_runs / "classification", tmp_path / "out").path

    def predict():
        loaded = load_model(folder)
        with torch.inference_mode():
            loaded.model.eval().logits(torch.zeros(1, len(loaded.facts["ch_names"]), 32, 32))

    own = ("frozen_encoder", "blocks", "pool", "training")
    tried(folder / "config.json", {"load": predict}, some, own)


@pytest.mark.parametrize("some", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["signals", "images"])
def test_every_value_of_a_store(kind, some, sample_store, digits, tmp_path):
    store = shutil.copytree(sample_store if kind == "signals" else digits, tmp_path / "store")
    from partsig.modalities import registry

    def opened():
        dataset = registry.of(read_meta(store)).open(store)
        return dataset.facts(), dataset.labels, dataset.task

    def read():
        from partsig.data.signals.store import open_store

        found = open_store(store)
        name = found.rows[0]["recording"]
        return found.signal(name), found.labels(name), found.twins, found.classes_of(name)

    uses = {"open": opened}
    if kind == "signals":
        uses["read"] = read
    tried(store / "meta.json", uses, some)


WRONG = [
    (("labels", "unit_s"), 1e308, r"labels\.unit_s is no such thing: 1e\+308"),
    (("labels", "unit_s"), 1e-9, "labels of 1e-09 s have no samples at 100 Hz"),
    (("labels", "unit_s"), None, r"labels\.unit_s is not told, and signals have a rate"),
    (("sfreq",), None, "sfreq is no such thing: None"),
    (("labels", "classes"), ["W", "W"], r"labels\.classes is no such thing"),
    (("labels", "more"), 1, "labels are not told by classes, unit_s, target"),
    (("filter",), "x", "filter is no such thing: x"),
    (("filter", "l_freq"), "low", r"filter\.l_freq is no such thing: low"),
    (("calibration", "prior"), "x", r"calibration\.prior is no such thing: x"),
    (("calibration", "prior"), [0.5, 0.5], r"calibration\.prior is of 2 classes, and there are 5"),
    (("val_kappa",), "good", "val_kappa is no such thing: good"),
    (("split", "test", 0), "\ud800", "is damaged"),
]


@pytest.mark.parametrize(("place", "value", "told"), WRONG)
def test_what_is_wrong_is_named(place, value, told, stager_run, tmp_path):
    facts = json.loads((stager_run / "run.json").read_text())
    file = tmp_path / "run.json"
    file.write_text(json.dumps(changed(facts, place, value)))
    with pytest.raises(CheckpointError, match=told):
        read_facts(file)


def test_a_section_that_does_not_tell_is_named():
    told = Told({"labels": {"classes": ["a"]}, "n": 3}, "meta.json", DataError)
    assert told["labels"]["classes"] == ["a"]
    with pytest.raises(DataError, match=r"meta\.json does not tell 'unit_s': it is damaged"):
        _ = told["labels"]["unit_s"]
    assert json.loads(json.dumps(told)) == {"labels": {"classes": ["a"]}, "n": 3}
