"""WFDB annotation files (MIT format), and stages from change points.

wfdb 4.3.1 is not used here: it loses an annotation at sample 0 when the file opens with its
time-resolution note, as every file of challenge-2018 does.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from partsig.data.foreign import read_bytes
from partsig.data.signals.hypnograms.stages import EPOCH_S, UNSCORED, n_epochs
from partsig.errors import DataError

# Annotation codes of the format: https://physionet.org/physiotools/wag/annot-5.htm
NOTE, SKIP, NUM, SUB, CHN, AUX = 22, 59, 60, 61, 62, 63
RESOLUTION = "## time resolution: "
# No text holds one, and every annotation does: a text with one has swallowed what follows it.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Events are "(name" where they begin and "name)" where they end.
EVENT = re.compile(r"^(?:\([a-z]{2}.*|[a-z]{2}.*\))$")
# More than any recording has: a beat a second for days.
MOST_BYTES, MOST_MARKS = 2**26, 1_000_000


def read_annotations(path: Path) -> tuple[np.ndarray, list[str], float | None]:
    """Return sample numbers (K,) int64, the K texts, and the file's time resolution (Hz) or None.

    Raises DataError when the file ends inside an annotation or lacks its end mark, and when it
    cannot have been written so: something after the end mark, two texts of one annotation, a text
    with control characters, an interval that leads nowhere.
    """
    data = read_bytes(path, MOST_BYTES, "annotation file")
    samples: list[int] = []
    texts: list[str] = []
    resolution = None
    time, at, ended, skipped, told = 0, 0, False, False, False
    while at + 2 <= len(data):
        word = int.from_bytes(data[at : at + 2], "little")
        code, value = word >> 10, word & 0x3FF
        at += 2
        if code == 0 and value == 0:
            ended = True
            if skipped or any(data[at:]):
                raise _damaged(path, at, "an end mark in the middle")
            break
        if code == SKIP:  # a 32-bit interval, high half first
            if at + 4 > len(data):
                break
            high = int.from_bytes(data[at : at + 2], "little", signed=True)
            time += (high << 16) + int.from_bytes(data[at + 2 : at + 4], "little")
            at += 4
            skipped = True
        elif code == AUX:
            if not samples or at + value > len(data):
                break
            texts[-1] = data[at : at + value].decode("latin-1").rstrip("\0")
            if told or skipped or CONTROL.search(texts[-1]):
                raise _damaged(path, at, f"the text {texts[-1][:40]!r}")
            told = True
            at += value + value % 2
        elif code in (NUM, SUB, CHN):
            continue
        else:
            time += value
            skipped = False
            if code:
                told = False
                if len(samples) == MOST_MARKS:
                    raise _damaged(path, at, f"more than {MOST_MARKS:,} annotations")
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


def _damaged(path: Path, at: int, what: str) -> DataError:
    return DataError(
        f"{path.name}: {what} at byte {at}, where none can be; the file is damaged, download it "
        "again."
    )


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

    Texts such as ``(resp_hypopnea`` and ``resp_hypopnea)`` bracket events and are no stages.
    Epochs before the first mark are unscored (-1).

    Raises DataError for an unknown text, a mark off the 30-s grid or beyond the record, and two
    different stages at one place.

    >>> stages_from_marks("n", [6000, 18000], ["W", "N1"], {"W": 0, "N1": 1}, 25000, 200).tolist()
    [-1, 0, 0, 1]
    """
    per_epoch = round(EPOCH_S * sfreq)
    result = np.full(n_epochs(n_times, sfreq), UNSCORED, dtype=np.int8)
    marks: dict[int, str] = {}
    for sample, text in zip(samples, texts, strict=True):
        if EVENT.fullmatch(text):
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
