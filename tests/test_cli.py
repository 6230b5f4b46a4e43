"""The contract: commands, options, exit codes, and what a mistake looks like."""

import re
import shlex

import pytest
from partsig.cli import app
from typer.testing import CliRunner

RUNNER = CliRunner()
OPTIONS = {
    "download": {"--raw", "--records", "--mirror", "--jobs"},
    "audit": {"--source", "--output", "--set", "--jobs"},
    "preprocess": {
        *("--raw", "--store", "--config", "--set", "--jobs"),
        *("--scheduler", "--shard", "--merge"),
    },
    "pretrain": {
        "--modality",
        "--from",
        "--store",
        "--run",
        "--config",
        "--set",
        "--seed",
        "--gpus",
        "--cpu-processes",
        "--profile",
    },
    "finetune": {
        "--from",
        "--store",
        "--run",
        "--subjects",
        "--segments-per-class",
        "--teacher",
        "--config",
        "--set",
        "--seed",
        "--device",
    },
    "evaluate": {"--run", "--store", "--seed", "--device"},
    "compare": {"--against", "--reference", "--task", "--output", "--seed", "--device"},
    "stage": {"--run", "--output", "--set", "--device"},
    "report": {
        *("--run", "--no-run", "--store", "--scorer", "--output", "--set", "--seed", "--device"),
    },
    "embed": {"--run", "--store", "--output", "--recording", "--pool", "--blocks", "--device"},
    "inspect": {"--run", "--store", "--output", "--n", "--seed", "--device"},
    "export": {"--run", "--output", "--format", "--device"},
    "demo": {"--modality", "--output", "--set", "--seed"},
    "config": {"--verb", "--modality", "--changed", "--json"},
}


def run(*words):
    return RUNNER.invoke(app, list(words))


@pytest.mark.parametrize("verb", OPTIONS)
def test_each_command_has_its_options(verb):
    done = RUNNER.invoke(app, [verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert set(re.findall(r"--[a-z-]+", done.stdout)) - {"--help"} >= OPTIONS[verb]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("preprocess physionet2018 --raw nowhere", "no folder nowhere: pass --raw"),
        ("preprocess floppy", "source is 'floppy'; it can be 'physionet2018'"),
        ("pretrain --store nowhere", "no store at nowhere"),
        ("pretrain --gpus 4", "--gpus 4, but"),
        ("pretrain --set optim.lr", "--set 'optim.lr': expected section.key=value"),
        ("pretrain --set optim.learning_rate=1", "unknown key 'optim.learning_rate'; nearest is"),
        ("pretrain --modality image", "no store at data/store/cifar100"),
        ("finetune", "no finished pretrain run in runs/: run `partsig pretrain` first"),
        ("compare nowhere", "no run at nowhere (it has no run.json)"),
        ("finetune --from scratch --subjects -1", "--subjects is -1; it must be at least 0"),
        ("evaluate", "no finished finetune run in runs/: run `partsig finetune` first"),
        ("evaluate --run nowhere", "no run at nowhere"),
        ("stage night.edf", "no finished finetune run in runs/: run `partsig finetune` first"),
        ("stage night.edf --run nowhere", "no recording night.edf"),
        ("report", "no finished finetune run in runs/: run `partsig finetune` first"),
        ("report --run nowhere", "no run at nowhere"),
        ("report --no-run", "no store at data/store/physionet2018"),
        ("embed", "no finished pretrain run in runs/: run `partsig pretrain` first"),
        ("inspect --run nowhere", "no run at nowhere"),
        ("export --run nowhere", "nowhere"),
        ("export --format gif", "no finished finetune run"),
        ("config parts", "no configuration 'parts'; nearest is 'part'; there are cifar, "),
        ("config finetune", "finetune is a verb: its keys are told by --verb finetune."),
        ("config --changed", "--changed is for one configuration: name it"),
        ("config --verb train", "--verb is 'train'; nearest is 'pretrain'; it can be 'preprocess'"),
        ("config part --verb finetune", "part is for `partsig pretrain`, not for finetune."),
        ("config cifar --modality eeg", "cifar is for images: pass --modality image."),
        ("config --verb audit --modality image", "audit is not for image; it is for eeg."),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words == "pretrain --gpus 4":
        import torch

        if torch.cuda.device_count() >= 4:
            pytest.skip("four GPUs are really visible here")
    done = run(*shlex.split(words))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("partsig: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_the_version_is_printed():
    import partsig

    assert run("--version").stdout == f"partsig {partsig.__version__}\n"


def test_the_four_verbs_from_the_shell(sample_store, tmp_path, monkeypatch):
    """Defaults as in the contract: stores below data/store, runs below runs, the last one found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "store").mkdir(parents=True)
    (tmp_path / "data" / "store" / "physionet2018").symlink_to(sample_store)
    small = "--set encoder.width=16 --set encoder.depth=1 --set encoder.heads=2"
    short = "--set fit.epochs=1 --set optim.warmup_epochs=0 --set fit.batch_size=16"
    done = run(*f"pretrain --gpus 0 --set windows_per_epoch=16 {small} {short}".split())
    assert done.exit_code == 0, done.output
    learned, *others = done.stdout.splitlines()
    assert re.fullmatch(
        r"order of overlapping patches right in \d+% of unseen pairs \(chance 50%\)", learned
    )
    run_, following = others
    assert run_ == "run: runs/pretrain-part-s0"
    assert following == "next: partsig finetune --from runs/pretrain-part-s0"
    done = run(*f"finetune --subjects 4 --device cpu {short}".split())
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("from: runs/pretrain-part-s0\n")
    assert "labels used: 4 training and 5 validation subjects; 14 test subjects" in done.stdout
    tuned = "runs/finetune-pretrain-part-s0-n4-s0"
    assert done.stdout.endswith(f"run: {tuned}\nnext: partsig evaluate --run {tuned}\n")
    done = run("evaluate", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert re.search(r"kappa -?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\] pooled", done.stdout)
    assert done.stdout.endswith(
        f"evaluation: {tuned}/evaluation\nnext: partsig report --run {tuned}\n"
    )
    done = run("compare", "runs/finetune-pretrain-part-s0-n4-s0", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "| part | 1 |" in done.stdout
    assert done.stdout.endswith("comparison: runs/compare\n")
