"""partsig: self-supervised pretraining on biosignals by relative translations between patches.

The verbs of the command line are functions here: ``partsig.download``, ``partsig.audit``,
``partsig.preprocess``, ``partsig.pretrain``, ``partsig.finetune``, ``partsig.evaluate``,
``partsig.compare``, ``partsig.stage``, ``partsig.report``, ``partsig.embed``, ``partsig.inspect``,
``partsig.export``, ``partsig.demo``. They are loaded on first use, so that importing the package
(and ``partsig --help``) does not load torch. What the user can mend is raised as a
``partsig.PartsigError``.
"""

from importlib import import_module

__version__ = "0.1.0"

VERBS = (
    *("download", "audit", "preprocess", "pretrain", "finetune", "evaluate", "compare"),
    *("stage", "report", "embed", "inspect", "export", "demo"),
)


def __getattr__(name: str):
    if name in VERBS:
        return getattr(import_module(f"partsig.verbs.{name}"), name)
    if name == "PartsigError":
        return import_module("partsig.errors").PartsigError
    raise AttributeError(f"module 'partsig' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *VERBS, "PartsigError"])
