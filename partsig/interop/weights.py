"""Files of weights from elsewhere: read as plain tensors, and held against what they are for."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from partsig import regular
from partsig.errors import ConfigError
from partsig.train.checkpoint import check_unpacked

# Where official checkpoints keep their weights; what else lies there (settings, an optimiser) is
# left out by whoever converts one.
KEPT = ("model", "state_dict", "teacher", "student")
# What is said by torch of a file that holds more than tensors and plain values.
MORE = ("can still be loaded", "Unsupported global")


def read_weights(file: Path) -> Mapping[str, Any]:
    """Return what a .safetensors file, or one of ``torch.save``, holds; nothing in it is run.

    Raises ConfigError for a file that cannot be read, and for one that holds more than weights and
    plain values, saying how it is converted.
    """
    try:
        regular.check(file)
    except regular.IrregularError as error:
        raise ConfigError(f"--weights {file} is {error}; it must hold a state dict.") from None
    except OSError as error:
        raise ConfigError(f"--weights {file} cannot be read: {error.strerror}.") from None
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(file)
        else:
            if zipfile.is_zipfile(file):  # else of an older torch, which packs nothing
                check_unpacked(file, file.stat().st_size)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        if isinstance(error, UnpicklingError) and any(words in str(error) for words in MORE):
            new = file.with_name(f"{file.stem}-weights.pth").name
            raise ConfigError(
                f"--weights {file} holds more than plain weights, which could run code; if you "
                "trust who made it, convert it once: python -c \"import torch; c = torch.load('"
                f"{file.name}', 'cpu', weights_only=False); torch.save({{k: c[k] for k in c if k "
                f"in {KEPT}}}, '{new}')\""
            ) from None
        raise ConfigError(
            f"--weights {file} is no file of plain weights ({type(error).__name__}); it must "
            "hold a state dict, saved by torch.save or as safetensors."
        ) from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"--weights {file} holds no weights by name; it must hold a state dict.")
    return content


def state_under(content: Mapping[str, Any], names: Iterable[str], file: Path) -> dict[str, Tensor]:
    """Return the weights by name under the first of ``names`` that there is, else at the top.

    Raises ConfigError where something else is there.
    """
    for name in names:
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not content or not all(
        isinstance(key, str) and torch.is_tensor(value) for key, value in content.items()
    ):
        raise ConfigError(f"--weights {file} holds no weights by name; it must hold a state dict.")
    return dict(content)


def fill_strictly(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Give a model these weights; raise ConfigError, naming the first keys, where any differs."""
    own = model.state_dict()
    lacking, besides = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    other = [
        f"{key} ({'x'.join(map(str, state[key].shape))}, not {'x'.join(map(str, own[key].shape))})"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    told = [
        f"{words} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if keys[3:] else ''}"
        for words, keys in (("lacks", lacking), ("has besides", besides), ("differs in", other))
        if keys
    ]
    if told:
        raise ConfigError(f"{what} does not fit the encoder: it {'; it '.join(told)}.")
    model.load_state_dict(state)


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with regular.open_bytes(file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights: of their names, kinds, shapes and values, sorted by name."""
    told = hashlib.sha256()
    for name, value in sorted(state.items()):
        told.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        told.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return told.hexdigest()
