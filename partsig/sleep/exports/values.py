"""Values of a staging as texts, and as JSON can hold them."""

import math
import re
from collections.abc import Mapping

import numpy as np

from partsig.sleep.staging import Staging

# Decimals of probabilities: five of them still add up to 1 within 1e-5, which YASA asks for.
DECIMALS = 6


def ranks_of(staging: Staging) -> dict[int, tuple[int, str]]:
    """Return the place, from 1, and the reasons of the epochs to look at."""
    return {
        suspect.epoch: (rank, one_line("; ".join(suspect.reasons)))
        for rank, suspect in enumerate(staging.review, 1)
    }


def number(value: float) -> str:
    """Return a number to the millionth, without an exponent; "" for none.

    >>> number(31536000.000001), number(70.01000000000001), number(1e-5), number(math.nan)
    ('31536000.000001', '70.01', '0.00001', '')
    """
    return "" if math.isnan(value) else f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters."""
    return re.sub(r"[\x00-\x20\x7f]+", " ", text).strip()


def plain(value: object) -> object:
    """Return what JSON can hold: arrays as rounded lists, None for nan, else texts.

    >>> from pathlib import Path
    >>> plain({"a": np.array([0.5, np.nan]), 2: (Path("run"), np.int8(3))})
    {'a': [0.5, None], '2': ['run', 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return plain(value.astype(float).round(DECIMALS).tolist())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(held) for held in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
