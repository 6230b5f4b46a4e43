"""The one progress bar: drawn often before people, seldom where it goes to a log file."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

# Seconds between two drawings.
ON_SCREEN_S, IN_LOG_S = 0.5, 30.0


def bar(
    items: Iterable | None = None,
    *,
    unit: str,
    desc: str,
    total: int | None = None,
    initial: int = 0,
    delay_s: float = 0.0,
    hidden: bool = False,
) -> tqdm:
    """Return a bar that goes over ``items``, or is moved by hand; a context manager, too.

    ``initial`` of the ``total`` are done already. Bytes (``unit`` "B") are told in powers of 1,000.
    Nothing is drawn in the first ``delay_s`` seconds, nor ever where it is ``hidden``.

    >>> list(bar("ab", unit="letter", desc="spell", hidden=True))
    ['a', 'b']
    """
    return tqdm(
        items,
        unit=unit,
        desc=desc,
        total=total,
        initial=initial,
        delay=delay_s,
        disable=hidden,
        unit_scale=unit == "B",
        mininterval=ON_SCREEN_S if sys.stderr.isatty() else IN_LOG_S,
    )
