"""The model card of an exported folder: what it is, what was measured, what it is not for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from partsig.errors import CheckpointError
from partsig.files import read_json
from partsig.modalities import registry
from partsig.runs.encoder_sources import FROZEN, recall

WEIGHTS_TELL = (
    "The weights: they were learned from these recordings or images, and nothing bounds what could "
    "be inferred from them about one of them (membership, say)."
)
NOT_MEASURED = "Nothing: it was exported without an evaluation (`partsig evaluate`)."


@dataclass(frozen=True, kw_only=True)
class ListedResult:
    """What of a measurement is told to whoever lists models: its ``key``, and Hub's names for it.

    ``task`` is its type and name, ``metric`` what the Hub calls the score, ``title`` a name for
    people where that is not enough; ``tested`` is what was held out.
    """

    task: tuple[str, str]
    key: str
    metric: str
    tested: str
    title: str | None = None

    def entry(self, name: str, measured: Mapping) -> dict | None:
        """Return the entry of a model called ``name``; None where the score is undefined."""
        if measured.get(self.key) is None:
            return None
        kind, title = self.task
        data = Path(measured["store"]).name
        told = {} if self.title is None else {"name": self.title}
        result = {
            "task": {"type": kind, "name": title},
            "dataset": {"type": data, "name": f"{data}, {self.tested}"},
            "metrics": [{"type": self.metric, **told, "value": round(measured[self.key], 4)}],
        }
        return {"name": name, "results": [result]}


@dataclass(frozen=True, kw_only=True)
class CardWords:
    """What a modality says on its cards; each function returns a part in Markdown.

    ``names`` are those of an encoder and of a classifier. ``training`` and ``measured`` return what
    stands below these headings. ``people`` returns whom the folder tells of, and what, from its
    facts and its measurement, if any.
    """

    tags: tuple[str, ...]
    task_tags: tuple[str, ...]
    names: tuple[str, str]
    listed: ListedResult
    what: Callable[[Mapping], str]
    input: Callable[[Mapping], str]
    training: Callable[[Mapping], list[str]]
    measured: Callable[[Mapping], str]
    people: Callable[[Mapping, Mapping | None], list[str]]
    use: Callable[[Mapping], str]
    not_for: Callable[[Mapping], str]


def write_card(
    facts: Mapping, measured: Mapping | None = None, words: CardWords | None = None
) -> str:
    """Return a model card in Markdown, with the front matter that Hugging Face reads.

    ``measured`` is the ``metrics.json`` of an evaluation; ``words`` are what it says, None: what
    its modality does. Subjects appear as counts, never by name.
    """
    words = words or registry.of(facts).card
    classifies = facts["kind"] != "encoder"
    tags = [*(words.task_tags if classifies else ()), *words.tags, "self-supervised-learning"]
    front: dict[str, object] = {"library_name": "partsig", "tags": tags}
    name = words.names[classifies]
    entry = None if measured is None else words.listed.entry(name, measured)
    if entry is not None:
        front["metrics"] = [words.listed.metric]
        front["model-index"] = [entry]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    training = facts["training"]
    data = training.get("data") or "not recorded"
    whose = [whose_weights(training)] if recall(training.get("pretraining")).source else []
    figures = NOT_MEASURED if measured is None else words.measured(measured)
    parts = [
        # A placeholder: whoever publishes weights decides, and the data may have a say.
        f"---\n# license: choose one before you publish this\n{head}---",
        f"# {name}",
        words.what(facts),
        words.input(facts),
        "## Training\n\n" + " ".join([*words.training(training), *whose, f"Data: {data}."]),
        f"## Measured\n\n{figures}" if classifies else "",
        "## People\n\n" + "\n".join(f"- {line}" for line in about_people(facts, measured)),
        words.use(facts),
        words.not_for(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def about_people(facts: Mapping, measured: Mapping | None = None) -> list[str]:
    """Return what an exported folder tells of people, in sentences: all there is to check."""
    told = registry.of(facts).card.people(facts, measured)
    data = facts["training"].get("data")
    told += [f"The name of the data: {data}."] if data else []
    told += (
        [f"The names of the classes: {', '.join(facts['classes'])}."] if facts["classes"] else []
    )
    if measured is not None:
        told.append(f"The day of the evaluation: {measured['date'][:10]}.")
    return [*told, WEIGHTS_TELL]


def describe_encoder(facts: Mapping) -> str:
    """Return an encoder's shape in words."""
    if FROZEN in facts:
        first = f"; its first {facts['blocks']} blocks or stages" if facts["blocks"] else ""
        return f"{facts['training']['pretraining']}, used as it is{first}"
    shape = facts["encoder"]
    told = f"width {shape['width']}, depth {shape['depth']}, {shape['tokens']} tokens"
    return told + (", each attending to itself alone" if shape.get("attention") == "patch" else "")


def whose_weights(training: Mapping) -> str:
    """Return the licence and the hash of the weights that a model started from, in a sentence."""
    licence = training.get("weights_licence")
    sha256 = training.get("weights_sha256")
    told = f"Their licence: {licence}" if licence else "Their licence is not known here"
    return f"{told}; SHA-256 {sha256}." if sha256 else f"{told}."


def interval(measured: Mapping, key: str) -> str:
    """Return an interval as text, with a space before it."""
    low, high = measured.get(key) or (None, None)
    return " [no interval]" if low is None else f" [{low:.3f}, {high:.3f}]"


def calibration_line(calibration: Mapping) -> str:
    """Return what was found of the confidence, as an item of a list."""
    return (
        f"- expected calibration error: {calibration['ece']:.3f}"
        f"{interval(calibration, 'ece_interval_95') if 'ece_interval_95' in calibration else ''} "
        f"at temperature {calibration['temperature']:.3f}"
    )


def read_measured(run: Path) -> dict | None:
    """Return the ``metrics.json`` of a run's evaluation on its test items, None without one."""
    file = run / "evaluation" / "metrics.json"
    if not file.is_file():
        return None
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); evaluate again.") from None
