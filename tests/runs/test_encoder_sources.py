"""Encoders that no run of ours has trained: by name, with weights from a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import partsig
from partsig.core.normalise import instance_normalise
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.data.images.examples import LabelledImages
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities.image_dataset import stores_seen
from partsig.recipes.loading import load_classifier
from partsig.runs.run import Run
from partsig.runs.test_results import method_of

NAME, CPU = "vit_tiny_patch16_224", torch.device("cpu")
PROBE = {"train": "probe", "pool": "cls"}


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=0, dynamic_img_size=True).eval()


@pytest.fixture(scope="module")
def weights(vit, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save({"model": vit.state_dict() | {"head.bias": torch.zeros(10)}}, file)
    return file


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """48 images of 32 x 32 in colour: one class is brighter to the left."""
    rng = np.random.default_rng(0)
    path, labels = tmp_path_factory.mktemp("store") / "store", np.arange(48) % 2
    pixels = rng.integers(100, size=(48, 3, 32, 32)).astype(np.uint8)
    pixels[labels == 1, :, :, :16] += 100
    roles = np.repeat(["train", "val", "test"], 16)
    told = enumerate(zip(roles, labels, strict=True))
    items = [images.Item(f"{r}/{i}", int(k), r, "") for i, (r, k) in told]
    source = images.Source(
        name="images",
        size=(32, 32),
        ch_names=("red", "green", "blue"),
        classes=("even", "left"),
        items=items,
        read=lambda i: pixels[i],
    )
    meta = images.make_meta(source, 0.1)
    images.create(path, meta)
    arrays.write_arrays(path, 0, arrays.layers_of(meta), 48, enumerate(pixels[:, None]), True)
    images.write_index(path, [images.index_row(item, i) for i, item in enumerate(items)])
    return path


def test_a_probe_sees_what_timm_sees(vit, weights, store, tmp_path):
    run = partsig.finetune(
        f"timm:{NAME}", store, tmp_path / "run", weights=weights, overrides=PROBE, device="cpu"
    )
    model, trained = load_classifier(run)
    assert trained.facts["from"] == f"timm:{NAME}"
    assert trained.config["patch_px"] == 16
    test = LabelledImages(images.open_images(store), np.arange(32, 48), 32)
    x = torch.from_numpy(next(test.in_order(16)))
    with torch.inference_mode():
        expected = vit.forward_features(instance_normalise(x)[0])[:, 0]
        torch.testing.assert_close(model.eval().features(x), expected, atol=1e-4, rtol=1e-4)
    found = partsig.evaluate(run, device="cpu", figures=False)
    assert found.metrics["accuracy"] > 0.8
    assert Run.read(run).facts["pretraining"] == {"objective": f"timm:{NAME}", "seed": None}
    origin = Run.read(run).origin
    assert (origin.source, origin.name, origin.path) == ("timm", NAME, None)
    assert method_of(Run.read(run)) == f"timm:{NAME}, probe"
    embedded = np.load(partsig.embed(run, store, device="cpu").path)
    meta = json.loads(str(embedded["meta"]))
    assert meta["pretraining_store"] == f"timm:{NAME}"
    assert meta["labelled_store"] == store.name
    card = (partsig.export(run).path / "README.md").read_text()
    assert f"Started from the weights of timm:{NAME}; what these were trained on" in card


def test_the_first_blocks_can_be_taken_and_everything_trained(weights, store, tmp_path):
    options = {"blocks": 1, "fit.epochs": 1, "fit.batch_size": 16, "optim.warmup_epochs": 0}
    run = partsig.finetune(
        f"timm:{NAME}", store, tmp_path / "run", weights=weights, overrides=options, device="cpu"
    )
    model, _ = load_classifier(run)
    assert len(model.encoder.blocks) == 1
    assert model.positions is not None


@pytest.mark.parametrize(
    ("origin", "more", "message"),
    [
        ("official:mocov3", {}, "no such source; it can be a pretraining run, scratch, or timm:NA"),
        ("timm:vit_tiny_patch15_224", {}, "timm has no such model; nearest is 'vit_tiny_patch16_"),
        (f"timm:{NAME}", {"weights": "none.pt"}, r"--weights none\.pt: there is no such file"),
        (f"timm:{NAME}", {"weights": __file__}, "no file of plain weights"),
        ("timm:vit_small_patch16_224", {"weights": True}, "does not fit the model: .* differ"),
        ("scratch", {"weights": True}, "--weights is for an encoder of timm:NAME, not for --from"),
    ],
)
def test_mistakes_are_told_in_a_sentence(origin, more, message, weights, store, tmp_path):
    more = {key: weights if value is True else value for key, value in more.items()}
    with pytest.raises(ConfigError, match=message):
        partsig.finetune(origin, store, tmp_path / "run", device="cpu", **more)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 24}, "has patches of 16 x 16 pixels; the images have 24 x 24"),
        ({"encoder.width": 96}, r"comes from timm:.*; leave out encoder\.width: 192, now 96"),
        ({"patch_px": 8}, r"leave out patch_px: 16, now 8"),
    ],
)
def test_settings_that_are_the_encoders_own_are_refused(
    settings, message, weights, store, tmp_path
):
    where = (f"timm:{NAME}", store, tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        partsig.finetune(*where, weights=weights, overrides=settings, device="cpu")


def test_other_weights_are_another_run(vit, weights, store, tmp_path):
    where = (f"timm:{NAME}", store, tmp_path / "run")
    partsig.finetune(*where, weights=weights, overrides=PROBE, device="cpu")
    other = tmp_path / "other.pt"
    torch.save({key: 2 * value for key, value in vit.state_dict().items()}, other)
    with pytest.raises(CheckpointError, match="another configuration: weights_sha256"):
        partsig.finetune(*where, weights=other, overrides=PROBE, device="cpu")


def test_signals_are_not_for_it(weights, sample_store, tmp_path):
    with pytest.raises(ConfigError, match="takes images; the store holds signals"):
        partsig.finetune(
            f"timm:{NAME}", sample_store, tmp_path / "run", weights=weights, device="cpu"
        )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (f"timm:{NAME}", f"timm:{NAME}"),
        ("scratch", None),
        ("runs/gone", "unknown"),
        ("official:gone", "unknown"),  # a folder with a colon in its name
    ],
)
def test_a_run_tells_what_its_encoder_has_seen(told, expected):
    facts = {"kind": "finetune", "store": "s", "from": told}
    assert stores_seen(Run(path=Path("r"), facts=facts)) == {
        "pretraining_store": expected,
        "labelled_store": "s",
    }
