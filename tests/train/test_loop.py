import json
import multiprocessing
import os
import signal
import threading

import pytest
import torch
from torch import nn

from partsig.contracts import Batch
from partsig.errors import CheckpointError, ConfigError, DataError
from partsig.train import checkpoint, loop
from partsig.train.distributed import World
from partsig.train.job import FitConfig, TrainingJob
from partsig.train.journal import Journal, read_metrics
from partsig.train.optim import OptimConfig

STEPS = 6


class Model(nn.Module):
    """A regression with noise drawn from the generator and dropout from torch's own state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, x, generator=None, share=None, progress=0.0):
        noise = torch.randn(x.shape, generator=generator)
        error = self.net(x + 0.1 * noise).squeeze(1) - x.sum(1)
        return {"loss": error.square().mean(), "size": torch.tensor(float(len(x)))}


def batch_at(step):
    generator = torch.Generator().manual_seed(step)
    return Batch(torch.randn(8, 3, generator=generator))


def job(run, model=None, batches=batch_at, **options):
    fit = FitConfig(epochs=4, batch_size=8, log_every=2, checkpoint_minutes=0)
    settings = {"config": fit, "on_epoch": None, "best": None} | options
    return TrainingJob(
        model=model or Model(),
        batch_at=batches,
        steps_per_epoch=STEPS,
        optim=OptimConfig(lr=0.5, warmup_epochs=1, clip=1.0),
        seed=3,
        run=run,
        kind="pretrain",
        identity={"subjects_seen": ["a"]},
        world=World(rank=0, size=1, device=torch.device("cpu")),
        label="test",
        **settings,
    )


def weights(run):
    return checkpoint.load(checkpoint.newest(run))["model"]


class Stop(Exception):
    pass


def test_loss_falls_and_metrics_are_means_over_the_steps_between_readings(tmp_path):
    seen = []

    class Watched(Model):
        def forward(self, x, **rest):
            values = super().forward(x, **rest)
            if len(x) == 8:  # not the two windows on which operations are counted
                seen.append(values["loss"].item())
            return values

    assert loop.fit(job(tmp_path, Watched())).step == 4 * STEPS
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(2, 25, 2))
    assert lines[2]["loss"] == pytest.approx((seen[4] + seen[5]) / 2, rel=1e-5)
    assert lines[2]["epoch"] == 1
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("at", [1, 7, 23])
def test_a_run_broken_off_anywhere_ends_with_the_same_weights(tmp_path, at):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    loop.fit(job(whole))

    def failing(step):
        if step >= at:
            raise Stop
        return batch_at(step)

    with pytest.raises(Stop):
        loop.fit(job(broken, batches=failing))
    loop.fit(job(broken))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(broken)[name]), name
    curves = [
        [(line["step"], line["loss"], line["lr"]) for line in read_metrics(run)]
        for run in (whole, broken)
    ]
    assert curves[0] == curves[1]


def still_job(run, at=None, share=0.5):
    """A job whose first layer stays as it is in the first half of its 24 steps."""

    def failing(step):
        if step == at:
            raise Stop
        return batch_at(step)

    model = Model()
    return job(run, model, failing, still=list(model.net[0].parameters()), still_share=share)


@pytest.mark.parametrize(("at", "moved"), [(3, False), (12, False), (14, True)])
def test_what_is_to_be_still_neither_moves_nor_decays_before_its_time(tmp_path, at, moved):
    with pytest.raises(Stop):
        loop.fit(still_job(tmp_path / "broken", at))
    found, before = weights(tmp_path / "broken"), Model().state_dict()
    for key in before:
        assert torch.equal(found[key], before[key]) == (key.startswith("net.0") and not moved)
    loop.fit(still_job(tmp_path / "broken"))
    loop.fit(still_job(tmp_path / "whole"))
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "broken")[name]), name


def test_what_is_still_throughout_never_moves(tmp_path):
    loop.fit(still_job(tmp_path, share=1.0))
    before = Model().state_dict()
    for key, value in weights(tmp_path).items():
        assert torch.equal(value, before[key]) == key.startswith("net.0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_leaves_a_checkpoint_and_the_run_continues(tmp_path, number):
    def signalled(step):
        if step == 9:
            os.kill(os.getpid(), number)
        return batch_at(step)

    before = signal.getsignal(number)
    fit = FitConfig(epochs=4, batch_size=8, checkpoint_minutes=60)
    with pytest.raises(SystemExit) as stopped:
        loop.fit(job(tmp_path, batches=signalled, config=fit))
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert 8 <= checkpoint.load(checkpoint.newest(tmp_path))["step"] <= 11
    loop.fit(job(tmp_path, config=fit))
    whole = tmp_path / "whole"
    loop.fit(job(whole, config=fit))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(tmp_path)[name])


def test_the_best_epoch_is_kept(tmp_path):
    model = Model()
    scores = {1: 0.2, 2: 0.9, 3: 0.9, 4: 0.1}
    copies = {}

    def choose(epoch):
        copies[epoch] = model.net[0].weight.detach().clone()
        return {"val": scores[epoch]}

    ended = loop.fit(job(tmp_path, model, on_epoch=choose, best="val"))
    assert ended.best == {"value": 0.9, "epoch": 3}
    best = checkpoint.load(tmp_path / "best.pt")
    assert torch.equal(best["model"]["net.0.weight"], copies[3])
    assert best["subjects_seen"] == ["a"]


@pytest.mark.parametrize(
    ("losses", "epoch"), [((1.4, 1.2, 1.3, 1.3), 2), ((1.4, 1.2, 1.2, 1.3), 3), ((1, 1, 1, 1), 4)]
)
@pytest.mark.parametrize("broken_at", [None, 20])
def test_of_equal_scores_the_lower_loss_is_kept_then_the_later_epoch(
    tmp_path, losses, epoch, broken_at
):
    def choose(number):
        return {"val": 0.0, "val_loss": float(losses[number - 1])}

    def failing(step):
        if step == broken_at:
            raise Stop
        return batch_at(step)

    options = {"on_epoch": choose, "best": "val", "ties": "val_loss"}
    if broken_at:
        with pytest.raises(Stop):
            loop.fit(job(tmp_path, batches=failing, **options))
    assert loop.fit(job(tmp_path, **options)).best == {"value": 0.0, "epoch": epoch}


def test_a_score_that_is_no_number_is_taken_from_nobody(tmp_path):
    scores = {1: float("nan"), 2: 0.1, 3: float("nan"), 4: 0.05}
    ended = loop.fit(job(tmp_path, on_epoch=lambda epoch: {"val": scores[epoch]}, best="val"))
    assert ended.best == {"value": 0.1, "epoch": 2}


@pytest.mark.parametrize("lost", ["gone", "of an earlier epoch"])
def test_chosen_weights_that_are_lost_are_made_again(tmp_path, lost):
    scores = {1: 0.2, 2: 0.9, 3: 0.3, 4: 0.1}
    kept = {}

    def choose(epoch):
        if epoch == 2:
            kept["first"] = (tmp_path / "best.pt").read_bytes()
        return {"val": scores[epoch]}

    loop.fit(job(tmp_path, on_epoch=choose, best="val"))
    whole = checkpoint.load(tmp_path / "best.pt")["model"]
    if lost == "gone":
        (tmp_path / "best.pt").unlink()
    else:
        (tmp_path / "best.pt").write_bytes(kept["first"])
    ended = loop.fit(job(tmp_path, on_epoch=choose, best="val"))
    assert ended.best == {"value": 0.9, "epoch": 2}
    again = checkpoint.load(tmp_path / "best.pt")["model"]
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert checkpoint.load(checkpoint.newest(tmp_path))["step"] == 4 * STEPS


def test_a_checkpoint_beyond_the_end_is_refused(tmp_path):
    loop.fit(job(tmp_path))
    short = FitConfig(epochs=3, batch_size=8)
    with pytest.raises(CheckpointError, match=r"does not fit .*it is of step 24 of 18"):
        loop.fit(job(tmp_path, config=short))


def test_a_loss_that_is_not_finite_stops_with_the_steps(tmp_path):
    def broken(step):
        return Batch(batch_at(step).inputs * (float("nan") if step == 8 else 1.0))

    with pytest.raises(
        DataError, match=r"the loss became nan at step 9: batch 8 is odd. Lower optim.lr"
    ):
        loop.fit(
            job(tmp_path, batches=broken, describe_batch=lambda step: f": batch {step} is odd")
        )
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_an_unreadable_checkpoint_is_an_error_never_a_restart(tmp_path):
    loop.fit(job(tmp_path))
    path = checkpoint.newest(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"step-000000024\.pt cannot be read .* damaged"):
        loop.fit(job(tmp_path))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    loop.fit(job(tmp_path))
    other = Model()
    other.net = nn.Linear(3, 1)
    with pytest.raises(CheckpointError, match="does not fit this configuration"):
        loop.fit(job(tmp_path, other))


def test_checkpoints_of_another_format_or_kind_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.load(path)
    torch.save({"format": 0}, path)
    with pytest.raises(CheckpointError, match="format 0; this partsig reads format 1"):
        checkpoint.load(path)
    checkpoint.save(path, {"kind": "pretrain"})
    with pytest.raises(CheckpointError, match="is a pretrain checkpoint, not of finetune"):
        checkpoint.load(path, "finetune")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    torch.save({"format": 1, "harm": threading.Event}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)


def test_the_journal_forgets_what_a_resume_will_repeat(tmp_path):
    journal = Journal(tmp_path, 0, 10, "test")
    for step in (2, 4, 6):
        journal.write(step, 0, {"loss": 1.0 / step})
    journal.close()
    with open(tmp_path / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 8, "lo')  # a line cut by a kill
    Journal(tmp_path, 4, 10, "test").close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_the_newest_checkpoints_are_kept(tmp_path):
    fit = FitConfig(epochs=4, batch_size=8, checkpoint_minutes=0, keep=3)
    loop.fit(job(tmp_path, config=fit))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"step-{step:09d}.pt" for step in (22, 23, 24)]


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulated_parts_give_the_whole_batchs_gradient(tmp_path, parts):
    class Sure(Model):
        """Without dropout, so that parts can equal the whole."""

        def __init__(self):
            super().__init__()
            self.net[1] = nn.Identity()

        def forward(self, x, generator=None, share=None, progress=0.0):
            first, total = share or (0, len(x))
            noise = torch.randn(total, 3, generator=generator)[first : first + len(x)]
            return {"loss": (self.net(x + noise).squeeze(1) - x.sum(1)).square().mean()}

    for name, accumulate in (("whole", 1), ("parts", parts)):
        fit = FitConfig(epochs=2, batch_size=8, accumulate=accumulate)
        loop.fit(job(tmp_path / name, Sure(), config=fit))
    ours, whole = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    for name, value in whole.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_validation_comes_every_so_many_epochs_and_at_the_end(tmp_path):
    seen = []

    def measure(epoch):
        seen.append(epoch)
        return {"score": float(-epoch)}

    fit = FitConfig(epochs=5, batch_size=8, log_every=2, validate_every=2)
    state = loop.fit(job(tmp_path, config=fit, on_epoch=measure, best="score"))
    assert seen == [2, 4, 5]
    assert state.best == {"value": -2.0, "epoch": 2}


def test_a_run_of_a_version_that_measured_something_else_goes_on(tmp_path):
    class Older(Model):
        def forward(self, *given, **more):
            return {"loss": super().forward(*given, **more)["loss"]}

    def stop(step):
        if step == 7:
            raise Stop
        return batch_at(step)

    fit = FitConfig(epochs=4, batch_size=8, log_every=100, checkpoint_minutes=0)
    with pytest.raises(Stop):
        loop.fit(job(tmp_path, Older(), stop, config=fit))
    assert checkpoint.load(checkpoint.newest(tmp_path))["keys"] == ["loss"]
    loop.fit(job(tmp_path, config=fit))
    assert "size" in [line for line in read_metrics(tmp_path) if "loss" in line][-1]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_of_other_processes_change_nothing(workers, tmp_path):
    """Dropout and noise included: the processes draw nothing from the training's generators."""
    loop.fit(job(tmp_path / "a"))
    fit = FitConfig(epochs=4, batch_size=8, log_every=2, checkpoint_minutes=0, workers=workers)
    loop.fit(job(tmp_path / "b", config=fit, prefetch="processes"))
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)


