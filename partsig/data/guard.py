"""The one place where what a foreign file makes its reader raise becomes a sentence on that file.

Readers raise DataError for the damage they know. A library, a plug-in or a defect raises anything:
that is no reason to lose the other recordings of a folder.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from partsig.errors import DataError, PartsigError
from partsig.text import shown

# Set to anything but "" or 0: where an unexpected error came from is printed, too.
TRACEBACK = "PARTSIG_TRACEBACK"
LONGEST_REASON = 200
# What is no file's doing: the user or the system ends the process, or a generator is closed.
NOT_OF_FILES = (KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Make a DataError of whatever is raised meanwhile but a PartsigError; ``name`` begins it.

    The sentence is bounded, escaped, and tells how to see where the error came from. The user's
    interruption passes.
    """
    try:
        yield
    except (PartsigError, *NOT_OF_FILES):
        raise
    except BaseException as error:  # noqa: BLE001  (MemoryError, and a library's own kinds)
        show_traceback(name, "".join(traceback.format_exception(error)))
        told = f"{shown(name)} cannot be read ({describe(error)}); {TRACEBACK}=1 shows where."
        # Not `from error`: a traceback holds the arrays of all its frames.
        raise DataError(told) from None


def describe(error: BaseException) -> str:
    """Return an exception in a few words: its kind and the first line of what it says.

    >>> describe(KeyError("DataOrientation"))
    "KeyError: 'DataOrientation'"
    """
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    try:
        lines = str(error).split("\n")
    except Exception:  # noqa: BLE001  (of a plug-in's own kind)
        lines = [""]
    first = shown(lines[0].strip().rstrip("."), LONGEST_REASON)
    kind = type(error).__name__
    return f"{kind}: {first}" if first else kind


def show_traceback(name: str, told: str) -> None:
    """Print where an unexpected error came from, if the user wants to see it."""
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        print(f"{shown(name)}:\n{shown(told, 20_000, keep=chr(10))}", file=sys.stderr)
