"""The settings of tasks, which need no torch."""

from dataclasses import dataclass
from typing import Annotated

from partsig.errors import check_range


@dataclass(frozen=True, kw_only=True)
class PseudoConfig:
    """How a teacher's opinion is used; only with ``--teacher``."""

    confidence: Annotated[
        float,
        "least probability of the teacher's likeliest class for an epoch without a label to be "
        "used",
    ] = 0.8
    share: Annotated[
        float,
        "epochs without a label per labelled one in a batch, with the teacher's probabilities as "
        "label; 0 uses none",
    ] = 1.0
    distil: Annotated[
        float, "weight of the teacher's probabilities against the label of a labelled epoch"
    ] = 0.0

    def __post_init__(self) -> None:
        check_range("pseudo.confidence", self.confidence, 0.0, 1.0)
        check_range("pseudo.share", self.share, 0.0, 100.0)
        check_range("pseudo.distil", self.distil, 0.0, 1.0)
