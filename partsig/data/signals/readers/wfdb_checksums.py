"""The checksums and first values of WFDB headers, held against the samples.

WFDB header(5): a signal's checksum is the sum of its samples modulo 2**16, signed. Many writers
leave both fields at 0, which then tells nothing.
"""

from typing import TYPE_CHECKING

import numpy as np

from partsig.errors import DataError

if TYPE_CHECKING:
    import wfdb

WRAP = 2**16
# What WFDB's library sums for a sample that was not digitised, whatever stands for it in the file.
NOT_DIGITISED = -(2**15)


class Checksum:
    """The sum of a channel's samples, added a stretch at a time."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.total, self.missing, self.least = 0, 0, 0

    def add(self, samples: np.ndarray, bits: int | None) -> None:
        """Add samples of a format with so many bits; None: it has none that were not digitised."""
        if self.first is None and len(samples):
            self.first = int(samples[0])
        self.total += int(samples.sum(dtype=np.int64))
        if bits is not None:
            self.least = -(2 ** (bits - 1))
            self.missing += int((samples == self.least).sum())

    def check(self, name: str, head: "wfdb.Record", row: int, *, whole: bool) -> None:
        """Raise DataError where the header says otherwise of its signal ``row``.

        Without the ``whole`` record there is a first value alone to hold it against.
        """
        first = head.init_value[row] if head.init_value else None
        told = head.checksum[row] if head.checksum else None
        if not told and not first:
            return
        channel = head.sig_name[row]
        if first is not None and self.first not in (first, self.least):
            raise DataError(
                f"{name}: channel {channel!r} starts with {self.first}, the header says {first}; "
                "the file is damaged, copy it again (or pass --set verify=false)."
            )
        sums = {self.total, self.total + self.missing * (NOT_DIGITISED - self.least)}
        if whole and told and all((total - told) % WRAP for total in sums):
            raise DataError(
                f"{name}: wrong checksum of channel {channel!r} ({self.total % WRAP}, the header "
                f"says {told % WRAP}); the file is damaged, copy it again (or pass --set "
                "verify=false)."
            )
