import json
import os
import stat
import threading
from pathlib import Path

import pytest
import torch

from partsig.errors import ConfigError, PartsigError
from partsig.train import distributed

pytestmark = pytest.mark.slow

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


def own_addresses() -> list[str]:
    """Return the local addresses, as the kernel writes them, of this process's TCP sockets."""
    own = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            own.add(os.readlink(link))
        except OSError:  # it was closed meanwhile
            continue
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]
    ]
    return [line[1].split(":")[0] for line in lines if f"socket:[{line[9]}]" in own]


def look_around(folder):
    world = distributed.start("cpu")
    distributed.mean(torch.ones(3), world)
    meeting = Path(os.environ[distributed.MEETING])
    found = {
        "addresses": own_addresses(),
        "mode": stat.S_IMODE(meeting.parent.stat().st_mode),
        "owner": meeting.stat().st_uid,
    }
    (folder / f"{world.rank}.json").write_text(json.dumps(found))
    distributed.wait(world)


@pytest.mark.skipif(not Path("/proc/self/net/tcp").is_file(), reason="Linux tells the sockets")
def test_processes_meet_in_a_folder_of_this_user_and_open_no_port_to_others(tmp_path):
    """What they are told at their meeting is unpickled: a stranger must not get to say it."""
    before, seen, over = set(own_addresses()), set(), threading.Event()

    def watch():
        while not over.wait(0.05):
            seen.update(own_addresses())

    watcher = threading.Thread(target=watch)
    watcher.start()
    distributed.launch(look_around, (tmp_path,), 2)
    over.set()
    watcher.join()
    assert seen <= before  # the launcher itself needs none
    assert distributed.MEETING not in os.environ
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert set(found["addresses"]) == {"0100007F"}  # 127.0.0.1
        assert (found["mode"], found["owner"]) == (0o700, os.getuid())


def test_two_processes_meet(tmp_path):
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
