"""What a shell completes: configurations, keys, runs and stores."""

import json
import os
import subprocess
import sys
from importlib import resources

import pytest

from partsig import config
from partsig.data.images.folders import ImagePreprocessConfig
from partsig.data.signals.preprocessing import PreprocessConfig
from partsig.data.signals.recordings import ReadConfig
from partsig.demos.settings import DemoConfig, ImageDemoConfig
from partsig.modalities import registry
from partsig.sleep.settings import ReportConfig, StageConfig

KINDS = [registry.get(name) for name in registry.MODALITIES]
SETTINGS = {
    "preprocess": (PreprocessConfig, ImagePreprocessConfig),
    "audit": (ReadConfig,),
    "pretrain": tuple(kind.pretrain for kind in KINDS),
    "finetune": tuple(kind.finetune for kind in KINDS),
    "report": (ReportConfig,),
    "stage": (StageConfig,),
    "demo": (DemoConfig, ImageDemoConfig),
}


def keys():
    """Return the keys of every verb, as configs/keys.json holds them."""
    return {
        verb: list(dict.fromkeys(key for cls in classes for key in config._keys(cls)))
        for verb, classes in SETTINGS.items()
    }


def test_the_keys_that_are_completed_are_those_of_the_settings():
    """Written anew by ``python tests/test_completion.py``."""
    file = resources.files("partsig.configs") / "keys.json"
    assert json.loads(file.read_text(encoding="utf-8")) == keys()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pretrain --config ma", ["mae"]),
        ("pretrain --set objective.mask_r", ["objective.mask_ratio="]),
        ("finetune --set fit.b", ["fit.batch_size="]),
        ("preprocess edf --set hypnogram.off", ["hypnogram.offset_s="]),
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
    target.write_text(json.dumps(keys(), indent=1) + "\n", encoding="utf-8")
