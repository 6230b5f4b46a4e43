"""Encoders that no run of ours has trained: by name, with weights from a file."""

import copy
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import partsig
from partsig.data.images import store as images
from partsig.data.images.examples import LabelledImages
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities.image_dataset import stores_seen
from partsig.recipes.loading import load_classifier, load_model
from partsig.runs.method_names import method_of
from partsig.runs.run import Run

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
def store(bright_images, tmp_path_factory):
    """A copy: runs lie beside it, and embeddings are called after it."""
    path = tmp_path_factory.mktemp("store") / "store"
    shutil.copytree(bright_images, path)
    return path


def seen(store):
    """The test images (16, 3, 32, 32) uint8."""
    test = LabelledImages(images.open_images(store), np.arange(32, 48), 32)
    return torch.from_numpy(next(test.in_order(16)))


def as_timm_wants(x, size):
    """Images (n, 3, H, W) uint8 as timm's own transform gives them, nothing cut off."""
    told = timm.get_pretrained_cfg(NAME)
    change = timm.data.create_transform(
        (3, size, size),
        interpolation=told.interpolation,
        mean=told.mean,
        std=told.std,
        crop_pct=1.0,
    )
    return torch.stack([change(Image.fromarray(one.permute(1, 2, 0).numpy())) for one in x])


def test_a_probe_sees_what_timm_sees(vit, weights, store, tmp_path):
    """As its makers use it, by its own filter, mean and SD; smaller, to be quick."""
    name = f"timm:{NAME}@96"
    run = partsig.finetune(
        name, store, tmp_path / "run", weights=weights, overrides=PROBE, device="cpu"
    )
    vit = copy.deepcopy(vit)
    vit.set_input_size(img_size=(96, 96))
    model, trained = load_classifier(run)
    assert trained.facts["from"] == name
    x = seen(store)
    with torch.inference_mode():
        expected = vit.forward_features(as_timm_wants(x, 96))[:, 0]
        torch.testing.assert_close(model.eval().features(x), expected, atol=2e-3, rtol=2e-3)
        expected = vit.forward_features(model.encoder.prepared(x))[:, 0]
        torch.testing.assert_close(model.features(x), expected, atol=1e-5, rtol=1e-5)
    found = partsig.evaluate(run, device="cpu", figures=False)
    assert found.metrics["accuracy"] > 0.8
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert trained.facts["weights_sha256"] == sha256
    assert trained.facts["weights_licence"] is None  # the file came under no tag
    assert trained.facts["frozen_encoder"]["model"] == NAME
    assert Run.read(run).facts["pretraining"] == {"objective": name, "seed": None}
    origin = Run.read(run).origin
    assert (origin.source, origin.name, origin.path) == ("timm", f"{NAME}@96", None)
    assert method_of(Run.read(run)) == f"{name}, probe"
    embedded = np.load(partsig.embed(run, store, device="cpu").path)
    meta = json.loads(str(embedded["meta"]))
    assert meta["pretraining_store"] == name
    assert meta["labelled_store"] == store.name
    exported = partsig.export(run).path
    card = (exported / "README.md").read_text()
    assert f"Started from the weights of {name}; what these were trained on" in card
    assert f"Their licence is not known here; SHA-256 {sha256}." in card
    assert f"An encoder of images ({name}, used as it is) and a linear head on" in card
    again = load_model(exported).model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(again.logits(x), model.logits(x), atol=0, rtol=0)
    with pytest.raises(ConfigError, match="no portable form here: export it as safetensors"):
        partsig.export(run, tmp_path / "onnx", format="onnx")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("convnext_atto@64", {"train": "knn", "pool": "mean"}),
        ("tf_efficientnet_lite0@64", {"train": "probe"}),
        (f"{NAME}@64", {"train": "probe", "pool": "mean+sd", "blocks": 2}),
        ("resnet10t@64", {"train": "probe", "blocks": 3}),
    ],
)
def test_any_encoder_of_timm_is_probed_judged_and_embedded(name, settings, store, tmp_path):
    torch.manual_seed(1)
    theirs = timm.create_model(name.partition("@")[0]).eval()  # with its classifier
    file = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), file)
    run = partsig.finetune(
        f"timm:{name}", store, tmp_path / "run", weights=file, overrides=settings, device="cpu"
    )
    model, _ = load_classifier(run)
    net = getattr(model, "net", model).eval()
    x = seen(store)
    with torch.inference_mode():
        theirs = net.encoder.model  # of 64 pixels: its codes are interpolated
        prepared = net.encoder.prepared(x)
        blocks = settings.get("blocks", 0)
        if blocks:
            options = {"norm": True, "intermediates_only": True}
            tokens = theirs.forward_intermediates(prepared, indices=[blocks - 1], **options)[0]
        else:
            tokens = theirs.forward_features(prepared)  # of all but the ViT a map
        tokens = tokens.flatten(2).transpose(1, 2)
        expected = tokens.mean(1)
        if settings.get("pool") == "mean+sd":
            spread = tokens.var(1, unbiased=False).add(1e-6).sqrt()
            expected = torch.cat([expected, spread], dim=1)
        elif not blocks and "pool" not in settings:
            expected = theirs.forward_head(theirs.forward_features(prepared), pre_logits=True)
        torch.testing.assert_close(net.features(x), expected, atol=1e-5, rtol=1e-5)
    assert partsig.evaluate(run, device="cpu", figures=False).metrics["accuracy"] > 0.6
    embedded = np.load(partsig.embed(run, store, device="cpu").path)
    assert embedded["embeddings"].shape == (48, expected.shape[1])
    np.testing.assert_allclose(embedded["embeddings"][32:], expected, atol=1e-4)
    assert json.loads(str(embedded["meta"]))["blocks"] == net.depth


