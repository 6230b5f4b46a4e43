"""What folders and files are called in what is passed on: where they lie tells people's names."""

from pathlib import Path


def place_name(place: str | Path) -> str:
    """Return the last part of a path or an address, which is all that others need to know of it.

    >>> place_name("/home/somebody/stores/nights/"), place_name("s3://bucket/nights")
    ('nights', 'nights')
    """
    return Path(place).resolve().name


def without_places(text: str, *places: str | Path) -> str:
    """Return a text in which these folders are called by their names alone, however written.

    >>> without_places("cannot read /data/somebody/raw/a.edf.", "/data/somebody/raw")
    'cannot read raw/a.edf.'
    """
    for place in places:
        name = place_name(place)
        for written in sorted({str(place), str(Path(place).resolve())}, key=len, reverse=True):
            text = text.replace(written, name) if len(Path(written).parts) > 1 else text
    return text
