"""Setting one key changes that key: of every verb, alone and upon every configuration."""

import re

import pytest

from partsig import config as configs
from partsig.errors import CheckpointError, ConfigError
from partsig.key_tables import as_yaml
from partsig.keys import describe
from partsig.recipes import finetuning, pretraining
from partsig.runs import directory as runs
from partsig.verbs.config import _class_of, describe_settings

pytestmark = pytest.mark.slow

EVERYTHING = describe_settings()
BASES = [
    *((item.verb, item.modality, None) for item in EVERYTHING.settings),
    *(
        (item.verb, kind, item.name)
        for item in EVERYTHING.configurations
        for kind in item.modalities
    ),
]
# Values of keys that are neither numbers nor choices, and of lists of numbers.
OTHERS = ("W-1", "^(x)", ["C3"], [0.5, 0.6], [0, 1], {"a": "W"}, {"a": "mV"}, {"a": ["b"]})
# What another key must be first, where no other value goes with the default.
COMPANIONS = {
    "objective.stretches": ("objective.span=8", "objective.patches=40"),
    "segmentation.stride": ("segmentation.window=64",),
    "objective.between": ("objective.span=8", "objective.stretches=2", "objective.patches=40"),
    "objective.tap_weights": ("objective.taps=[0, 1]",),
    "objective.segmenter": ("objective.views=0",),
    "objective.foreground_file": ("objective.foreground=file", "objective.foreground_file=a"),
}
# Keys that a modality or a configuration leaves no second value, and the sentence that says why.
SETTLED = {
    ("part-context", "objective.sampling"): "objective.span is for off-grid patches",
    ("part-grid", "objective.span"): "is for off-grid patches, not for grid",
    ("part-grid", "objective.stretches"): "is for off-grid patches, not for grid",
    ("cifar-contrast", "objective.span"): "is for off-grid patches, not for grid",
    ("imagenet-contrast", "objective.span"): "is for off-grid patches, not for grid",
    ("cifar-contrast", "objective.stretches"): "is for off-grid patches, not for grid",
    ("imagenet-contrast", "objective.stretches"): "is for off-grid patches, not for grid",
    ("part-grid", "objective.focus"): "is for off-grid patches, not for grid",
    ("cifar-contrast", "objective.focus"): "is for off-grid patches, not for grid",
    ("imagenet-contrast", "objective.focus"): "is for off-grid patches, not for grid",
    ("part-grid", "objective.between"): "is for off-grid patches, not for grid",
    ("cifar-contrast", "objective.between"): "is for off-grid patches, not for grid",
    ("imagenet-contrast", "objective.between"): "is for off-grid patches, not for grid",
    ("night-part", "objective.focus"): "does not go with objective.loss_on=apart",
    ("night-part-masked", "objective.focus"): "does not go with objective.loss_on=apart",
    ("part-between", "objective.focus"): "does not go with objective.loss_on=apart",
    ("part-between", "objective.sampling"): "objective.span is for off-grid patches",
    ("night-part", "objective.target_scale"): "goes neither with",
    ("night-part-masked", "objective.target_scale"): "goes neither with",
    ("part-histogram", "objective.target_scale"): "goes neither with",
    ("discover-published", "objective.views"): "leave it at 0",
    ("few-labels", "model"): "train=probe+full is for model=encoder",
}


def flat(values, prefix=""):
    """Dotted keys of nested values; the mappings that are values stay whole."""
    found = {}
    for key, value in values.items():
        section = isinstance(value, dict) and key not in (
            *("aliases", "stages", "offset_s", "channels", "units"),
        )
        found |= flat(value, f"{prefix}{key}.") if section else {prefix + key: value}
    return found


def resolved(verb, modality, name, overrides):
    return flat(configs.to_dict(configs.compose(_class_of(verb, modality), verb, name, overrides)))


