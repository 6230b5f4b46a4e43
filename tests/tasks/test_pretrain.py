import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from partsig import config
from partsig.data.signals.store import open_store
from partsig.data.signals.windows import RandomWindows, ResidentWindows
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.modalities import signal_dataset
from partsig.modalities.signal_settings import SignalPretrainConfig
from partsig.runs.models import load_encoder
from partsig.train import checkpoint
from partsig.train.journal import read_metrics
from partsig.verbs.pretrain import pretrain

TINY = {
    "window_s": 5,
    "windows_per_epoch": 64,
    "encoder.width": 16,
    "encoder.depth": 2,
    "encoder.heads": 2,
    "objective.patches": 8,
    "optim.warmup_epochs": 1,
    "fit.epochs": 3,
    "fit.batch_size": 16,
    "fit.log_every": 2,
    "split.monitor_subjects": 4,
}


def weights(run):
    return checkpoint.load(checkpoint.newest(run), "pretrain")["model"]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


@pytest.fixture(scope="module")
def finished(sample_store, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "pretrain"
    return pretrain(sample_store, run, overrides=TINY, gpus="0")


def test_a_run_describes_itself(finished, sample_store):
    record = json.loads((finished / "run.json").read_text())
    assert record["kind"] == "pretrain"
    assert record["state"] == "finished"
    assert torch.__version__.startswith(record["environment"]["torch"])
    assert record["config"]["fit"]["epochs"] == 3
    lines = read_metrics(finished)
    assert lines[-1]["step"] == 12
    assert {"loss", "mse/chance", "error_s", "sign", "lr"} <= lines[0].keys()
    assert {"val_loss", "val_mse/chance", "val_error_s"} <= lines[-1].keys()
    assert lines[0]["mse/chance"] == pytest.approx(1.0, abs=0.1)
    # 5-s windows of 1-s patches: the mean distance of two starts on 0..4 s is a third of that.
    assert lines[0]["error_s"] == pytest.approx(4 / 3 * 7 / 8, rel=0.2)
    composed = config.compose(SignalPretrainConfig, "pretrain", finished / "config.yaml")
    assert config.to_dict(composed) == record["config"]


def test_test_subjects_are_never_among_those_seen(finished, sample_store):
    record = json.loads((finished / "run.json").read_text())
    labelled = open_store(sample_store).labelled_subjects
    assert len(record["subjects_held_out"]) == round(0.2 * len(labelled))
    assert not set(record["subjects_held_out"]) & set(record["subjects_seen"])
    everyone = set(record["subjects_held_out"]) | set(record["subjects_seen"])
    assert everyone == set(open_store(sample_store).subjects)
    unlabelled = set(open_store(sample_store).subjects) - set(labelled)
    assert unlabelled <= set(record["subjects_seen"])


def test_a_finished_run_is_left_alone(finished, sample_store):
    before = checkpoint.newest(finished).stat().st_mtime_ns
    assert pretrain(sample_store, finished, overrides=TINY, gpus="0") == finished
    assert checkpoint.newest(finished).stat().st_mtime_ns == before


def test_other_settings_in_the_same_run_are_refused_by_name(finished, sample_store):
    other = TINY | {"optim.lr": 0.01, "encoder.depth": 1, "fit.log_every": 7}
    with pytest.raises(CheckpointError) as error:
        pretrain(sample_store, finished, overrides=other, gpus="0", seed=0)
    assert "config.encoder.depth: 2, now 1; config.optim.lr: 0.0005, now 0.01" in str(error.value)
    assert "log_every" not in str(error.value)
    with pytest.raises(CheckpointError, match="seed: 0, now 5"):
        pretrain(sample_store, finished, overrides=TINY, gpus="0", seed=5)


def test_a_store_may_move_but_not_change(finished, sample_store, tmp_path):
    moved = tmp_path / "moved"
    moved.symlink_to(sample_store)
    assert pretrain(moved, finished, overrides=TINY, gpus="0") == finished
    other = tmp_path / "other"
    other.mkdir()
    for name in ("index.csv", "signals", "labels"):
        (other / name).symlink_to(sample_store / name)
    meta = json.loads((sample_store / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps(meta | {"provenance": "else"}))
    with pytest.raises(CheckpointError, match=r"provenance: .*, now else"):
        pretrain(other, finished, overrides=TINY, gpus="0")


def test_the_encoder_comes_back(finished):
    loaded = load_encoder(finished)
    encoder, record, settings = loaded.encoder, loaded.run.facts, loaded.settings
    assert settings.encoder.width == 16
    assert record["ch_names"] == ["O2-M1", "E1-M2", "Chin1-Chin2"]
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    stored = weights(finished)
    assert all(torch.equal(value, stored[name]) for name, value in state.items())


def test_a_run_starts_from_another(finished, sample_store, tmp_path):
    settings = TINY | {"window_s": 10, "fit.epochs": 1, "optim.lr": 0.0, "optim.min_lr": 0.0}
    settings |= {"optim.warmup_lr": 0.0, "objective.loss": "laplace"}
    run = pretrain(sample_store, tmp_path / "run", overrides=settings, from_=finished, gpus="0")
    before, after = weights(finished), weights(run)
    kept = {name for name in after if torch.equal(before.get(name, torch.empty(0)), after[name])}
    # A Laplace pair has two outputs instead of one: the last layer alone starts anew.
    assert all(name.startswith("relative.") for name in after.keys() - kept)
    assert {name for name in after if name.startswith("encoder.")} <= kept
    record = json.loads((run / "run.json").read_text())
    assert record["from"] == str(finished)
    other = settings | {"encoder.depth": 1}
    with pytest.raises(
        CheckpointError, match=r"another encoder \(encoder\.depth: \d, now 1\): give"
    ):
        pretrain(sample_store, tmp_path / "b", overrides=other, from_=finished, gpus="0")
    assert not (tmp_path / "b").exists()
    with pytest.raises(CheckpointError, match=r"another configuration: from: None, now"):
        pretrain(sample_store, finished, overrides=TINY, from_=run, gpus="0")


@pytest.mark.slow
def test_sigkill_in_the_middle_then_the_same_command_gives_the_same_weights(
    finished, sample_store, tmp_path
):
    """The kill falls where it falls; more than one checkpoint is there to be continued from."""
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "partsig", "pretrain", "--gpus", "0"]
    command += ["--store", str(sample_store), "--run", str(run)]
    command += ["--set", "fit.checkpoint_minutes=0"]
    for key, value in TINY.items():
        command += ["--set", f"{key}={value}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 120
    while checkpoint.newest(run) is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = checkpoint.load(checkpoint.newest(run))["step"]
    assert 0 < step < 12
    assert json.loads((run / "run.json").read_text())["state"] == "running"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"\nrun: {run}\n" in done.stdout
    assert same(weights(run), weights(finished))
    keys = ("step", "loss", "val_loss")
    curves = [[[line.get(k) for k in keys] for line in read_metrics(r)] for r in (run, finished)]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_two_processes_take_the_course_of_one(finished, sample_store, tmp_path):
    """Gradients and curve agree to 1e-4 in float32; drop path draws differ, so it is off."""
    still = TINY | {"encoder.drop_path": 0.0, "objective.loss": "laplace"}
    one = pretrain(sample_store, tmp_path / "one", overrides=still, gpus="0")
    two = pretrain(sample_store, tmp_path / "two", overrides=still, gpus="0", cpu_processes=2)
    curves = [[line["loss"] for line in read_metrics(r) if "loss" in line] for r in (one, two)]
    assert len(curves[0]) == len(curves[1]) == 6
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)


# Those of fine-tuning, of images and of part discovery are tried elsewhere.
OTHERS = ("demo-finetune", "few-labels", "night-context", "night-through", "dreams")
OTHERS += ("short-epochs",)
OF_OTHERS = ("cifar", "image", "discover")


@pytest.mark.parametrize(
    "name", [n for n in config.names() if n not in OTHERS and not n.startswith(OF_OTHERS)]
)
def test_shipped_configurations_train(name, sample_store, tmp_path):
    short = {"fit.epochs": 1, "fit.batch_size": 2, "windows_per_epoch": 2, "optim.warmup_epochs": 0}
    short |= {"split.monitor_subjects": 0}
    if name.startswith("night"):  # of hours: these recordings are of minutes
        short |= {"window_s": 60, "patch_s": 2}
    elif name == "part-between":
        short |= {"window_s": 90}
    run = pretrain(sample_store, tmp_path / "run", config=name, overrides=short, gpus="0")
    line = read_metrics(run)[0]
    assert np.isfinite(line["loss"])
    assert ("loss_hidden2" in line) == (name == "part-pe20")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"modality": "sound"}, ConfigError, "modality is 'sound'; it can be 'eeg', 'image'"),
        ({"modality": "image"}, DataError, "holds signals, not images"),
        ({"store": "nowhere"}, DataError, "no store at nowhere .* make one with"),
        ({"gpus": "99"}, ConfigError, "--gpus 99, but"),
        ({"cpu_processes": 3}, ConfigError, r"batch_size \(16\) must divide over 3 processes"),
        ({"overrides": {"window_s": 3000}}, DataError, "no recording .* as long as a window"),
        ({"overrides": {"optim.rl": 1}}, ConfigError, "'optim.rl'; nearest is 'optim.lr'"),
        ({"config": "prat"}, ConfigError, "no configuration 'prat'; nearest is 'part'; there are"),
        ({"from_": "nowhere"}, CheckpointError, "no run at nowhere"),
    ],
)
def test_mistakes_are_told(options, error, message, sample_store, tmp_path):
    given = {"store": sample_store, "run": tmp_path / "run", "overrides": TINY, "gpus": "0"}
    if options == {"modality": "image"}:
        given["overrides"] = {}  # images have other keys
    with pytest.raises(error, match=message):
        pretrain(**(given | options))


