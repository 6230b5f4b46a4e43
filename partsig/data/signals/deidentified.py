"""What of people a store keeps: ids for names, and old ages as one group, where asked for."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from partsig.data.pseudonyms import Pseudonyms, PseudonymTable
from partsig.data.signals.recordings import Recording

# What of a recording stands for its notes, and for why it was not read, where names are kept out.
UNTOLD = "not read; the table of pseudonyms says why"
SEXES = {"m", "f", "male", "female", "o", "other", "x", "d", "diverse", "u", "unknown"}
NUMBER = re.compile(r"\d{1,3}(\.\d{0,9})?")
# Settings in which names of recordings, or of files, may stand.
NAMING = ("subject", "hypnogram")


def grouped_age(age: str, limit: int | None) -> str:
    """Return an age in years as it is stored: above ``limit``, all are one group.

    >>> grouped_age("93", 89), grouped_age("89.5", 89), grouped_age("93", None)
    ('90+', '89.5', '93')
    """
    found = NUMBER.search(age)
    if limit is None or found is None or int(float(found[0])) <= limit:
        return age
    return f"{limit + 1}+"


def without_names(recording: Recording, pseudonyms: Pseudonyms) -> Recording:
    """Return a recording under its id: no word of its files is left, but the sex and the age."""
    age = re.fullmatch(rf"{NUMBER.pattern}\+?", recording.age.strip())
    sex = recording.sex.strip()
    return replace(
        recording,
        name=pseudonyms.recording(recording.name),
        subject=pseudonyms.subject(recording.subject),
        source=pseudonyms.source(recording.source),
        notes=(),
        age=age[0] if age else "",
        sex=sex if sex.lower() in SEXES else "",
    )


class Names:
    """What recordings and subjects are called in a store: as their files are, or by ids.

    ``table`` is None where they are called as their files are.
    """

    def __init__(self, file: str | Path | None, store: Path) -> None:
        self.table = None if file is None else PseudonymTable.open(file, store)

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """What ids are made by."""
        return None if self.table is None else self.table.pseudonyms

    def recording(self, name: str) -> str:
        """Return what a recording is called."""
        return name if self.table is None else self.table.recording(name)

    def source(self, fingerprint: str) -> str:
        """Return what tells the files of a recording."""
        given = self.pseudonyms
        return fingerprint if given is None else given.source(fingerprint)

    def roles(self, roles: Mapping[str, str]) -> dict[str, str]:
        """Return a split {subject: role} by what subjects are called."""
        given = self.pseudonyms
        return dict(roles) if given is None else {given.subject(s): r for s, r in roles.items()}

    def reading(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Return how recordings were read, as a store tells it: by which table, without names."""
        given = self.pseudonyms
        if given is None:
            return dict(settings)
        hidden = {
            key: given.digest(key, json.dumps(value, sort_keys=True)) if key in NAMING else value
            for key, value in settings.items()
        }
        return {**hidden, "pseudonyms": given.digest("table", "")}

    def note(self, row: dict[str, object]) -> None:
        """Take out of a finished row what belongs into the table, if there is one."""
        told = row.pop("told", None)
        if self.table is not None and told is not None:
            self.table.note(told)

    def keep(self) -> None:
        """Write the table, before anything names an id that is not in it."""
        if self.table is not None:
            self.table.keep()

    def said(self) -> dict[str, str]:
        """Return what was said in reading recordings, by what they are called; for the screen."""
        return {} if self.table is None else self.table.said()
