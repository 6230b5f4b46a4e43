"""Columns of retrieval: mean, [CLS], what is projected; the query in its own gallery or not."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

import partsig
from partsig.core.objectives.frozen_classifier import FrozenClassifier
from partsig.core.objectives.settings import ClassifierConfig
from partsig.core.objectives.supervised import Classifier
from partsig.data.images.examples import LabelledImages
from partsig.data.images.store import open_images
from partsig.errors import ConfigError
from partsig.interop.timm_encoder import TimmEncoder, TimmEncoderConfig
from partsig.runs.models import load_part
from partsig.runs.run import Run
from partsig.tasks import part_retrieval
from partsig.verbs.pretrain import pretrain

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
CPU = {"device": "cpu"}
SHORT = TINY | {
    "patch_px": 2, "size": 8, "augment.crop": "pad", "objective.context": 1.0,
    "objective.relate": 0.0, "objective.sampling": "grid", "objective.positions": "sincos",
    "objective.position_mask": 0.0, "windows_per_epoch": 64, "fit.batch_size": 32,
    "fit.epochs": 1, "optim.warmup_epochs": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def contrast(made_once, digits):
    def make(folder):
        pretrain(
            digits, folder / "run", modality="image", config="image-tiny", overrides=SHORT, gpus="0"
        )

    return made_once("contrast-with-projection", make) / "run"


def asked(origin, store, path, **overrides):
    return partsig.finetune(
        origin, store, path, task="part-retrieval", overrides=overrides, segments_per_class=5, **CPU
    )


def test_what_is_projected_is_what_the_contrast_compared(contrast, digits, tmp_path):
    run = asked(contrast, digits, tmp_path / "run", pool="projection")
    result = partsig.evaluate(run, figures=False, **CPU).metrics
    assert result["pool"] == "projection"
    partsig.embed(run, digits, output=tmp_path / "e.npz", **CPU)
    with np.load(tmp_path / "e.npz") as file:
        found = file["embeddings"][:8]
    theirs = load_part(contrast).model
    store = open_images(digits)
    x = torch.from_numpy(store.batch(np.arange(8)))
    shape = ClassifierConfig(positions="sincos", pool="mean")
    mine = Classifier(shape, theirs.encoder, (8, 8), (2, 2), 2).eval()
    with torch.no_grad():
        tokens, _, _ = mine.encode(x, "mean")
        expected = theirs.project(tokens.mean(1))
    assert found.shape == (8, 64)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_each_column_is_another(contrast, digits, tmp_path):
    found = {}
    for pool in ("mean", "cls", "projection"):
        run = asked(contrast, digits, tmp_path / pool, pool=pool)
        found[pool] = partsig.evaluate(run, figures=False, **CPU).metrics["mean_average_precision"]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("train", "task", "origin", "message"),
    [
        ("probe", "part-retrieval", "scratch", "--from scratch: this encoder has no projection"),
        ("full", "classification", "contrast", "set train to probe or knn or attentive, not to"),
    ],
)
def test_where_there_is_none_that_is_told(train, task, origin, message, contrast, digits, tmp_path):
    overrides = {"pool": "projection", "train": train}
    overrides |= TINY | {"patch_px": 2} if origin == "scratch" else {}
    with pytest.raises(ConfigError, match=message):
        partsig.finetune(
            contrast if origin == "contrast" else origin, digits, tmp_path / "run", task=task,
            overrides=overrides, segments_per_class=5, **CPU,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_published_head_projects_by_the_same_pool():
    told = TimmEncoderConfig(
        model="vit_tiny_patch16_224", size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
        arguments={"embed_dim": 16, "depth": 2, "num_heads": 2},
        interpolation="bicubic", projector={"kind": "moco", "widths": [16, 24, 8]},
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = TimmEncoder(told).eval()
    x = torch.randint(0, 256, (3, 3, 32, 32)).float()
    net = FrozenClassifier(encoder, "projection", 4)
    assert net.head.in_features == 8
    torch.testing.assert_close(net.features(x), encoder.encode(x, project=True).projection)
    with pytest.raises(ConfigError, match="of the whole encoder: leave out blocks=1"):
        FrozenClassifier(encoder, "projection", 4, blocks=1)
    bare = TimmEncoder(TimmEncoderConfig(**{**vars(told), "projector": None}))
    with pytest.raises(ConfigError, match="this encoder has no projection head"):
        FrozenClassifier(bare, "projection", 4)


def test_a_query_in_its_own_gallery_is_told_besides(contrast, digits, tmp_path):
    run = asked(contrast, digits, tmp_path / "run", pool="mean")
    evaluation = partsig.evaluate(run, figures=False, **CPU)
    result = json.loads((run / "evaluation" / "metrics.json").read_text())
    task, store = part_retrieval.PartRetrieval(), open_images(digits)
    examples = LabelledImages(store, store.members("test"), 8)
    features = task.predict(task.load(Run.read(run)), examples, torch.device("cpu"))
    labels = examples.labels
    likeness = cosine_similarity(features).astype(np.float32).round(6)
    each = np.array(
        [average_precision_score(labels == labels[i], likeness[i]) for i in range(len(labels))]
    )
    expected = np.mean([each[labels == k].mean() for k in np.unique(labels)])
    told = result["with_query"]["mean_average_precision"]
    assert told == pytest.approx(expected, abs=1e-3)
    assert told > result["mean_average_precision"]
    assert evaluation.summary[-1] == (
        f"with each query in its own gallery, as published: {told:.3f}"
    )


def test_items_are_ranked_once(contrast, digits, tmp_path, monkeypatch):
    run = asked(contrast, digits, tmp_path / "run", pool="mean")
    counted, rank = [], part_retrieval.rank

    def counting(features, labels):
        counted.append(len(labels))
        return rank(features, labels)

    monkeypatch.setattr(part_retrieval, "rank", counting)
    partsig.evaluate(run, **CPU)
    assert len(counted) == 1