def test_windows_depend_on_seed_and_epoch_alone_and_cover_every_start(sample_store):
    store = open_store(sample_store)
    subjects = list(store.subjects)[:3]
    windows = RandomWindows(store, subjects, 500, seed=4, per_epoch=20_000)
    again = RandomWindows(store, subjects, 500, seed=4, per_epoch=20_000)
    again.batch(7, 0, 2)  # another epoch in between changes nothing
    assert np.array_equal(windows.batch(2, 5, 6), again.batch(2, 3, 8)[2:])
    assert not np.array_equal(windows.drawn(2), windows.drawn(3))
    rows = windows.drawn(2)
    lengths = [store.recordings[name]["n_samples"] for name in windows.names]
    for recording, length in enumerate(lengths):
        starts = rows[rows[:, 0] == recording, 1]
        share = (length - 499) / sum(n - 499 for n in lengths)
        assert len(starts) == pytest.approx(20_000 * share, rel=0.1)
        assert 0 <= starts.min() < 100
        assert length - 600 < starts.max() <= length - 500
        assert len(set(starts % 100)) == 100  # any offset, not whole seconds
    x = windows.batch(2, 0, 16)
    recording, first = rows[0]
    raw = np.array(store.signal(windows.names[recording])[:, first : first + 500])
    np.testing.assert_array_equal(x[0], raw)
    resident = ResidentWindows(windows, torch.device("cpu"))
    for epoch, at in ((2, 0), (3, 7), (2, 11)):
        loaded = resident.batch(epoch, at, 16).numpy()
        np.testing.assert_array_equal(loaded, windows.batch(epoch, at, 16))


