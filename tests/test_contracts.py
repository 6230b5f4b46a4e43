"""What the contracts promise is what the classes have, by the same names, and all that is asked."""

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from partsig import contracts, registries
from partsig.core.objectives.supervised import SupervisedModule
from partsig.data.images.augment import Augmented
from partsig.data.images.examples import LabelledImages
from partsig.data.images.marked import JudgedImages, MarkedImages
from partsig.data.images.windows import RandomImages
from partsig.data.shuffling import Shuffled
from partsig.data.signals.marked import JudgedSignals
from partsig.data.signals.windows import LabelledWindows, RandomWindows
from partsig.modalities import registry as modalities
from partsig.runs.exported import LoadedModel
from partsig.runs.run import Run
from partsig.sleep.stagers import YasaStager
from partsig.tasks import registry as tasks
from partsig.tasks.night_context import ContextNetwork

ROOT = Path(__file__).parents[1] / "partsig"
KINDS = [modalities.get(name) for name in modalities.MODALITIES]
KEPT = {
    contracts.Dataset: [get_type_hints(registries.at(kind.dataset))["return"] for kind in KINDS],
    contracts.Task: [registries.at(place) for place in tasks.TASKS.values()],
    contracts.Windows: [RandomWindows, RandomImages, Augmented],
    contracts.Examples: [LabelledWindows, LabelledImages],
    contracts.EpochExamples: [LabelledWindows],
    contracts.Predictor: [
        SupervisedModule,
        *(registries.at(place) for kind in KINDS for place in kind.baselines.values()),
    ],
    contracts.RecordingPredictor: [YasaStager, ContextNetwork],
    contracts.TrainedRun: [Run],
    contracts.TrainedModel: [LoadedModel],
    contracts.Order: [Shuffled],
    contracts.MarkedWindows: [MarkedImages],
    contracts.MarkedItems: [JudgedImages, JudgedSignals],
    contracts.Looks: [registries.at(kind.looks) for kind in KINDS],
}
# Attributes that an instance has and its class has not.
OF_INSTANCES = {
    contracts.Windows: {"per_epoch"},
    contracts.MarkedWindows: {"per_epoch"},
    contracts.Examples: {"labels", "classes"},
    contracts.EpochExamples: {
        *("labels", "classes", "names", "recording", "epoch", "n_epochs", "n_times"),
    },
    contracts.Order: {"seed", "size", "steps"},
}
PAIRS = [(contract, cls) for contract, classes in KEPT.items() for cls in classes]


def promised(contract):
    """Return the methods and the attributes of a protocol."""
    bases = [base for base in contract.__mro__ if base.__module__.startswith("partsig.")]
    members = {name: value for base in bases for name, value in vars(base).items()}
    own = (name for name in members if not name.startswith("_") or name in ("__call__", "__len__"))
    methods = {name for name in own if callable(getattr(contract, name))}
    return methods, {name for base in bases for name in base.__annotations__}


def parameters(cls, name):
    return list(inspect.signature(getattr(cls, name)).parameters)


@pytest.mark.parametrize(("contract", "cls"), PAIRS, ids=lambda kind: kind.__name__)
def test_classes_have_what_their_contract_promises(contract, cls):
    methods, attributes = promised(contract)
    for name in methods:
        assert hasattr(cls, name), name
        assert parameters(cls, name) == parameters(contract, name), name
    fields = getattr(cls, "__dataclass_fields__", {})
    for name in attributes - OF_INSTANCES.get(contract, set()):
        assert name in fields or hasattr(cls, name), name


@pytest.mark.parametrize(
    ("asked", "contract"), [("dataset", contracts.Dataset), ("task", contracts.Task)]
)
def test_no_more_is_asked_than_is_promised(asked, contract):
    methods, attributes = promised(contract)
    used = {
        name
        for room in ("verbs", "recipes")
        for path in (ROOT / room).glob("*.py")
        for name in re.findall(rf"\b{asked}\.(\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(used) > 8
    assert used <= methods | attributes


def test_a_method_of_other_parameters_is_told():
    class Other(LabelledImages):
        def in_order(self, n):
            return super().in_order(n)

    with pytest.raises(AssertionError, match="in_order"):
        test_classes_have_what_their_contract_promises(contracts.Examples, Other)


def test_every_promise_says_what_it_returns():
    for contract in KEPT:
        methods, _ = promised(contract)
        for name in methods - {"__len__"}:
            method = getattr(contract, name)
            assert method.__doc__, f"{contract.__name__}.{name}"
            given = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
            assert all(p.annotation is not p.empty for p in given), name
            assert "return" in method.__annotations__, name
