"""``partsig config``: every key once, and nothing said of it that is not so."""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partsig.cli import app
from typer.testing import CliRunner

from partsig import config as configs
from partsig.errors import ConfigError
from partsig.key_tables import as_yaml
from partsig.keys import describe
from partsig.modalities import registry
from partsig.runs.objectives import OBJECTIVES
from partsig.verbs import config as verb_module
from partsig.verbs.config import VERBS, describe_settings

EVERYTHING = describe_settings()
TABLES = {(item.verb, item.modality): item for item in EVERYTHING.settings}
KEYS = [
    (verb, modality, key)
    for (verb, modality), item in TABLES.items()
    for section in item.sections
    for key in section.keys
]
RANGED = [entry for entry in KEYS if entry[2].range]


def class_of(verb, modality):
    return verb_module._class_of(verb, modality)


def keys_of(item):
    return [key for section in item.sections for key in section.keys]


def flat(values, prefix=""):
    """Dotted keys of nested values; a mapping that is a value, and not a section, is empty here."""
    found = {}
    for key, value in values.items():
        inner = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return found


def chosen(key):
    """The overrides under which a key exists."""
    return dict([key.when.split("=")]) if key.when else {}


def sentence(verb, modality, key, value):
    """What a value of a key is told, "" where it is accepted."""
    try:
        configs.compose(class_of(verb, modality), verb, None, chosen(key) | {key.key: value})
    except ConfigError as error:
        return str(error)
    return ""


def test_every_verb_that_takes_set_is_there():
    assert set(TABLES) == {
        *((verb, modality) for verb in VERBS for modality in ("eeg", "image")),
    } - {("audit", "image"), ("stage", "image"), ("report", "image")}
    runner = CliRunner()
    for command in ("download", "evaluate", "compare", "embed", "inspect", "export", *VERBS):
        told = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        assert ("--set" in told) == (command in VERBS)
        assert ("--config" in told) == (command in verb_module.WITH_FILES)


@pytest.mark.parametrize(("verb", "modality"), TABLES)
def test_every_key_is_there_once_with_its_default(verb, modality):
    cls = class_of(verb, modality)
    counted = Counter((key.key, key.when) for key in keys_of(TABLES[verb, modality]))
    assert set(counted.values()) == {1}
    expected = {(key, ""): value for key, value in flat(configs.to_dict(cls())).items()}
    if verb == "pretrain":
        usual = expected["objective.name", ""]
        expected = {k: v for k, v in expected.items() if not k[0].startswith("objective.")}
        expected["objective.name", ""] = usual
        for alternative in OBJECTIVES:
            when = f"objective.name={alternative.name}"
            own = flat(configs.to_dict(alternative()), "objective.")
            expected |= {(k, when): v for k, v in own.items() if k != "objective.name"}
    assert set(counted) == set(expected)
    for key in keys_of(TABLES[verb, modality]):
        assert key.default == expected[key.key, key.when] == key.value
        assert len(key.meaning) > 10, key.key
        assert key.type
        assert not key.meaning.endswith(".")


def test_of_two_modalities_the_defaults_are_their_own():
    found = {
        m: {k.key: k.default for k in keys_of(TABLES["finetune", m])} for m in ("eeg", "image")
    }
    assert (found["eeg"]["encoder.width"], found["image"]["encoder.width"]) == (512, 384)
    assert (found["eeg"]["fit.epochs"], found["image"]["fit.epochs"]) == (100, 400)


def test_choices_are_those_that_are_accepted():
    for verb, modality, key in KEYS:
        if key.choices:
            assert key.type in ("choice", "choice or null")
            assert "nothing" not in key.choices
            assert key.default in key.choices or key.type == "choice or null"
            assert sentence(verb, modality, key, "nothing").startswith(key.key)
            for choice in key.choices:
                told = sentence(verb, modality, key, choice)
                assert not told.startswith(f"{key.key}: "), told


