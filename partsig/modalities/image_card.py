"""What the model card of an encoder or a classifier of images says."""

from collections.abc import Mapping
from pathlib import Path

from partsig.runs.encoder_sources import recall
from partsig.runs.model_card import (
    CardWords,
    ListedResult,
    calibration_line,
    describe_encoder,
    interval,
)
from partsig.runs.run import Run

NOT_FOR = """\
## What it is not for

- Images normalised by constants (ImageNet's, say): they are normalised inside, so values from 0 to
  255 are expected as they are stored.
- Other sizes, channels or kinds of images than the above, unless you measure it on them.
- Decisions about people, diagnosis among them: it has not been tested for any."""


def _what(facts: Mapping) -> str:
    what = f"An encoder of images ({describe_encoder(facts)})"
    if facts["kind"] != "stager":
        return f"{what}, without a trained head."
    classes = facts["classes"]
    named = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if classes[20:] else "")
    return (
        f"{what} and a linear head on `{facts['pool']}`, for {len(classes)} classes: {named}. "
        f"Written by partsig {facts['partsig']}."
    )


def _input(facts: Mapping) -> str:
    height, width = facts["window"]
    return f"""\
## Input

Channels, in this order: {", ".join(facts["ch_names"])}; {height} x {width} pixels; values from 0 to
255, not normalised."""


def _training(told: Mapping) -> list[str]:
    lines = []
    if recall(told.get("pretraining")).source:
        lines.append(
            f"Started from the weights of {told['pretraining']}; what these were trained on, and "
            "whether with labels, is for their makers to tell."
        )
    elif told.get("pretraining"):
        of = told.get("pretraining_images")
        on = "" if of is None else f" on {of:,} images"
        lines.append(f"Pretrained ({told['pretraining']}){on}, no labels used.")
    if told.get("labelled_images") is not None:
        lines.append(
            f"Trained on {told['labelled_images']:,} labelled images; "
            f"{told['validation_images']:,} further ones chose the epoch and the temperature."
        )
    return lines


def _measured(measured: Mapping) -> str:
    return "\n".join(
        [
            f"On {measured['n_images']:,} test images ({Path(measured['store']).name}, "
            f"{measured['date'][:10]}); intervals are bootstraps over images, 95 %.",
            "",
            f"- accuracy: {measured['accuracy']:.3f}{interval(measured, 'accuracy_interval_95')}",
            f"- macro-F1: {measured['macro_f1']:.3f}",
            calibration_line(measured["calibration"]),
        ]
    )


def _people(facts: Mapping, measured: Mapping | None) -> list[str]:
    told = {**facts["training"], "test_images": None if measured is None else measured["n_images"]}
    counts = [
        f"{n:,} {key.replace('_', ' ')}" for key, n in told.items() if key.endswith("_images") and n
    ]
    return [
        "No image, no name of an image's file; no folder or file of the machine it was trained on.",
        f"How many images there were: {', '.join(counts) or 'not told'}.",
    ]


def _use(facts: Mapping) -> str:
    height, width = facts["window"]
    shape = f"(n, {len(facts['ch_names'])}, {height}, {width})"
    lines = ["## Use", "", "```python", "from partsig.recipes.loading import load_model", ""]
    lines.append('model = load_model("this folder").model')
    if facts["kind"] == "stager":
        lines += [
            f"logits = model.logits(images)  # {shape}, 0 to 255 -> (n, {len(facts['classes'])})",
            f"p = (logits / {facts['temperature']:.4f}).softmax(-1)  # calibrated",
        ]
    else:
        lines.append(f"features = model.features(images)  # {shape}, 0 to 255")
    return "\n".join([*lines, "```"])


def training_facts(run: Run) -> dict[str, object]:
    """Return how many images a run has learned from."""
    if run.kind == "pretrain":
        return {"pretraining_images": run.facts["images_trained"]}
    return {"labelled_images": run.n_train, "validation_images": run.facts["n_images"]["val"]}


def _not_for(facts: Mapping) -> str:
    return NOT_FOR


CARD = CardWords(
    tags=("images",),
    task_tags=("image-classification",),
    names=("partsig image encoder", "partsig image classifier"),
    listed=ListedResult(
        task=("image-classification", "Image classification"),
        key="accuracy",
        metric="accuracy",
        tested="test images",
    ),
    what=_what,
    input=_input,
    training=_training,
    measured=_measured,
    people=_people,
    use=_use,
    not_for=_not_for,
)
