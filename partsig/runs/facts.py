"""What a ``run.json`` may say: it may be somebody else's, and is not believed to be well formed."""

from pathlib import Path

from partsig.errors import CheckpointError
from partsig.files import read_json
from partsig.schema import (
    FILTER,
    LABELS,
    Schema,
    Told,
    count,
    each,
    fault_of,
    fault_of_labels,
    maybe,
    number,
    numbers,
    one_of,
    section,
    text,
    texts,
)

SIZES: Schema = {role: count() for role in ("train", "val", "test")}
# Read as settings are; what is asked without that is here.
CONFIG: Schema = {
    "model": text,
    "train": text,
    "positions": text,
    "blocks": count(0, 10_000),
    "encoder": section,
    "loss": section,
}
CALIBRATION: Schema = {
    "prior": numbers,
    "review_by": one_of("confidence", "context"),
    "finds_errors": each(maybe(number(-1e-9, 1))),
    "n_epochs": count(),
    **dict.fromkeys(("ece", "ece_before"), maybe(number(-1e-9, 1))),
    **dict.fromkeys(("log_loss", "log_loss_before"), maybe(number(-1e-9, 1e9))),
}
RUN: Schema = {
    **dict.fromkeys(("kind", "state", "store"), text),
    **dict.fromkeys(("started", "finished", "from", "modality", "task", "teacher"), maybe(text)),
    "epoch_features": maybe(text),
    **dict.fromkeys(("provenance", "index_sha256", "weights_sha256", "like"), maybe(text)),
    "ch_names": texts,
    **dict.fromkeys(("subjects_seen", "subjects_trained", "pretraining_subjects"), texts),
    **dict.fromkeys(("subjects_held_out", "recordings"), maybe(texts)),
    "sfreq": number(0, 1e6),
    "seed": count(),
    **dict.fromkeys(("parameters", "n_epochs_train", "n_epochs_val", "subjects"), maybe(count())),
    **dict.fromkeys(("images_trained", "images_per_class", "chosen_epoch"), maybe(count())),
    **dict.fromkeys(("segments_per_class", "steps", "streams"), maybe(count())),
    "weights_licence": maybe(text),
    "n_images": SIZES,
    "n_groups": SIZES,
    "frozen_encoder": section,
    "segmenter": section,
    "foreground": maybe(text),
    "unit": text,
    "split": each(texts),
    "items": maybe(each(lambda items: text(items) or each(text)(items))),
    "environment": each(text),
    "config": CONFIG,
    "calibration": CALIBRATION,
    "labels": LABELS,
    "filter": FILTER,
    "pretraining": {"objective": maybe(text), "seed": maybe(count())},
}
OLD = {"stages": texts, "classes": texts, "epoch_s": number(0, 1e6)}
# Sections that a run may say that it has none of.
OR_NONE = ("pretraining",)


def read_facts(file: Path) -> Told:
    """Return a ``run.json``; raise CheckpointError where it is damaged, or of other types.

    What it does not tell is not missed here: it may be of an older version.
    """
    try:
        found = read_json(file)
        if not isinstance(found, dict) or "kind" not in found:
            raise ValueError("it does not tell its kind")
        told = {k: v for k, v in found.items() if v is not None or k not in OR_NONE}
        fault = fault_of(told, RUN | OLD) or fault_of_labels(told) or _unlike(told)
        if fault:
            raise ValueError(fault)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}).") from None
    return Told(found, file, CheckpointError)


def _unlike(facts: dict) -> str | None:
    """Return what of a run does not belong together."""
    for key, value in facts.items():
        if key.startswith("val_") and not maybe(number(-1e9, 1e9))(value):
            return f"{key} is no such thing: {str(value)[:60]}"
    if "sfreq" in facts and any(map(text, (facts.get("items") or {}).values())):
        return "items are not told by their names"
    classes = facts.get("labels", {}).get("classes", facts.get("stages", facts.get("classes")))
    prior = facts.get("calibration", {}).get("prior")
    if prior is not None and classes is not None and len(prior) != len(classes):
        return f"calibration.prior is of {len(prior)} classes, and there are {len(classes)}"
    return None
