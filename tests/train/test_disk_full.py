"""A disk that is full while a run is written: one sentence, and the run goes on exactly.

The limit on a file's size stands for it: writers are told EFBIG as they would be ENOSPC.
"""

import resource
from contextlib import contextmanager

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from partsig.contracts import Batch
from partsig.errors import DiskFullError
from partsig.train import checkpoint, loop
from partsig.train.distributed import World
from partsig.train.job import TrainingJob
from partsig.train.journal import Journal, read_metrics
from partsig.train.settings import FitConfig, OptimConfig

pytestmark = pytest.mark.slow

STEPS = 4


@contextmanager
def files_up_to(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(300, 40)

    def forward(self, x, generator=None, share=None, progress=0.0):
        return {"loss": self.net(x + torch.randn(x.shape, generator=generator)).square().mean()}


def batch_at(step):
    return Batch(torch.randn(8, 300, generator=torch.Generator().manual_seed(step)))


def job(run, epochs=3):
    return TrainingJob(
        model=Model(),
        batch_at=batch_at,
        steps_per_epoch=STEPS,
        config=FitConfig(epochs=epochs, batch_size=8, log_every=1, checkpoint_minutes=0),
        optim=OptimConfig(lr=0.5, warmup_epochs=1),
        seed=3,
        run=run,
        kind="pretrain",
        identity={},
        world=World(rank=0, size=1, device=torch.device("cpu")),
        label="test",
        on_epoch=lambda epoch: {"val": float(epoch)},
        best="val",
    )


def test_a_checkpoint_that_cannot_be_saved_is_a_sentence(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"kind": "pretrain", "step": 1})
    content = {"kind": "pretrain", "step": 2, "model": {"w": torch.zeros(50_000)}}
    with files_up_to(8_000), pytest.raises(DiskFullError) as told:
        checkpoint.save(path, content)
    assert str(told.value) == (
        f"no space left while writing {path} (No space left on device): what was finished before "
        "is kept; free some space and run the same command again."
    )
    assert checkpoint.load(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_an_error_that_is_not_the_disks_is_left_as_it_is(tmp_path, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("another matter")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="another matter"):
        checkpoint.save(tmp_path / "c.pt", {})


def test_the_run_goes_on_exactly_afterwards(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    loop.fit(job(whole))
    limit, seen = 60_000, []

    def counted(step):
        seen.append(step)
        if len(seen) == 8:  # the run has got so far, then the disk is full
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return batch_at(step)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = job(run)
    object.__setattr__(full, "batch_at", counted)
    try:
        with pytest.raises(DiskFullError, match=r"no space left while writing .*\.pt "):
            loop.fit(full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    step = checkpoint.load(checkpoint.newest(run))["step"]
    assert 1 <= step < 3 * STEPS
    loop.fit(job(run))
    for name, value in checkpoint.load(checkpoint.newest(whole))["model"].items():
        assert torch.equal(value, checkpoint.load(checkpoint.newest(run))["model"][name])
    curves = [[(x["step"], x.get("loss")) for x in read_metrics(path)] for path in (whole, run)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(("key", "file"), [("v", "tensorboard/events"), ("v" * 100, "events|metr")])
def test_metrics_that_cannot_be_written_are_a_sentence(tmp_path, key, file):
    """Of metrics.jsonl, or of TensorBoard, whose events of short names are the longer ones."""
    journal = Journal(tmp_path, 0, 100, "test")

    def write():
        for step in range(1, 100):
            journal.write(step, 1, {f"{key}{number}": 0.5 for number in range(5)})

    with files_up_to(2_000), pytest.raises(DiskFullError, match=f"while writing .*({file})"):
        write()
    journal.close()
    lines = read_metrics(tmp_path)  # a line that was cut is none
    assert len(lines) >= 2
    again = Journal(tmp_path, lines[-1]["step"], 100, "test")
    again.write(lines[-1]["step"] + 1, 1, {"v0": 0.25})
    again.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, len(lines) + 2))


def test_tensorboard_reads_what_was_written_and_purges_what_comes_again(tmp_path):
    for first, last in ((0, 6), (4, 8)):
        journal = Journal(tmp_path, first, 8, "test")
        for step in range(first + 1, last + 1):
            journal.write(step, 1, {"loss": step + 0.5 * first})
        journal.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [
        *((step, float(step)) for step in range(1, 5)),
        *((step, step + 2.0) for step in range(5, 9)),
    ]
