"""What a ``run.json`` may say: it may be somebody else's, and is not believed to be well formed."""

from collections.abc import Mapping
from pathlib import Path

from partsig.errors import CheckpointError
from partsig.files import read_json

TEXTS = ("kind", "state", "started", "finished", "store", "from", "modality", "task", "teacher")
NAMES = ("ch_names", "subjects_seen", "pretraining_subjects")
SECTIONS = ("config", "calibration", "labels", "pretraining")
NEVER_NONE = ("kind", "state", "store", "ch_names", "config", "environment", "split", "seed")
COUNTS = ("seed", "parameters", "n_epochs_train", "images_trained", "chosen_epoch")


class Facts(dict):
    """A ``run.json``; asked for what it does not tell, it says so in a sentence."""

    def __init__(self, facts: Mapping, file: Path) -> None:
        super().__init__(facts)
        self.file = file

    def __missing__(self, key: str) -> object:
        raise CheckpointError(f"{self.file} does not tell {key!r}: it is damaged.")


def read_facts(file: Path) -> Facts:
    """Return a ``run.json``; raise CheckpointError where it is damaged, or of other types.

    What it does not tell is not missed here: it may be of an older version.
    """
    try:
        found = read_json(file)
        if not isinstance(found, dict) or "kind" not in found:
            raise ValueError("it does not tell its kind")
        for key, value in found.items():
            if not (_fits(key, value) if value is not None else key not in NEVER_NONE):
                raise ValueError(f"{key} is no such thing: {str(value)[:60]!r}")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}).") from None
    return Facts(found, file)


def _fits(key: str, value: object) -> bool:
    """Tell whether a value is of the type that is meant by its key."""
    if key in TEXTS:
        return isinstance(value, str)
    if key in NAMES:
        return _are_names(value)
    if key in COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if key == "sfreq":
        return isinstance(value, int | float) and 0 < value <= 1e6
    if key == "split":
        return isinstance(value, dict) and all(map(_are_names, value.values()))
    if key == "environment":
        return isinstance(value, dict) and _are_names(list(value.values()))
    return key not in SECTIONS or isinstance(value, dict)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
