"""The model card of an exported folder: what it is, what was measured, what it is not for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from partsig.errors import CheckpointError
from partsig.modalities import registry


@dataclass(frozen=True, kw_only=True)
class CardWords:
    """What a modality says on its cards; each function returns a part in Markdown.

    ``names`` are those of an encoder and of a classifier; ``index`` returns what of a measurement
    is told to whoever lists models, None where there is nothing to tell.
    """

    tags: tuple[str, ...]
    task_tags: tuple[str, ...]
    names: tuple[str, str]
    metric: str
    index: Callable[[str, Mapping], dict | None]
    what: Callable[[Mapping], str]
    input: Callable[[Mapping], str]
    training: Callable[[Mapping], str]
    measured: Callable[[Mapping | None], str]
    use: Callable[[Mapping], str]
    not_for: str


def write_card(facts: Mapping, measured: Mapping | None = None) -> str:
    """Return a model card in Markdown, with the front matter that Hugging Face reads.

    ``measured`` is the ``metrics.json`` of an evaluation. Subjects appear as counts, never by name.
    """
    words = registry.of(facts).card
    classifies = facts["kind"] == "stager"
    tags = [*(words.task_tags if classifies else ()), *words.tags, "self-supervised-learning"]
    front: dict[str, object] = {"library_name": "partsig", "tags": tags}
    name = words.names[classifies]
    index = None if measured is None else words.index(name, measured)
    if index is not None:
        front["metrics"] = [words.metric]
        front["model-index"] = [index]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    parts = [
        # A placeholder: whoever publishes weights decides, and the data may have a say.
        f"---\n# license: choose one before you publish this\n{head}---",
        f"# {name}",
        words.what(facts),
        words.input(facts),
        words.training(facts),
        words.measured(measured) if classifies else "",
        words.use(facts),
        words.not_for,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def describe_encoder(facts: Mapping) -> str:
    """Return an encoder's shape in words."""
    shape = facts["encoder"]
    return f"width {shape['width']}, depth {shape['depth']}, {shape['tokens']} tokens"


def interval(measured: Mapping, key: str) -> str:
    """Return an interval as text, with a space before it."""
    low, high = measured.get(key) or (None, None)
    return " [no interval]" if low is None else f" [{low:.3f}, {high:.3f}]"


def read_measured(run: Path) -> dict | None:
    """Return the ``metrics.json`` of a run's evaluation on its test items, None without one."""
    file = run / "evaluation" / "metrics.json"
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged ({error}); evaluate again.") from None
