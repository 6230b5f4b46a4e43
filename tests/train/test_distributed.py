import json

import pytest
import torch

from partsig.errors import ConfigError, PartsigError
from partsig.train import distributed

VISIBLE = torch.cuda.device_count()


def test_processes_asked_for():
    assert distributed.count_processes("0", 1) == ("cpu", 1)
    assert distributed.count_processes("0", 3) == ("cpu", 3)
    expected = ("cuda", VISIBLE) if VISIBLE else ("cpu", 1)
    assert distributed.count_processes("auto", 1) == expected


@pytest.mark.parametrize(
    ("gpus", "cpus", "message"),
    [
        (str(VISIBLE + 4), 1, f"--gpus {VISIBLE + 4}, but {VISIBLE} are visible here"),
        ("many", 1, "--gpus is 'many'; it can be auto or a number, 0 for the CPU"),
        ("0", 0, "--cpu-processes is 0; it must be at least 1"),
    ],
)
def test_impossible_processes_are_refused(gpus, cpus, message):
    with pytest.raises(ConfigError, match=message):
        distributed.count_processes(gpus, cpus)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(ConfigError, match=f"--device .*{device}"):
        distributed.pick_device(device)


def work(folder):
    world = distributed.start("cpu")
    total = distributed.mean(torch.tensor([float(world.rank)]), world).item()
    agreed = distributed.agree(world.rank * 7, world)
    found = {"size": world.size, "mean": total, "agreed": agreed}
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


def fail(message):
    world = distributed.start("cpu")
    if world.rank == 1:
        raise PartsigError(message)
    distributed.wait(world)


def crash(_folder):
    if distributed.start("cpu").rank == 1:
        raise ZeroDivisionError("only in one worker")


def test_two_processes_meet_on_a_free_port(tmp_path):
    distributed.launch(work, (tmp_path,), 2)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"size": 2, "mean": 0.5, "agreed": 7}


def test_a_workers_error_reaches_the_user_as_its_sentence():
    with pytest.raises(PartsigError, match=r"^this is wrong$"):
        distributed.launch(fail, ("this is wrong",), 2)


def test_a_workers_crash_brings_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)a worker process failed.*only in one worker"):
        distributed.launch(crash, (tmp_path,), 2)
