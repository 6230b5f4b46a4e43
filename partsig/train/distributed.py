"""Devices and processes: every torch.distributed call of partsig is in this file."""

import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from partsig.errors import ConfigError, PartsigError

# How long a process waits for the others: the main one may judge a model for hours meanwhile. The
# launcher stops all of them when one has died.
PATIENCE = timedelta(days=7)
# Where the processes of one machine meet: a file in a folder of mode 700. What they read there they
# unpickle, so nobody but this user may write it; a port could be reached by anybody.
MEETING = "PARTSIG_MEETING"


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's place: ``rank`` of ``size`` processes, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0


def pick_device(device: str) -> torch.device:
    """Return the device of this name; ``auto`` is the GPU if there is one.

    >>> pick_device("cpu").type
    'cpu'
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device {device!r}: it can be auto, cpu, cuda or cuda:N.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: {torch.cuda.device_count()} GPUs are visible here.")
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device!r}: it can be auto, cpu, cuda or cuda:N.")
    return chosen


def count_processes(gpus: str, cpu_processes: int) -> tuple[str, int]:
    """Return the device type and the number of processes asked for by ``--gpus`` and its peer.

    ``gpus`` is ``auto`` (those visible, else the CPU) or a number, 0 for the CPU. Raises
    ConfigError when more GPUs are asked for than are visible.
    """
    visible = torch.cuda.device_count()
    if cpu_processes < 1:
        raise ConfigError(f"--cpu-processes is {cpu_processes}; it must be at least 1.")
    if gpus == "auto":
        wanted = visible if cpu_processes == 1 else 0
    elif gpus.isdigit():
        wanted = int(gpus)
    else:
        raise ConfigError(f"--gpus is {gpus!r}; it can be auto or a number, 0 for the CPU.")
    if wanted > visible:
        raise ConfigError(
            f"--gpus {wanted}, but {visible} are visible here (torch.cuda.device_count()); pass "
            f"--gpus {visible}, or --gpus auto."
        )
    if wanted and cpu_processes > 1:
        raise ConfigError("--gpus and --cpu-processes exclude each other; pass --gpus 0.")
    return ("cuda", wanted) if wanted else ("cpu", cpu_processes)


def choose(device: str, gpus: str | None, cpu_processes: int) -> tuple[str, int]:
    """Return the device, or its type, and how many processes are meant by all three options.

    ``device`` alone names that of a single process. Raises ConfigError where several are asked for
    as well, and what :func:`count_processes` and :func:`pick_device` raise.
    """
    if gpus is None and cpu_processes == 1 and not inside():
        return str(pick_device(device)), 1
    if device != "auto":
        raise ConfigError(
            f"--device {device} is for one process; leave it out with --gpus and --cpu-processes."
        )
    return count_processes("auto" if gpus is None else gpus, cpu_processes)


def inside() -> bool:
    """Tell whether a launcher (ours or torchrun) has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 0


def launch(work: Callable, arguments: tuple, processes: int) -> None:
    """Run ``work(*arguments)`` in ``processes`` processes through torch's elastic launcher.

    They meet in a file that this user alone can reach, and talk over the loopback interface. When a
    worker dies the others are stopped; a signal that asks
    this process to stop is passed on, and it leaves with 128 + its number. A PartsigError of a
    worker is raised here with its sentence; anything else as RuntimeError with the worker's
    traceback.
    """
    with tempfile.TemporaryDirectory(prefix="partsig-") as folder, _within(Path(folder)):
        said = Path(folder) / "error"
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_configs={"store_type": "file"},
            rdzv_endpoint=str(Path(folder) / "launcher"),
            run_id=secrets.token_hex(16),
            max_restarts=0,
            monitor_interval=0.2,
        )
        try:
            elastic_launch(settings, _guarded)(work, arguments, said)
        except SignalException as stopped:
            # The workers were sent the signal too, and have written their checkpoint.
            raise SystemExit(128 + stopped.sigval) from None
        except ChildFailedError as error:
            if said.is_file():
                raise PartsigError(said.read_text(encoding="utf-8")) from None
            raise RuntimeError(f"a worker process failed:\n{error}") from error


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    """Keep all that launched processes say to each other on this machine, their meeting in a file.

    Sets environment variables, which the processes take over: the folder they meet in; that torch's
    launcher opens no port of its own; and the loopback interface, for Gloo and NCCL.
    """
    given = {MEETING: str(folder / "group"), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if loopback else ():
        given[key] = loopback[0]
    before = {key: os.environ.get(key) for key in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


@record
def _guarded(work: Callable, arguments: tuple, said: Path) -> None:
    try:
        work(*arguments)
    except PartsigError as error:
        said.write_text(str(error), encoding="utf-8")
        raise
    finally:
        stop()


def start(device_type: str) -> World:
    """Join the processes this one was launched with, if any, and return its place."""
    if not inside():
        return World(rank=0, size=1, device=torch.device(device_type))
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device(device_type, local) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        where: dict = {"timeout": PATIENCE}
        if MEETING in os.environ:  # of torchrun's processes, its own variables say where they meet
            store = dist.FileStore(os.environ[MEETING], size)
            where |= {"store": store, "rank": rank, "world_size": size}
        # Told its device, NCCL need not guess it at the first barrier.
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device, **where)
        else:
            dist.init_process_group("gloo", **where)
    return World(rank=dist.get_rank(), size=dist.get_world_size(), device=device)


def stop() -> None:
    """Leave the group of processes, if this one is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(model: nn.Module, world: World) -> nn.Module:
    """Return ``model``, averaging gradients over the processes when there are several."""
    if world.size == 1:
        return model
    return DistributedDataParallel(
        model, device_ids=[world.device] if world.device.type == "cuda" else None
    )


def mean(values: Tensor, world: World) -> Tensor:
    """Return the mean of a tensor over the processes."""
    if world.size > 1:
        dist.all_reduce(values)
        values /= world.size
    return values


def gathered(rows: Tensor, world: World) -> Tensor:
    """Return the rows (B, …) of all processes, as many of each, in the order of their ranks."""
    if world.size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world.size)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def wait(world: World) -> None:
    """Return when every process has come here."""
    if world.size > 1:
        dist.barrier()


def agree(flag: int, world: World) -> int:
    """Return the largest flag of all processes, so that they stop together."""
    if world.size == 1:
        return flag
    value = torch.tensor(flag, device=world.device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)
