"""The GPU campaign on the CPU: all of it in a dry run, and what must hold whatever happens."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a machine with torch, timm and scikit-learn may lack; pydantic comes with the pack.
LACKING = ("mne", "wfdb", "braindecode", "edfio", "skops", "pooch", "soundfile", "h5py", "yasa")
CARRIED = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")
# Found only below the folder that gpu.py unpacks wheels to, if at all.
BLOCK = f"""
import sys
from importlib.machinery import PathFinder

class Block:
    def find_spec(self, name, path=None, target=None):
        if path is None and name in {(*LACKING, *CARRIED)!r}:
            carried = [entry for entry in sys.path if "partsig-gpu-" in entry]
            found = PathFinder.find_spec(name, carried)
            if found is None:
                raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
            return found

sys.meta_path.insert(0, Block())
"""
KEYS = {
    "environment": ("machine", "bf16 product", "float32 product", "tf32 product", "copy", "store"),
    "correctness": (
        *("objective part", "objective part-histogram", "objective contrast", "objective mae"),
        *("objective mp3", "objective droppos", "objective image-part", "resident", "naive head"),
        *("resumed", "launched"),
    ),
    "compiled": ("compiled",),
    "throughput": (*("first step", "batch 4", "batch 8", "naive head", "profile"),),
    "verbs": (
        *("fine-tuning", "staging", "resident 8", "TF32 8", "streamed 4", "streamed 8"),
        *("images augmented", "images plain"),
    ),
    "seeds": ("pretraining all, seed 0", "judged", "rows"),
    "adapting": ("pretraining alone, seed 0", "judged", "rows"),
    "learning": (
        *("plan", "pretraining part", "pretraining part-histogram", "pretraining mae"),
        *("pretraining contrast", "judged", "rows", "weights"),
    ),
    "images": ("pretraining", "probe untrained", "probe part"),
}


def wheel(package: str, folder: Path) -> None:
    """Write an installed package as the wheel it came from."""
    origin = Path(importlib.util.find_spec(package).origin).parent
    with zipfile.ZipFile(folder / f"{package}-1-py3-none-any.whl", "w") as archive:
        for path in origin.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, f"{package}/{path.relative_to(origin)}")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A folder as gpu_pack.py makes one, of made-up segments and images."""
    folder = tmp_path_factory.mktemp("pack")
    work = tmp_path_factory.mktemp("made")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import gpu_data
        import gpu_pack

        store = gpu_data.write_store(work / "store", gpu_data.made_up_segments())
        gpu_pack.pack_segments(store, folder / gpu_data.SEGMENTS, 10_000_000)
        gpu_pack.pack_images(
            gpu_data.made_up_images(work / "raw.zip"), folder / gpu_data.IMAGES, 500_000
        )
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    (folder / "wheels").mkdir()
    for package in CARRIED:
        wheel(package, folder / "wheels")
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1") | more


