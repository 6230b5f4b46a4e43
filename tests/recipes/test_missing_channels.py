"""Channels that are not there at night: dropped in training, filled and told where it is staged."""

import json
import shutil

import numpy as np
import pytest
from partsig.cli.app import app
from typer.testing import CliRunner

import partsig
from partsig.data.signals.recordings import Recording
from partsig.data.signals.store_index import write_index
from partsig.data.signals.store_writing import create_store, make_meta, write_recording
from partsig.errors import ConfigError, DataError
from partsig.metrics.agreement import confusion, kappa
from partsig.recipes.evaluation import StoreChangedWarning, judge
from partsig.sleep.settings import StageConfig
from partsig.train import distributed

SFREQ, N_EPOCHS = 20.0, 30
NAMES = ("C4-M1", "O2-M1", "E1-M2")
# Each stage has a rhythm of its own, which all channels show, the first most clearly.
RHYTHMS_HZ, NOISE = (1.0, 2.5, 4.0, 5.5, 7.0), (0.2, 1.0, 1.0)
SMALL = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "patch_s": 2.0}
SMALL |= {"encoder.tokens": "linear+spectrum", "pool": "mean", "optim.warmup_epochs": 0}
SMALL |= {"fit.epochs": 40, "fit.batch_size": 32, "optim.lr": 2e-2, "drop_path": 0.0}
SMALL |= {"split.val_subjects": 2, "loss.smoothing": 0.0}