def test_only_these_numbers_have_no_range():
    """A check that a range is not told of would be one that is not seen."""
    numbers = {k.key for _, _, k in KEYS if not k.range and ("number" in k.type or "int" in k.type)}
    lists = {"optim.betas", "objective.taps", "objective.tap_weights", "segmentation.taps"}
    assert numbers == {"hypnogram.offset_s", *lists}


@pytest.mark.parametrize(
    ("verb", "modality", "name", "told"),
    [
        ("pretrain", "eeg", "optim.lr", "at least 0"),
        ("pretrain", "eeg", "encoder.drop_path", "0 to 0.99"),
        ("pretrain", "eeg", "objective.span", "0 or at least 1"),
        ("pretrain", "eeg", "window_s", "at least 1"),
        ("pretrain", "eeg", "fit.workers", "at least -1"),
        ("preprocess", "eeg", "h_freq", "above 0"),
        ("preprocess", "image", "size", "1 to 4096"),
        ("demo", "image", "per_class", "at least 1"),
    ],
)
def test_ranges_in_words(verb, modality, name, told):
    found = [key.range for key in keys_of(TABLES[verb, modality]) if key.key == name]
    assert set(found) == {told}  # of each objective that has it


# Ends that another setting does not go with.
JOINT = (
    *("must be a multiple of", "is above optim.lr", "are both 0", "are all 0"),
    *("must be below h_freq", "must not be below objective.near"),
)


def out_of_range(key, told):
    """Whether a sentence says that a value of this key is out of range."""
    range_ = r" is \S+( Hz)?; it must be (at least|between|above) "
    return re.match(re.escape(key.key) + range_, told) is not None


@pytest.mark.parametrize(("verb", "modality", "key"), RANGED, ids=lambda v: getattr(v, "key", v))
def test_ends_are_accepted_and_what_lies_just_outside_is_refused(verb, modality, key):
    def beyond(value, to):
        if "int" in key.type:
            return value + (1 if to > value else -1)
        return math.nextafter(value, to)

    for end, outwards in ((key.minimum, -math.inf), (key.maximum, math.inf)):
        if end is None:
            continue
        inside, outside = end, beyond(end, outwards)
        if key.range.startswith("above"):
            inside, outside = beyond(end, math.inf), end
        told = sentence(verb, modality, key, inside)
        assert not told or any(words in told for words in JOINT), told
        assert out_of_range(key, sentence(verb, modality, key, outside))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_number_is_refused_exactly_where_it_is_out_of_range(data):
    verb, modality, key = data.draw(st.sampled_from(RANGED))
    values = st.integers(-5000, 5000) if "int" in key.type else st.floats(-1e4, 1e4)
    value = data.draw(values)
    inside = key.minimum <= value <= (math.inf if key.maximum is None else key.maximum)
    inside &= not (key.range.startswith("above") and value == key.minimum)
    inside |= value == key.default  # 0 for off, where 1 is the least
    assert out_of_range(key, sentence(verb, modality, key, value)) != inside


def named(name, **options):
    found = describe_settings(name, **options)
    assert found.one
    [item] = found.settings
    return item


@pytest.mark.parametrize("name", configs.names())
def test_what_a_configuration_changes_is_what_differs(name):
    item = named(name)
    cls = class_of(item.verb, item.modality)
    made = configs.compose(cls, item.verb, name)
    usual = configs.to_dict(cls())
    if item.verb == "pretrain":
        own = configs.to_dict(type(made.objective)())
        usual["objective"] = own | {"name": cls().objective.name}
    told = [f"{k.key}: {k.default}, now {k.value}" for k in keys_of(item) if k.changed]
    assert sorted(told) == sorted(configs.differences(usual, configs.to_dict(made)))
    assert [k.key for k in keys_of(named(name, changed=True))] == [
        k.key for k in keys_of(item) if k.changed
    ]