def test_signals_too_large_for_the_device_are_told(sample_store, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB")

    monkeypatch.setattr(signal_dataset, "ResidentWindows", full)
    given = TINY | {"resident": "always"}
    with pytest.raises(ConfigError, match=r"not suffice for the signals .*: pass --set resident=n"):
        pretrain(sample_store, tmp_path / "run", overrides=given, gpus=0)


def test_resident_signals_give_the_same_run(finished, sample_store, tmp_path):
    loaded = TINY | {"resident": "always"}
    run = pretrain(sample_store, tmp_path / "run", overrides=loaded, gpus="0")
    assert same(weights(run), weights(finished))


def test_the_first_reading_comes_without_a_rate_and_the_others_with(finished):
    lines = [line for line in read_metrics(finished) if "loss" in line]
    assert "windows_per_s" not in lines[0]
    assert all(line["windows_per_s"] > 0 for line in lines[1:])
    assert all(0 < line["utilisation"] < 1.5 for line in lines[1:])
    assert all(0 <= line["waiting"] < 1 for line in lines[1:])


def test_a_profile_trains_nothing_and_shows_the_phases(sample_store, tmp_path, capsys):
    run = tmp_path / "run"
    pretrain(sample_store, run, overrides=TINY | {"fit.epochs": 1}, gpus=0, profile=True)
    shown = capsys.readouterr().out
    assert shown == (run / "profile" / "table.txt").read_text()
    for phase in ("batch", "forward", "backward", "optimiser", "rest"):
        assert f"\n{phase} " in shown
    assert len(shown.splitlines()) <= 25
    assert json.loads((run / "profile" / "trace.json").read_text())["traceEvents"]
    assert [path.name for path in run.iterdir()] == ["profile"]


def test_a_damaged_window_is_named(sample_store, tmp_path):
    other = tmp_path / "store"
    shutil.copytree(sample_store, other)
    name = open_store(other).subjects
    for path in (other / "signals").iterdir():
        signal = np.load(path)
        signal[0, 5000:] = np.nan
        np.save(path, signal)
    assert name
    with pytest.raises(DataError, match=r"the loss became nan at step \d+: \d+ of its 16 windows"):
        pretrain(other, tmp_path / "run", overrides=TINY, gpus="0")


@pytest.mark.slow
def test_torchrun_starts_the_same_module(sample_store, tmp_path, finished):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "--", "partsig", "pretrain", "--gpus", "0"]
    command += ["--store", str(sample_store), "--run", str(run)]
    for key, value in TINY.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count(f"\nrun: {run}\nnext: partsig finetune --from {run}\n") == 1
    curves = [[line["loss"] for line in read_metrics(r) if "loss" in line] for r in (run, finished)]
    np.testing.assert_allclose(*curves, rtol=0.02)  # drop path draws differ between processes