def write_store(path, names=NAMES, n_subjects=12):
    """Write a store of sleepers whose stages are told by every channel, more or less clearly."""
    meta = make_meta(
        source="x", ch_names=names, sfreq=SFREQ, l_freq=None, h_freq=None, dtype="float32"
    )
    create_store(path, meta)
    rows, time = [], np.arange(int(30 * SFREQ)) / SFREQ
    for number in range(n_subjects):
        rng = np.random.default_rng(number)
        stages = np.repeat(rng.integers(5, size=N_EPOCHS // 2), 2)
        phase = rng.random((3, N_EPOCHS, 1)) * 2 * np.pi
        rhythm = np.sin(2 * np.pi * np.array(RHYTHMS_HZ)[stages][:, None] * time + phase)
        noise = rng.standard_normal(rhythm.shape) * np.array(NOISE)[:, None, None]
        signal = 20 * (rhythm + noise).reshape(3, -1)
        signal = signal[[NAMES.index(name) for name in names]]
        recording = Recording(
            name=f"n{number:02d}", subject=f"s{number:02d}", ch_names=names, parts=(),
            stages=stages.astype(np.int8), source="",
        )  # fmt: skip
        rows.append(write_recording(path, meta, recording, signal))
    write_index(path, rows)
    return path


@pytest.fixture(scope="module")
def trained(made_once):
    """The store, and a stager of each kind: without channel dropout, and with it."""

    def make(folder):
        write_store(folder / "store")
        write_store(folder / "fewer", NAMES[1:])
        for name, chance in (("plain", 0.0), ("dropout", 0.5)):
            partsig.finetune(
                "scratch", folder / "store", folder / name, subjects=0, device="cpu",
                overrides=SMALL | {"loss.channel_dropout": chance},
            )  # fmt: skip

    return made_once("missing-channels", make)


def judged(run, **options):
    return partsig.evaluate(run, figures=False, device="cpu", **options).metrics


@pytest.mark.slow
def test_a_stager_with_channel_dropout_keeps_its_kappa_without_the_best_channel(trained):
    rows = {
        name: {
            row["label"]: row
            for row in judged(
                trained / name, ablate_channels=True, output=trained / f"{name}-ablated"
            )["channel_ablation"]["rows"]
        }
        for name in ("plain", "dropout")
    }
    for found in rows.values():
        assert list(found) == [
            "all", *(f"without {name}" for name in NAMES), *(f"{name} alone" for name in NAMES)
        ]  # fmt: skip
        assert found["all"]["kappa"] > 0.9
        assert found["all"]["gain"] == 0
    plain, dropout = (rows[name]["without C4-M1"] for name in ("plain", "dropout"))
    assert plain["kappa"] < 0.5 < 0.6 < dropout["kappa"]
    low, high = dropout["gain_interval_95"]
    assert low <= dropout["gain"] == dropout["kappa"] - rows["dropout"]["all"]["kappa"] <= high


@pytest.mark.slow
def test_a_store_without_a_channel_is_refused_and_filled_where_that_is_said(trained):
    run, fewer = trained / "dropout", trained / "fewer"
    with pytest.raises(
        DataError, match=r"lacks C4-M1 of the channels.*--missing-channels fill"
    ) as e:
        judge(run, fewer, distributed.pick_device("cpu"))
    assert "trained with loss.channel_dropout=0.5" in str(e.value)
    with pytest.raises(DataError, match="trained without channel dropout"):
        judge(trained / "plain", fewer, distributed.pick_device("cpu"))
    shutil.copytree(run, trained / "moved")  # its own store, which has fewer channels now
    facts = json.loads((trained / "moved" / "run.json").read_text())
    (trained / "moved" / "run.json").write_text(json.dumps(facts | {"store": str(fewer)}))
    out = trained / "filled"
    words = ["evaluate", "--run", str(trained / "moved"), "--missing-channels", "fill"]
    done = CliRunner().invoke(app, [*words, "--output", str(out), "--ablate-channels"])
    n_test = len(facts["split"]["test"])
    assert f"C4-M1 missing in {n_test} of {n_test} recordings, zeros in its place" in done.stdout
    found = json.loads((out / "metrics.json").read_text())
    assert found["channels_missing"] == {"C4-M1": n_test}
    # The same as with the channel silent in the whole store.
    whole = judged(run, ablate_channels=True, output=trained / "whole")
    by_label = {row["label"]: row["kappa"] for row in whole["channel_ablation"]["rows"]}
    assert found["kappa"] == by_label["without C4-M1"]
    rows = {row["label"]: row["kappa"] for row in found["channel_ablation"]["rows"]}
    assert rows == {
        "all": found["kappa"],
        "without O2-M1": by_label["E1-M2 alone"],
        "without E1-M2": by_label["O2-M1 alone"],
    }
    assert (out / "channels.png").is_file()
    shutil.copytree(out, trained / "moved" / "evaluation", dirs_exist_ok=True)
    text = partsig.compare([trained / "moved"], output=trained / "table").markdown
    assert f"in the place of channels that recordings lack: C4-M1 in {n_test} recordings." in text
    metrics = trained / "moved" / "evaluation" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"C4-M1": ', '"C4-M1": "many", "x": '))
    with pytest.raises(DataError, match=r"metrics\.json is damaged; evaluate"):
        partsig.compare([trained / "moved"], output=trained / "table")


@pytest.mark.slow
def test_what_is_missing_stands_in_the_report(trained):
    pytest.importorskip("yasa")
    run = shutil.copytree(trained / "dropout", trained / "reported")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"store": str(trained / "fewer")}))
    options = {"ablate_channels": True, "shift": True}
    with pytest.warns(StoreChangedWarning):  # its own store has lost a channel
        judged(run, missing_channels="fill", **options)
    report = partsig.report(run, device="cpu")
    assert any("missing in these recordings" in line for line in report.summary)
    text = report.page.read_text("utf-8")
    for words in ("C4-M1 in 2 of 2", "With fewer channels", "cut at another time", "without E1-M2"):
        assert words in text


def test_words_that_are_no_choice_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--missing-channels"):
        partsig.evaluate(tmp_path, missing_channels="zeros", device="cpu")


