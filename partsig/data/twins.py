"""Who is the same under several names: groups of what was found to be equal, pair by pair."""

from collections.abc import Iterable, Mapping, Sequence

# A name and the one it counts as, where that is another: the first of those that are one.
Twins = Mapping[str, str]
NO_TWINS: Twins = {}
TWICE = ("recording", "sleeper")  # what is there twice, and what it counts as


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return whom each name counts as, for all that do not count as themselves.

    >>> grouped([("c", "b"), ("b", "a"), ("x", "x")])
    {'b': 'a', 'c': 'a'}
    """
    first: dict[str, str] = {}

    def find(name: str) -> str:
        while name in first:
            name = first[name]
        return name

    for pair in pairs:
        low, high = sorted(map(find, pair))
        if low != high:
            first[high] = low
    return {name: find(name) for name in sorted(first)}


def joined(names: Iterable[str], twins: Twins) -> set[str]:
    """Return whom these names count as."""
    return {twins.get(name, name) for name in names}


def apart(names: Iterable[str], among: Iterable[str], twins: Twins) -> list[str]:
    """Return all of ``among`` who count as one of these, sorted.

    >>> apart(["a"], ["a", "b", "c"], {"b": "a"})
    ['a', 'b']
    """
    wanted = joined(names, twins)
    return sorted({name for name in among if twins.get(name, name) in wanted})


def told(pairs: Sequence[tuple[str, str]], item: str, unit: str, most: int = 5) -> list[str]:
    """Return one sentence on what is there twice: which, and what becomes of it; none for none."""
    if not pairs:
        return []
    few = ", ".join(f"{one} = {other}" for one, other in pairs[:most])
    more = f", and {len(pairs) - most:,} more" if len(pairs) > most else ""
    return [f"the same {item} under two names, which count as one {unit}: {few}{more}"]
