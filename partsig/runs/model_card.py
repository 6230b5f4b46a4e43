"""The model card of an exported folder: what it is, what was measured, what it is not for."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from partsig.errors import CheckpointError

TAGS = ["eeg", "biosignal", "self-supervised-learning"]
NOT_FOR = """\
## What it is not for

- It is no medical device and has not been tested as one: no diagnosis, no treatment, no alarm.
- Other channels, references, filters or rates than the above: the numbers are then meaningless, and
  nothing tells. In volts instead of microvolts every channel counts as flat (partsig refuses them;
  an ONNX runtime does not).
- People unlike those it was trained and measured on (children, disorders, drugs, intracranial
  electrodes), unless you measure it on them.
- Judging single epochs without a look: two scorers have a kappa of about .76
  (Lee et al. 2022, a meta-analysis)."""


def write_card(facts: Mapping, measured: Mapping | None = None) -> str:
    """Return a model card in Markdown, with the front matter that Hugging Face reads.

    ``measured`` is the ``metrics.json`` of an evaluation. Subjects appear as counts, never by name.
    """
    stager = facts["kind"] == "stager"
    front: dict[str, object] = {
        "library_name": "partsig",
        "tags": [*(["sleep-staging"] if stager else []), *TAGS],
    }
    name = "partsig sleep stager" if stager else "partsig encoder"
    if measured is not None and measured.get("kappa") is not None:
        front["metrics"] = ["cohen_kappa"]
        front["model-index"] = [_index(name, measured)]
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    parts = [
        # A placeholder: whoever publishes weights decides, and the data may have a say.
        f"---\n# license: choose one before you publish this\n{head}---",
        f"# {name}",
        _what(facts),
        _input(facts),
        _training(facts),
        _measured(measured) if stager else "",
        _use(facts),
        NOT_FOR,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def read_measured(run: Path) -> dict | None:
    """Return the ``metrics.json`` of a run's evaluation on its test subjects, None without one."""
    file = run / "evaluation" / "metrics.json"
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged ({error}); evaluate again.") from None


def _index(name: str, measured: Mapping) -> dict:
    data = Path(measured["store"]).name
    metric = {"type": "cohen_kappa", "name": "Cohen's kappa", "value": round(measured["kappa"], 4)}
    result = {
        "task": {"type": "time-series-classification", "name": "Sleep staging"},
        "dataset": {"type": data, "name": f"{data}, held-out subjects"},
        "metrics": [metric],
    }
    return {"name": name, "results": [result]}


def _what(facts: Mapping) -> str:
    shape = facts["encoder"]
    size = f"width {shape['width']}, depth {shape['depth']}, {shape['tokens']} tokens"
    what = f"An encoder of EEG ({size})"
    if facts["kind"] != "stager":
        return f"{what}, without a trained head."
    return (
        f"{what} and a linear head on `{facts['pool']}`, for the classes "
        f"{', '.join(facts['classes'])}. Written by partsig {facts['partsig']}."
    )


def _input(facts: Mapping) -> str:
    kept, filtered = facts["filter"], "not recorded: ask who trained it"
    if kept is not None:
        ends = [f"{kept[key]:g} Hz" if kept[key] else "no limit" for key in ("l_freq", "h_freq")]
        filtered = f"{ends[0]} to {ends[1]} ({kept.get('method', 'zero-phase')})"
    window = facts["window"] / facts["sfreq"]
    return f"""\
## Input

Channels, in this order: {", ".join(facts["ch_names"] or ["(not named)"])}; {facts["sfreq"]:g} Hz;
microvolts; windows of {window:g} s. Band-pass: {filtered}, on whole recordings before anything is
cut."""


def _training(facts: Mapping) -> str:
    told = facts["training"]
    lines = []
    if told.get("pretraining"):
        lines.append(
            f"Pretrained ({told['pretraining']}) on {told['pretraining_subjects']} subjects, no "
            "labels used."
        )
    if told.get("labelled_subjects") is not None:
        lines.append(
            f"Trained on {told['labelled_epochs']:,} labelled epochs of "
            f"{told['labelled_subjects']} subjects; {told['validation_subjects']} further labelled "
            "subjects chose the epoch and the temperature."
        )
    data = told.get("data")
    lines.append(f"Data: {data}." if data else "Data: not recorded.")
    return "## Training\n\n" + " ".join(lines)


def _measured(measured: Mapping | None) -> str:
    if measured is None:
        return "## Measured\n\nNothing: it was exported without an evaluation (`partsig evaluate`)."
    value = "undefined" if measured["kappa"] is None else f"{measured['kappa']:.3f}"
    seen = len(measured["subjects_seen_in_pretraining"])
    lines = [
        "## Measured",
        "",
        f"On {measured['n_subjects']} held-out subjects, {measured['n_epochs']:,} epochs "
        f"({Path(measured['store']).name}, {measured['date'][:10]}); intervals are bootstraps over "
        "subjects, 95 %.",
        "",
        f"- Cohen's kappa, pooled: {value}{_interval(measured, 'kappa_interval_95')}",
        f"- macro-F1: {measured['macro_f1']:.3f}{_interval(measured, 'macro_f1_interval_95')}",
    ]
    calibration = measured.get("calibration")
    if calibration:
        lines.append(
            f"- expected calibration error: {calibration['ece']:.3f}"
            f"{_interval(calibration, 'ece_interval_95')} at temperature "
            f"{calibration['temperature']:.3f}"
        )
    if seen:
        lines.append(f"- {seen} of them were seen in pretraining: not wholly held out")
    return "\n".join(lines)


def _interval(found: Mapping, key: str) -> str:
    low, high = found.get(key) or (None, None)
    return " [no interval]" if low is None else f" [{low:.3f}, {high:.3f}]"


def _use(facts: Mapping) -> str:
    if facts["kind"] != "stager":
        return """\
## Use

```python
from partsig.interop import PartEmbedder  # a scikit-learn transformer: windows (n, C, T) in µV

features = PartEmbedder(run="this folder").fit(windows).transform(windows)
```"""
    shape = f"(n, {len(facts['ch_names'])}, {facts['window']})"
    return f"""\
## Use

```python
from partsig.interop import PartStager

stager = PartStager.from_pretrained("this folder, or its name on a hub")
logits = stager(epochs)  # {shape} in µV -> (n, {len(facts["classes"])})
p = (logits / {facts["temperature"]:.4f}).softmax(-1)  # calibrated
```"""