def long_run(store, run, *extra):
    """Return a command that trains for a while in two processes."""
    command = [sys.executable, "-m", "partsig", "pretrain", "--gpus", "0", "--cpu-processes", "2"]
    command += ["--store", str(store), "--run", str(run), *extra]
    for key, value in (TINY | {"fit.epochs": 30, "split.monitor_subjects": 0}).items():
        command += ["--set", f"{key}={value}"]
    return command


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def workers(process):
    """Return the processes below this one that hold the training code."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                line = (entry / "cmdline").read_text()
            except (OSError, IndexError):
                continue
            if parent == process.pid and "spawn_main" in line:
                found.append(int(entry.name))
    return sorted(found)


@pytest.mark.slow
def test_a_killed_worker_stops_the_run_and_the_same_command_goes_on(sample_store, tmp_path):
    run = tmp_path / "run"
    command = long_run(sample_store, run, "--set", "fit.checkpoint_minutes=0")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: checkpoint.newest(run) is not None)
    started = time.monotonic()
    os.kill(workers(process)[-1], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - started < 60
    assert process.returncode == 1
    assert "a worker process failed" in told
    assert "SIGKILL" in told
    step = checkpoint.load(checkpoint.newest(run))["step"]
    assert 0 < step < 120
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count(f"\nrun: {run}\nnext: partsig finetune --from {run}\n") == 1
    assert checkpoint.load(checkpoint.newest(run))["step"] == 120
    assert [line["step"] for line in read_metrics(run)] == list(range(2, 121, 2))


@pytest.mark.slow
def test_preempted_processes_leave_a_checkpoint(sample_store, tmp_path):
    """As a cluster does it: SIGTERM to the launching process, no checkpoint due by the clock."""
    run = tmp_path / "run"
    command = long_run(sample_store, run)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(read_metrics(run)) > 3)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, told
    assert "Traceback" not in told
    step = checkpoint.load(checkpoint.newest(run))["step"]
    assert 8 <= step < 120
    assert told.count(f"stopped after step {step} of 120; all of it is kept in {run}, and the") == 1
    subprocess.run(command, capture_output=True, check=True)
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


def test_a_run_that_cannot_be_written_is_told(sample_store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file/run \(Not a directory\)"):
        pretrain(sample_store, tmp_path / "file" / "run", overrides=TINY, gpus="0")
