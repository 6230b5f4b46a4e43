"""The structure, kept by tests: who may import whom, what is shipped, how quick the help is."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import partsig

ROOT = Path(__file__).parents[1]
EVERYTHING = {
    *("errors", "files", "contracts", "config", "registries", "modalities"),
    *("metrics", "core", "data", "train", "figures"),
    *("runs", "tasks", "recipes", "sleep", "verbs"),
}
# What each part of the package may import from partsig, besides itself.
ALLOWED = {
    "errors": set(),
    "contracts": {"errors"},
    "registries": {"errors"},
    "files": {"errors"},
    "metrics": {"errors"},
    "config": {"errors"},
    "core": {"contracts", "errors"},
    "data": {"contracts", "errors", "files", "config"},
    "train": {"contracts", "errors", "files"},
    "figures": {"errors", "files", "metrics"},
    "modalities": EVERYTHING - {"recipes", "sleep", "verbs"},
    **dict.fromkeys(("runs", "tasks", "recipes", "sleep", "verbs"), EVERYTHING | {"demos"}),
    "demos": EVERYTHING,
    "interop": EVERYTHING | {"verbs"},
    "__main__": {"cli"},
    "__init__": set(),
}
CORE_EXTERNAL = {"torch", "math", "itertools", "collections", "dataclasses", "typing"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if node.module == "partsig":
                yield from (f"partsig.{alias.name}" for alias in node.names)
            else:
                yield node.module


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("partsig"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    part = path.relative_to(ROOT / "partsig").parts[0].removesuffix(".py")
    for name in imported(path):
        if name.startswith("partsig."):
            other = name.split(".")[1]
            assert other == part or other in ALLOWED[part] or name == "partsig.__version__", name
        elif part == "core":
            assert name.split(".")[0] in CORE_EXTERNAL, name


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
    sample = {"excerpts.flac", "excerpts.csv", "ATTRIBUTION.md"}
    assert {f"partsig/data/sample/{name}" for name in sample} <= names
    assert not any(name.startswith(("cli/", "configs/", "tests/")) for name in names)
    size = zipfile.ZipFile(wheel).getinfo("partsig/data/sample/excerpts.flac").file_size
    assert size < 8_000_000


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
