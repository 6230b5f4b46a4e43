"""Random streams: every draw of partsig has a name here, and no two of them are one.

A draw is a function of its stream, a seed, and what is counted (a step, a pass, a process); these
are hashed together, name and number of counts first, so that no stream is another's and a step's
is not that of a run. ``run.json`` tells which :data:`VERSION` a run draws by.

Which subjects and recordings are labelled is drawn as partsig 0.1 did, for ever: by the same
``--seed`` every version gives the same labels, so that runs of all versions are paired by them.
What partsig 0.1 began goes on with its streams, see :class:`OldSeed`.
"""

import hashlib
from collections.abc import Callable
from enum import Enum

import numpy as np

VERSION = 2


class Stream(Enum):
    """What is drawn; counted by what stands in brackets."""

    # Training.
    PRETRAINED_WEIGHTS = "weights that pretraining begins with"
    ENCODER_WEIGHTS = "weights of an encoder that fine-tuning begins with"
    HEAD_WEIGHTS = "weights of what is put on an encoder"
    OBJECTIVE = "what an objective draws [step]"
    DROP_PATH = "what layers draw: drop path, mixing [step, process]"
    WINDOWS = "windows of signals [pass]"
    SILENCE = "channels of pretraining's windows that are silenced [pass]"
    IMAGES = "order of images that are pretrained on [pass]"
    ITEMS = "order of labelled items [pass]"
    BALANCED_ITEMS = "order of labelled items, classes alike [pass]"
    SHIFTS = "shifts of labelled epochs, and which have a teacher alone [step]"
    AUGMENTATION = "how an image is changed [pass, place, view if it is the second]"
    KNOWN_VIEWS = "how an item's known views are changed [item, view]"
    TREES = "what gradient boosting draws"
    MONITOR = "what an objective draws where it is measured [first window]"
    UNSEEN_WINDOWS = "windows of signals that are not trained on [pass]"
    UNSEEN_IMAGES = "order of images that are not trained on [pass]"
    # Labels.
    LABELLED_SUBJECTS = "subjects that are labelled, and those that validate"
    LABELLED_ITEMS = "recordings or images of a class that are labelled [class]"
    # What is measured and looked at.
    BOOTSTRAP = "units of a bootstrap"
    INSPECTION = "patches that are looked at"
    ODDITY = "patches by which odd signal is found"
    PART_BASELINES = "cells that baselines of part discovery fit, and how these begin [which]"
    MADE_NIGHTS = "excerpts that a made night consists of [night]"
    TRIAL = "inputs and draws of a trial that is no result"


class OldSeed(int):
    """The seed of a run that partsig 0.1 began: it draws by that version's streams."""


# How partsig 0.1 drew: the entropy of a seed sequence, or a seed itself.
_OLD: dict[Stream, Callable[..., list[int] | int]] = {
    Stream.PRETRAINED_WEIGHTS: lambda seed: [seed, 7],
    Stream.ENCODER_WEIGHTS: lambda seed: [seed, 9],
    Stream.HEAD_WEIGHTS: lambda seed: [seed, 8],
    Stream.OBJECTIVE: lambda seed, step: [seed, step, 0],
    Stream.DROP_PATH: lambda seed, step, process: [seed, step, 1 + process],
    Stream.WINDOWS: lambda seed, number: [seed, number, 30],
    Stream.ITEMS: lambda seed, number: [seed, number, 31],
    Stream.BALANCED_ITEMS: lambda seed, number: [seed, number, 32],
    Stream.SHIFTS: lambda seed, step: [seed, step, 33],
    Stream.IMAGES: lambda seed, number: [seed, number, 34],
    Stream.AUGMENTATION: lambda seed, number, place: [seed, number, place, 34],
    Stream.TREES: lambda seed: seed,
    Stream.MONITOR: lambda seed, first: first,
    Stream.UNSEEN_WINDOWS: lambda seed, number: [seed, number, 30],
    Stream.UNSEEN_IMAGES: lambda seed, number: [seed, number, 34],
    Stream.LABELLED_SUBJECTS: lambda seed: [seed, 2018],
    Stream.LABELLED_ITEMS: lambda seed, number: [seed, number, 2019],
}
FOR_EVER = {Stream.LABELLED_SUBJECTS, Stream.LABELLED_ITEMS}


def seed_of(stream: Stream, seed: int, *counts: int) -> int:
    """Return a 63-bit seed for a generator of torch's.

    >>> seed_of(Stream.OBJECTIVE, 0, 1) != seed_of(Stream.OBJECTIVE, 1, 0)
    True
    """
    old = _old(stream, seed, counts)
    if isinstance(old, int):
        return old
    if old is not None:
        return int(np.random.SeedSequence(old).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return _hashed(stream, seed, counts) >> 65


def rng_of(stream: Stream, seed: int, *counts: int) -> np.random.Generator:
    """Return a generator of NumPy's.

    >>> [rng_of(stream, 0).integers(100).item() for stream in (Stream.WINDOWS, Stream.ITEMS)]
    [83, 89]
    """
    old = _old(stream, seed, counts)
    return np.random.default_rng(_hashed(stream, seed, counts) if old is None else old)


def fixed(seed: int) -> int:
    """Return seed 0, for what is the same in all runs, by the streams of this seed's version."""
    return OldSeed(0) if isinstance(seed, OldSeed) else 0


def _old(stream: Stream, seed: int, counts: tuple[int, ...]) -> list[int] | int | None:
    """Return what partsig 0.1 drew by, where that is to be done."""
    if stream in FOR_EVER or (isinstance(seed, OldSeed) and stream in _OLD):
        return _OLD[stream](int(seed), *counts)
    return None


def _hashed(stream: Stream, seed: int, counts: tuple[int, ...]) -> int:
    """Return 128 bits that depend on everything."""
    told = "/".join([f"partsig {VERSION}", stream.name, *map(str, map(int, (seed, *counts)))])
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=16).digest())
