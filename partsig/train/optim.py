"""AdamW, warm-up and cosine; the learning rate follows the global batch."""

import math
from collections.abc import Callable

import torch
from torch import nn

from partsig.train.settings import OptimConfig

# PART's code scales the stated rate by global batch / 512 (MAE and DropPos: / 256).
REFERENCE_BATCH = 512


def learning_rate(
    step: int, steps_per_epoch: int, epochs: int, batch: int, config: OptimConfig
) -> float:
    """Return the rate of this step (from 0): linear to the peak, then half a cosine.

    >>> flat = OptimConfig(lr=1.0, min_lr=0.0, warmup_lr=0.0, warmup_epochs=1)
    >>> [round(learning_rate(s, 4, 3, 512, flat), 3) for s in (0, 2, 4, 8, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = config.warmup_epochs * steps_per_epoch
    total = epochs * steps_per_epoch
    if step < warmup:
        rate = config.warmup_lr + (config.lr - config.warmup_lr) * step / warmup
    else:
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        rate = config.min_lr + (config.lr - config.min_lr) * cosine
    return rate * batch / REFERENCE_BATCH


def make_optimizer(
    model: nn.Module, config: OptimConfig, distance: Callable[[str], int] | None = None
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters.

    Those of one axis or fewer are not decayed, nor a parameter called ``positions``. ``distance``
    tells how many layers lie above a parameter; every group has the ``scale`` of its learning rate
    that follows from it.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            above = distance(name) if distance and config.layer_decay < 1 else 0
            decays = parameter.ndim > 1 and name.rpartition(".")[2] != "positions"
            groups.setdefault((above, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "weight_decay": config.weight_decay if decays else 0.0,
                "scale": config.layer_decay**above,
            }
            for (above, decays), members in sorted(
                groups.items(), key=lambda item: (item[0][0], not item[0][1])
            )
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )
