"""The structure, kept by tests: who may import whom, what is shipped, how quick the help is."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import partsig
from partsig.data import store

ROOT = Path(__file__).parents[1]
BASE = {"text", "errors", "files", "config", "contracts", "registries", "progress", "seeds"}
BASE |= {"places", "cells", "commands", "regular", "schema"}
WINGS = {"core", "data", "train", "metrics"}
# What each room may import from partsig besides itself; `modalities.registry` names places only, so
# that any room may ask it. CONTRIBUTING says why.
ALLOWED = {
    "text": set(),
    "errors": {"text"},
    "regular": set(),
    "schema": set(),
    "files": {"errors", "cells", "regular"},
    "config_text": {"errors", "regular"},
    "config": {"errors", "config_text"},
    "contracts": {"errors"},
    "registries": {"errors"},
    "progress": set(),
    "places": set(),
    "cells": set(),
    "commands": set(),
    "seeds": set(),
    "keys": {"errors", "config"},
    "key_tables": {"keys"},
    **{wing: BASE for wing in WINGS},
    "figures": BASE | {"metrics"},
    "runs": BASE | {"core", "train", "metrics", "modalities.registry"},
    "tasks": BASE | {"core", "train", "metrics", "figures", "runs", "modalities.registry"},
    "modalities": BASE | {"core", "data", "train", "runs", "tasks"},
    "recipes": BASE | WINGS | {"runs", "tasks", "modalities"},
    "sleep": BASE | WINGS | {"figures", "runs", "tasks", "modalities", "recipes"},
    "verbs": BASE
    | WINGS
    | {"keys", "key_tables", "figures", "runs", "tasks", "modalities", "recipes", "sleep"}
    | {"demos.registry"},
    "demos": BASE
    | WINGS
    | {"figures", "runs", "tasks", "modalities", "recipes", "verbs", "sleep.figures"},
    "interop": BASE | WINGS | {"runs", "tasks", "modalities", "recipes", "verbs"},
    "__main__": {"cli"},
    "__init__": set(),
}
# The one wing of data/ that a room may name: the other modality's is none of its business.
ONE_WING = {"sleep": "signals", "interop": "signals"}
NO_WING = {"core", "train", "metrics", "figures", "runs", "tasks", "recipes"}
# Verbs that are of one modality by their nature.
OF_SLEEP = {"stage.py", "report.py", "audit.py"}
CORE_EXTERNAL = {"abc", "torch", "math", "itertools", "collections", "dataclasses", "typing"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if is_module(name) or node.module == "partsig"]
            yield from modules or [node.module]


def is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("partsig"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    room = path.relative_to(ROOT / "partsig").parts[0].removesuffix(".py")
    for name in imported(path):
        if name.startswith("partsig."):
            other = name.split(".")[1]
            allowed = other == room or other in ALLOWED[room] or name == "partsig.__version__"
            assert allowed or ".".join(name.split(".")[1:3]) in ALLOWED[room], name
        elif room == "core":
            assert name.split(".")[0] in CORE_EXTERNAL, name


@pytest.mark.parametrize("path", files("partsig"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_wings_of_data_are_named_by_modalities_alone(path):
    parts = path.relative_to(ROOT / "partsig").parts
    wings = {name.split(".")[2] for name in imported(path) if name.startswith("partsig.data.")}
    wings &= {"signals", "images"}
    if parts[0] in NO_WING or (parts[0] == "verbs" and parts[-1] not in OF_SLEEP):
        assert not wings
    if parts[0] in ONE_WING:
        assert wings <= {ONE_WING[parts[0]]}
    if parts[0] == "data" and len(parts) > 2 and parts[1] in ("signals", "images"):
        assert wings <= {parts[1]}
    if parts[0] == "verbs":
        sleep = any(name.startswith("partsig.sleep") for name in imported(path))
        assert not sleep or parts[-1] in OF_SLEEP


# Where files are opened that nobody else can have put there, or that are looked at before.
OWN_READERS = {
    "regular.py",
    "config_text.py",  # what is shipped
    "data/sample/__init__.py",
    "data/sample/nights.py",
    "data/sample/pets.py",
    "files.py",  # what was just written
    "data/signals/readers/mne_child.py",  # /proc, and a hook that looks at every file
    "data/signals/readers/edf.py",  # is_file or check_regular comes before
    "data/signals/readers/physionet2018.py",
    "data/signals/readers/pc18_segments.py",
    "train/checkpoint.py",
    "train/distributed.py",
    "runs/exported.py",
    "runs/features.py",
    "interop/weights.py",
    "tasks/on_features.py",  # a file without a name, which it has just made
}


def reads(path):
    """Yield the lines at which a module opens a file for reading by itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("np.load", "np.memmap", "torch.load", "load_file"):
            yield node.lineno
        elif name == "open":
            mode = node.args[1] if len(node.args) > 1 else ast.Constant("r")
            if isinstance(mode, ast.Constant) and not set(mode.value) & set("wax+"):
                yield node.lineno
        elif name.endswith((".read_text", ".read_bytes")) and name != "regular.read_text":
            yield node.lineno


