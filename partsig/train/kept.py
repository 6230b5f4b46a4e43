"""What a training run keeps of itself: its state, and the best epoch; and going on from there."""

import math

import torch
from torch import nn

from partsig.errors import CheckpointError
from partsig.train import checkpoint
from partsig.train.job import State, TrainingJob
from partsig.train.step import Average

BEST = "best.pt"


def at_least(value: float, loss: float | None, before: float, tie: float | None) -> bool:
    """Tell whether an epoch's score is taken in place of the best ``before``, of loss ``tie``.

    Of equal scores the lower loss is taken, of equal losses the later epoch.

    >>> at_least(0.0, 1.2, 0.0, 1.4), at_least(0.0, 1.2, 0.0, 1.2), at_least(0.5, 1.2, 0.6, 1.4)
    (True, True, False)
    """

    def known(number: float | None) -> float:
        return -math.inf if number is None or math.isnan(number) else number

    return (known(value), known(loss and -loss)) >= (known(before), known(tie and -tie))


def save(
    job: TrainingJob,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    average: Average | None,
) -> None:
    content = {
        "kind": job.kind,
        **job.identity,
        "step": state.step,
        "best": state.best,
        "tie": state.tie,
        "keys": list(state.keys),
        "held": state.held,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if average:
        content["average"] = average.weights
    checkpoint.save(checkpoint.path_of(job.run, state.step), content)
    checkpoint.prune(job.run, job.config.keep, state.step)


def resume(
    job: TrainingJob, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> State:
    """Load the run's newest checkpoint, if there is one; an unreadable one is always an error.

    One whose best epoch is no longer kept is passed over: the chosen weights would be lost.
    """
    for path in checkpoint.newest_first(job.run):
        content = checkpoint.load(path, job.kind)
        try:
            if content["step"] > job.total:
                raise ValueError(f"it is of step {content['step']:,} of {job.total:,}")
            kept, best = _best_kept(job, content)
            if not kept:
                continue
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            if average:
                average.load(content["average"])
            held = [scalars.to(job.world.device) for scalars in content["held"]]
            tie = None if best is None else content.get("tie")
            return State(content["step"], best, tuple(content["keys"]), held, tie)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} does not fit this configuration ({reason}).") from None
    return State()


def _best_kept(job: TrainingJob, content: dict) -> tuple[bool, dict | None]:
    """Tell whether one can go on from a checkpoint, and from which best epoch.

    ``best.pt`` may be of a later epoch than the checkpoint (the run was killed after it): that
    epoch comes again, and beats all before it again.
    """
    best, file = content["best"], job.run / BEST
    if job.best is None or best is None:
        return True, best
    if not file.is_file():
        return False, None
    theirs = checkpoint.load(file, job.kind)["best"]
    if theirs["epoch"] * job.steps_per_epoch > content["step"]:
        return True, None
    return (theirs["epoch"], repr(theirs["value"])) == (best["epoch"], repr(best["value"])), best
