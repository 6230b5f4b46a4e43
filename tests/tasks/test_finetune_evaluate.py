import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, f1_score

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import LabelledWindows
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.metrics.calibration import fit_temperature
from partsig.recipes.loading import load_classifier
from partsig.runs import directory as runs
from partsig.sleep.staging_task import SleepStaging
from partsig.tasks.classification_scores import with_interval
from partsig.tasks.frozen import predict_examples
from partsig.train import checkpoint
from partsig.verbs.evaluate import LeakWarning, evaluate
from partsig.verbs.finetune import finetune
from partsig.verbs.pretrain import pretrain
from partsig.verbs.report import report

TINY = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2}
SHORT = {"optim.warmup_epochs": 1, "fit.epochs": 6, "fit.batch_size": 32, "optim.lr": 5e-2}


@pytest.fixture(scope="module")
def pretrained(sample_store, tmp_path_factory):
    settings = TINY | {"fit.epochs": 1, "fit.batch_size": 8, "windows_per_epoch": 16}
    settings |= {"optim.warmup_epochs": 0, "split.monitor_subjects": 4}
    run = tmp_path_factory.mktemp("runs") / "pretrain"
    return pretrain(sample_store, run, overrides=settings, gpus="0")


@pytest.fixture(scope="module")
def tuned(pretrained, sample_store):
    run = pretrained.parent / "finetune"
    return finetune(pretrained, sample_store, run, subjects=12, overrides=SHORT, device="cpu")


@pytest.fixture(scope="module")
def evaluated(tuned):
    return evaluate(tuned, device="cpu")


def predictions(folder):
    with open(folder / "predictions.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_run_remembers_its_split_and_its_choice(tuned, pretrained):
    record = runs.read(tuned)
    split = json.loads((tuned / "split.json").read_text())
    assert record["split"] == split
    assert {role: len(members) for role, members in split.items()} == {
        "train": 12,
        "val": 5,
        "test": 14,
    }
    assert len({subject for members in split.values() for subject in members}) == 31
    assert split["test"] == runs.read(pretrained)["subjects_held_out"]
    assert 1 <= record["chosen_epoch"] <= 6
    best = checkpoint.load(tuned / "best.pt", "finetune")["best"]
    assert best == {"value": record["val_kappa"], "epoch": record["chosen_epoch"]}


@pytest.mark.parametrize("why", ["one stage", "too few"])
def test_a_validation_set_that_cannot_judge_is_told(
    pretrained, tuned, sample_store, tmp_path, capsys, why
):
    store = shutil.copytree(sample_store, tmp_path / "store")
    few = SHORT | ({"split.val_subjects": 1} if why == "too few" else {})
    if why == "one stage":
        rows = open_store(store).rows
        for row in rows:
            if row["subject"] in runs.read(tuned)["split"]["val"]:
                file = store / "labels" / f"{row['recording']}.npy"
                labels = np.load(file)
                np.save(file, np.where(labels >= 0, STAGES.index("N2"), labels))
    run = finetune(pretrained, store, tmp_path / "r", subjects=12, overrides=few, device="cpu")
    said = capsys.readouterr().out
    record = runs.read(run)
    if why == "too few":
        assert re.search(
            r"^validation cannot judge: it has \d+ epochs, fewer than 20; l", said, re.M
        )
        return
    assert re.search(r"^validation cannot judge: all its \d+ epochs are N2; label more of it", said)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["epoch"]: line["val_log_loss"] for line in lines if "val_log_loss" in line}
    assert {line["val_kappa"] for line in lines if "val_kappa" in line} == {0.0}
    least = min(losses.values())
    assert record["chosen_epoch"] == max(e for e, loss in losses.items() if loss == least)


