"""Channels that are missing, or others than an encoder's own: whose weights each of these takes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# What of an encoder's weights has a part for each channel, one after the other along axis 1.
BY_CHANNEL = ("embed.weight", "spectrum.weight")


def take_channels(
    weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor], taken: Sequence[int | None]
) -> dict[str, Tensor]:
    """Return an encoder's ``weights`` for other channels: ``taken`` tells whose each takes.

    ``fresh`` are those of an encoder on the new channels, as they were drawn: a channel that takes
    nobody's (None) keeps its part of them. Patches are as long as they were. A channel of the
    encoder that none takes is left out of its tokens' sum.

    >>> import torch
    >>> old, new = {"embed.weight": torch.tensor([[1.0, 2]])}, {"embed.weight": torch.zeros(1, 3)}
    >>> take_channels(old, new, (1, None, 0))["embed.weight"]
    tensor([[2., 0., 1.]])
    """
    found = dict(weights)
    for key in (key for key in BY_CHANNEL if key in weights):
        drawn = fresh[key].unflatten(1, (len(taken), -1)).clone()  # (E, C, samples or bins)
        known = weights[key].unflatten(1, (-1, drawn.shape[2]))
        for channel, theirs in enumerate(taken):
            if theirs is not None:
                drawn[:, channel] = known[:, theirs]
        found[key] = drawn.flatten(1)
    return found


def kept_channels(n: int, channels: int, chance: float, device: torch.device) -> Tensor:
    """Return which channels (n, C) bool of n windows are kept, each dropped by ``chance``.

    At least one of a window is: the one that was nearest to being kept. Drawn from torch's own
    generator.

    >>> kept_channels(1000, 4, 0.9, torch.device("cpu")).any(1).all().item()
    True
    """
    drawn = torch.rand(n, channels, device=device)
    return (drawn >= chance) | (drawn == drawn.amax(1, keepdim=True))
