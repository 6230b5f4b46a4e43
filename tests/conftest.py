"""Fixtures shared by the tests: real files where they are at hand, else small nights and runs."""

# ruff: noqa: E402
import os

# One thread per process, set before numpy or torch is imported, also for the processes that tests
# start: several tests run at a time, and threads on the same cores only wait for each other.
for _library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from filelock import FileLock

from partsig.data import sample
from partsig.data.images import arrays
from partsig.data.images import store as images
from partsig.data.signals.readers import physionet2018
from partsig.verbs.finetune import finetune
from partsig.verbs.preprocess import preprocess
from partsig.verbs.pretrain import pretrain

torch.set_num_threads(1)

# Packages that the tests install: they are not collected, and some do not even load.
collect_ignore = ["plugins"]
SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL = SHARED / "data" / "pc18_files"


@pytest.fixture(scope="session")
def challenge_files() -> Path:
    """The folder of real challenge-2018 files (headers, annotations, stage vectors)."""
    if not (REAL / "tr03-0005.arousal").is_file():
        pytest.skip("the real challenge-2018 files are not at hand (../shared/data/pc18_files)")
    return REAL


@pytest.fixture(scope="session")
def real_psg() -> Path:
    """25 min of a real polysomnography in EDF+, 256 Hz, no stages."""
    path = SHARED / "data" / "psg_six_channel" / "psg_25min.edf"
    if not path.is_file():
        pytest.skip("the real EDF file is not at hand (../shared/data/psg_six_channel)")
    return path


@pytest.fixture(scope="session")
def real_sleeper() -> Path:
    """The folder of 84 min of one EEG channel and its stages (pyDYNAM-O's segment, BSD-3)."""
    if not (SHARED / "data" / "pydynamo" / "segment_stages.csv").is_file():
        pytest.skip("the real labelled segment is not at hand (../shared/data/pydynamo)")
    return SHARED / "data" / "pydynamo"


def noise(n_chans: int, n_times: int, sfreq: float, seed: int = 0) -> np.ndarray:
    """Return (C, T) µV, float64: noise whose amplitude falls as 1/f, SD 30, and 60 Hz mains."""
    rng = np.random.default_rng([seed, n_times])
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    phases = np.exp(2j * np.pi * rng.random((n_chans, len(freqs))))
    signal = np.fft.irfft(phases / np.maximum(freqs, 0.3), n_times)
    signal *= 30 / signal.std()
    return signal + 10 * np.sin(2 * np.pi * 60 * np.arange(n_times) / sfreq)


@pytest.fixture(scope="session")
def eeg_like() -> Callable[..., np.ndarray]:
    """The function ``noise``."""
    return noise


@pytest.fixture(scope="session")
def write_night() -> Callable[..., Path]:
    """A function that writes one small record in the challenge's layout, in a folder of its own."""

    def write(
        raw: Path,
        name: str = "tr03-0001",
        *,
        stages: tuple[int, ...] | None = (-1, 0, 1, 2, 4),
        seconds: float = 155.0,
        sfreq: float = 200.0,
        ch_names: tuple[str, ...] = (*physionet2018.CHANNELS, "E1-M2"),
        units: tuple[str, ...] | None = None,
    ) -> Path:
        seed = sum(name.encode())
        signal = noise(len(ch_names), int(seconds * sfreq), sfreq, seed).round().astype(np.int16)
        return physionet2018.write_recording(
            raw / name,
            name,
            signal,
            ch_names,
            sfreq,
            stages=None if stages is None else np.array(stages),
            units=units,
        )

    return write


@pytest.fixture(scope="session")
def nights() -> ModuleType:
    """The module ``tests/nights.py``: small synthetic nights of features."""
    spec = importlib.util.spec_from_file_location("nights", Path(__file__).parent / "nights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """A function that returns a web server on the loopback range (``tests/servers.py``)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    spec = importlib.util.spec_from_file_location("servers", Path(__file__).parent / "servers.py")
    servers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)
    with ExitStack() as stack:
        yield lambda certificate=None: stack.enter_context(servers.serving(certificate))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that returns a folder which ``make`` fills, once for all processes of the tests.

    Whoever comes first makes it, the others wait; it is for reading only.
    """
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each such process has a folder of its own below it
        top = top.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = top / "made" / name, top / "made" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what was begun and failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def sample_store(made_once: Callable[..., Path]) -> Path:
    """The store of the excerpts that ship with the package: 71 scored subjects, 12 unscored."""

    def make(folder: Path) -> None:
        sample.write_records(folder / "raw")
        channels = {"channels": list(sample.CHANNELS)}
        preprocess(raw=folder / "raw", store=folder / "store", overrides=channels, jobs=1)

    return made_once("sample", make) / "store"


@pytest.fixture(scope="session")
def digits(made_once: Callable[..., Path]) -> Path:
    """The store of scikit-learn's digits."""

    def make(folder: Path) -> None:
        preprocess("digits", store=folder / "store")

    return made_once("digits", make) / "store"


