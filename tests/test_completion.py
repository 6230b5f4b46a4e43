"""What a shell completes: configurations, keys, runs and stores."""

import json
import os
import subprocess
import sys
from importlib import resources

import pytest

from partsig.keys import describe
from partsig.modalities import registry
from partsig.verbs.config import VERBS, _class_of


def keys():
    """Return the keys of every verb and their choices, as configs/keys.json holds them."""
    found = {}
    for verb in VERBS:
        classes = filter(None, (_class_of(verb, kind) for kind in registry.MODALITIES))
        told = [key for cls in classes for section in describe(cls) for key in section.keys]
        choices = {}
        for key in told:
            bools = ["true", "false"] if key.type == "true or false" else []
            more = [choice for choice in key.choices or bools if choice]
            known = choices.setdefault(key.key, [])
            known += [choice for choice in more if choice not in known]
        found[verb] = choices
    return found


def written():
    """Return the text of configs/keys.json."""
    lines = [
        f' "{verb}": {{\n'
        + ",\n".join(f'  "{key}": {json.dumps(values)}' for key, values in choices.items())
        + "\n }"
        for verb, choices in keys().items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def test_the_keys_that_are_completed_are_those_of_the_settings():
    """Written anew by ``python tests/test_completion.py``."""
    file = resources.files("partsig.configs") / "keys.json"
    assert file.read_text(encoding="utf-8") == written()
    assert json.loads(written()) == keys()
    assert keys()["pretrain"]["objective.name"][:2] == ["part", "mae"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pretrain --config ma", ["mae"]),
        ("pretrain --set objective.mask_r", ["objective.mask_ratio="]),
        ("finetune --set fit.b", ["fit.batch_size="]),
        ("preprocess edf --set hypnogram.off", ["hypnogram.offset_s="]),
        ("pretrain --set objective.name=m", ["objective.name=mae", "objective.name=mp3"]),
        ("stage night.edf --set scored=", ["scored=true", "scored=false"]),
        ("pretrain --set fit.epochs=", []),
        ("config part-h", ["part-histogram"]),
        ("evaluate --run ru", ["runs/a", "runs/b"]),
        ("compare runs/", ["runs/a", "runs/b"]),
        ("pretrain --store data/", ["data/store/nights"]),
        ("finetune --from runs/b", ["runs/b"]),
        ("fin", ["finetune"]),
    ],
)
def test_a_shell_is_told_how_a_word_goes_on(words, expected, tmp_path):
    for name in ("runs/a/run.json", "runs/b/run.json", "data/store/nights/meta.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    asked = os.environ | {
        "_PARTSIG_COMPLETE": "complete_bash",
        "COMP_WORDS": f"partsig {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    script = "from partsig.cli import app; app(prog_name='partsig')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == expected, done.stderr


if __name__ == "__main__":
    target = resources.files("partsig.configs") / "keys.json"
    target.write_text(written(), encoding="utf-8")
