import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from partsig.core.encoder import Encoder, EncoderConfig
from partsig.core.objectives.supervised import Classifier, ClassifierConfig
from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.files import HOST
from partsig.recipes.loading import load_model
from partsig.runs import directory as runs
from partsig.runs import exported as packed
from partsig.runs import features
from partsig.verbs.embed import embed
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
TINY |= {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}


@pytest.fixture(scope="module")
def pretrained(encoder_run, tmp_path_factory):
    """A copy, since embeddings are written into a run where no other place is named."""
    return shutil.copytree(encoder_run, tmp_path_factory.mktemp("embed") / "pretrain")


def classifier(pool, positions="none", channels=2):
    torch.manual_seed(3)
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2), channels, (10,))
    config = ClassifierConfig(positions=positions, pool=pool)
    return Classifier(config, encoder, (60,), (10,), 5).eval()


@pytest.mark.parametrize("pool", packed.POOLS)
def test_one_window_is_what_a_classifier_sees(pool):
    model = classifier(pool, "learned")
    x = 20 * torch.randn(4, 2, 60)
    found = features.embed_windows(model, 60, x, pool)
    torch.testing.assert_close(found, model.features(x))
    assert found.shape[1] == model.width_of(pool) == model.head.in_features


@pytest.mark.parametrize("pool", packed.POOLS)
def test_windows_of_an_epoch_are_pooled_together(pool):
    """By hand: every window encoded alone, all tokens in one heap."""
    model = classifier(pool)
    x = 20 * torch.randn(1, 2, 180)
    found = features.embed_windows(model, 60, x, pool)[0]
    tokens, cls, projected, spectra = [], [], [], []
    for first in (0, 60, 120):
        window = x[..., first : first + 60]
        normal = (window - window.mean(-1, keepdim=True)) / window.std(
            -1, correction=0, keepdim=True
        )
        level = window.std(-1, correction=0).log()
        patches = torch.stack([normal[..., 10 * k : 10 * k + 10] for k in range(6)], 1)
        each, summary = model.encoder(patches, level, None)
        tokens.append(each[0])
        cls.append(summary[0])
        if pool == "projection":
            projected.append(model.project(each.mean(1))[0])
        power = torch.fft.rfft(patches * torch.hann_window(10)).abs().square() + 1e-2
        spectra.append((power.log() + 2 * level[:, None, :, None])[0] / 3)
    heap = torch.cat(tokens)
    expected = {
        "cls": torch.stack(cls).mean(0),
        "projection": torch.stack(projected or cls).mean(0),
        "mean": heap.mean(0),
        "mean+sd": torch.cat([heap.mean(0), (heap.var(0, correction=0) + 1e-6).sqrt()]),
    }
    expected["mean+sd+spectrum"] = torch.cat(
        [expected["mean+sd"], torch.cat(spectra).mean(0).flatten()]
    )
    torch.testing.assert_close(found, expected[pool], rtol=1e-4, atol=1e-5)


def test_windows_cover_an_epoch_that_they_do_not_divide():
    for n_times, window in ((3000, 700), (3000, 501), (3000, 2999), (61, 60)):
        seen = np.zeros(n_times, bool)
        for first in features.starts(n_times, window):
            assert 0 <= first <= n_times - window
            seen[first : first + window] = True
        assert seen.all()


def test_every_epoch_has_its_embedding(pretrained, sample_store):
    done = embed(pretrained, device="cpu")
    store = open_store(sample_store)
    assert done.path == pretrained / "embeddings" / "store.npz"
    assert done.n == sum(row["n_epochs"] for row in store.rows) == 1012
    found = np.load(done.path, allow_pickle=False)
    # 16 means, 16 SDs, three channels of 51 frequencies: the probe's features of few-labels.
    assert found["embeddings"].shape == (1012, 16 + 16 + 3 * 51)
    assert done.pool == "mean+sd+spectrum"
    assert np.isfinite(found["embeddings"]).all()
    model = load_model(pretrained).model.eval()
    for name in ("sp00-0006", store.rows[-1]["recording"]):
        mine = found["recording"] == name
        row = store.recordings[name]
        assert set(found["subject"][mine]) == {row["subject"]}
        assert found["epoch"][mine].tolist() == list(range(row["n_epochs"]))
        assert found["onset_s"][mine].tolist() == [30.0 * e for e in range(row["n_epochs"])]
        names = [STAGES[code] if code >= 0 else "" for code in store.labels(name)]
        assert found["stage"][mine].tolist() == names
        signal = torch.from_numpy(np.array(store.signal(name)))
        epoch = signal[None, :, 3000:6000]
        with torch.inference_mode():
            expected = features.embed_windows(model, 500, epoch, "mean+sd+spectrum")[0]
        np.testing.assert_allclose(found["embeddings"][mine][1], expected, atol=1e-5)
    assert (found["stage"] == "").sum() == sum(row["unscored"] for row in store.rows) > 0


