"""Volts or microvolts? What is a million times too small would silently become zeros."""

from collections.abc import Mapping

import torch
from torch import Tensor

from partsig.core.normalise import FLAT
from partsig.data.signals.recordings import MICROVOLTS
from partsig.data.signals.scaling import SCALED_UNIT, USUAL_UNIT, unit_of
from partsig.errors import ConfigError, DataError, check_option

# No EEG, EOG or EMG has this SD (µV) in a typical channel: an artefact has 1,000, volts taken for
# microvolts the other way round 10 million.
MOST_UV = 1e5


def check_voltage(facts: Mapping[str, object], path: object) -> None:
    """Raise ConfigError where a model takes no voltage, but scaled recordings, or features."""
    unit = unit_of(facts)
    if unit != USUAL_UNIT:
        what = f"features of epochs, in {unit}"
        if unit == SCALED_UNIT:
            what = f"recordings that were each scaled by itself (in {unit})"
        raise ConfigError(
            f"{path} takes {what}, which windows alone cannot be: use partsig embed, evaluate or "
            "stage."
        )


def factor_of(unit: str) -> float:
    """Return how many µV a unit is; raise ConfigError for one that is no voltage.

    >>> factor_of("V")
    1000000.0
    """
    check_option("unit", unit, MICROVOLTS)
    return MICROVOLTS[unit]


def told_by(x: Tensor, unit: str) -> bool:
    """Tell whether windows (B, C, T) in ``unit`` have an amplitude at all; refuse impossible ones.

    Instance normalisation makes a channel whose SD is below 0.01 µV zero, so volts that are taken
    for microvolts would be zeros everywhere. Raises DataError where all channels of all windows
    are so small without being constant, or where the median SD is above 0.1 V.
    """
    spread = x.detach().float().std(-1, correction=0) * factor_of(unit)
    live = spread[spread > 0]
    if not live.numel():
        return False
    most, usual = live.max().item(), live.median().item()
    if most < FLAT:
        raise DataError(
            f"the largest SD of a channel in these windows is {most:.1e} µV, taken as {unit}: all "
            "of it would count as flat. MNE and braindecode have volts: pass unit='V', or multiply."
        )
    if usual > MOST_UV:
        raise DataError(
            f"the median SD of a channel in these windows is {usual:.1e} µV, taken as {unit}: that "
            "is no biopotential; pass unit='uV' if they are in microvolts."
        )
    return True


def microvolts(x: Tensor, unit: str) -> Tensor:
    """Return windows in µV; float16 is widened before it overflows."""
    factor = factor_of(unit)
    return x if factor == 1 else x.to(torch.promote_types(x.dtype, torch.float32)) * factor
