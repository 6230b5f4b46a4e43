"""How the hypnograms of recordings are found and read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES
from partsig.errors import ConfigError, check_range

# What is asked for instead of a scorer's name, for what most of them say.
CONSENSUS = "consensus"


@dataclass(frozen=True, kw_only=True)
class HypnogramConfig:
    """Where the stages of a recording are, and how they are written."""

    pattern: Annotated[
        str,
        "file beside the recording, {name} being the recording's without its extension "
        "({name}.csv, ../scores/{name}-nsrr.xml; * matches), {subject} its subject, {part} what "
        "hypnogram.part finds in the name, {scorer} any scorer's name (../{scorer}/{name}.txt); "
        "none: the usual names, else annotations in the recording",
    ] = ""
    part: Annotated[
        str,
        "regular expression whose first group, in a recording's name, is {part} in the pattern "
        "(^(SC\\d+) finds SC4001 in SC4001E0-PSG)",
    ] = ""
    scorer: Annotated[
        str,
        "whose stages, where a file or a folder holds those of several: a name, or consensus (of "
        "three or more: the majority; ties go to the most agreeing of those tied)",
    ] = ""
    format: Annotated[
        Literal[
            "auto",
            "annotations",
            "table",
            "list",
            "xml",
            "json",
            "remlogic",
            "domino",
            "luna",
            "elan",
            "visbrain",
            "mne",
        ],
        "annotations (EDF+), table (onsets and stages in columns), list (one stage a row), xml "
        "(NSRR, Profusion, Philips' rml), json, or the text of REMlogic, DOMINO, Luna (annot), "
        "Elan (hyp), visbrain or MNE; auto tells by the file",
    ] = "auto"
    codes: Annotated[
        Literal["auto", "rk", "yasa", "ucddb", "dreams"],
        "what numbers mean: rk (Rechtschaffen and Kales, also Profusion's: 4 is N3, 5 REM, 9 "
        "unscored), yasa (4 is REM, -1 artefact, -2 unscored), ucddb (1 is REM, 2 N1, 3 N2, 4 and "
        "5 N3) or dreams (5 is W, 4 REM, 3 N1, 2 N2, 1 and 0 N3); auto asks where they differ",
    ] = "auto"
    stages: Annotated[
        Mapping[str, str],
        'labels of one\'s own, {"5": W, "4": REM, "1": N3}; W, N1, N2, N3, REM or unscored',
    ] = field(default_factory=dict)
    ignore: Annotated[
        tuple[str, ...],
        'labels that are no stages, [Movement, "Lights *"]; * matches, and case does not count',
    ] = ()
    epoch_s: Annotated[
        float, "length of the scorer's epochs in seconds, where the file does not say it"
    ] = EPOCH_S
    offset_s: Annotated[
        float | dict[str, float] | None,
        "seconds from the recording's start to the hypnogram's onset 0 (its first epoch, for a "
        "list; negative: it begins before), where a file does not tell it; {NAME: SECONDS} for "
        "single recordings, whatever their files say",
    ] = None

    def as_told(self, recording: str | None = None) -> "HypnogramConfig":
        """Return what may be passed on of it: no folders, and of single ``recording``s this one.

        Without one, what is said of all of them is kept.
        """
        offsets = self.offset_s
        if recording is not None and isinstance(offsets, Mapping):
            offsets = {name: s for name, s in offsets.items() if name == recording}
        return replace(self, pattern=self.pattern.rpartition("/")[2], offset_s=offsets)

    def __post_init__(self) -> None:
        check_range("hypnogram.epoch_s", self.epoch_s, 0.1, 3600.0)
        if self.part:
            try:
                groups = re.compile(self.part).groups
            except re.error as error:
                raise ConfigError(f"hypnogram.part is no regular expression ({error}).") from None
            if not groups:
                raise ConfigError(
                    f"hypnogram.part is {self.part!r}; what {{part}} stands for is its first "
                    "group, in brackets."
                )
        offsets = self.offset_s if isinstance(self.offset_s, Mapping) else {"": self.offset_s}
        for name, offset in offsets.items():
            if offset is not None and not math.isfinite(offset):
                place = f"hypnogram.offset_s.{name}".removesuffix(".")
                raise ConfigError(f"{place} is {offset!r}; it must be a finite number of seconds.")
        for label, stage in self.stages.items():
            if stage not in (*STAGES, "unscored"):
                raise ConfigError(
                    f"hypnogram.stages maps {label!r} to {stage!r}; it can be "
                    f"{', '.join(STAGES)} or unscored."
                )
