"""What runs are called where several stand side by side: an encoder, and how it was trained."""

import re
from collections.abc import Mapping

from partsig.runs.run import Run
from partsig.runs.settings import SCRATCH

SEEDED = re.compile(r"-s\d+$")


def method_of(run: Run) -> str:
    """Return what a run is called in a table: its encoder, and how that was trained on labels."""
    name, train = encoder_name(run), run.config["train"]
    if run.task == "night-context" and run.config.get("model", "encoder") == "encoder":
        name += f", {around(run.config)}"
    how = [] if train == "full" else [train]
    if run.config.get("frozen_first"):
        how.append(f"frozen for {run.config['frozen_first']} of the steps")
    return ", ".join([name, *how])


def encoder_name(run: Run) -> str:
    """Return what its encoder is called: its pretraining without the seed, or scratch."""
    settings, origin = run.config, run.origin
    if origin.source:
        name = str(origin)
    elif origin.path is not None:
        name = SEEDED.sub("", origin.path.name).removeprefix("pretrain-")
    else:
        model = settings.get("model", "encoder")
        name = SCRATCH if model == "encoder" else model
        name = around(settings) if model == "context" else name
        name = name if settings["train"] == "full" else "random"
        if name == SCRATCH and settings["positions"] == "none":
            name += ", no positions"
    blocks = settings.get("blocks", 0)
    if blocks:
        name += ", first block" if blocks == 1 else f", first {blocks} blocks"
    return name + (", taught" if run.facts.get("teacher") else "")


def around(settings: Mapping) -> str:
    """Return what tells an epoch from those around it, and from how many."""
    return "{model}-{epochs}".format_map(settings["context"])
