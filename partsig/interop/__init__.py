"""partsig in the company of others: scikit-learn, braindecode and skorch, Hugging Face's hub.

``PartEmbedder`` is a scikit-learn transformer, ``PartStager`` a torch module with braindecode's
signature, ``to_braindecode`` and ``from_braindecode`` convert stores and datasets, ``push_to_hub``
publishes an exported folder, ``to_timm``, ``from_timm`` and ``to_torchvision`` rename the weights
of encoders of images. Loaded on first use: each needs other packages.
"""

from importlib import import_module

NAMES = {
    "PartEmbedder": "embedder",
    "PartStager": "module",
    "to_braindecode": "braindecode_data",
    "from_braindecode": "braindecode_data",
    "fetch": "hub",
    "push_to_hub": "hub",
    "to_timm": "vit",
    "from_timm": "vit",
    "to_torchvision": "vit",
}
__all__ = list(NAMES)


def __getattr__(name: str):
    if name in NAMES:
        return getattr(import_module(f"partsig.interop.{NAMES[name]}"), name)
    raise AttributeError(f"module 'partsig.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
