"""Which labels a fine-tuning run may use: so many subjects, or so many short recordings a stage."""

from partsig.data.signals.recordings import STAGES
from partsig.data.signals.store import Store
from partsig.data.splits import SplitConfig, draw_segments, split_finetuning
from partsig.errors import ConfigError


def draw_labels(
    store: Store, subjects: int, per_class: int | None, seed: int, config: SplitConfig
) -> tuple[dict[str, list[str]], list[str] | None]:
    """Return the split by subject and, for a budget per class, the recordings that were drawn.

    Raises ConfigError when there are too few, and for a budget per class when a recording has
    several stages.
    """
    if per_class is None:
        return split_finetuning(store.labelled_subjects, subjects, seed, config, store.roles), None
    split = split_finetuning(store.labelled_subjects, 0, seed, config, store.roles)
    segments: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for name in store.recordings_of(split["train"]):
        stages = store.classes_of(name)
        if len(stages) > 1:
            raise ConfigError(
                f"--segments-per-class needs recordings of one stage each; {name} has "
                f"{len(stages)}. Use --subjects."
            )
        for stage in stages:
            segments[STAGES[stage]].append(name)
    drawn = draw_segments(segments, per_class, seed)
    used = {store.recordings[name]["subject"] for name in drawn}
    return split | {"train": sorted(used)}, drawn
