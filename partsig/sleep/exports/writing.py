"""Writes a staging in every format."""

from pathlib import Path

from partsig.files import check_replaceable
from partsig.sleep.exports.documents import write_json
from partsig.sleep.exports.edf import write_edf, write_review
from partsig.sleep.exports.paths import MARKS, export_paths
from partsig.sleep.exports.tables import write_bids, write_csv
from partsig.sleep.staging import Staging


def write_all(staging: Staging, folder: Path) -> dict[str, Path]:
    """Write every format into ``folder``; return the files by kind.

    The kinds are csv, edf, review, bids, sidecar (of bids) and json. Each file is whole or absent;
    those of an earlier staging are replaced. Raises DataError, and writes nothing, where another's
    file has one of the names: a scorer's hypnogram is not lost.
    """
    for kind, path in export_paths(staging.name, folder).items():
        check_replaceable(path, MARKS[kind])
    for write in (write_csv, write_edf, write_review, write_bids, write_json):
        write(staging, folder)
    return export_paths(staging.name, folder)
