"""Events that people marked in signals (spindles, K-complexes), and the label of each moment.

So that parts found in EEG can be judged: a token, a short stretch of constant length, has the
number of the kind of event that it lies in, and 0 where it lies in none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.errors import DataError
from partsig.text import quoted

MOST_BYTES = 2**22  # of a list of events: some hundred lines
# What stands above the events of DREAMS: who, what, and on which channel.
DREAMS_HEADER = re.compile(r"\[([A-Za-z]+\d*)_([A-Za-z]+)/([^\]]{1,40})\]")
# Share of the shorter of token and event that must lie in the other.
LEAST_OVERLAP = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredEvents:
    """Events of one kind in a recording, as one person or program marked them.

    ``onset`` and ``duration`` (n,) float64 are in seconds from the recording's beginning;
    ``source`` is the data set, ``scorer`` who marked them, ``channel`` where, "" where that is not
    told.
    """

    kind: str
    onset: np.ndarray
    duration: np.ndarray
    source: str = ""
    scorer: str = ""
    channel: str = ""

    def __len__(self) -> int:
        return len(self.onset)

    def __post_init__(self) -> None:
        if self.onset.shape != self.duration.shape or self.onset.ndim != 1:
            raise DataError("events have as many onsets as durations.")
        told = np.concatenate([self.onset, self.duration])
        if not np.isfinite(told).all() or (told < 0).any():
            raise DataError("onsets and durations of events are 0 s or more.")


def read_dreams_events(file: Path) -> ScoredEvents:
    """Return the events of a file of DREAMS: a header in brackets, then onset and duration (s).

    ``[vis1_Spindles/C3-A1]`` is expert vis1, ``[Automatic_detection…]`` need not say a channel.
    Lines may have further columns. Raises DataError for anything else.

    Source: S. Devuyst, The DREAMS databases and assessment algorithm, doi 10.5281/zenodo.2650142.
    """
    data = read_bytes(file, MOST_BYTES, "list of events")
    lines = data.decode("latin-1").split("\n")
    header = lines[0].strip()
    if not (header.startswith("[") and header.endswith("]")):
        raise DataError(f"{file.name} begins with {quoted(header)}, not with a name in brackets.")
    told = DREAMS_HEADER.fullmatch(header)
    scorer, kind, channel = told.groups() if told else ("", header.strip("[]"), "")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words[:2]])
        except ValueError:
            raise DataError(f"{file.name}, line {number}: {quoted(line)} is no event.") from None
        if len(rows[-1]) < 2:
            raise DataError(f"{file.name}, line {number} has no duration.")
    onset, duration = np.array(rows, np.float64).reshape(-1, 2).T
    return ScoredEvents(
        kind=kind, onset=onset, duration=duration, source="DREAMS", scorer=scorer, channel=channel
    )


def token_labels(
    events: Sequence[ScoredEvents], kinds: Sequence[str], n_tokens: int, token_s: float
) -> np.ndarray:
    """Return the label (n_tokens,) int64 of tokens of ``token_s`` seconds from the beginning on.

    0 is no event, k + 1 the kind ``kinds[k]``; of kinds that overlap the later in ``kinds`` counts.
    A token belongs to an event that covers half of it, or of which half lies in the token.
    Raises DataError for events of another kind.

    >>> spindle = ScoredEvents(kind="spindle", onset=np.array([1.4]), duration=np.array([1.0]))
    >>> token_labels([spindle], ["spindle"], 4, 1.0).tolist()
    [0, 1, 0, 0]
    """
    labels = np.zeros(n_tokens, np.int64)
    for each in sorted(events, key=lambda one: _place(one.kind, kinds)):
        for onset, duration in zip(each.onset, each.duration, strict=True):
            first = int(onset / token_s)
            last = min(int(np.ceil((onset + duration) / token_s)), n_tokens)
            begin = np.arange(first, last) * token_s
            inside = np.minimum(begin + token_s, onset + duration) - np.maximum(begin, onset)
            least = LEAST_OVERLAP * min(token_s, duration) - 1e-9
            labels[first:last][inside >= least] = _place(each.kind, kinds) + 1
    return labels


def _place(kind: str, kinds: Sequence[str]) -> int:
    if kind not in kinds:
        raise DataError(f"events are of {quoted(kind)}; labels are of {', '.join(kinds)}.")
    return list(kinds).index(kind)
