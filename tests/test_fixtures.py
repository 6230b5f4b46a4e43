"""What all tests rest on: one thread per process, and what is dear to make is made once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch


@pytest.mark.parametrize("library", ["OMP", "MKL", "OPENBLAS", "NUMEXPR"])
def test_a_process_and_those_it_starts_have_one_thread(library):
    assert os.environ[f"{library}_NUM_THREADS"] == "1"
    assert torch.get_num_threads() == 1


def test_what_many_ask_for_at_a_time_is_made_once(made_once, tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        time.sleep(0.1)
        (folder / "whole").write_text("yes")

    def ask(_number):
        return (made_once(f"{tmp_path.name}-once", make) / "whole").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == ["yes"] * 8
    assert len(made) == 1


def test_what_failed_is_made_anew(made_once, tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        made_once(f"{tmp_path.name}-anew", fail)
    found = made_once(f"{tmp_path.name}-anew", lambda folder: (folder / "whole").write_text("yes"))
    assert [path.name for path in found.iterdir()] == ["whole"]
