"""Images that a store holds twice: re-encoded, resized or mirrored."""

from collections.abc import Sequence
from pathlib import Path

from partsig.data.images import perceptual
from partsig.data.images import store as image_store
from partsig.data.images.arrays import array_path
from partsig.data.mapped import map_array
from partsig.data.store import OK
from partsig.data.twins import grouped

AT_ONCE = 256  # images that are held in memory


def find_twins(path: Path, rows: Sequence[dict[str, object]]) -> list[tuple[str, str]]:
    """Complete the rows of a store's images; return which are the same, as names.

    Each is told with the first that is the same, which its row then names (``same_as``). Rows that
    have a fingerprint keep it.
    """
    good = [row for row in rows if row["status"] == OK]
    missing: dict[int, list[dict]] = {}
    for row in good:
        if not row["fingerprint"]:
            missing.setdefault(int(row["row"]) // image_store.PER_FILE, []).append(row)
    for number, some in missing.items():
        array = map_array(array_path(path, number))[0]
        for start in range(0, len(some), AT_ONCE):
            part = some[start : start + AT_ONCE]
            images = array[[int(row["row"]) % image_store.PER_FILE for row in part]]
            for row, told in zip(part, perceptual.fingerprints(images), strict=True):
                row["fingerprint"] = told
    pairs = perceptual.find_pairs([str(row["fingerprint"]) for row in good])
    names = [str(row["image"]) for row in good]
    same = grouped((names[i], names[j]) for i, j in pairs)
    for row in good:
        row["same_as"] = same.get(str(row["image"]), "")
    return [(first, name) for name, first in same.items()]