def candidates(key):
    """Other values of a key, as they are written; some of them are not valid."""
    value = key.value
    if key.choices:
        return [choice for choice in key.choices if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        near = [value + 1, value - 1, value * 2, value // 2]
        return [value / 2, value + 0.25, 1e-4, *near] if "number" in key.type else near
    return [8, 0.5, *OTHERS]


def settled(modality, name, key):
    """Why a key can have no other value here; None where it can."""
    return SETTLED.get((modality, key)) or SETTLED.get((name, key))


def keys_of(verb, modality, name):
    cls = _class_of(verb, modality)
    settings = None if name is None else configs.compose(cls, verb, name)
    return [key for section in describe(cls, settings) for key in section.keys]


def check(verb, modality, name, key):
    """Set a key, by the first other value that is accepted; that key alone must change."""
    choice = [key.when] if key.when and name is None else []
    refused = []
    for first in ((), COMPANIONS.get(key.key, ())):
        for value in candidates(key):
            override = f"{key.key}={as_yaml(value)}"
            try:
                before = resolved(verb, modality, name, [*choice, *first])
                after = resolved(verb, modality, name, [*choice, *first, override])
            except ConfigError as error:
                refused.append(str(error))
                continue
            if after != before:
                changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
                assert changed == {key.key}, override
                assert settled(modality, name, key.key) is None
                return
    assert settled(modality, name, key.key) is not None, (key.key, refused)
    assert any(settled(modality, name, key.key) in told for told in refused), refused


@pytest.mark.parametrize(("verb", "modality", "name"), BASES, ids=str)
def test_one_key_changes_itself_alone(verb, modality, name):
    for key in keys_of(verb, modality, name):
        if key.key != "objective.name":
            check(verb, modality, name, key)


def test_every_key_of_every_verb_is_among_them():
    counted = [
        (verb, modality, name, key.key, key.when)
        for verb, modality, name in BASES
        for key in keys_of(verb, modality, name)
    ]
    assert len(counted) == len(set(counted)) > 1800
    for verb, modality, name in BASES:
        if name is None:
            told = {key for v, m, n, key, _ in counted if (v, m, n) == (verb, modality, None)}
            assert told == set(configs._keys(_class_of(verb, modality)))


@pytest.mark.parametrize(
    ("verb", "modality", "name"), [base for base in BASES if base[0] == "pretrain"], ids=str
)
def test_another_objective_has_its_own_defaults_and_what_the_file_says_of_common_keys(
    verb, modality, name
):
    cls = _class_of(verb, modality)
    written = {} if name is None else configs.read(name).get("objective", {})
    before = resolved(verb, modality, name, ())
    for other in configs.sections_of(dict(configs._types(cls))["objective"]):
        if other.name == before["objective.name"]:
            continue
        own = configs.to_dict(other())
        kept = {key: value for key, value in written.items() if key in own and key != "name"}
        after = resolved(verb, modality, name, [f"objective.name={other.name}"])
        expected = {k: v for k, v in before.items() if not k.startswith("objective.")}
        expected |= flat({"objective": own}) | flat({"objective": kept})
        assert after == expected


def compose(verb, modality, *overrides, name=None):
    return configs.compose(_class_of(verb, modality), verb, name, overrides)


def test_the_faults_that_people_met():
    tuned = compose("finetune", "eeg", "fit.log_every=5")
    assert (tuned.fit.epochs, tuned.fit.batch_size, tuned.fit.log_every) == (100, 64, 5)
    tuned = compose("finetune", "eeg", "optim.lr=1e-3")
    assert (tuned.optim.warmup_epochs, tuned.optim.lr) == (5, 1e-3)
    for verb in ("pretrain", "finetune"):
        shape = compose(verb, "image", "encoder.drop_path=.2").encoder
        assert (shape.width, shape.depth, shape.heads, shape.drop_path) == (384, 12, 6, 0.2)


def test_a_file_with_a_part_of_a_section_leaves_the_rest(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("verb: finetune\nfit: {epochs: 7}\noptim: {lr: 0.001}\n")
    tuned = compose("finetune", "image", "fit.keep=3", name=mine)
    assert (tuned.fit.epochs, tuned.fit.keep, tuned.fit.batch_size) == (7, 3, 256)
    assert tuned.optim.warmup_epochs == 5


@pytest.mark.parametrize("form", ["text", "mapping"])
def test_a_section_given_as_a_mapping_is_as_good_as_its_keys(form):
    given = (
        ["fit={log_every: 5, keep: 3}"] if form == "text" else {"fit": {"log_every": 5, "keep": 3}}
    )
    cls = _class_of("finetune", "eeg")
    keys = ["fit.log_every=5", "fit.keep=3"]
    assert configs.compose(cls, "finetune", None, given) == configs.compose(
        cls, "finetune", None, keys
    )


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_set_beside_another_choice_is_never_dropped(order):
    """What the file says of the former choice lapses; what a person sets now is refused."""
    found = compose("pretrain", "eeg", "objective.name=mae", name="part-histogram")
    assert (found.objective.name, found.objective.mask_ratio, found.window_s) == ("mae", 0.75, 5)
    pair = ["objective.name=mae", "objective.loss=histogram"][::order]
    with pytest.raises(ConfigError, match=re.escape("unknown key 'objective.loss'")):
        compose("pretrain", "eeg", *pair, name="part-histogram")
    kept = compose("pretrain", "eeg", *["objective.name=mp3", "objective.mask_ratio=.3"][::order])
    assert (kept.objective.name, kept.objective.mask_ratio) == ("mp3", 0.3)


def test_a_mistyped_key_beside_another_choice_is_told(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("verb: pretrain\nobjective: {los: mse}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'objective\.los'"):
        compose("pretrain", "eeg", "objective.name=mae", name=mine)
    with pytest.raises(ConfigError, match=r"objective\.name 'mea'; nearest is 'mae'"):
        compose("pretrain", "eeg", "objective.name=mea", name=mine)


RECIPES = {"pretrain": pretraining, "finetune": finetuning}


@pytest.mark.parametrize("modality", ["eeg", "image"])
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_run_goes_on_where_a_key_of_speed_alone_is_set(verb, modality, tmp_path):
    free = RECIPES[verb].MAY_CHANGE_ON_RESUME
    runs.begin(tmp_path / "run", verb, compose(verb, modality), {"modality": modality}, free)
    for key in keys_of(verb, modality, None):
        if key.key not in free:
            continue
        for value in candidates(key):
            try:
                changed = compose(verb, modality, f"{key.key}={as_yaml(value)}")
            except ConfigError:
                continue
            runs.begin(tmp_path / "run", verb, changed, {"modality": modality}, free)
    changed = compose(verb, modality, "fit.epochs=7")
    with pytest.raises(CheckpointError, match=r"configuration: config\.fit\.epochs: \d+, now 7\. "):
        runs.begin(tmp_path / "run", verb, changed, {"modality": modality}, free)
