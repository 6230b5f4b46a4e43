"""The classes of ImageNet's 50,000 validation images, which lie in one folder, from their list.

Two lists are in use: ``LOC_val_solution.csv`` names the class of every image; the development
kit's ``ILSVRC2012_validation_ground_truth.txt`` numbers the classes as its ``meta.mat`` does, which
is not the order of their names.

Source: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, and
devkit_t12/readme.txt.
"""

import csv
import io
import zlib
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

import numpy as np

from partsig.errors import DataError

SOLUTION = "LOC_val_solution.csv"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
DEVKIT = "meta.mat"


def validation_labels(names: Iterable[str], read: Callable[[str], bytes]) -> dict[str, str]:
    """Return {image name without suffix: class, such as n01440764}; empty where there is no list.

    ``names`` are all files, ``read`` returns the bytes of one. Raises DataError when a list is not
    what it should be, or the ground truth lies there without ``meta.mat``.
    """
    wanted = (SOLUTION, GROUND_TRUTH, DEVKIT)
    found = {PurePosixPath(name).name: name for name in names if name.endswith(wanted)}
    try:
        if SOLUTION in found:
            return _solution(read(found[SOLUTION]).decode())
        if GROUND_TRUTH not in found:
            return {}
        if DEVKIT not in found:
            raise DataError(
                f"{found[GROUND_TRUTH]} numbers the classes in the order of the development kit's "
                f"{DEVKIT}, which is not there: put it beside, or {SOLUTION}."
            )
        wnids = _wnids(read(found[DEVKIT]))
        numbers = [int(line) for line in read(found[GROUND_TRUTH]).split()]
        return {f"ILSVRC2012_val_{i:08d}": wnids[number] for i, number in enumerate(numbers, 1)}
    except (OSError, ValueError, KeyError, IndexError, TypeError, csv.Error, zlib.error) as error:
        raise DataError(
            f"ImageNet's validation list {' and '.join(found.values())} is damaged "
            f"({type(error).__name__}: {error}); fetch it again."
        ) from error


def _solution(text: str) -> dict[str, str]:
    """Return the classes of ``ImageId,PredictionString``: a class and a box, repeated."""
    return {
        row["ImageId"]: row["PredictionString"].split()[0]
        for row in csv.DictReader(io.StringIO(text))
    }


def _wnids(data: bytes) -> dict[int, str]:
    """Return {ILSVRC2012_ID: WNID} of ``meta.mat``'s struct array ``synsets``."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = np.ravel(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
    except MatReadError as error:
        raise ValueError(error) from error
    return {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets}
