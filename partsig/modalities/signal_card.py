"""What the model card of an encoder of EEG, or of a sleep stager, says."""

from collections.abc import Mapping
from pathlib import Path

from partsig.data.signals.scaling import OWN_UNIT, SCALED_UNIT, USUAL_UNIT, unit_of
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

- It is no medical device and has not been tested as one: no diagnosis, no treatment, no alarm.
- Other channels, references, filters or rates than the above: the numbers are then meaningless, and
  nothing tells. {unit}
- People unlike those it was trained and measured on (children, disorders, drugs, intracranial
  electrodes), unless you measure it on them.
- Judging single epochs without a look: two scorers have a kappa of about .76
  (Lee et al. 2022, a meta-analysis)."""

VOLTS = """\
In volts instead of microvolts every channel counts as flat (partsig refuses them;
  an ONNX runtime does not)."""
UNSCALED = """\
A recording that is not scaled by itself is another signal to it (partsig scales it;
  an ONNX runtime does not)."""
MADE_OTHERWISE = "Features that are made or scaled otherwise are others."
WARNINGS = {USUAL_UNIT: VOLTS, SCALED_UNIT: UNSCALED, OWN_UNIT: MADE_OTHERWISE}
UNITS = {
    USUAL_UNIT: "microvolts",
    SCALED_UNIT: "each channel of a recording less its median, over its interquartile range",
    OWN_UNIT: "features of epochs, as they came",
}


def _not_for(facts: Mapping) -> str:
    features = facts.get("input") == "features"
    unit = unit_of(facts)
    return NOT_FOR.format(unit=MADE_OTHERWISE if features else WARNINGS.get(unit, UNSCALED))


def _what(facts: Mapping) -> str:
    what = f"An encoder of EEG ({describe_encoder(facts)})"
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
{_unit(facts)}; windows of {window:g} s. Band-pass: {filtered}, on whole recordings before
anything is cut."""


def _unit(facts: Mapping) -> str:
    unit = unit_of(facts)
    return UNITS.get(unit, unit)


def _training(told: Mapping) -> list[str]:
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
    return lines


def _measured(measured: Mapping) -> str:
    value = "undefined" if measured["kappa"] is None else f"{measured['kappa']:.3f}"
    seen = len(measured["subjects_seen_in_pretraining"])
    lines = [
        f"On {measured['n_subjects']} held-out subjects, {measured['n_epochs']:,} epochs "
        f"({Path(measured['store']).name}, {measured['date'][:10]}); intervals are bootstraps over "
        "subjects, 95 %.",
        "",
        f"- Cohen's kappa, pooled: {value}{interval(measured, 'kappa_interval_95')}",
        f"- macro-F1: {measured['macro_f1']:.3f}{interval(measured, 'macro_f1_interval_95')}",
    ]
    if measured.get("calibration"):
        lines.append(calibration_line(measured["calibration"]))
    if seen:
        lines.append(f"- {seen} of them were seen in pretraining: not wholly held out")
    return "\n".join(lines)


def _people(facts: Mapping, measured: Mapping | None) -> list[str]:
    told, counts = facts["training"], []
    if told.get("pretraining_subjects"):
        counts.append(f"{told['pretraining_subjects']} were seen in pretraining")
    if told.get("labelled_subjects") is not None:
        counts += [
            f"{told['labelled_subjects']} were learned from with labels",
            f"{told['validation_subjects']} chose",
        ]
    if measured is not None:
        counts.append(f"{measured['n_subjects']} tested it")
    return [
        "No subject or recording by name; no age, sex, or date of a recording; no folder or file "
        "of the machine it was trained on.",
        f"How many subjects there were: {', '.join(counts) or 'not told'}.",
    ]


def _use(facts: Mapping) -> str:
    if facts["kind"] != "stager":
        return f"""\
## Use

```python
from partsig.interop import PartEmbedder  # a scikit-learn transformer

# windows (n, C, T) in {unit_of(facts)}

features = PartEmbedder(run="this folder").fit(windows).transform(windows)
```"""
    shape = f"(n, {len(facts['ch_names'])}, {facts['window']})"
    return f"""\
## Use

```python
from partsig.interop import PartStager

stager = PartStager.from_pretrained("this folder, or its name on a hub")
logits = stager(epochs)  # {shape} in {unit_of(facts)} -> (n, {len(facts["classes"])})
p = (logits / {facts["temperature"]:.4f}).softmax(-1)  # calibrated
```"""


def training_facts(run: Run) -> dict[str, object]:
    """Return how many subjects and epochs a run has learned from; nobody is named."""
    seen = {"pretraining_subjects": len(run.seen_unlabelled)}
    if run.kind == "pretrain":
        return seen
    return {
        "labelled_subjects": run.n_units("train"),
        "validation_subjects": run.n_units("val"),
        "labelled_epochs": run.n_train,
        **seen,
    }


CARD = CardWords(
    tags=("eeg", "biosignal"),
    task_tags=("sleep-staging",),
    names=("partsig encoder", "partsig sleep stager"),
    listed=ListedResult(
        task=("time-series-classification", "Sleep staging"),
        key="kappa",
        metric="cohen_kappa",
        tested="held-out subjects",
        title="Cohen's kappa",
    ),
    what=_what,
    input=_input,
    training=_training,
    measured=_measured,
    people=_people,
    use=_use,
    not_for=_not_for,
)
