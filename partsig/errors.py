"""The errors a user can cause, each one sentence: what was got, what is allowed, what to do.

The command line prints the sentence and leaves with code 2; anything else that is raised is a
defect of partsig and keeps its traceback (code 1).
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar

from partsig.text import LONGEST, shown


class PartsigError(Exception):
    """Something outside the code is at fault; the message says what to do.

    As text it is what may be shown: what a file holds cannot move a cursor, nor fill a screen.
    """

    longest: ClassVar[int] = 10 * LONGEST

    def __str__(self) -> str:
        return shown(super().__str__(), self.longest)


class ConfigError(PartsigError, ValueError):
    """A setting is unknown, of the wrong type, or out of range."""


class RangeError(ConfigError):
    """A number is out of range: below ``low`` (or at it, if it must be ``above``) or over ``high``.

    ``setting`` is the number's name.
    """

    def __init__(
        self,
        message: str,
        setting: str = "",
        low: float = float("-inf"),
        high: float = float("inf"),
        above: bool = False,
    ) -> None:
        super().__init__(message)
        self.setting, self.low, self.high, self.above = setting, low, high, above


class DataError(PartsigError):
    """A recording, a store or a folder is missing, damaged, or not what was asked for."""

    longest = LONGEST


class DiskFullError(DataError):
    """Nothing more can be written; what was finished is kept."""


class BusyError(DataError):
    """Another process is writing the same folder."""


class CheckpointError(PartsigError):
    """A checkpoint or run directory cannot be read or belongs to another configuration."""


def check_option(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ConfigError unless ``value`` is one of ``allowed``."""
    allowed = tuple(allowed)
    if value not in allowed:
        close = nearest(str(value), map(str, allowed))
        told = f"nearest is {close!r}; " if close else ""
        known = ", ".join(map(repr, allowed))
        raise ConfigError(f"{name} is {value!r}; {told}it can be {known}.")


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return which of some words is likely meant by a mistyped one; None where none is near.

    >>> nearest("evalute", ["pretrain", "evaluate"])
    'evaluate'
    """
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return close[0] if close else None


def check_jobs(jobs: int) -> None:
    """Raise ConfigError for a number of threads that is none."""
    if jobs == 0:
        raise ConfigError("--jobs is 0; it can be a number of threads, or -1 for one per core.")


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise RangeError unless ``low <= value <= high``; no number is endless."""
    endless = abs(value) == float("inf")
    if endless or not low <= value <= high:
        limit = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        limit += ", and finite" if endless else ""
        raise RangeError(f"{name} is {value!r}; it must be {limit}.", name, low, high)