@pytest.mark.slow
def test_a_recording_without_a_channel_is_staged_where_that_is_said_and_every_file_tells_it(
    trained, tmp_path
):
    import edfio

    raw = tmp_path / "night.edf"
    rng = np.random.default_rng(0)
    labels = NAMES[1:]
    edfio.Edf(
        [
            edfio.EdfSignal(30 * rng.standard_normal(4800), 20, label=name, physical_dimension="uV")
            for name in labels
        ]
    ).write(raw)
    run = trained / "dropout"
    with pytest.raises(DataError, match=r"not found: C4-M1.*--missing-channels fill") as error:
        partsig.stage(raw, run, device="cpu")
    assert "trained with loss.channel_dropout=0.5" in str(error.value)
    words = ["stage", str(raw), "--run", str(run), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--missing-channels", "fill"])
    assert done.exit_code == 0, done.output
    assert "C4-M1 is not there and was filled with zeros" in done.stdout
    told = json.loads((tmp_path / "out" / "night_staging.json").read_text())
    assert told["channels_missing"] == ["C4-M1"]
    assert any("trained with loss.channel_dropout=0.5" in note for note in told["notes"])
    sidecar = json.loads((tmp_path / "out" / "night_events.json").read_text())
    assert sidecar["GeneratedBy"][0]["ChannelsMissing"] == ["C4-M1"]
    # One channel of three: the two that are not there do not make an epoch unusable.
    edfio.Edf(
        [
            edfio.EdfSignal(
                30 * rng.standard_normal(4800), 20, label="E1-M2", physical_dimension="uV"
            )
        ]
    ).write(raw)
    night = partsig.stage(raw, run, overrides={"missing": "fill"}, device="cpu")
    assert night.channels_missing == NAMES[:2]
    assert not any(night.unusable)
    assert set(night.stages) <= set(range(5))
    assert StageConfig().missing == "refuse"


@pytest.mark.slow
def test_kappa_with_epochs_cut_later(trained):
    out = trained / "shifted"
    found = partsig.evaluate(trained / "dropout", shift=True, output=out, device="cpu")
    assert (out / "shift.png") in found.figures
    told = found.metrics["epoch_shift"]
    assert [row["shift_s"] for row in told["rows"]] == [0, 5, 10, 15, 20, 25]
    assert told["epoch_s"] == 30
    table = np.genfromtxt(
        out / "predictions.csv", delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    # All epochs but the last of each recording are followed by another.
    kept = table[table["epoch"] < N_EPOCHS - 1]
    assert told["n_epochs"] == len(kept)
    codes = {name: code for code, name in enumerate(("W", "N1", "N2", "N3", "REM"))}
    truth, predicted = (np.array([codes[v] for v in kept[key]]) for key in ("truth", "prediction"))
    first = told["rows"][0]
    assert first["kappa"] == pytest.approx(float(kappa(confusion(truth, predicted, 5))))
    assert first["gain"] == first["gain_interval_95"][0] == 0
    # Where the next epoch has the same stage, it matters little where it is cut; else it does.
    assert min(row["kappa_one_class"] for row in told["rows"]) > 0.8
    assert told["rows"][3]["gain"] < -0.05
    assert any(line.startswith("kappa with epochs cut later: ") for line in found.summary)


def test_what_has_no_epochs_to_cut_or_channels_to_leave_out_says_so(nights, digits, tmp_path):
    from partsig.verbs.finetune import finetune
    from partsig.verbs.preprocess import preprocess

    store = tmp_path / "nights"
    preprocess("feature-nights", raw=nights.write_nights(tmp_path / "raw"), store=store)
    logistic = {"model": "logistic", "split.val_subjects": 2}
    run = finetune("scratch", store, tmp_path / "run", subjects=4, overrides=logistic, device="cpu")
    with pytest.raises(ConfigError, match="not for features of whole epochs"):
        judged(run, shift=True)
    probe = {"encoder.width": 8, "encoder.depth": 1, "encoder.heads": 1, "train": "probe"}
    images = finetune(
        "scratch", digits, tmp_path / "images", overrides=probe, segments_per_class=3, device="cpu"
    )
    for option, words in (
        ({"shift": True}, "--shift is for epochs of recordings, not for images"),
        ({"ablate_channels": True}, "one here|for images"),
        ({"missing_channels": "fill"}, "--missing-channels is for signals"),
    ):
        with pytest.raises(ConfigError, match=words):
            judged(images, **option)
    assert not (images / "evaluation").exists()
