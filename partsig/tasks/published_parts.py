"""What was published of part discovery: rows to stand beside measured ones, marked as published.

Figures in per cent. All are Choudhury et al.'s, of their method and of others as they ran them;
what is told here of each is the table that it stands in. They were trained on all of CUB, on
DeepFashion and on ten classes of PASCAL-Part with the true foreground, at 256 pixels: a row of less
data, other features or a found foreground beside them is no failure to reproduce.

Source: S. Choudhury, I. Laina, C. Rupprecht, A. Vedaldi, Unsupervised part discovery from
contrastive reconstruction, NeurIPS 2021.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

SOURCE = "Choudhury et al., NeurIPS 2021"
MEASURES = ("fg_nmi", "fg_ari", "nmi", "ari")
ERRORS = ("error_001", "error_002", "error_003", "error")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of a table: ``values`` in per cent by measure, those that were given.

    ``fg_nmi``, ``fg_ari``, ``nmi``, ``ari``; ``error``, of keypoints, of all of CUB and of its
    species 001, 002 and 003. ``n_parts``: how many parts, 0 where that is not told.
    """

    data: str
    method: str
    table: str
    n_parts: int = 4
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def _row(data: str, method: str, table: str, n_parts: int, told: str, note: str = ""):
    """Return a row of figures in the order of the measures, then of the errors; - is none."""
    pairs = zip((*MEASURES, *ERRORS), told.split(), strict=False)
    values = {name: float(text) for name, text in pairs if text != "-"}
    return PublishedRow(
        data=data, method=method, table=table, n_parts=n_parts,
        values=MappingProxyType(values), note=note,
    )  # fmt: skip


_CUB, _FASHION = "comparison on CUB-200", "comparison on DeepFashion"
_ABLATION, _NUMBER = "ablation", "number of parts"
MENDED = (
    "FG-ARI was published as 21.0, of the prediction with background; 21.65 is what the authors' "
    "mended code gives"
)
ROWS = (
    _row("cub200", "image midpoint", _CUB, 1, "0.0 0.0 0.0 0.0 27.3 26.7 27.2 23.5"),
    _row("cub200", "mean true keypoint", _CUB, 1, "0.0 0.0 0.0 0.0 20.9 22.4 19.9 17.9"),
    _row("cub200", "true throat alone", _CUB, 1, "11.6 -16.2 4.6 -8.3 16.4 14.9 15.2 12.1"),
    _row("cub200", "ULD", _CUB, 0, "- - - - 30.1 29.4 28.2 -"),
    _row("cub200", "DFF", _CUB, 0, "32.4 14.3 25.9 12.4 22.4 21.6 22.0 -"),
    _row("cub200", "SCOPS (paper)", _CUB, 0, "- - - - 18.5 18.8 21.1 -"),
    _row("cub200", "SCOPS (model)", _CUB, 0, "39.1 17.9 24.4 7.1 18.3 17.7 17.0 12.6"),
    _row("cub200", "Huang and Li", _CUB, 0, "- - 26.1 13.2 15.1 17.1 15.7 11.6",
         "learned with labels of species"),
    _row("cub200", "k-means on VGG19", _ABLATION, 0, "34.9 14.7"),
    _row("cub200", "contrastive reconstruction", _CUB, 4,
         "46.0 21.65 43.5 19.6 11.3 15.0 10.6 9.2", MENDED),
    _row("cub200", "contrastive reconstruction", _NUMBER, 6, "47.2 23.0 44.4 20.7"),
    _row("cub200", "contrastive reconstruction", _NUMBER, 8, "58.2 34.0 51.5 28.3"),
    _row("deepfashion", "k-means on VGG19", _ABLATION, 0, "30.3 21.4"),
    _row("deepfashion", "SCOPS", _FASHION, 0, "30.7 27.6 56.6 81.4"),
    _row("deepfashion", "contrastive reconstruction", _FASHION, 4, "44.8 46.6 68.1 90.6"),
    _row("deepfashion", "contrastive reconstruction", _NUMBER, 6, "43.5 42.2 66.2 91.0"),
    _row("deepfashion", "contrastive reconstruction", _NUMBER, 8, "39.2 30.7 62.4 90.6"),
)  # fmt: skip

# Of PASCAL-Part, by class in the order of the table: NMI and ARI, pixels with background.
CATEGORIES = (
    *("sheep", "horse", "cow", "motorbike", "aeroplane", "bus", "car", "bicycle", "dog", "cat"),
)
_PASCAL = {
    "DFF": (
        "12.2 14.4 12.7 19.1 16.4 13.5 9.0 17.8 14.8 18.0",
        "21.6 32.3 23.3 37.2 38.3 28.5 24.1 39.1 32.3 37.5",
    ),
    "SCOPS": (
        "26.5 29.4 28.8 35.4 35.1 35.7 33.6 28.9 30.1 33.7",
        "46.3 55.7 51.2 59.2 68.0 66.0 67.1 52.4 52.2 46.6",
    ),
    "k-means": (
        "34.5 33.3 33.0 38.9 42.8 37.5 38.4 35.2 40.4 44.2",
        "58.3 66.8 59.0 63.1 76.8 66.4 70.6 63.2 70.2 71.9",
    ),
    "contrastive reconstruction": (
        "35.0 37.4 35.3 40.5 45.1 38.8 36.8 34.8 46.6 47.9",
        "59.8 68.9 59.7 64.7 79.6 67.6 72.7 64.7 73.6 75.4",
    ),
}


def published(data: str, n_parts: int | None = None) -> tuple[PublishedRow, ...]:
    """Return the published rows of a data set (``cub200``, ``deepfashion``, ``pascal-part``).

    Those of PASCAL-Part are of a class, told by ``pascal-part CLASS``. ``n_parts`` leaves out rows
    of another number of parts, but for those that have none of their own.

    >>> [row.values["fg_nmi"] for row in published("deepfashion", 4)]
    [30.3, 30.7, 44.8]
    >>> published("pascal-part cat")[-1].values["ari"]
    75.4
    """
    rows = [*ROWS, *_of_pascal()]
    return tuple(
        row
        for row in rows
        if row.data == data and (n_parts is None or row.n_parts in (0, 1, n_parts))
    )


def _of_pascal() -> list[PublishedRow]:
    found = []
    for method, (nmi, ari) in _PASCAL.items():
        for label, a, b in zip(CATEGORIES, nmi.split(), ari.split(), strict=True):
            told, table = f"- - {a} {b}", "comparison on PASCAL-Part"
            found.append(_row(f"pascal-part {label}", method, table, 0, told))
    return found


def lines(data: str, n_parts: int | None = None) -> list[str]:
    """Return the published rows as lines of Markdown, each marked as published.

    >>> lines("deepfashion", 4)[-1]
    '| *contrastive reconstruction (published)* | 4 | 44.8 | 46.6 | 68.1 | 90.6 | - |'
    """
    told = []
    for row in published(data, n_parts):
        values = [row.values.get(name) for name in (*MEASURES, "error")]
        shown = [
            "-" if v is None else f"{v:.2f}" if round(v, 1) != v else f"{v:.1f}" for v in values
        ]
        parts = str(row.n_parts or "-")
        told.append(f"| *{row.method} (published)* | {parts} | {' | '.join(shown)} |")
    return told