@pytest.mark.parametrize("name", configs.names())
def test_json_holds_the_configuration(name):
    item = json.loads(json.dumps(describe_settings(name).to_dict()))["settings"][0]
    cls = class_of(item["verb"], item["modality"])
    values = {key["key"]: key["value"] for key in item["keys"]}
    assert configs.compose(cls, item["verb"], None, values) == configs.compose(
        cls, item["verb"], name
    )


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("mae", "eeg"),
        ("cifar-mae", "image"),
        ("image-tiny-finetune", "image"),
        ("few-labels", "eeg"),
        ("demo-finetune", "eeg"),
    ],
)
def test_a_configuration_is_of_the_modality_it_is_for(name, modality):
    assert named(name).modality == modality


def test_a_configuration_that_fits_both_is_shown_for_the_one_that_is_asked_for():
    assert named("mae", modality="image").modality == "image"
    shipped = {item.name: item.modalities for item in EVERYTHING.configurations}
    assert shipped["mae"] == ("eeg", "image")
    assert shipped["cifar-mae"] == ("image",)
    assert set(shipped) == set(configs.names())
    assert all(item.about for item in EVERYTHING.configurations)


def test_the_range_is_that_of_the_configuration(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("verb: pretrain\npatch_s: 2\n")
    [key] = [key for key in keys_of(named(mine)) if key.key == "window_s"]
    assert key.range == "at least 2"


def test_a_file_of_ones_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("# Mine.\n# Twice.\nfit: {epochs: 3}\n\n# Not this.\nshift_s: 2\n")
    found = describe_settings(mine, changed=True)
    assert found.configurations[0].about == "Mine. Twice."
    assert [(k.key, k.value) for k in keys_of(found.settings[0])] == [
        ("shift_s", 2.0),
        ("fit.epochs", 3),
    ]
    assert found.settings[0].verb == "finetune"
    mine.write_text("fit: {epochs: 3}\n")
    assert named(mine).verb == "pretrain"
    assert named(mine, verb="finetune").verb == "finetune"
    mine.write_text("verb: finetune\n")
    assert describe_settings(mine, changed=True).to_text().endswith("\n\nnothing differs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fits: 3\n",
            "says no verb, and fits none: pass --verb, or mend what is wrong (unknown key",
        ),
        ("verb: finetune\nshift: 3\n", "unknown key 'shift'; nearest is 'shift_s'"),
        ("verb: pretrain\nfit: {epochs: 0}\n", "fit.epochs is 0; it must be at least 1."),
        ("verb: stage\n", "is 'stage'; it can be 'preprocess', 'pretrain', 'finetune'."),
        ("- 1\n", "must hold key: value lines."),
    ],
)
def test_a_mistake_in_a_file(tmp_path, text, message):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(ConfigError) as caught:
        describe_settings(mine)
    assert message in str(caught.value)


def test_of_no_name_and_of_a_mistyped_one():
    with pytest.raises(ConfigError, match=r"no configuration 'cifar-map'; nearest is 'cifar-ma?p?"):
        describe_settings("cifar-map")