def broken(step):
    if step == 5:
        raise DataError("the disk is gone.")
    return batch_at(step)


def test_an_error_in_a_process_that_makes_batches_is_the_loops(tmp_path):
    with pytest.raises(DataError, match=r"^the disk is gone\.$"):
        loop.fit(job(tmp_path, batches=broken, prefetch="processes"))
    assert not multiprocessing.active_children()


def lost(step):
    if multiprocessing.parent_process() is not None and step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch_at(step)


# torch raises it in a signal handler, which may come upon Python in a finaliser: there it is only
# noted, and the connection that is gone tells the same.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_process_that_makes_batches_and_is_lost_is_told_in_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"was lost, .* run the same command again"):
        loop.fit(job(tmp_path, batches=lost, prefetch="processes"))
    assert not multiprocessing.active_children()


def test_a_batch_that_does_not_fit_the_memory_is_told_in_a_sentence(tmp_path):
    class Large(Model):
        def forward(self, x, **rest):
            if len(x) == 8:  # not the two windows on which operations are counted
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return super().forward(x, **rest)

    with pytest.raises(ConfigError, match=r"a batch of 8 windows: raise fit.accumulate \(now 1\)"):
        loop.fit(job(tmp_path, Large()))


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("measure", r"measuring the model after epoch 1: end other programs that use it, or take"),
        ("batch", r"putting a batch of 8 windows there: lower fit\.batch_size, or end other"),
        ("model", r"the model and its optimiser: end other programs that use it, or make"),
    ],
)
def test_memory_that_ends_outside_a_step_is_not_put_down_to_the_batch(tmp_path, where, told):
    """Working a batch through in parts helps a step alone."""

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    model, given = Model(), {}
    if where == "measure":
        given = {"on_epoch": full}
    elif where == "batch":
        given = {"batches": lambda step: full() if step == 1 else batch_at(step)}
    else:
        model.to = full
    with pytest.raises(ConfigError, match=f"^the memory of cpu does not suffice for {told}") as c:
        loop.fit(job(tmp_path, model, **given))
    assert "accumulate" not in str(c.value)


