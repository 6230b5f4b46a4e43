"""How the hypnograms of recordings are found and read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from partsig.data.signals.hypnograms.stages import EPOCH_S, STAGES
from partsig.errors import ConfigError, check_range


@dataclass(frozen=True, kw_only=True)
class HypnogramConfig:
    """Where the stages of a recording are, and how they are written.

    pattern: file beside the recording, ``{name}`` being the recording's name without its extension
        (``{name}.csv``, ``../scores/{name}-nsrr.xml``; ``*`` matches); none given: the usual names.
        Where there is no such file: annotations in the recording itself.
    format: annotations (EDF+), table (onsets and stages in columns), list (one stage a row) or xml
        (NSRR, Profusion); auto tells by the file.
    codes: what numbers mean: rk (Rechtschaffen and Kales, also Profusion's: 4 is N3, 5 REM, 9
        unscored) or yasa (4 is REM, -1 artefact, -2 unscored); auto asks where it matters.
    stages: labels of one's own, ``{"5": W, "4": REM, "1": N3}``; W, N1, N2, N3, REM or unscored.
    epoch_s: length (s) of the scorer's epochs where the file does not say it.
    offset_s: seconds from the recording's start to the hypnogram's onset 0 (its first epoch, for a
        list; negative: it begins before), for all recordings whose files do not tell it, or
        ``{NAME: SECONDS}`` for single ones, whatever their files say.
    """

    pattern: str = ""
    format: Literal["auto", "annotations", "table", "list", "xml"] = "auto"
    codes: Literal["auto", "rk", "yasa"] = "auto"
    stages: Mapping[str, str] = field(default_factory=dict)
    epoch_s: float = EPOCH_S
    offset_s: float | dict[str, float] | None = None

    def __post_init__(self) -> None:
        check_range("hypnogram.epoch_s", self.epoch_s, 0.1, 3600.0)
        for label, stage in self.stages.items():
            if stage not in (*STAGES, "unscored"):
                raise ConfigError(
                    f"hypnogram.stages maps {label!r} to {stage!r}; it can be "
                    f"{', '.join(STAGES)} or unscored."
                )