def results(folder: Path) -> dict:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the campaign is for Linux")
def test_the_dry_run_does_every_phase_on_a_machine_that_lacks_much(pack, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCK)
    out = tmp_path / "out"
    done = subprocess.run(
        command("--dry-run", "--data", pack, "--out", out, "--minutes", 9),
        env=environment(PYTHONPATH=str(tmp_path / "site")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = results(out)
    assert found["failed"] == []
    assert done.returncode == 0, done.stderr[-4000:]
    assert {name: phase["status"] for name, phase in found["phases"].items()} == dict.fromkeys(
        KEYS, "done"
    )
    for name, keys in KEYS.items():
        assert set(keys) <= found["phases"][name]["results"].keys()
    assert "Traceback" not in (out / "gpu.json").read_text(encoding="utf-8")
    assert [wheel.split("-")[0] for wheel in found["carried"]] == sorted(CARRIED)

    correct = found["phases"]["correctness"]["results"]
    assert 130 < correct["objective part"]["loss_cpu"] < 145  # chance: 136.8 patches²
    assert correct["naive head"]["part"]["gradient"] < 1e-4
    assert correct["resumed"]["bit_for_bit"] is True
    assert (correct["resumed"]["steps"], correct["resumed"]["broken_off_at"]) == (8, 4)
    assert correct["launched"]["group"]["backend"] == "gloo"
    assert correct["launched"]["loop"]["bit_for_bit"] is True
    quick = found["phases"]["throughput"]["results"]
    assert quick["batch 8"]["windows_per_s"] > 0
    assert len(quick["profile"]["top"]) == 15
    verbs = found["phases"]["verbs"]["results"]
    assert 0 <= verbs["streamed 4"]["waiting"] < 1
    assert verbs["images augmented"]["windows_per_s"] > 0
    assert verbs["staging"]["hours"] == pytest.approx(1 / 30, rel=1e-5)
    learned = found["phases"]["learning"]["results"]
    assert all(row["n_epochs"] == 30 for row in learned["rows"])
    bands = [row["kappa"] for row in learned["rows"] if row["row"] == "bands, logistic"]
    assert bands == [1.0]  # the made-up stages are rhythms of their own
    assert len(learned["rows"]) == learned["judged"]["of"] == 16
    for phase, number in (("seeds", 5), ("adapting", 7)):
        rows = found["phases"][phase]["results"]["rows"]
        assert len(rows) == number
        assert all(row["n_epochs"] == 30 for row in rows)

    files = sorted(path.name for path in out.iterdir())
    weights = ["encoder-1-of-2.pt", "encoder-2-of-2.pt"]
    assert files == [*weights, "gpu.json", "trace.json.gz"]
    assert all(path.stat().st_size <= 15 * 2**20 for path in out.iterdir())


def test_the_weights_are_the_encoder_in_halves_of_half_precision(script, tmp_path, sample_store):
    """Put together again they are the run's encoder, rounded."""
    import torch

    from partsig.runs.models import load_encoder
    from partsig.verbs.pretrain import pretrain

    learning, tools = script("gpu_learning"), script("gpu_tools")
    overrides = learning.TINY | {"fit.batch_size": 8, "fit.epochs": 1, "windows_per_epoch": 16}
    overrides |= {"optim.warmup_epochs": 0}
    run = pretrain(sample_store, tmp_path / "run", overrides=overrides, gpus="0")
    job = campaign(tools, tmp_path / "out", tmp_path)
    found = learning.keep_weights(run, job)
    parts = [
        torch.load(tmp_path / "out" / f"encoder-{i}-of-2.pt", weights_only=True) for i in (1, 2)
    ]
    encoder = load_encoder(run).encoder.state_dict()
    joined = parts[0]["weights"] | parts[1]["weights"]
    assert joined.keys() == encoder.keys()
    assert all(torch.equal(joined[key], encoder[key].half()) for key in joined)
    sizes = [sum(value.numel() for value in part["weights"].values()) for part in parts]
    assert sum(sizes) == found["parameters"]
    assert max(sizes) < 0.6 * sum(sizes)
    assert json.loads(parts[0]["told"]["encoder"])["width"] == 16


def campaign(tools, out, work, minutes=100.0):
    folder = tools.Folder(out)
    clock = tools.Clock(minutes, time.monotonic())
    record = tools.Record(out, {})
    record.phase("part")
    return tools.Campaign(
        device="cpu",
        dry=True,
        data=None,
        work=work,
        folder=folder,
        clock=clock,
        record=record,
        phase="part",
    )


@pytest.fixture
def handlers():
    """Put the handlers of signals back."""
    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_phase_that_fails_leaves_its_traceback_and_the_next_begins(
    script, tmp_path, monkeypatch, capsys
):
    gpu = script("gpu")

    def fails(_job):
        raise ZeroDivisionError("on purpose")

    def works(job):
        job.put("answer", float("inf"))

    monkeypatch.setattr(gpu, "the_phase", lambda name: fails if name == "throughput" else works)
    arguments = ["--dry-run", "--out", str(tmp_path), "--minutes", "50"]
    code = gpu.main([*arguments, "--only", "images", "throughput", "environment"], time.monotonic())
    assert code == 1
    found = results(tmp_path)
    assert list(found["phases"]) == ["environment", "throughput", "images"]  # the order of worth
    assert [phase["status"] for phase in found["phases"].values()] == ["done", "failed", "done"]
    assert "ZeroDivisionError: on purpose" in found["phases"]["throughput"]["traceback"]
    assert found["phases"]["images"]["results"] == {"answer": None}
    assert found["failed"] == ["throughput: traceback"]
    assert "throughput   failed" in capsys.readouterr().out


@pytest.mark.usefixtures("handlers")
def test_a_phase_ends_with_its_time_and_the_next_begins(script, tmp_path):
    gpu, tools = script("gpu"), script("gpu_tools")
    job = campaign(tools, tmp_path / "out", tmp_path)

    def long(job):
        job.attempt("short", lambda: 1)
        job.attempt("limited", lambda: time.sleep(60), seconds=0.2)
        job.attempt("next", lambda: 2)
        job.attempt("endless", lambda: time.sleep(60))

    began = time.monotonic()
    assert gpu.run_phase("part", long, 1.5, job) is True
    assert 1.4 < time.monotonic() - began < 10
    found = results(tmp_path / "out")["phases"]["part"]
    assert found["status"] == "out of time"
    assert found["results"]["short"] == 1
    assert found["results"]["next"] == 2
    assert found["results"]["limited"]["out_of_time"].startswith("after 0.")
    assert found["results"]["endless"]["out_of_time"].startswith("after ")
    assert gpu.run_phase("other", lambda job: job.put("more", 3), 5, job) is True
    assert results(tmp_path / "out")["phases"]["other"]["results"] == {"more": 3}


@pytest.mark.usefixtures("handlers")
def test_what_a_training_loop_makes_of_a_signal_ends_the_campaign(script, tmp_path):
    gpu, tools = script("gpu"), script("gpu_tools")
    from partsig.train.job import Stopped

    def stopped(_job):
        raise Stopped(143)

    job = campaign(tools, tmp_path / "out", tmp_path)
    assert gpu.run_phase("part", stopped, 50, job) is False
    assert results(tmp_path / "out")["phases"]["part"]["status"] == "asked to stop"


DRIVER = """
import signal, sys, time
sys.path.insert(0, {benchmarks!r})
import gpu

def stuck(job):
    job.put("begun", True)
    if {deaf!r}:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(60)

gpu.the_phase = lambda name: stuck
sys.exit(gpu.main(sys.argv[1:]))
"""


def driver(deaf: bool, out: Path, minutes: float) -> subprocess.Popen:
    code = DRIVER.format(benchmarks=str(ROOT / "benchmarks"), deaf=deaf)
    arguments = ["--dry-run", "--out", str(out), "--minutes", str(minutes)]
    out.mkdir()
    # Where it has to end at once, it leaves its temporary folder.
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment(TMPDIR=str(out.parent))
    )


def test_the_clock_ends_it_before_the_minutes_are_over(tmp_path):
    process = driver(False, tmp_path / "out", minutes=3 / 60)
    assert process.wait(timeout=60) == 1
    found = results(tmp_path / "out")
    assert found["seconds"] < 3
    statuses = [phase["status"] for phase in found["phases"].values()]
    assert statuses[0] == "out of time"
    assert set(statuses) <= {"out of time", "no time left"}


def test_a_call_that_does_not_return_is_ended_by_the_watchdog(tmp_path):
    process = driver(True, tmp_path / "out", minutes=3 / 60)
    assert process.wait(timeout=60) == 3
    found = results(tmp_path / "out")
    assert found["seconds"] < 3
    assert found["ended"].startswith("by the watchdog")
    assert found["phases"]["environment"]["results"] == {"begun": True}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gpu.json"]


def test_asked_to_stop_it_leaves_whole_results(tmp_path):
    process, file = driver(False, tmp_path / "out", minutes=5), tmp_path / "out" / "gpu.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if file.is_file() and "begun" in file.read_text():
            break
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 143
    found = results(tmp_path / "out")["phases"]
    assert list(found) == ["environment"]
    assert (found["environment"]["status"], found["environment"]["why"]) == (
        "asked to stop",
        "SIGTERM",
    )


def test_only_what_is_asked_for_is_done(tmp_path):
    done = subprocess.run(
        command("--dry-run", "--out", tmp_path, "--minutes", 5, "--only", "environment"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = results(tmp_path)
    assert list(found["phases"]) == ["environment"]
    machine = found["phases"]["environment"]["results"]["machine"]
    assert machine["cores"] == len(os.sched_getaffinity(0))
    assert found["phases"]["environment"]["results"]["float32 product"]["tflops"] > 1e-4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data is needed"),
        (["--data", "nowhere"], "is no folder"),
        (["--dry-run", "--minutes", "0"], "must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(script, tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        script("gpu").main([*arguments, "--out", str(tmp_path / "out")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_takes_eight_files_of_fifteen_mebibytes(script, tmp_path):
    tools = script("gpu_tools")
    folder = tools.Folder(tmp_path)
    assert folder.place("large", bytes(15 * 2**20 + 1)).startswith("left out: 15,728,641 bytes")
    assert folder.place("just", bytes(15 * 2**20)) == "just: 15,728,640 bytes"
    for i in range(6):  # with the results, eight
        assert folder.place(f"f{i}", b"x") == f"f{i}: 1 bytes"
    assert folder.place("ninth", b"x") == "left out: there are 8 files already"
    assert folder.place("f0", b"xy") == "f0: 2 bytes"  # in place of another
    assert len(list(tmp_path.iterdir())) == 7


def test_signals_survive_being_packed(script):
    data = script("gpu_data")
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**15), 2**15, (3, 2, 500)).astype(np.int16)
    x[0, 0, :4] = (-32768, 32767, -32768, 0)
    assert np.array_equal(data.unpack_signal(data.pack_signal(x), x.shape), x)


def test_a_store_survives_being_packed(script, tmp_path):
    """Roles, stages, names; signals to half a microvolt; and fewer unlabelled ones where told."""
    from partsig.data.signals.store import open_store

    data, pack = script("gpu_data"), script("gpu_pack")
    made = data.made_up_segments() | {"x": data.made_up_segments()["x"] + 0.3}
    first = open_store(data.write_store(tmp_path / "first", made))
    told = pack.pack_segments(first.path, tmp_path / "segments.npz", 10_000_000)
    assert (told["labelled"], told["unlabelled"], told["unlabelled_left_out"]) == (75, 10, 0)
    second = open_store(
        data.write_store(tmp_path / "second", data.read_segments(tmp_path / "segments.npz"))
    )
    assert second.roles == first.roles
    assert [len(first.roles[role]) for role in ("val", "test")] == [15, 15]
    assert second.subjects == first.subjects
    assert (second.ch_names, second.sfreq) == (first.ch_names, first.sfreq)
    for name in first.recordings:
        assert np.array_equal(second.labels(name), first.labels(name))
        assert np.abs(second.signal(name) - first.signal(name)).max() <= 0.5

    smaller = told["bytes"] - 10_000 + pack.MARGIN
    told = pack.pack_segments(first.path, tmp_path / "fewer.npz", smaller)
    assert (told["labelled"], told["unlabelled"], told["unlabelled_left_out"]) == (75, 0, 10)
    assert told["bytes"] < smaller
    with pytest.raises(SystemExit, match=r"75 labelled segments do not fit 300,000 bytes"):
        pack.pack_segments(first.path, tmp_path / "none.npz", 300_000)


def test_images_are_packed_class_by_class_within_the_limit(script, tmp_path):
    data, pack = script("gpu_data"), script("gpu_pack")
    raw = data.made_up_images(tmp_path / "raw.zip", per_class=60)
    whole = raw.stat().st_size
    told = pack.pack_images(raw, tmp_path / "images.zip", whole // 2)
    assert told["bytes"] == (tmp_path / "images.zip").stat().st_size <= whole // 2
    assert told["train"] == 5 * told["test"]
    assert 0.35 * 120 < told["train"] < 0.55 * 120
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        names = archive.namelist()
    assert sum("/above/" in name for name in names) == sum("/below/" in name for name in names)


def test_wheels_are_those_of_the_constraints(script):
    pack = script("gpu_pack")
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = pack.versions(pack.WHEELS, text)
    assert [line.partition("==")[0].replace("_", "-") for line in found] == [
        name.replace("_", "-") for name in pack.WHEELS
    ]


@pytest.mark.usefixtures("handlers")
def test_a_run_that_is_too_slow_is_stopped_with_a_checkpoint(script, tmp_path, sample_store):
    from partsig.train import checkpoint
    from partsig.train.job import Stopped
    from partsig.verbs.pretrain import pretrain

    learning = script("gpu_learning")
    overrides = learning.TINY | {"fit.batch_size": 8, "windows_per_epoch": 16}
    with learning.stopped_after(2.0), pytest.raises(Stopped) as stopped:
        pretrain(sample_store, tmp_path / "run", overrides=overrides, gpus="0")
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert checkpoint.load(checkpoint.newest(tmp_path / "run"), "pretrain")["step"] > 0
    os.kill(os.getpid(), signal.SIGUSR1)  # should it come after the run's end, nothing happens


def test_kappas_are_summed_up_over_the_draws_that_are_done(script):
    judging = script("gpu_judging")
    rows = [
        {"row": name, "budget": 20, "draw": draw, "kappa": kappa, "val_kappa": 1 - kappa}
        for name, kappas in (("part, fine-tuned", (0.4, 0.5)), ("mae, fine-tuned", (0.6,)))
        for draw, kappa in enumerate(kappas)
    ]
    rows.append({"row": "mae, fine-tuned", "budget": 20, "draw": 1, "traceback": "…"})
    found = {line["row"]: (line["n"], line["kappa"], line["sd"]) for line in judging.table(rows)}
    assert found["mae, fine-tuned"] == (1, 0.6, None)
    assert found["part, fine-tuned"] == pytest.approx((2, 0.45, 0.05 * 2**0.5))
    # Chosen on validation, not by the kappa that is reported.
    assert judging.best_of(rows, {"part": None, "mae": None, "contrast": None}) == "part"
    assert judging.best_of([], {"part": None}) is None


def test_a_schedule_ends_with_its_steps(script):
    learning = script("gpu_learning")
    found = learning.schedule(437, 512, 10)
    assert found["fit.epochs"] * found["windows_per_epoch"] // 512 == 430
    assert found["optim.warmup_epochs"] == 0.5
    assert learning.schedule(3, 4, 10)["fit.epochs"] == 3