@pytest.mark.parametrize(
    ("origin", "licence"),
    [("official:mae", "cc-by-nc-4.0"), ("packaged:efficientnet-lite0@32", "apache-2.0")],
)
def test_a_run_and_its_card_tell_whose_the_weights_are(origin, licence, store, tmp_path):
    file = None
    if origin.startswith("official"):
        file = tmp_path / "mae.pth"
        shape = {"embed_dim": 64, "depth": 1, "num_heads": 1, "img_size": 32}
        model = timm.create_model("vit_base_patch16_224", num_classes=0, **shape)
        torch.save({"model": model.state_dict() | {"mask_token": torch.zeros(1)}}, file)
    run = partsig.finetune(
        origin, store, tmp_path / "run", weights=file, overrides=PROBE, device="cpu"
    )
    facts = Run.read(run).facts
    assert (facts["from"], facts["weights_licence"]) == (origin, licence)
    assert facts["pretraining"] == {"objective": origin, "seed": None}
    card = (partsig.export(run).path / "README.md").read_text()
    assert f"Started from the weights of {origin};" in card
    assert f"Their licence: {licence}; SHA-256 {facts['weights_sha256']}." in card
    if file is None:
        assert partsig.evaluate(run, device="cpu", figures=False).metrics["accuracy"] == 1
    else:
        file.unlink()  # the run has the weights
    model, _ = load_classifier(run)
    assert torch.isfinite(model.eval().features(seen(store))).all()


def test_a_run_whose_encoder_is_damaged_is_refused(weights, store, tmp_path):
    where = (f"timm:{NAME}@32", store, tmp_path / "run")
    run = partsig.finetune(*where, weights=weights, overrides=PROBE, device="cpu")
    told = json.loads((run / "run.json").read_text())
    told["frozen_encoder"] |= {"model": "hf-hub:somebody/else"}
    (run / "run.json").write_text(json.dumps(told))
    with pytest.raises((ConfigError, CheckpointError), match="timm has no model 'hf-hub:some"):
        load_classifier(run)
    told["frozen_encoder"] |= {"model": "vit_base_patch16_224"}
    (run / "run.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="they do not belong together"):
        load_classifier(run)


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
        ("oficial:mocov3", {}, "no such source; nearest is official:…; it can be a pretraining"),
        ("elsewhere:mocov3", {}, "it can be a pretraining run, scratch, or timm:NAME or official"),
        ("official:mocov3", {}, "is used as it is, and cannot be trained further: pass --set trai"),
        ("timm:convnext_atto", {}, "is no ViT of timm.* As it is, frozen, it is used by --set tr"),
        ("timm:vit_tiny_patch15_224", {}, "timm has no such model; nearest is 'vit_tiny_patch16_"),
        (f"timm:{NAME}", {"weights": "none.pt"}, r"--weights none\.pt: there is no such file"),
        (f"timm:{NAME}", {"weights": __file__}, "no file of plain weights"),
        ("timm:vit_small_patch16_224", {"weights": True}, "does not fit the encoder: it differs "),
        ("scratch", {"weights": True}, "--weights is for an encoder of timm:NAME or official:NAM"),
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
    where = (f"timm:{NAME}@32", store, tmp_path / "run")
    partsig.finetune(*where, weights=weights, overrides=PROBE, device="cpu")
    other = tmp_path / "other.pt"
    torch.save({key: 2 * value for key, value in vit.state_dict().items()}, other)
    with pytest.raises(CheckpointError, match="another configuration: weights_sha256"):
        partsig.finetune(*where, weights=other, overrides=PROBE, device="cpu")


@pytest.mark.parametrize("train", ["full", "probe"])
def test_signals_are_not_for_it(train, weights, sample_store, tmp_path):
    where = (f"timm:{NAME}", sample_store, tmp_path / "run")
    with pytest.raises(ConfigError, match="takes images; the store holds signals"):
        partsig.finetune(*where, weights=weights, overrides={"train": train}, device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": "learned"}, "positions=learned: the encoder of timm:.* has its own"),
        ({"encoder.width": 96}, r"comes from timm:.*; leave out encoder\.width: 384, now 96"),
        ({"pool": "mean+sd+spectrum"}, "is for partsig's own encoders"),
        ({"blocks": 13}, "blocks is 13; the encoder has 12"),
    ],
)
def test_settings_that_a_frozen_encoder_has_no_use_for(settings, message, weights, store, tmp_path):
    where = (f"timm:{NAME}", store, tmp_path / "run")
    options = {"weights": weights, "overrides": PROBE | settings, "device": "cpu"}
    with pytest.raises(ConfigError, match=message):
        partsig.finetune(*where, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (f"timm:{NAME}", f"timm:{NAME}"),
        ("scratch", None),
        ("runs/gone", "unknown"),
        ("elsewhere:gone", "unknown"),  # a folder with a colon in its name
    ],
)
def test_a_run_tells_what_its_encoder_has_seen(told, expected):
    facts = {"kind": "finetune", "store": "s", "from": told}
    assert stores_seen(Run(path=Path("r"), facts=facts)) == {
        "pretraining_store": expected,
        "labelled_store": "s",
    }