def run(*words, columns=80):
    done = CliRunner().invoke(app, ["config", *words], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.stdout


DIGITS = """\

partsig preprocess, image
=========================
What a store of images holds.

key              default   type and range
size             null      integer or null, 1 to 4096
  pixels of a side; null: 224 for files (112 where cut is parts), 32 for cifar10
  and cifar100, 8 for digits
grey             false     true or false
  store the luma (ITU-R BT.601) in place of red, green and blue
val_share        0.05      number, 0 to 0.9
  share of the training images held out for validation, by the hash of their
  names, where the source has no validation images
val_role         val       one of val, test
  what the images of a folder val are for
classes          []        list of texts
  part data sets: species, breeds or categories that are taken; [] is all
cut              image     one of image, object, parts
  part data sets: image, whole ones; object, a square about each object; parts,
  a square about each part, the label being the part's name
margin           0.05      number, 0 to 2
  part data sets: what is added on each side, as a share of a box's longer side
parts            []        list of texts
  part data sets, cut=parts: which are cut out; [] is the published selection,
  or all where there is none
patch_rule       code      one of code, paper
  cut=parts by keypoints: side of the square; code, half the distance to the
  nearest chosen keypoint (taken from 40 to 2000 px), which published numbers
  were made with; paper, that distance (from 20 to 1000 px)
paint            in_order  one of in_order, reversed
  pascal-part: which of overlapping parts is seen in masks; in_order, the later
  in the file (eyes on the head); reversed, the earlier (the head hides them),
  as part discovery published it
background       ignored   one of ignored, class
  part data sets: pixels of no part in masks; ignored (255), as published, or a
  last class
least_area       0         number, 0 to 1
  pascal-part, cut=object: share of the image that an object's box covers at
  least
least_area_test  null      number or null, 0 to 1
  the same of test images; null is least_area (part discovery: 0.1 and 0.2)
disputed         ignored   one of ignored, background
  cub200: pixels that some of five people called bird, not all; ignored (255),
  or background, as part discovery has it
"""


def test_a_table_of_80_columns():
    assert run("--verb", "preprocess", "--modality", "image") == DIGITS


@pytest.mark.parametrize("columns", [72, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal(columns):
    for words in ([], ["part-histogram"], ["cifar", "--changed"], ["few-labels"]):
        lines = run(*words, columns=columns).splitlines()
        assert max(map(len, lines)) <= columns
        assert not any(line != line.rstrip() for line in lines)
        assert not any(a == b == "" for a, b in pairwise(lines))


def test_where_there_is_room_the_meaning_stands_beside():
    lines = run("--verb", "pretrain", "--modality", "eeg", columns=140).splitlines()
    [line] = [line for line in lines if line.startswith("fit.epochs ")]
    assert line.split("  ")[-1].strip() == "passes over the training data"


def test_what_differs_is_marked():
    lines = run("part-histogram").splitlines()
    assert lines[0].startswith("part-histogram: Ours, not the paper's: each pair predicts a")
    marked = [line.split()[1:] for line in lines if line.startswith("* ")]
    assert marked == [
        ["window_s", "5", "30"],
        ["objective.patches", "10", "0"],
        ["objective.loss", "histogram", "mse"],
        ["objective.relative", "pairwise-mlp", "cross-attention"],
        ["objective.hidden", "256", "0"],
        ["optim.clip", "1", "0"],
    ]


def test_a_value_as_it_is_shown_can_be_set():
    for (verb, modality), item in TABLES.items():
        texts = [f"{key.key}={as_yaml(key.default)}" for key in keys_of(item) if not key.when]
        made = configs.compose(class_of(verb, modality), verb, None, texts)
        assert made == class_of(verb, modality)()


def test_a_pipe_is_given_80_columns_whatever_the_terminal(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    command = [sys.executable, "-m", "partsig", "config", "--verb", "report"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == run("--verb", "report")
    assert done.stderr == ""


def test_json_from_the_shell():
    found = json.loads(run("--verb", "pretrain", "--modality", "eeg", "--json"))
    assert found == json.loads(
        json.dumps(describe_settings(verb="pretrain", modality="eeg").to_dict())
    )
    [key] = [key for key in found["settings"][0]["keys"] if key["key"] == "window_s"]
    assert key == {
        "key": "window_s",
        "when": "",
        "type": "number",
        "choices": [],
        "default": 30.0,
        "value": 30.0,
        "range": "at least 1",
        "minimum": 1.0,
        "maximum": None,
        "meaning": "length of a window in seconds; at least patch_s",
        "changed": False,
    }


def test_only_the_alternative_that_was_chosen_is_told_of_a_configuration():
    assert {key.when for key in keys_of(named("mae"))} == {"", "objective.name=mae"}
    everything = describe(registry.get("eeg").pretrain)
    assert {section.when for section in everything} == {
        "",
        *(f"objective.name={cls.name}" for cls in OBJECTIVES),
    }
