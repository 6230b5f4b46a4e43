"""Real images that ship with the package: 140 pets with trimaps; see ATTRIBUTION-pets.md."""

import zipfile
from importlib import resources
from pathlib import Path

from partsig.files import atomic

BREEDS = ("Abyssinian", "Bengal", "american_bulldog")
SIZE = 96  # pixels of a side


def write_pets(raw: Path) -> int:
    """Write images and trimaps below ``raw``, as ``preprocess pets`` reads them; return how many.

    ``images/BREED_NUMBER.jpg``, ``trimaps/BREED_NUMBER.png``, and the attribution that their
    licence asks for. Files that are there already are written again.
    """
    folder = resources.files("partsig.data.sample")
    contents = {"ATTRIBUTION.md": (folder / "ATTRIBUTION-pets.md").read_bytes()}
    with (folder / "pets.zip").open("rb") as handle, zipfile.ZipFile(handle) as file:
        contents |= {name: file.read(name) for name in file.namelist()}
    for name, content in contents.items():
        with atomic(raw / name) as temporary:
            temporary.write_bytes(content)
    return sum(name.startswith("images/") for name in contents)