def test_the_pretrained_weights_are_really_used(pretrained, sample_store, tmp_path):
    frozen = SHORT | {"optim.lr": 0.0, "optim.min_lr": 0.0, "optim.warmup_lr": 0.0}
    run = finetune(
        pretrained, sample_store, tmp_path / "run", subjects=3, overrides=frozen, device="cpu"
    )
    before = checkpoint.load(checkpoint.newest(pretrained))["model"]
    after = checkpoint.load(run / "best.pt")["model"]
    encoder = [name for name in before if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert after["positions"].shape == (31, 16)


def test_scratch_knows_no_pretraining(sample_store, tmp_path):
    run = finetune(
        "scratch", sample_store, tmp_path / "r", subjects=3, overrides=TINY | SHORT, device="cpu"
    )
    assert runs.read(run)["from"] == "scratch"
    assert runs.read(run)["pretraining_subjects"] == []


def test_metrics_equal_scikit_learns_on_the_written_predictions(evaluated, tuned):
    rows, found = predictions(evaluated.path), evaluated.metrics
    truth = [STAGES.index(row["truth"]) for row in rows]
    given = [STAGES.index(row["prediction"]) for row in rows]
    assert found["kappa"] == pytest.approx(cohen_kappa_score(truth, given))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, given, average="macro"))
    assert found["n_epochs"] == len(rows)
    for row in rows:
        p = [float(row[f"p_{stage}"]) for stage in STAGES]
        assert sum(p) == pytest.approx(1.0, abs=1e-4)
        assert p[STAGES.index(row["prediction"])] == max(p)  # two may be equal as written
    for name, value in found["kappa_per_recording"].items():
        own = [i for i, row in enumerate(rows) if row["recording"] == name]
        if value is not None:
            part = [truth[i] for i in own], [given[i] for i in own]
            assert value == pytest.approx(cohen_kappa_score(*part))
    low, high = found["kappa_interval_95"]
    assert low < found["kappa"] < high
    assert found == json.loads((evaluated.path / "metrics.json").read_text())


def test_predictions_name_the_stores_own_epochs(evaluated, tuned, sample_store):
    store = open_store(sample_store)
    rows = predictions(evaluated.path)
    assert {row["subject"] for row in rows} == set(runs.read(tuned)["split"]["test"])
    for row in rows:
        label = store.labels(row["recording"])[int(row["epoch"])]
        assert STAGES[label] == row["truth"]
        assert int(row["onset_s"]) == 30 * int(row["epoch"])


def test_onsets_count_from_the_recordings_start(evaluated, sample_store, tmp_path):
    store = open_store(sample_store)
    epochs = LabelledWindows(store, list(store.recordings)[:1])
    name = epochs.names[0]
    store.recordings[name]["start_s"] = "12.345"
    probabilities = np.full((len(epochs), 5), 0.2)
    SleepStaging().write_predictions(tmp_path / "p.csv", epochs, probabilities)
    with open(tmp_path / "p.csv", newline="") as handle:
        found = [float(row["onset_s"]) for row in csv.DictReader(handle)]
    assert found == [12.345 + 30 * epoch for epoch in epochs.epoch]