def test_the_average_of_the_weights_is_what_is_measured_and_kept(tmp_path):
    """Against a plain loop over the same weights; and a broken-off run keeps its average."""
    decay, seen, wanted = 0.8, [], []
    fit = FitConfig(epochs=2, batch_size=8, log_every=2, average=decay, checkpoint_minutes=0)
    model = Model()
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    taken = 0

    def batches(step):
        nonlocal taken
        if step > 0:  # the weights as step number ``step`` finds them, after ``step`` updates
            share = min(decay, taken / (taken + 10))
            taken += 1
            for name, p in model.named_parameters():
                kept[name] = share * kept[name] + (1 - share) * p.detach()
        return batch_at(step)

    def measure(epoch):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return {"score": float(epoch)}

    task = job(
        tmp_path / "a", model, batches, config=fit, on_epoch=measure, best="score", prefetch="never"
    )
    loop.fit(task)
    batches(2 * STEPS)  # the last update
    wanted = kept
    for name, value in wanted.items():
        torch.testing.assert_close(seen[-1][name], value, rtol=1e-5, atol=1e-6)
    best = checkpoint.load(tmp_path / "a" / "best.pt")["model"]
    assert all(torch.equal(best[name], seen[-1][name]) for name in wanted)
    assert any(not torch.equal(p, best[name]) for name, p in model.named_parameters())
    content = checkpoint.load(checkpoint.newest(tmp_path / "a"))
    assert all(torch.equal(content["average"][name], best[name]) for name in wanted)