@pytest.fixture(scope="session")
def bright_images(made_once: Callable[..., Path]) -> Path:
    """A store of 48 images of 32 x 32 in colour: one class of two is brighter to the left."""

    def make(folder: Path) -> None:
        rng, labels = np.random.default_rng(0), np.arange(48) % 2
        pixels = rng.integers(100, size=(48, 3, 32, 32)).astype(np.uint8)
        pixels[labels == 1, :, :, :16] += 100
        roles = np.repeat(["train", "val", "test"], 16)
        told = enumerate(zip(roles, labels, strict=True))
        source = images.Source(
            name="images",
            size=(32, 32),
            ch_names=("red", "green", "blue"),
            classes=("even", "left"),
            items=[images.Item(f"{role}/{i}", int(k), role, "") for i, (role, k) in told],
            read=lambda i: pixels[i],
        )
        path = folder / "store"
        meta = images.make_meta(source, 0.1)
        images.create(path, meta)
        layers, some = arrays.layers_of(meta), enumerate(pixels[:, None])
        arrays.write_arrays(path, 0, layers, len(pixels), some, True)
        rows = [images.index_row(item, i) for i, item in enumerate(source.items)]
        images.write_index(path, rows)

    return made_once("bright", make) / "store"


@pytest.fixture(scope="session")
def encoder_run(made_once: Callable[..., Path], sample_store: Path) -> Path:
    """A small run pretrained on the sample: windows of 5 s, tokens that see the spectrum."""
    small = {"encoder.width": 16, "encoder.depth": 1, "encoder.heads": 2, "fit.epochs": 1}
    small |= {"fit.batch_size": 8, "windows_per_epoch": 16, "optim.warmup_epochs": 0}
    small |= {"window_s": 5, "objective.patches": 5, "encoder.tokens": "linear+spectrum"}
    small |= {"split.monitor_subjects": 4}

    def make(folder: Path) -> None:
        pretrain(sample_store, folder / "pretrain", overrides=small, gpus="0")

    return made_once("encoder", make) / "pretrain"


@pytest.fixture(scope="session")
def stager_run(made_once: Callable[..., Path], encoder_run: Path, sample_store: Path) -> Path:
    """It, fine-tuned on 12 subjects, with learned position codes and a head on [CLS]."""
    short = {"optim.warmup_epochs": 1, "fit.epochs": 6, "fit.batch_size": 32, "optim.lr": 5e-2}

    def make(folder: Path) -> None:
        run = folder / "finetune"
        finetune(encoder_run, sample_store, run, subjects=12, overrides=short, device="cpu")

    return made_once("stager", make) / "finetune"


FORKS = """
import json, os, sys
for name in json.loads(sys.argv[2]):
    __import__(name)
from partsig.cli import app
for words in json.loads(sys.argv[1]):
    begin, end = os.pipe()
    if not os.fork():
        os.dup2(end, 2)
        sys.argv = ["partsig", *words]
        code = None
        try:
            app()
        except SystemExit as ended:
            code = ended.code
        with open("loaded.json", "w") as file:
            json.dump([code, sorted(sys.modules)], file)
        os._exit(0)
    os.close(end)
    said = os.fdopen(begin).read()
    os.wait()
    code, loaded = json.load(open("loaded.json"))
    os.remove("loaded.json")
    print(json.dumps([code, said, loaded]), flush=True)
"""


@pytest.fixture
def in_forks(tmp_path: Path) -> Callable[..., list[tuple[int | None, str, set[str]]]]:
    """A function that gives commands to ``partsig``, each in a fork of one fresh process.

    Returns of each its exit code, what it said on standard error, and all modules it had loaded.
    ``first`` are modules that are loaded before. They are run in ``tmp_path``.
    """

    def ask(
        commands: list[list[str]], first: tuple[str, ...] = (), **environment: str
    ) -> list[tuple[int | None, str, set[str]]]:
        done = subprocess.run(
            [sys.executable, "-c", FORKS, json.dumps(commands), json.dumps(first)],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(commands), done.stdout
        return [(code, said, set(loaded)) for code, said, loaded in answers]

    return ask
