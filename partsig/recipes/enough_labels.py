"""Whether labels suffice to learn from and to choose by, and what learns from them."""

from partsig import registries
from partsig.contracts import Examples
from partsig.errors import ConfigError
from partsig.modalities import registry
from partsig.runs.settings import FinetuneRecipe

# Validation items below which two models of one score are the rule: one item is five per cent.
LEAST_TO_CHOOSE_BY = 20


def learns_by_steps(settings: FinetuneRecipe, modality: str) -> bool:
    """Tell whether a network is trained step by step, not only a head on frozen features."""
    if settings.model != "encoder":
        return _learns_by(settings, modality) == "steps"
    return settings.train not in ("probe", "knn")


def _learns_by(settings: FinetuneRecipe, modality: str) -> str:
    """Return how a baseline learns, see Predictor."""
    return registries.at(registry.get(modality).baselines[settings.model]).learns_by


def too_weak(val: Examples) -> str | None:
    """Return why nothing can be chosen by these validation items; None where it can."""
    if len(val) < LEAST_TO_CHOOSE_BY:
        return f"it has {len(val)} {val.item}s, fewer than {LEAST_TO_CHOOSE_BY}"
    found = val.present()
    if len(found) == 1:
        return f"all its {len(val):,} {val.item}s are {val.classes[found[0]]}"
    return None


def check_classes(
    settings: FinetuneRecipe, modality: str, train: Examples, has_teacher: bool
) -> None:
    """Raise ConfigError where all labels to learn from are the same; a teacher may know others."""
    found = train.present()
    learns = settings.model == "encoder" or _learns_by(settings, modality) != "nothing"
    if len(found) < 2 and learns and not has_teacher:
        only = ", ".join(train.classes[k] for k in found)
        raise ConfigError(
            f"one class only among the training labels; nothing can be told apart: all are {only}. "
            "Take more of them, or others by another --seed."
        )
