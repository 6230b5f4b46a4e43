"""Which of a store's labels a run may use: so many subjects, or so many recordings of a class."""

from partsig.data import splits
from partsig.data.signals.store import Store
from partsig.data.splits import SplitConfig
from partsig.errors import ConfigError


def draw_labels(
    store: Store, subjects: int, per_class: int | None, config: SplitConfig, seed: int
) -> tuple[dict[str, list[str]], list[str] | None]:
    """Return subjects by role, and the recordings to train on where they were drawn by class."""
    known = {"config": config, "roles": store.roles, "twins": store.twins}
    if per_class is None:
        return splits.split_finetuning(store.labelled_subjects, subjects, seed, **known), None
    split = splits.split_finetuning(store.labelled_subjects, 0, seed, **known)
    segments: dict[str, list[str]] = {name: [] for name in store.classes}
    for name in store.recordings_of(split["train"]):
        classes = store.classes_of(name)
        if len(classes) > 1:
            raise ConfigError(
                f"--segments-per-class needs recordings of one stage each; {name} has "
                f"{len(classes)}. Use --subjects."
            )
        for number in classes:
            segments[store.classes[number]].append(name)
    drawn = splits.draw_segments(segments, per_class, seed)
    used = {store.recordings[name]["subject"] for name in drawn}
    return split | {"train": sorted(used)}, drawn