def test_parquet_holds_the_same(stager_run, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    npz = embed(stager_run, output=tmp_path / "e.npz", device="cpu")
    done = embed(stager_run, output=tmp_path / "e.parquet", device="cpu")
    table, found = pq.read_table(done.path), np.load(npz.path)
    told = ["recording", "subject", "epoch", "onset_s", "stage"]
    assert table.column_names == told + [f"e_{i}" for i in range(16)]
    for key in told:
        assert table[key].to_pylist() == found[key].tolist()
    values = np.stack([table[f"e_{i}"].to_numpy() for i in range(16)], axis=1)
    np.testing.assert_array_equal(values, found["embeddings"])
    meta = json.loads(table.schema.metadata[b"partsig"])
    assert meta["pool"] == "cls"
    assert meta | {"date": ""} == json.loads(str(found["meta"])) | {"date": ""}


def test_whom_the_run_has_seen_is_in_the_file(pretrained, stager_run, tmp_path):
    meta = json.loads(str(np.load(embed(pretrained, device="cpu").path)["meta"]))
    assert meta["subjects_pretraining"] == runs.read(pretrained)["subjects_seen"]
    assert meta["subjects_labelled"] == []
    assert meta["windows_per_epoch"] == 6
    done = embed(stager_run, recordings=["sp00-0006"], output=tmp_path / "e.npz", device="cpu")
    meta, record = json.loads(str(np.load(done.path)["meta"])), runs.read(stager_run)
    assert meta["subjects_labelled"] == record["split"]["train"] + record["split"]["val"]
    assert meta["subjects_pretraining"] == record["pretraining_subjects"]
    assert not set(meta["subjects_labelled"]) & set(record["split"]["test"])


def test_a_context_runs_halves_are_its_windows(sample_store, tmp_path):
    own = {"window_s": 20, "objective.patches": 5, "objective.context": 1.0}
    run = pretrain(sample_store, tmp_path / "run", overrides=TINY | own, gpus="0")
    assert load_model(run).facts["window"] == 1000
    done = embed(run, pool="mean", device="cpu", recordings=["sp00-0006"])
    assert json.loads(str(np.load(done.path)["meta"]))["windows_per_epoch"] == 3


def test_nothing_is_left_half_written(pretrained, sample_store, tmp_path):
    """A signal that is damaged in the middle of the work leaves neither file nor remains.

    What a killed process left is removed by the next.
    """
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".e.npz.{HOST}.{dead.pid}.tmp").write_bytes(b"half")
    store = shutil.copytree(sample_store, tmp_path / "store")
    last = sorted((store / "signals").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:1000])
    for name in ("e.npz", "e.parquet"):
        with pytest.raises(DataError, match=f"{last.name} cannot be read"):
            embed(pretrained, store, output=tmp_path / "out" / name, device="cpu")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_named(stager_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"e\.parquet needs pyarrow: pip install 'partsig\[parq"):
        embed(stager_run, output=tmp_path / "e.parquet", device="cpu")


def test_mistakes_are_told(pretrained, stager_run, sample_store, tmp_path):
    with pytest.raises(ConfigError, match=r"e\.csv: it must end in \.npz or \.parquet"):
        embed(pretrained, output=tmp_path / "e.csv", device="cpu")
    with pytest.raises(ConfigError, match="pool is 'max'; it can be auto, cls, mean"):
        embed(pretrained, pool="max", device="cpu")
    with pytest.raises(DataError, match="has no recording nobody; see index"):
        embed(pretrained, recordings=["nobody"], device="cpu")
    with pytest.raises(CheckpointError, match="no run at"):
        embed(tmp_path / "nothing", device="cpu")
    logistic = {"model": "logistic"}
    run = finetune("scratch", sample_store, tmp_path / "run", subjects=5, overrides=logistic)
    with pytest.raises(ConfigError, match="is a run of model=logistic, which has no encoder"):
        embed(run, device="cpu")