def test_a_run_of_an_older_partsig_is_refused(tuned, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tuned, old)
    record = runs.read(old)
    del record["calibration"]
    (old / "run.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="an older partsig, which did not keep its calib"):
        evaluate(old, device="cpu")


def test_figures_are_pictures(evaluated):
    names = [figure.name for figure in evaluated.figures]
    assert names == ["confusion.png", "trust.png", "hypnogram.png"]
    for figure in evaluated.figures:
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert figure.stat().st_size > 10_000


def test_evaluating_again_gives_the_same(evaluated, tuned, tmp_path):
    run = shutil.copytree(tuned, tmp_path / "run")
    again = evaluate(run, device="cpu", figures=False)
    keys = ("kappa", "kappa_interval_95", "confusion")
    assert [again.metrics[key] for key in keys] == [evaluated.metrics[key] for key in keys]


def test_the_training_subjects_would_not_be_tested(tuned, sample_store, tmp_path):
    """Another store with the same people is refused; one with others is external validation."""
    run = shutil.copytree(tuned, tmp_path / "run")
    copy = tmp_path / "copy"
    copy.symlink_to(sample_store)
    link = tmp_path / "other"
    link.mkdir()
    for name in ("meta.json", "signals", "labels"):
        (link / name).symlink_to(sample_store / name)
    (link / "index.csv").write_bytes((sample_store / "index.csv").read_bytes())
    assert evaluate(run, copy, device="cpu", figures=False).metrics["external"] is False
    with pytest.raises(DataError, match="17 of the subjects to test on trained or chose"):
        evaluate(run, link, device="cpu")
    lines = (sample_store / "index.csv").read_text().splitlines()
    split = runs.read(tuned)["split"]
    used = set(split["train"]) | set(split["val"])
    kept = [line for line in lines if line.split(",")[0] not in used]
    (link / "index.csv").write_text("\n".join(kept) + "\n")
    with pytest.warns(LeakWarning, match="40 of the test subjects were SEEN IN PRETRAINING"):
        found = evaluate(run, link, device="cpu")
    assert found.path == run / "evaluation-other"
    assert found.metrics["external"] is True
    assert found.metrics["n_subjects"] == 54
    assert len(found.metrics["subjects_seen_in_pretraining"]) == 40


def test_a_store_that_was_moved_is_still_the_runs_own(tuned, sample_store, tmp_path):
    """With the same people in it; one that lacks some of them is another store."""
    run = tmp_path / "run"
    shutil.copytree(tuned, run, ignore=shutil.ignore_patterns("evaluation*"))
    record = runs.read(run)
    (run / "run.json").write_text(json.dumps(record | {"store": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match=r"no store at .*gone"):
        evaluate(run, device="cpu")
    found = evaluate(run, sample_store, device="cpu", figures=False)
    assert (found.path.name, found.metrics["external"]) == ("evaluation", False)
    assert report(run, store=sample_store, device="cpu").path == found.path
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for name in ("meta.json", "signals", "labels"):
        (fewer / name).symlink_to(sample_store / name)
    lines = (sample_store / "index.csv").read_text().splitlines()
    first = record["split"]["test"][0]
    (fewer / "index.csv").write_text(
        "\n".join(line for line in lines if line.split(",")[0] != first) + "\n"
    )
    with pytest.raises(DataError, match="17 of the subjects to test on trained or chose"):
        evaluate(run, fewer, device="cpu")


def test_another_rate_or_montage_is_refused(tuned, sample_store, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("index.csv", "signals", "labels"):
        (other / name).symlink_to(sample_store / name)
    meta = json.loads((sample_store / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps(meta | {"ch_names": ["A", "B", "C"]}))
    with pytest.raises(DataError, match=r"trained with ch_names \['O2-M1', .* has \['A', 'B', 'C'"):
        evaluate(tuned, other, device="cpu")
    with pytest.raises(
        CheckpointError, match=r"was pretrained on O2-M1, E1-M2, Chin1-Chin2; .* has A, B, C\."
    ):
        finetune(runs.read(tuned)["from"], other, tmp_path / "r", device="cpu")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"subjects": 60}, ConfigError, "--subjects 60 and 5 validation .* at most 52"),
        ({"subjects": -1}, ConfigError, "--subjects is -1; it must be at least 0"),
        ({"overrides": {"encoder.width": 32}}, ConfigError, "leave out encoder.width: 16, now 32"),
        ({"from_": "nowhere"}, CheckpointError, "no run at nowhere"),
        (
            {"config": "image-finetune"},
            ConfigError,
            "image-finetune is for images; the store holds",
        ),
        ({"config": "part"}, ConfigError, "is for `partsig pretrain`, not for finetune"),
    ],
)
def test_mistakes_are_told(options, error, message, pretrained, sample_store, tmp_path):
    given = {"from_": pretrained, "store": sample_store, "run": tmp_path / "r", "device": "cpu"}
    with pytest.raises(error, match=message):
        finetune(**(given | options))


def test_wrong_and_unfinished_runs_are_refused(pretrained, tuned, sample_store, tmp_path):
    with pytest.raises(CheckpointError, match="is a pretrain run; a finetune run is needed"):
        evaluate(pretrained, device="cpu")
    with pytest.raises(CheckpointError, match="is a finetune run; a pretrain run is needed"):
        finetune(tuned, sample_store, tmp_path / "r", device="cpu")
    part = tmp_path / "unfinished"
    part.mkdir()
    (part / "run.json").write_text(json.dumps({"kind": "pretrain", "state": "running"}))
    with pytest.raises(CheckpointError, match="not finished: run the same `partsig pretrain`"):
        finetune(part, sample_store, tmp_path / "r", device="cpu")
    (part / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        finetune(part, sample_store, tmp_path / "r", device="cpu")


def test_the_last_run_of_a_kind_is_found(tmp_path):
    with pytest.raises(CheckpointError, match=r"no finished pretrain run in .* run `partsig pre"):
        runs.last("pretrain", tmp_path)
    for name, kind, when in (
        ("a", "pretrain", "2026-01-02"),
        ("b", "pretrain", "2026-01-03"),
        ("c", "finetune", "2026-01-04"),
    ):
        (tmp_path / name).mkdir()
        record = {"kind": kind, "state": "finished", "finished": when}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    assert runs.last("pretrain", tmp_path) == tmp_path / "b"


def test_one_subject_is_evaluated_without_an_interval(tuned, sample_store, tmp_path):
    other = tmp_path / "one"
    other.mkdir()
    for name in ("meta.json", "signals", "labels"):
        (other / name).symlink_to(sample_store / name)
    head, *lines = (sample_store / "index.csv").read_text().splitlines()
    subject = runs.read(tuned)["split"]["test"][0]
    kept = [line for line in lines if line.startswith(f"{subject},")]
    (other / "index.csv").write_text("\n".join([head, *kept]) + "\n")
    found = evaluate(tuned, other, device="cpu")
    assert found.metrics["n_subjects"] == 1
    assert found.metrics["kappa_interval_95"] == [None, None]
    assert found.metrics["kappa_per_recording_sd"] is None
    written = json.loads((found.path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written == found.metrics
    assert "[no interval]" in with_interval(found.metrics, "kappa")


def test_a_run_of_an_older_version_goes_on_with_the_defaults_of_what_is_new(
    tuned, pretrained, sample_store
):
    """A setting that run.json does not know counts as its default; another value is refused."""
    record = runs.read(tuned)
    older = json.loads(json.dumps(record))
    del older["config"]["fit"]["validate_every"]
    (tuned / "run.json").write_text(json.dumps(older))
    options = {"subjects": 12, "device": "cpu"}
    again = finetune(pretrained, sample_store, tuned, overrides=SHORT, **options)
    assert again == tuned
    with pytest.raises(CheckpointError, match=r"config\.fit\.validate_every: 1, now 2"):
        finetune(
            pretrained,
            sample_store,
            tuned,
            overrides=SHORT | {"fit.validate_every": 2},
            **options,
        )
    (tuned / "run.json").write_text(json.dumps(record))


def test_confidence_is_calibrated_on_validation_subjects_alone(tuned, evaluated, sample_store):
    calibration = runs.read(tuned)["calibration"]
    model, trained = load_classifier(tuned)
    record = trained.facts
    store = open_store(sample_store)
    val = LabelledWindows(store, store.recordings_of(record["split"]["val"]))
    p = predict_examples(model, val, torch.device("cpu"))
    assert calibration["temperature"] == pytest.approx(fit_temperature(val.labels, p))
    assert calibration["log_loss"] <= calibration["log_loss_before"]
    assert calibration["n_epochs"] == len(val)
    train = LabelledWindows(store, store.recordings_of(record["split"]["train"]))
    shares = np.bincount(train.labels, minlength=5) + 1
    np.testing.assert_allclose(calibration["prior"], shares / shares.sum())
    assert calibration["review_by"] == "confidence"  # 68 epochs cannot tell that context is better
    found = evaluated.metrics["calibration"]
    rows = predictions(evaluated.path)
    confidence = np.array([float(row["confidence"]) for row in rows])
    right = np.array([row["truth"] == row["prediction"] for row in rows])
    table = np.array(found["table"])
    np.testing.assert_allclose(table.sum(0), [len(rows), confidence.sum(), right.sum()], rtol=1e-4)
    assert found["ece"] == pytest.approx(
        abs(np.diff(table[:, 1:], axis=1)).sum() / len(rows), abs=1e-6
    )


def test_a_review_of_everything_would_be_the_scorer(evaluated):
    review = evaluated.metrics["review"]
    assert review["share"][0] == 0
    assert review["kappa_reviewed"][0] == pytest.approx(evaluated.metrics["kappa"])
    assert review["kappa_reviewed"] == sorted(review["kappa_reviewed"])
    assert review["kappa_random"] == sorted(review["kappa_random"])
    assert set(review["finds_errors"]) == {"confidence", "context"}
