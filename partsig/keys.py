"""Every key of a configuration, described: what its dataclass, and the checks in it, say of it.

A field's meaning stands beside it, ``Annotated[float, "length of a patch in seconds"]``, and its
range is what its check refuses; nothing is written down twice.
"""

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from partsig import config as configs
from partsig.errors import RangeError

TYPES = {int: "integer", float: "number", str: "text", bool: "true or false", NoneType: "null"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key with its dotted name, plain default and value, and all that can be said of it.

    ``when`` is the choice it belongs to, such as ``objective.name=part``; "" is always. ``value``
    is the default's where no configuration is described. ``range`` says in words what its check
    lets through, ``minimum`` and ``maximum`` (None: no such limit) as numbers.
    """

    key: str
    when: str
    type: str
    choices: tuple[str, ...]
    default: object
    value: object
    range: str = ""
    minimum: float | None = None
    maximum: float | None = None
    meaning: str

    @property
    def changed(self) -> bool:
        """Whether the value is not the default."""
        return self.value != self.default


@dataclass(frozen=True, kw_only=True)
class Section:
    """Keys that belong together: ``optim``, or those of ``objective`` with one of its names."""

    name: str
    when: str
    about: str
    keys: tuple[Key, ...]


def describe(cls: type, settings: object = None) -> list[Section]:
    """Return the sections of a configuration with all their keys, each once.

    Of a section that is one of several dataclasses, every one is described; where ``settings``, a
    ``cls``, are given, the one that they have. Values and ranges are then theirs.

    >>> from partsig.train.settings import OptimConfig
    >>> [section] = describe(OptimConfig)
    >>> len(section.keys), section.keys[0].key, section.keys[0].range
    (8, 'lr', 'at least 0')
    """
    return list(_sections(cls(), settings, "", "", ""))


def _sections(
    default: object, chosen: object, name: str, when: str, meaning: str
) -> Iterator[Section]:
    hints = get_type_hints(type(default), include_extras=True)
    defaults = configs.to_dict(default)
    values = defaults if chosen is None else configs.to_dict(chosen)
    fields = [field.name for field in dataclasses.fields(default)]
    # The name of a choice is told once, with the choices.
    known = {"name"} if when.startswith(f"{name}.name=") else set()
    nested = {field: configs.sections_of(hints[field]) for field in fields}
    keys = [
        _key(
            f"{name}.{field}".lstrip("."),
            when,
            hints[field],
            (defaults[field], values[field]),
            _limits(default if chosen is None else chosen, field, hints[field]),
        )
        for field in fields
        if not nested[field] and field not in known
    ]
    about = first_paragraph(type(default)) + (f" [{meaning}]" if meaning else "")
    yield Section(name=name, when=when, about=about, keys=tuple(keys))
    for field, classes in nested.items():
        if not classes:
            continue
        inner = f"{name}.{field}".lstrip(".")
        usual = getattr(default, field)
        given = None if chosen is None else getattr(chosen, field)
        if len(classes) == 1:
            yield from _sections(usual, given, inner, when, _meaning(hints[field]))
            continue
        names = Literal[tuple(cls.name for cls in classes)]
        hint = Annotated[names, _meaning(hints[field])]
        pair = (usual.name, given.name if given else usual.name)
        choice = _key(f"{inner}.name", when, hint, pair, None)
        yield Section(name=inner, when=when, about="", keys=(choice,))
        for cls in classes:
            if given is None or type(given) is cls:
                own = usual if type(usual) is cls else cls()
                yield from _sections(own, given, inner, f"{inner}.name={cls.name}", "")


def _key(
    key: str, when: str, hint: Any, values: tuple[object, object], limits: RangeError | None
) -> Key:
    low, high = (-math.inf, math.inf) if limits is None else (limits.low, limits.high)
    return Key(
        key=key,
        when=when,
        type=_type(hint),
        choices=tuple(map(str, _choices(hint))),
        default=values[0],
        value=values[1],
        range="" if limits is None else _range(limits, values[0]),
        minimum=low if math.isfinite(low) else None,
        maximum=high if math.isfinite(high) else None,
        meaning=_meaning(hint),
    )


def _limits(settings: object, field: str, hint: Any) -> RangeError | None:
    """Return what the check of a number says: it is asked about no number at all."""
    if not {int, float} & set(_alternatives(hint)):
        return None
    try:
        dataclasses.replace(settings, **{field: math.nan})
    except RangeError as error:
        return error if error.setting.rpartition(".")[2] == field else None
    except (ValueError, TypeError, ArithmeticError):  # a check of another kind, of a plug-in
        return None
    return None


def _range(limits: RangeError, default: object) -> str:
    low, high = f"{limits.low:g}", f"{limits.high:g}"
    told = f"above {low}" if limits.above else f"at least {low}"
    if math.isfinite(limits.high):
        told = f"{low} to {high}"
    # 0 for "off", which is not asked about.
    outside = default is not None and not limits.low <= default <= limits.high
    return f"{default:g} or {told}" if outside else told


def _meaning(hint: Any) -> str:
    told = (text for text in getattr(hint, "__metadata__", ()) if isinstance(text, str))
    return next(told, "")


def _alternatives(hint: Any) -> tuple:
    """Return the types that a hint allows, one after the other."""
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _choices(hint: Any) -> tuple:
    return tuple(
        value
        for item in _alternatives(hint)
        if get_origin(item) is Literal
        for value in get_args(item)
    )


def _type(hint: Any) -> str:
    """Return the words for a type.

    >>> _type(tuple[str, ...] | None), _type(float | dict[str, float] | None)
    ('list of texts or null', 'number, mapping to numbers or null')
    """
    *first, last = map(_word, _alternatives(hint))
    return f"{', '.join(first)} or {last}" if first else last


def _word(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "choice"
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"list of {len(inner)} {_plural(inner[0])}"
    if origin in (tuple, list):
        return f"list of {_plural(inner[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping to {_plural(inner[1])}"
    return TYPES.get(hint, getattr(hint, "__name__", str(hint)))


def _plural(hint: Any) -> str:
    first, *rest = _word(hint).split(" ")
    return " ".join([f"{first}s", *rest])


def first_paragraph(thing: object) -> str:
    """Return the first paragraph of a docstring on one line, without its markup."""
    text = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    return re.sub(r":\w+:|`+|~?partsig[\w.]*\.(?=\w)", "", " ".join(text.split()))
