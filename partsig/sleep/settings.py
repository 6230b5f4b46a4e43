"""The settings of staging and of reports, which need no torch."""

from dataclasses import dataclass, field
from typing import Annotated

from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.data.signals.recordings import Aliases, Missing, Unit, Units
from partsig.errors import check_range


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """How recordings are read, and what is put before a person; which channels, the run says.

    A channel is not usable in an epoch when a third of its seconds are flat, clipped or out of
    range. ``oddity`` (see :func:`partsig.sleep.oddity.oddity`) takes longer than the staging, needs
    the whole signal in memory, and finds artefacts less well than band powers do.
    """

    aliases: Aliases = field(default_factory=dict)
    missing: Missing = "refuse"
    unit: Unit = ""
    units: Units = field(default_factory=dict)
    hypnogram: HypnogramConfig = field(default_factory=HypnogramConfig)
    scored: Annotated[
        bool,
        "take the stages that came with a recording, to stand beside the predicted ones; their "
        "30-s grid is then used",
    ] = True
    good_share: Annotated[
        float, "share of the channels that must be usable in an epoch for it to be staged"
    ] = 0.5
    review_share: Annotated[
        float, "share of the epochs that are listed for review because they are the most doubtful"
    ] = 0.1
    oddity: Annotated[
        bool,
        "score every second by the PART run that the stager was fine-tuned from, and list epochs "
        "that stand out; slow",
    ] = False
    dates: Annotated[
        bool,
        "write dates and times of day, where a recording tells its start; else time counts from "
        "there alone",
    ] = True
    odd: Annotated[
        float,
        "SDs above the recording's seconds (robust: median and MAD) that the oddest second of an "
        "epoch must be, to be listed for it",
    ] = 5.0

    def __post_init__(self) -> None:
        check_range("good_share", self.good_share, 0.0, 1.0)
        check_range("review_share", self.review_share, 0.0, 1.0)
        check_range("odd", self.odd, 0.0)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How scorers' hypnograms are read."""

    hypnogram: HypnogramConfig = field(default_factory=HypnogramConfig)
    store_labels: Annotated[
        bool, "without a run: the store's own labels are one more scoring, called store"
    ] = True
