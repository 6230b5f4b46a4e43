"""What JSON of runs, stores and exported models may say: it may be somebody else's.

A schema is a mapping from keys to what a value must be: a test, or the schema of a section. A key
that is not told is not missed here, since files of older versions lack some; who asks for it later
is told (:class:`Told`).
"""

from collections.abc import Callable, Mapping

Test = Callable[[object], bool]
Schema = Mapping[str, "Test | Schema"]


class Told(dict):
    """What a file tells; asked for what it does not, it says so in a sentence, its sections too."""

    def __init__(self, facts: Mapping, file: object, error: type[Exception]) -> None:
        super().__init__(
            (key, Told(value, file, error) if type(value) is dict else value)
            for key, value in facts.items()
        )
        self.file, self.error = file, error

    def __missing__(self, key: str) -> object:
        raise self.error(f"{self.file} does not tell {key!r}: it is damaged.")


def fault_of(facts: Mapping, schema: Schema, above: str = "") -> str | None:
    """Return what of some facts is not as a schema has it, None where all is.

    >>> fault_of({"labels": {"unit_s": 1e308}}, {"labels": {"unit_s": number(0, 1e6)}})
    'labels.unit_s is no such thing: 1e+308'
    """
    for key, value in facts.items():
        expected = schema.get(key)
        if expected is None:
            continue
        if callable(expected):
            wrong = not expected(value)
        else:
            wrong = not isinstance(value, dict)
            inner = None if wrong else fault_of(value, expected, f"{above}{key}.")
            if inner:
                return inner
        if wrong:
            return f"{above}{key} is no such thing: {str(value)[:60]}"
    return None


def text(value: object) -> bool:
    """Tell whether a value is a text."""
    return isinstance(value, str)


def texts(value: object) -> bool:
    """Tell whether a value is a list of texts."""
    return isinstance(value, list) and all(map(text, value))


def names(value: object) -> bool:
    """Tell whether a value is a list of texts of which there is one at least, and none twice."""
    return texts(value) and len(set(value)) == len(value) > 0


def section(value: object) -> bool:
    """Tell whether a value is a section, of whatever."""
    return isinstance(value, dict)


def number(low: float, high: float) -> Test:
    """Return what tells whether a value is a number above ``low`` and up to ``high``."""
    return lambda value: _is_number(value) and low < value <= high


def count(low: int = 0, high: int = 2**63 - 1) -> Test:
    """Return what tells whether a value is a whole number from ``low`` to ``high``."""
    return lambda value: _is_number(value) and isinstance(value, int) and low <= value <= high


def numbers(value: object) -> bool:
    """Tell whether a value is a list of numbers from 0 to 1, one of them above 0, or more."""
    return (
        isinstance(value, list)
        and all(_is_number(item) and 0 <= item <= 1 for item in value)
        and any(value)
    )


def one_of(*values: object) -> Test:
    """Return what tells whether a value is one of a few."""
    return lambda value: type(value) in map(type, values) and value in values


def maybe(test: Test) -> Test:
    """Return what tells whether a value is none, or passes a test."""
    return lambda value: value is None or test(value)


def each(test: Test) -> Test:
    """Return what tells whether a value is a section all of whose values pass a test."""
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# What runs, stores and exported models say alike.
LABELS: Schema = {
    "classes": names,
    "unit_s": maybe(number(0, 1e6)),
    "target": text,
    "level": one_of("object", "part"),
    "objects": texts,
}
FILTER: Schema = {
    "l_freq": maybe(number(0, 1e6)),
    "h_freq": maybe(number(0, 1e6)),
    "method": text,
}


def fault_of_labels(facts: Mapping) -> str | None:
    """Return why labels of this length, at this rate, cannot be; None where they can."""
    labels, sfreq = facts.get("labels"), facts.get("sfreq")
    unit_s = facts.get("epoch_s") if labels is None else labels.get("unit_s")
    if labels is not None and (labels.keys() - LABELS.keys() or "classes" not in labels):
        return "labels are not told by classes, unit_s, target, objects and level"
    if sfreq is not None and labels is not None and unit_s is None:
        return "labels.unit_s is not told, and signals have a rate"
    if sfreq is not None and unit_s is not None and not 1 <= round(unit_s * sfreq) <= 1e8:
        return f"labels of {unit_s:g} s have no samples at {sfreq:g} Hz, or too many"
    return None
