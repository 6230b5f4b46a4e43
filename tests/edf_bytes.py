"""EDF files byte by byte, as devices write them and no library would: for tests of readers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# (onset, duration or None, text)
Annotation = tuple[float, float | None, str]
FIELDS = (("label", 16), ("", 80), ("unit", 8), ("least", 8), ("most", 8), ("low", 8), ("high", 8))
FIELDS += (("", 80), ("n", 8), ("", 32))


def signal(label: str, sfreq: int, seconds: float, seed: int = 0, **fields: object) -> dict:
    """Return a channel of noise, ±500 µV on 16 bits; ``fields`` are other texts of its header."""
    rng = np.random.default_rng(seed)
    data = np.round(rng.normal(size=round(sfreq * seconds)) * 2000).astype("<i2")
    usual = {"unit": "uV", "least": "-500", "most": "500", "low": "-32767", "high": "32767"}
    return {"label": label, "n": sfreq, "data": data} | usual | fields


def texts(onset: float, annotations: Sequence[Annotation] = ()) -> bytes:
    """Return a record's annotations, its onset first."""
    held = f"+{onset:.10g}\x14\x14\x00"
    for at, duration, text in annotations:
        lasting = "" if duration is None else f"\x15{duration:.10g}"
        held += f"{at:+.10g}{lasting}\x14{text}\x14\x00"
    return held.encode()


def write_edf(
    path: Path,
    signals: Sequence[dict],
    *,
    time: str = "22.00.00",
    date: str = "01.02.20",
    kind: str = "",
    onsets: Sequence[float] | None = None,
    annotations: Sequence[Annotation] = (),
    n_records: int | None = None,
) -> Path:
    """Write records of one second; ``onsets`` (s) of each, where the kind is EDF+C or EDF+D."""
    signals = list(signals)
    count = len(signals[0]["data"]) // signals[0]["n"]
    if kind:
        onsets = range(count) if onsets is None else onsets
        within = [[a for a in annotations if onset <= a[0] < onset + 1] for onset in onsets]
        held = [texts(onset, some) for onset, some in zip(onsets, within, strict=True)]
        size = max(map(len, held)) + 1 & ~1
        marks = {"label": "EDF Annotations", "unit": "", "least": "-1", "most": "1"}
        marks |= {"low": "-32768", "high": "32767", "n": size // 2}
        signals.append(marks | {"held": [part.ljust(size, b"\0") for part in held]})

    def field(value: object, width: int) -> bytes:
        return str(value).encode("latin-1").ljust(width)

    head = field(0, 8) + field("X X X X", 80) + field("Startdate X X X X", 80)
    head += field(date, 8) + field(time, 8) + field(256 * (len(signals) + 1), 8) + field(kind, 44)
    head += field(count if n_records is None else n_records, 8) + field(1, 8)
    head += field(len(signals), 4)
    for name, width in FIELDS:
        head += b"".join(field(s[name] if name else "", width) for s in signals)
    with open(path, "wb") as file:
        file.write(head)
        for k in range(count):
            for s in signals:
                n = s["n"]
                file.write(
                    s["held"][k] if "held" in s else s["data"][k * n : (k + 1) * n].tobytes()
                )
    return path
