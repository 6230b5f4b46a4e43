"""Scripts of benchmarks/ as modules."""

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def environment():
    """What a script changes for itself, an environment of one thread say, ends with its test."""
    before, threads = dict(os.environ), torch.get_num_threads()
    yield
    os.environ.clear()
    os.environ.update(before)
    torch.set_num_threads(threads)


@pytest.fixture
def script(monkeypatch):
    """A function that imports a script of benchmarks/ by its name."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return import_module
