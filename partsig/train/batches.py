"""Batches made ahead of the steps that need them: in a thread, or in processes of their own."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from partsig.contracts import Batch
from partsig.errors import PartsigError
from partsig.train.job import STOPPING, TrainingJob

# Processes that make batches, where nothing is said: above these the GPU has long been the limit.
MOST_WORKERS = 16
# Where processes hand batches over on Linux; in containers often 64 MB.
SHARED = Path("/dev/shm")


def make_batches(job: TrainingJob, step: int) -> Iterator[Batch]:
    """Yield the batches from ``step`` on, the next one being cut while this one is used."""
    device = job.world.device

    def placed(batch: Batch) -> Batch:
        if device.type == "cuda":
            return batch.pin_memory().to(device, non_blocking=True)
        return batch

    def ready(at: int) -> Batch:
        return placed(job.batch_at(at))

    if job.prefetch == "never":
        yield from (job.batch_at(at) for at in range(step, job.total))
        return
    if job.prefetch == "processes":
        if step < job.total:
            yield from map(placed, _worker_batches(job, step))
        return
    # A thread begins on the first GPU, and would pin memory for that one.
    own = (torch.cuda.set_device, (device,)) if device.index is not None else (None, ())
    with ThreadPoolExecutor(1, "partsig-batches", *own) as pool:
        ahead = pool.submit(ready, step) if step < job.total else None
        while ahead is not None:
            batch = ahead.result()
            step += 1
            ahead = pool.submit(ready, step) if step < job.total else None
            yield batch


def _worker_batches(job: TrainingJob, step: int) -> Iterator[Batch]:
    """Yield CPU batches from ``step`` on, made by processes of their own, two ahead of each."""
    source = iter(
        DataLoader(
            _Numbered(job.batch_at),
            batch_size=None,
            sampler=range(step, job.total),
            num_workers=_workers(job, job.batch_at(step).nbytes),
            collate_fn=_identity,
            pin_memory=job.world.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_loop,
            generator=torch.Generator(),  # its seed is not to be drawn from the training's
        )
    )
    try:
        for batch in source:
            if isinstance(batch, PartsigError):
                raise batch
            yield batch
    except ConnectionError:  # it ended while it handed a batch over
        raise RuntimeError("DataLoader worker ended") from None
    finally:
        # Not left to the garbage collection: a traceback may hold the iterator, and its processes
        # would then be waited for when Python ends.
        getattr(source, "_shutdown_workers", lambda: None)()


def _leave_signals_to_the_loop(_worker: int) -> None:
    """A signal to the whole group stops the loop, which then ends its workers."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class _Numbered(Dataset):
    """Batches by their step, as a process is asked for them."""

    def __init__(self, batch_at: Callable[[int], Batch]) -> None:
        self.batch_at = batch_at

    def __getitem__(self, step: int) -> Batch | PartsigError:
        try:
            return self.batch_at(step)
        except PartsigError as error:  # handed over: raised there, it would come with a traceback
            return error


def _identity(batch: Batch | PartsigError) -> Batch | PartsigError:
    return batch


def _workers(job: TrainingJob, nbytes: int) -> int:
    """Return how many processes make batches of so many bytes, where nothing is said.

    One on the CPU, whose cores train; on a GPU as many as there are cores to spare and room in the
    shared memory that hands batches over.
    """
    if multiprocessing.current_process().daemon:  # such a one may have no children
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if job.config.workers >= 0:
        return min(job.config.workers, cores)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", job.world.size))  # processes that train here
    most = min(cores // beside - 1, MOST_WORKERS if job.world.device.type == "cuda" else 1)
    if SHARED.is_dir():
        most = min(most, int(shutil.disk_usage(SHARED).free / 2 / beside // (3 * nbytes)))
    return max(most, 0)
