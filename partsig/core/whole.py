"""Rows of a whole batch, for a loss that is no mean over its windows: negatives, a norm over all.

A batch may be divided among processes, and worked through in parts. An objective whose loss of one
window depends on the others' has an attribute ``gather``, here :func:`alone`; whoever divides a
batch puts a function of his own there for the while, which returns the rows of all windows for
those of some. The loss is then the batch's own, however it is divided, if it has its gradient
through nothing but what was gathered, or is a mean over windows.
"""

from collections.abc import Callable

from torch import Tensor

Gather = Callable[[Tensor], Tensor]


def alone(rows: Tensor) -> Tensor:
    """Return the rows (B, …) of a batch that is not divided: these are all."""
    return rows


def mean_where(values: Tensor, chosen: Tensor, of_all: Tensor) -> Tensor:
    """Return the mean of the ``chosen`` values (B, P), 0 where there are none.

    They are divided by as many as there are ``of_all`` the batch (total, P), times this part's
    share of it: so the parts' means average to the batch's.
    """
    count = of_all.sum().clamp(min=1) * (len(values) / len(of_all))
    return (values * chosen).sum() / count
