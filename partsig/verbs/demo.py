"""``partsig demo``: the whole way, from raw data to a score on held-out data, in a few minutes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from partsig import config as configs
from partsig import registries
from partsig.demos.registry import DEMOS, OF_MODALITY, SETTINGS
from partsig.errors import ConfigError, check_option


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo found: the table's rows, where everything lies, what the pretext reached."""

    path: Path
    table: str
    rows: list[dict]
    pretext: dict[str, float]
    figures: list[Path]


def demo(
    output: str | Path | None = None,
    *,
    what: str | None = None,
    modality: str | None = None,
    overrides: Mapping[str, object] | Iterable[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Demo:
    """Go from raw data to a score on held-out data, on the CPU, in a few minutes.

    ``what`` is one of :data:`~partsig.demos.registry.DEMOS`: excerpts, of PhysioNet-2018 (the
    default), to kappa; digits, handwritten ones, to accuracy; parts, of pets, to overlap;
    discovery, of parts of pets without labels; or night, whole nights with context. ``modality``
    eeg or image names the first two as well. ``output`` defaults to ``runs/demo``
    (``runs/demo-image``, ``-parts``, ``-discovery``, ``-night``). The same call again continues an
    interrupted demo.
    """
    if modality is not None:
        check_option("--modality", modality, OF_MODALITY)
    meant = OF_MODALITY.get(modality, what)
    if what not in (None, meant):
        raise ConfigError(f"--what {what} is not a demo of --modality {modality}: leave one out.")
    name = meant or "excerpts"
    check_option("--what", name, DEMOS)
    settings = configs.compose(registries.at(SETTINGS[name]), "demo", None, overrides)
    return registries.at(DEMOS[name])(output, settings, seed, say)
