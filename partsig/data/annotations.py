"""WFDB annotation files (MIT format), and stages from change points.

wfdb 4.3.1 is not used here: it loses an annotation at sample 0 when the file opens with its
time-resolution note, as every file of challenge-2018 does.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from partsig.data.recordings import EPOCH_S, UNSCORED, n_epochs
from partsig.errors import DataError

# Annotation codes of the format: https://physionet.org/physiotools/wag/annot-5.htm
NOTE, SKIP, NUM, SUB, CHN, AUX = 22, 59, 60, 61, 62, 63
RESOLUTION = "## time resolution: "


def read_annotations(path: Path) -> tuple[np.ndarray, list[str], float | None]:
    """Return sample numbers (K,) int64, the K texts, and the file's time resolution (Hz) or None.

    Raises DataError when the file ends inside an annotation or lacks its end mark.
    """
    data = path.read_bytes()
    samples: list[int] = []
    texts: list[str] = []
    resolution = None
    time, at, ended = 0, 0, False
    while at + 2 <= len(data):
        word = int.from_bytes(data[at : at + 2], "little")
        code, value = word >> 10, word & 0x3FF
        at += 2
        if code == 0 and value == 0:
            ended = True
            break
        if code == SKIP:  # a 32-bit interval, high half first
            if at + 4 > len(data):
                break
            high = int.from_bytes(data[at : at + 2], "little", signed=True)
            time += (high << 16) + int.from_bytes(data[at + 2 : at + 4], "little")
            at += 4
        elif code == AUX:
            if not samples or at + value > len(data):
                break
            texts[-1] = data[at : at + value].decode("latin-1").rstrip("\0")
            at += value + value % 2
        elif code in (NUM, SUB, CHN):
            continue
        else:
            time += value
            if code:
                samples.append(time)
                texts.append("")
    if not ended:
        raise DataError(f"{path.name}: the annotation file is cut off; download it again.")
    if texts and texts[0].startswith(RESOLUTION):
        try:
            resolution = float(texts[0].removeprefix(RESOLUTION))
        except ValueError:
            raise DataError(
                f"{path.name}: cannot read the time resolution in {texts[0]!r}."
            ) from None
        samples, texts = samples[1:], texts[1:]
    return np.array(samples, dtype=np.int64), texts, resolution


def write_annotations(
    path: Path, samples: Sequence[int], texts: Sequence[str], sfreq: float
) -> None:
    """Write notes with their texts in MIT format, opening with the time resolution."""
    data = bytearray()

    def put(code: int, value: int) -> None:
        data.extend((code << 10 | value).to_bytes(2, "little"))

    def put_skip(interval: int) -> None:
        put(SKIP, 0)
        data.extend((interval >> 16 & 0xFFFF).to_bytes(2, "little"))
        data.extend((interval & 0xFFFF).to_bytes(2, "little"))

    def put_text(text: str) -> None:
        encoded = text.encode("latin-1")
        put(AUX, len(encoded))
        data.extend(encoded + b"\0" * (len(encoded) % 2))

    put(NOTE, 0)
    put_text(f"{RESOLUTION}{sfreq:g}")
    put_skip(-1)
    put(0, 1)
    time = 0
    for sample, text in zip(samples, texts, strict=True):
        put_skip(int(sample) - time)
        put(NOTE, 0)
        put_text(text)
        time = int(sample)
    put(0, 0)
    path.write_bytes(bytes(data))


def stages_from_marks(
    name: str,
    samples: Sequence[int],
    texts: Sequence[str],
    codes: dict[str, int],
    n_times: int,
    sfreq: float,
) -> np.ndarray:
    """Return (E,) int8: the stage of each whole epoch, where a mark holds until the next one.

    Texts that open with ``(`` or close with ``)`` bracket events and are no stages. Epochs before
    the first mark are unscored (-1).

    Raises DataError for an unknown text, a mark off the 30-s grid or beyond the record, and two
    different stages at one place.

    >>> stages_from_marks("n", [6000, 18000], ["W", "N1"], {"W": 0, "N1": 1}, 25000, 200).tolist()
    [-1, 0, 0, 1]
    """
    per_epoch = round(EPOCH_S * sfreq)
    result = np.full(n_epochs(n_times, sfreq), UNSCORED, dtype=np.int8)
    marks: dict[int, str] = {}
    for sample, text in zip(samples, texts, strict=True):
        if text.startswith("(") or text.endswith(")"):
            continue
        if text not in codes:
            raise DataError(
                f"{name}: unknown stage {text!r} at {sample / sfreq:g} s; "
                f"known stages are {', '.join(codes)}."
            )
        if sample % per_epoch or not 0 <= sample < n_times:
            where = "off the 30-s grid" if 0 <= sample < n_times else "outside the record"
            raise DataError(
                f"{name}: stage mark {text!r} at {sample / sfreq:g} s lies {where} "
                f"(record of {n_times / sfreq:g} s), so its epochs cannot be told."
            )
        if marks.setdefault(int(sample), text) != text:
            raise DataError(
                f"{name}: two stages, {marks[int(sample)]!r} and {text!r}, at {sample / sfreq:g} s."
            )
    for sample in sorted(marks):
        result[sample // per_epoch :] = codes[marks[sample]]
    return result
