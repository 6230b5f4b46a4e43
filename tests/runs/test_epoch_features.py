"""How features of epochs are made, written and read: whole, the same, or refused in a sentence."""

import json

import pytest
import torch

from partsig.errors import CheckpointError
from partsig.recipes.loading import load_model
from partsig.runs.epoch_features import FILE, WEIGHTS, digest_of, read_recipe, recipe_of, weights_of
from partsig.train import checkpoint

BANDS = ("delta", "theta")


@pytest.fixture(scope="module")
def loaded(encoder_run):
    return load_model(encoder_run)


def made(loaded, **changed):
    own = {
        "names": (*(() if loaded is None else (f"e_{i}" for i in range(16))), *BANDS),
        "ch_names": tuple(["C3"] if loaded is None else loaded.facts["ch_names"]),
        "sfreq": 100.0 if loaded is None else loaded.facts["sfreq"],
        "unit_s": 30.0,
        "filter": {"l_freq": 0.1, "h_freq": None},
        "bands": len(BANDS),
    }
    if loaded is not None:
        own |= {"pool": "mean"}
    return recipe_of(loaded, **own | changed)


def test_what_is_written_is_what_is_read(loaded, tmp_path):
    recipe = made(loaded, subjects_pretraining=["a"])
    recipe.write(tmp_path)
    found = read_recipe(tmp_path)
    assert found == recipe
    assert found.digest == recipe.digest
    assert found.in_words == "16 numbers of an encoder (mean) and 2 band powers"
    for name, value in weights_of(recipe.loaded).items():
        torch.testing.assert_close(found.loaded.model.state_dict()[name], value, rtol=0, atol=0)
    (tmp_path / "copy").mkdir()
    found.copy_to(tmp_path / "copy")
    for name in (FILE, WEIGHTS):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_whom_the_encoder_has_seen_does_not_decide_the_features(loaded):
    assert made(loaded).digest == made(loaded, subjects_labelled=["b"]).digest
    others = [made(None), made(loaded, pool="cls"), made(loaded, filter={"l_freq": 0.3})]
    assert len({made(loaded).digest, *(other.digest for other in others)}) == 4


def test_band_powers_need_no_weights(tmp_path):
    made(None).write(tmp_path)
    found = read_recipe(tmp_path)
    assert found.loaded is None
    assert found.in_words == "2 band powers"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_digest_of_weights_is_that_of_their_values():
    state = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16)}
    same = {"b": state["b"].clone(), "a": state["a"].clone()}
    assert digest_of(state) == digest_of(same)
    assert digest_of(state) != digest_of(state | {"a": torch.arange(3.0) + 1})
    assert digest_of(state) != digest_of({"a": state["a"], "c": state["b"]})


def test_weights_of_another_encoder_are_refused(loaded, tmp_path):
    made(loaded).write(tmp_path)
    state = {name: value + 1 for name, value in weights_of(loaded).items()}
    checkpoint.save(tmp_path / WEIGHTS, {"kind": "epoch-features", "model": state})
    with pytest.raises(CheckpointError, match="is not the encoder that its"):
        _ = read_recipe(tmp_path).loaded
    checkpoint.save(tmp_path / WEIGHTS, {"kind": "finetune", "model": state})
    with pytest.raises(CheckpointError, match="not of epoch-features"):
        _ = read_recipe(tmp_path).loaded
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sfreq": -1}, "sfreq is no such thing"),
        ({"sfreq": 200.0}, "its encoder is for other channels, or another rate"),
        ({"ch_names": []}, "ch_names is no such thing"),
        ({"format": 2}, "format is no such thing"),
        ({"bands": 99}, "are not 99 band powers"),
        ({"encoder": None}, "are not 2 band powers"),
        ({"encoder": {}}, "encoder: it does not tell"),
        ({"pool": None}, "does not tell what is taken"),
        ({"scaling": "all"}, "scaling is no such thing"),
        ({"more": 1}, "unexpected keyword"),
    ],
)
def test_what_somebody_else_wrote_is_one_sentence(loaded, tmp_path, changed, told):
    made(loaded).write(tmp_path)
    facts = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(facts | changed))
    with pytest.raises(CheckpointError, match=told):
        read_recipe(tmp_path)


def test_a_key_that_is_not_told_is_named(tmp_path):
    made(None).write(tmp_path)
    facts = json.loads((tmp_path / FILE).read_text())
    for key in ("filter", "bands", "names"):
        (tmp_path / FILE).write_text(json.dumps({k: v for k, v in facts.items() if k != key}))
        with pytest.raises(CheckpointError, match=f"does not tell '{key}'"):
            read_recipe(tmp_path)
    assert read_recipe(tmp_path / "nowhere") is None