@pytest.mark.parametrize("path", files("partsig"), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_of_others_are_opened_in_one_place(path):
    """A pipe in the place of one would be waited for, for ever."""
    if path.relative_to(ROOT / "partsig").as_posix() not in OWN_READERS:
        assert not list(reads(path))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_itself_through_others():
    """No circle, also none of imports inside functions, or for types only."""
    modules = {module_of(path): path for path in files("partsig")}
    needs = {}
    for module, path in modules.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                names |= inner or {node.module}
        needs[module] = (names & modules.keys()) - {module}
    left = dict(needs)
    while left:
        free = [module for module, names in left.items() if not names & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for module in free:
            del left[module]


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", files("partsig") + files("cli"), ids=lambda p: str(p))
def test_files_can_be_read_in_one_sitting(path):
    room = path.relative_to(ROOT).parts[1:2]
    most = 150 if room == ("verbs",) else 350
    assert len(path.read_text(encoding="utf-8").splitlines()) <= most
    if room in (("verbs",), ("interop",)) or path.is_relative_to(ROOT / "cli"):
        return  # what people call has as many options as they need
    for function in functions(path):
        given = function.args.args + function.args.kwonlyargs + function.args.posonlyargs
        names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
        assert len(names) <= 8, f"{function.name}: {', '.join(names)}"


@pytest.mark.parametrize("folder", ["partsig/verbs", "cli"])
def test_verbs_ask_and_do_not_tell_modalities_apart(folder):
    forbidden = re.compile(r"modality\"?\]? *(==|!=|in \()|is_image|== *\"(eeg|image)\"")
    for path in files(folder):
        assert not forbidden.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("path", files("cli"), ids=lambda p: p.name)
def test_the_command_line_imports_tasks_only_inside_commands(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert not any(name and name.startswith("partsig.verbs") for name in modules)


@pytest.mark.parametrize("word", ["EEG", "Hz", "pixel", "sleep", "subject"])
def test_the_core_names_no_modality_outside_its_explanations(word):
    for path in files("partsig/core"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        assert not [name for name in names if word.lower() == name.lower()], path


def test_the_five_stages_and_their_length_are_named_where_sleep_is_alone():
    """Elsewhere a store's meta.json says what its classes are, and how long an epoch is."""
    sleep = ("sleep", "data/signals/hypnograms", "data/signals/readers", "data/sample")
    homes = [ROOT / "partsig" / folder for folder in sleep]
    named = re.compile(r"\b(STAGES|EPOCH_S|N1|N2|N3)\b")
    # Examples of what is written, in explanations.
    spared = {ROOT / "partsig/interop/raw.py": "N2``"}
    for path in files("partsig") + files("cli"):
        text = path.read_text(encoding="utf-8")
        if any(path.is_relative_to(home) for home in homes):
            continue
        assert not named.search(text.replace(spared.get(path, "\0"), "")), path
    for home in homes:
        assert any(named.search(path.read_text(encoding="utf-8")) for path in files(home)), home


def test_the_list_of_packages_is_whole():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"partsig.cli", "partsig.configs"}
    for path in (ROOT / "partsig").rglob("__init__.py"):
        found.add(".".join(path.parent.relative_to(ROOT).parts))
    assert set(listed) == found


def test_the_wheel_holds_code_configurations_and_sample(tmp_path):
    # From a copy: setuptools leaves a build folder behind, and takes what it finds in one.
    tree = tmp_path / "tree"
    for folder in ("partsig", "cli", "configs"):
        shutil.copytree(ROOT / folder, tree / folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"partsig-{partsig.__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (("partsig", "partsig"), ("cli", "partsig/cli")):
        for path in files(folder):
            assert f"{package}/{path.relative_to(ROOT / folder)}" in names
    for path in (ROOT / "configs").glob("*.yaml"):
        assert f"partsig/configs/{path.name}" in names
    sample = {"excerpts.flac", "excerpts.csv", "hypnograms.csv", "ATTRIBUTION.md"}
    sample |= {"pets.zip", "ATTRIBUTION-pets.md"}
    assert {f"partsig/data/sample/{name}" for name in sample} <= names
    assert not any(name.startswith(("cli/", "configs/", "tests/")) for name in names)
    size = zipfile.ZipFile(wheel).getinfo("partsig/data/sample/excerpts.flac").file_size
    assert size < 8_000_000
    assert zipfile.ZipFile(wheel).getinfo("partsig/data/sample/pets.zip").file_size < 1_500_000


def test_help_loads_neither_torch_nor_the_tasks():
    code = (
        "import sys; from partsig.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "heavy = {'torch', 'numpy', 'scipy', 'wfdb', 'pydantic', 'partsig.verbs'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in partsig.VERBS:
        assert verb in done.stdout


def test_the_peers_import():
    """The bound on torch: torchaudio, and so braindecode, fails to import outside it."""
    code = "import warnings; warnings.simplefilter('ignore'); import torchaudio, braindecode"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_verbs_are_functions_of_the_package():
    assert (
        *("download", "audit", "preprocess", "pretrain", "finetune"),
        *("evaluate", "compare", "stage", "report", "embed", "inspect", "export", "demo"),
    ) == partsig.VERBS
    for verb in partsig.VERBS:
        assert callable(getattr(partsig, verb))
    with pytest.raises(AttributeError, match="no attribute 'stages'"):
        _ = partsig.stages


# What takes long to import: a mistake must be told before any of it is.
HEAVY = ("matplotlib", "pandas", "scipy.signal", "scipy.stats", "sklearn", "skops", "statsmodels")
HEAVY += ("tensorboard", "timm", "torchvision", "yasa", "mne", "braindecode")
MISTAKES = (
    ("preprocess", "edf", "--set", "sfrq=3"),
    ("preprocess", "edf", "--raw", "nowhere"),
    ("audit", "nowhere"),
    ("pretrain", "--set", "fit.epoch=3"),
    ("pretrain", "--store", "nowhere"),
    ("finetune", "--from", "nowhere"),
    ("finetune", "--from", "scratch", "--store", "nowhere"),
    ("evaluate", "--run", "nowhere"),
    ("compare", "nowhere"),
    ("stage", "nowhere.edf", "--run", "nowhere"),
    ("report", "--run", "nowhere"),
    ("report", "--no-run", "--set", "x=1"),
    ("embed", "--run", "nowhere"),
    ("export", "--run", "nowhere"),
    ("inspect", "--run", "nowhere"),
    ("download", "nothing"),
    ("demo", "--what", "nothing"),
    ("config", "parts"),
)


@pytest.mark.slow
def test_a_mistake_is_told_before_anything_heavy_is_imported(in_forks):
    """Each in a fork of one process that has loaded torch alone, as every verb must."""
    values = [["pretrain", "--set", "fit.epochs=-3"], ["finetune", "--from", "scratch"]]
    commands = [*map(list, MISTAKES), *values]
    answers = in_forks(commands, first=("torch",))
    for words, (code, _, loaded) in zip(commands, answers, strict=True):
        assert code == 2, words
        assert not loaded & set(HEAVY), words


@pytest.mark.slow
def test_a_path_or_a_key_that_is_not_there_is_told_without_torch(tmp_path, in_forks):
    (tmp_path / "night.edf").touch()
    light = [words for words in MISTAKES if words[0] not in ("audit", "download", "demo", "stage")]
    light.append(("stage", "night.edf", "--run", "nowhere"))
    answers = in_forks(list(map(list, light)))
    for words, (code, _, loaded) in zip(light, answers, strict=True):
        assert code == 2, words
        assert "torch" not in loaded, words


# A wrong value in every section of every verb: out of range, of another type, no choice, not
# together. {eeg} and {image} are stores, {run} is a fine-tuned run.
WRONG = (
    ("preprocess edf", "sfreq=-3", "h_freq=0", "l_freq=40", "dtype=int8", "hypnogram.epoch_s=0"),
    ("preprocess edf", "hypnogram.offset_s=.nan", "hypnogram.stages={5: REMS}", "channels=C3"),
    ("preprocess digits", "size=0", "val_share=2", "grey=perhaps"),
    ("audit {eeg}", "missing=drop", "trim_wake_min=-1", "hypnogram.codes=aasm"),
    ("pretrain", "window_s=inf", "windows_per_epoch=-1", "encoder.width=33", "encoder.tokens=no"),
    ("pretrain", "objective.patches=.5", "objective.name=mea", "objective.stretches=3"),
    ("pretrain", "optim.lr=inf", "optim.betas=[2,3]", "optim.min_lr=1", "split.seed=-1", "fit=3"),
    ("pretrain --config mae", "objective.decoder.heads=7", "fit.epochs=-3", "objective.loss=mse"),
    ("pretrain --modality image", "size=33", "augment.area=0", "objective.context=-1"),
    ("pretrain --store {image}", "patch_px=0", "fit.workers=-2", "objective.mask_ratio=.5"),
    ("finetune --from scratch --store {eeg}", "fit.epochs=0", "pseudo.share=-1", "loss.mixup=-1"),
    ("finetune --from scratch --store {eeg}", "train=none", "split.val_subjects=-1", "pool=max"),
    ("finetune --from scratch --store {eeg}", "optim.layer_decay=2", "encoder.depth=0", "model=u"),
    ("finetune --from scratch --store {image}", "repeats=0", "augment.flip=2", "fit.average=1"),
    ("stage {night} --run {run}", "odd=-1", "unit=pV", "hypnogram.epoch_s=inf", "aliases=C3"),
    ("report --run {run}", "store_labels=perhaps", "hypnogram.format=csv"),
    ("demo", "subjects=0", "finetune_epochs=many"),
    ("demo --modality image", "per_class=0"),
)
# What every verb loads first; the fork of a command then begins from there.
FIRST = ("partsig.config", "partsig.modalities.signals", "partsig.modalities.images", "joblib")


@pytest.mark.slow
def test_a_wrong_value_is_told_without_torch(tmp_path, in_forks):
    """Also where a store and a run are at hand, so that nothing else could be told first."""
    places = {name: name for name in ("eeg", "image", "run", "night")}
    for modality in ("eeg", "image"):
        (tmp_path / modality).mkdir()
        meta = {"format": store.FORMAT, "modality": modality}
        (tmp_path / modality / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "night").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"kind": "finetune", "state": "finished"}')
    commands = [
        (key, [*words.format(**places).split(), "--set", key])
        for words, *keys in WRONG
        for key in keys
    ]
    answers = in_forks([command for _, command in commands], first=FIRST)
    for (key, command), (code, said, loaded) in zip(commands, answers, strict=True):
        assert code == 2, command
        assert "Traceback" not in said
        assert key.partition("=")[0].rpartition(".")[2] in said, (command, said)
        assert "torch" not in loaded, command
