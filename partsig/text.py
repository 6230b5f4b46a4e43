"""Text that others have written, as it may be shown: nothing in it moves a terminal's cursor."""

import unicodedata
from collections.abc import Sequence

# Characters of a message and of a label or a value in one; a longer text loses its middle.
LONGEST, LONGEST_VALUE = 1200, 80
# Names that a message lists one by one: a recording has fewer channels, an epoch more features.
MANY = 24
# Other, by Unicode: control characters, those that change the direction of writing or are not seen,
# halves of pairs (which bytes that are no text become in file names); and separators of lines.
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
# Seen as nothing, they join letters of living languages and the parts of emoji.
JOINERS = "\u200c\u200d"
# What stands for each byte that is no text in a file's name (PEP 383).
BYTE = range(0xDC80, 0xDD00)


def shown(text: object, most: int = LONGEST, keep: str = "") -> str:
    r"""Return a text in which all that is not seen is written as ``\x1b``, of ``most`` characters.

    Characters in ``keep`` stay, such as the ends of lines. The middle of a longer text is left out.

    >>> shown("night\x1b[2Jall\nwell"), shown("a" * 50, most=9)
    ('night\\x1b[2Jall\\nwell', 'aaaaaa…aa')
    """
    text = str(text)
    ends = []
    # As many characters of either end are enough, however long it is.
    for part in (text,) if len(text) <= most else (text[:most], text[-most:]):
        ends.append("".join(c if c in keep or _is_seen(c) else _code(c) for c in part))
    whole = ends[0] if len(ends) == 1 else ends[0][:most] + ends[1]
    if len(whole) <= most:
        return whole
    last = most // 4
    return f"{whole[: most - last - 1]}…{whole[len(whole) - last :]}"


def quoted(text: object) -> str:
    r"""Return a label or a value in quotation marks, as a message has it; bounded.

    >>> quoted("C4-M1"), quoted("\x1b[31mred")
    ("'C4-M1'", "'\\x1b[31mred'")
    """
    told = shown(text, LONGEST_VALUE)
    mark = '"' if "'" in told and '"' not in told else "'"
    return f"{mark}{told}{mark}"


def listed(names: Sequence[str]) -> str:
    """Return names with commas between; of many, the first three, the last, and how many.

    >>> listed(["C3-M2", "C4-M1"])
    'C3-M2, C4-M1'
    >>> listed([f"e_{i}" for i in range(185)])
    'e_0, e_1, e_2, …, e_184 (185 in all)'
    """
    if len(names) <= MANY:
        return ", ".join(names)
    return f"{', '.join(names[:3])}, …, {names[-1]} ({len(names)} in all)"


def is_text(name: str) -> bool:
    """Tell whether a file's name can be written as UTF-8: on Linux it may hold any bytes."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _is_seen(c: str) -> bool:
    return c in JOINERS or unicodedata.category(c) not in UNSEEN


def _code(c: str) -> str:
    number = ord(c)
    if number in BYTE:
        return f"\\x{number - 0xDC00:02x}"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    short = f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
    return named.get(c, short if number < 0x10000 else f"\\U{number:08x}")
