"""What the labels of a store are, as ``meta.json`` and ``run.json`` say it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

UNLABELLED = -1
PARTS_CUT = "parts"  # what a store of images says it holds, by ``cut``
IGNORED = 255  # in maps of labels: a place that has none, as in PASCAL VOC and ADE20K


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the labels of a store are: ``classes`` by number, each of ``unit_s`` seconds of signal.

    ``target`` says what is labelled: class, an item (``unit_s`` None: all of it); mask, each of its
    places. Then ``objects`` may name the kind of object that each class is a part of, or the class
    itself where it is of none. ``level`` says of what labels are: an object as a whole (a bird, the
    stage of an epoch), or a part of one (a wing, a spindle); labels are the same labels whether or
    not an older file tells it.
    """

    classes: tuple[str, ...]
    unit_s: float | None = None
    target: str = "class"
    level: Literal["object", "part"] = field(default="object", compare=False)
    objects: tuple[str, ...] = ()

    def as_facts(self) -> dict:
        """Return the labels as ``meta.json`` and ``run.json`` hold them."""
        facts = asdict(self) | {"classes": list(self.classes), "objects": list(self.objects)}
        if self.level == "object":
            del facts["level"]  # what is not told is of objects
        if not self.objects:
            del facts["objects"]
        return facts

    def count(self, codes: np.ndarray) -> dict[str, int]:
        """Return how often each class occurs, and ``unscored`` what has no label.

        >>> Labels(classes=("calm", "moving")).count(np.array([-1, 0, 0]))
        {'calm': 2, 'moving': 0, 'unscored': 1}
        """
        counts = np.bincount(np.asarray(codes, np.int64) + 1, minlength=len(self.classes) + 1)
        unscored, *others = counts.tolist()
        return dict(zip((*self.classes, "unscored"), (*others, unscored), strict=True))


def labels_of(facts: Mapping) -> Labels | None:
    """Return what the labels are by a ``meta.json`` or a ``run.json``; None if it is silent.

    Stores of partsig 0.1 say so by ``stages`` and ``epoch_s``, stores of images by ``classes``, and
    by ``cut``, where parts were cut out of them.
    """
    if "labels" in facts:
        told = facts["labels"]
        lists = {key: tuple(told.get(key, ())) for key in ("classes", "objects")}
        return Labels(**(told | lists))
    if "stages" in facts and "epoch_s" in facts:
        return Labels(classes=tuple(facts["stages"]), unit_s=float(facts["epoch_s"]))
    if "classes" not in facts:
        return None
    cut = facts.get("cut")
    of_parts = isinstance(cut, Mapping) and cut.get("cut") == PARTS_CUT
    return Labels(classes=tuple(facts["classes"]), level="part" if of_parts else "object")
