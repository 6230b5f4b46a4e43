"""What other packages add: found, named in errors when broken, and used from the command line.

The packages in tests/plugins are installed for real, by pip, into a folder of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# A package is installed for real.
pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PLUGINS = HERE / "plugins"
TINY = ("encoder.width=16", "encoder.depth=1", "encoder.heads=2")
SHORT = ("fit.epochs=1", "fit.batch_size=8", "optim.warmup_epochs=0", "windows_per_epoch=16")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that both packages are installed into."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    for name in ("example", "broken"):
        # A copy, since building leaves its traces beside the sources.
        source = tmp_path_factory.mktemp("source") / name
        subprocess.run(["cp", "-r", str(PLUGINS / name), str(source)], check=True)
        subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
    return folder


@pytest.fixture(scope="module")
def partsig(installed):
    """A function that runs a command where the packages are installed."""

    def run(*words, cwd, code=0):
        environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "partsig", *map(str, words)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


def settings(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.fixture(scope="module")
def pretrained(partsig, sample_store, tmp_path_factory):
    """A run that was pretrained by the plug-in's objective."""
    folder = tmp_path_factory.mktemp("work")
    chosen = settings("objective.name=energy", "objective.hidden=0.3", *TINY, *SHORT)
    partsig("pretrain", "--store", sample_store, "--run", "runs/a", *chosen, cwd=folder)
    return folder / "runs" / "a"


@pytest.mark.slow
def test_an_objective_is_pretrained_by_and_started_from(partsig, pretrained, sample_store):
    folder = pretrained.parents[1]
    assert "hidden: 0.3" in (pretrained / "config.yaml").read_text()
    done = partsig(
        *("finetune", "--from", "runs/a", "--store", sample_store, "--run", "runs/b"),
        *("--subjects", 4, *settings("train=probe")),
        cwd=folder,
    )
    assert "run: runs/b" in done.stdout


def test_the_keys_of_an_objective_are_told(partsig, tmp_path):
    done = partsig("config", "--verb", "pretrain", cwd=tmp_path)
    told = "\n\nobjective.name=energy: How loud hidden patches are.\nobjective.hidden "
    assert done.stdout.count(told) == 2  # signals and images
    assert "number, 0 to 0.9\n  share of the patches whose samples are silenced\n" in done.stdout
    names = "one of part, mae, mp3, droppos, relative-positioning, part-masked, "
    names += "part-discovery, scops, energy "
    assert " ".join(done.stdout.split()).count(names) == 2


@pytest.mark.slow
def test_a_task_is_learned_judged_and_says_its_own(partsig, pretrained, sample_store):
    folder = pretrained.parents[1]
    partsig(
        *("finetune", "--from", "runs/a", "--store", sample_store, "--run", "runs/c"),
        *("--task", "wake-or-sleep", "--subjects", 6, *settings("train=probe")),
        cwd=folder,
    )
    done = partsig("evaluate", "--run", "runs/c", "--no-figures", cwd=folder)
    assert "kappa" in done.stdout
    predictions = (folder / "runs/c/evaluation/predictions.csv").read_text().splitlines()
    assert predictions[0].endswith("truth,prediction,p_W,p_asleep,confidence")


@pytest.mark.slow
def test_an_encoder_of_elsewhere_is_fine_tuned(partsig, sample_store, tmp_path):
    partsig(
        *("finetune", "--from", "untrained:16", "--store", sample_store, "--run", "r"),
        *("--subjects", 4, *settings("train=probe")),
        cwd=tmp_path,
    )
    done = partsig(
        "finetune",
        "--from",
        "untrained:wide",
        "--store",
        sample_store,
        "--run",
        "s",
        cwd=tmp_path,
        code=2,
    )
    assert "it is a width, such as untrained:16" in done.stderr


@pytest.mark.slow
def test_a_frozen_encoder_of_elsewhere_is_probed_judged_embedded_and_exported(
    partsig, sample_store, tmp_path
):
    partsig(
        *("finetune", "--from", "loudness:6", "--store", sample_store, "--run", "r"),
        *("--subjects", 6, *settings("train=probe", "pool=mean+sd")),
        cwd=tmp_path,
    )
    done = partsig("evaluate", "--run", "r", "--no-figures", cwd=tmp_path)
    assert "kappa" in done.stdout
    partsig("embed", "--run", "r", cwd=tmp_path)
    (embedded,) = (tmp_path / "r" / "embeddings").glob("*.npz")
    assert np.load(embedded)["embeddings"].shape[1] == 6  # three means, three SDs
    partsig("export", "--run", "r", "--output", "out", cwd=tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Their licence: nobody's; SHA-256 {'0' * 64}." in card
    told = partsig(
        *("finetune", "--from", "loudness:6", "--store", sample_store, "--run", "s"),
        cwd=tmp_path,
        code=2,
    ).stderr
    assert "is used as it is, and cannot be trained further: pass --set train=probe or knn" in told


def test_a_source_is_preprocessed_and_audited(partsig, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    for name in ("ann", "bob"):
        lines = ["# 100 C3-M2 O1-M2"]
        lines += [f"{a:.2f} {b:.2f}" for a, b in rng.normal(0, 20, (6100, 2))]
        (raw / f"{name}.tab").write_text("\n".join(lines) + "\n")
        (raw / f"{name}.stages").write_text("0 2\n")
    (raw / "cut.tab").write_text("# 100 C3-M2\n1.0 2.0\n3.0\n")
    done = partsig("preprocess", "tab", "--raw", raw, "--store", "store", cwd=tmp_path, code=2)
    assert "skipped cut: cut.tab is no table of C3-M2" in done.stderr
    index = (tmp_path / "store" / "index.csv").read_text()
    assert "\nann,ann," in index
    audited = partsig("audit", raw, "--source", "tab", "--output", "audit", cwd=tmp_path, code=2)
    assert "cut" in audited.stdout + audited.stderr


MISTAKES = [
    (["pretrain", "--set", "objective.name=cracked"], "partsig-broken 0.3"),
    (["pretrain", "--set", "objective.name=nameless"], "has no dataclass Config"),
    (["finetune", "--from", "scratch", "--task", "cracked-task"], "another version"),
    (["preprocess", "cracked-source"], "of the plug-in partsig-broken 0.3"),
    (["finetune", "--from", "cracked-encoders:a"], "cannot be loaded (RuntimeError"),
    (["pretrain", "--set", "objective.name=enrgy"], "nearest is 'energy'"),
    (["finetune", "--from", "scratch", "--task", "wake-or-slep"], "nearest is 'wake-or-sleep'"),
    (["preprocess", "tap"], "nearest is 'tab'"),
    (["finetune", "--from", "untraind:3"], "nearest is untrained:…"),
]


def test_what_is_broken_or_misspelt_is_one_sentence(installed, sample_store, tmp_path, in_forks):
    """Each in a fork of one process that has loaded torch alone."""
    store = ["--store", str(sample_store)]
    commands = [words if words[0] == "preprocess" else words + store for words, _ in MISTAKES]
    answers = in_forks(commands, first=("torch",), PYTHONPATH=str(installed))
    for (words, told), (code, said, _) in zip(MISTAKES, answers, strict=True):
        assert code == 2, words
        assert told in said, (words, said)
        assert said.count("\n") == 1, said
    assert not (tmp_path / "runs").exists()
