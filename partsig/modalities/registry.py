"""What there is of every modality, by name."""

from collections.abc import Callable

from partsig.data.preprocessed import PreprocessRequest, PreprocessResult


def sources() -> dict[str, Callable[[PreprocessRequest], PreprocessResult]]:
    """Return what writes the store of each source of raw data: signals first, then images."""
    # Late, so that whoever asks for something else does not wait for readers of files.
    from partsig.data.images import preprocessing as images
    from partsig.data.signals import preprocessing as signals

    return {**signals.SOURCES, **images.SOURCES}
