"""What distinguishes EEG from images: a handful of values, never a branch in the code."""

from dataclasses import dataclass

from partsig.errors import check_option


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Axes, units and patch shape of a kind of input.

    ``window`` and ``patch`` are extents in samples, one per axis; ``unit`` is what distances are
    told in (seconds for signals, whose rate the store knows; pixels for images).
    """

    name: str
    axes: tuple[str, ...]
    unit: str
    window: tuple[int, ...]
    patch: tuple[int, ...]
    n_patches: int

    @property
    def rank(self) -> int:
        """Number of axes D."""
        return len(self.axes)


# PART paper, section 3.4: 30 s at 100 Hz, forty 1-s patches.
EEG = Modality(
    name="eeg",
    axes=("time",),
    unit="s",
    window=(3000,),
    patch=(100,),
    n_patches=40,
)
# PART paper, appendix: CIFAR, ViT-S/4, as many patches as the grid has.
IMAGE = Modality(
    name="image",
    axes=("row", "column"),
    unit="px",
    window=(32, 32),
    patch=(4, 4),
    n_patches=64,
)

MODALITIES = {modality.name: modality for modality in (EEG, IMAGE)}


def get_modality(name: str) -> Modality:
    """Return the modality of this name.

    >>> get_modality("image").rank
    2
    """
    check_option("modality", name, MODALITIES)
    return MODALITIES[name]
