import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from partsig.data import sample
from partsig.errors import ConfigError, DataError
from partsig.interop import PartEmbedder
from partsig.recipes.loading import load_model
from partsig.runs import directory as runs
from partsig.verbs.export import export
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain


@pytest.fixture(scope="module")
def two_samples(tmp_path_factory):
    """A run of one channel, windows of two samples: any table of numbers fits it."""
    folder = tmp_path_factory.mktemp("one")
    sample.write_records(folder / "raw")
    one = {"channels": ["O2-M1"]}
    store = preprocess(raw=folder / "raw", store=folder / "store", overrides=one, jobs=1).path
    settings = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
    settings |= {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}
    settings |= {"window_s": 0.02, "patch_s": 0.01, "objective.patches": 4}
    return pretrain(store, folder / "run", overrides=settings, gpus="0")


def test_scikit_learns_own_checks_pass(two_samples):
    found = check_estimator(PartEmbedder(two_samples, device="cpu"), on_fail=None, on_skip=None)
    status = {result["check_name"]: result["status"] for result in found}
    assert {name for name, value in status.items() if value == "failed"} == set()
    # Needs SCIPY_ARRAY_API in the environment before SciPy is imported.
    assert {name for name, value in status.items() if value == "skipped"} <= {
        "check_array_api_input"
    }
    assert sum(value == "passed" for value in status.values()) >= 40


def test_embeddings_are_the_encoders(encoder_run, stager_run, real_epochs):
    x = real_epochs[0][:9]
    model = load_model(stager_run).model.eval()
    with torch.inference_mode():
        expected = model.features(torch.from_numpy(x)).numpy()
    found = PartEmbedder(stager_run, device="cpu", batch_size=4).fit(x).transform(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    flat = PartEmbedder(stager_run, device="cpu").fit_transform(x.reshape(len(x), -1))
    np.testing.assert_allclose(flat, expected, atol=1e-5)


def test_views_of_an_array_are_embedded_as_the_array(encoder_run, real_epochs):
    """Reversed ones have negative strides, of a map nothing may be written."""
    x = real_epochs[0][:4].copy()
    embedder = PartEmbedder(encoder_run, device="cpu").fit(x)
    expected = embedder.transform(x)
    np.testing.assert_array_equal(embedder.transform(x[::-1]), expected[::-1])
    backwards = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    np.testing.assert_array_equal(embedder.fit(backwards).transform(backwards), expected)
    flat = np.ascontiguousarray(x.reshape(4, -1)[:, ::-1])[:, ::-1]
    np.testing.assert_array_equal(embedder.fit(flat[::-1]).transform(flat[::-1]), expected[::-1])
    x.flags.writeable = False
    np.testing.assert_array_equal(embedder.transform(x), expected)


def test_volts_give_the_same_and_are_refused_as_microvolts(encoder_run, real_epochs):
    x = real_epochs[0][:6].astype(np.float64)
    given = PartEmbedder(encoder_run, device="cpu").fit_transform(x)
    volts = PartEmbedder(encoder_run, device="cpu", unit="V").fit_transform(1e-6 * x)
    np.testing.assert_allclose(volts, given, atol=2e-4)
    fitted = PartEmbedder(encoder_run, device="cpu").fit(x)
    for refuse in (PartEmbedder(encoder_run, device="cpu").fit, fitted.transform):
        with pytest.raises(
            DataError, match=r"taken as uV: all of it would count as flat.*unit='V'"
        ):
            refuse(1e-6 * x)
    with pytest.raises(DataError, match=r"taken as V: that is no biopotential"):
        PartEmbedder(encoder_run, device="cpu", unit="V").fit(x)
    with pytest.raises(ConfigError, match="unit is 'pT'; it can be 'nV', 'uV'"):
        PartEmbedder(encoder_run, unit="pT").fit(x)


def test_a_pipeline_is_cross_validated_over_subjects(stager_run, real_epochs):
    x, y, subjects = real_epochs
    chosen = np.arange(0, len(y), 3)
    model = make_pipeline(
        PartEmbedder(stager_run, pool="mean+sd+spectrum", device="cpu"),
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=500),
    )
    folds = list(GroupKFold(3).split(chosen, groups=subjects[chosen]))
    for train, test in folds:
        assert not set(subjects[chosen][train]) & set(subjects[chosen][test])
    found = cross_val_predict(model, x[chosen], y[chosen], cv=folds)
    # Five stages: chance is a fifth. The spectra alone tell them apart far better.
    assert (found == y[chosen]).mean() > 0.35


def test_it_is_cloned_pickled_and_names_its_columns(encoder_run, real_epochs):
    x = real_epochs[0][:4]
    fitted = PartEmbedder(encoder_run, pool="mean", device="cpu").fit(x)
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        again.transform(x)
    held = pickle.dumps(fitted)
    assert len(held) < 4000  # no weights
    np.testing.assert_array_equal(pickle.loads(held).transform(x), fitted.transform(x))
    assert fitted.get_feature_names_out().tolist() == [f"e_{i}" for i in range(16)]
    table = fitted.set_output(transform="pandas").transform(x)
    assert table.columns.tolist() == [f"e_{i}" for i in range(16)]
    assert table.shape == (4, 16)


def test_a_folder_that_is_written_anew_is_read_anew(stager_run, encoder_run, real_epochs, tmp_path):
    x = real_epochs[0][:2]
    for run in (encoder_run, stager_run):
        folder = export(run, tmp_path / "out").path
        found = PartEmbedder(folder, pool="mean", device="cpu").fit_transform(x)
        expected = PartEmbedder(run, pool="mean", device="cpu").fit_transform(x)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_it_tells_whom_the_run_has_seen(encoder_run, stager_run, real_epochs, tmp_path):
    x = real_epochs[0][:2]
    seen = PartEmbedder(encoder_run, device="cpu").fit(x).subjects_seen_
    assert set(seen) == set(runs.read(encoder_run)["subjects_seen"])
    record = runs.read(stager_run)
    labelled = set(record["split"]["train"]) | set(record["split"]["val"])
    seen = PartEmbedder(stager_run, device="cpu").fit(x).subjects_seen_
    assert set(seen) == labelled | set(record["pretraining_subjects"])
    assert not set(seen) & set(record["split"]["test"])
    folder = export(stager_run, tmp_path / "out").path
    assert PartEmbedder(folder, device="cpu").fit(x).subjects_seen_ is None


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 2, 3000), "X has 2 channels; the run has 3: O2-M1, E1-M2, Chin1-Chin2"),
        ((2, 3, 400), "a multiple of 3 and at least 1500"),
        ((2, 3001), "a multiple of 3"),
    ],
)
def test_windows_that_do_not_fit_are_refused(encoder_run, shape, told):
    x = np.random.default_rng(0).standard_normal(shape)
    with pytest.raises(ValueError, match=told):
        PartEmbedder(encoder_run, device="cpu").fit(x)
