"""What reads recordings of each source, by its name."""

from types import ModuleType

from partsig import registries
from partsig.errors import ConfigError

# Each is a module with CHANNELS, find_records, fingerprint and read_recording; where it has them,
# ``roles(headers)`` is the source's own split, and ``overlooked(headers, settings)`` are sentences
# on what is easily overlooked in all of them together; ``usual_channels(headers)`` stands for
# CHANNELS where they are not always the same; ``Config`` has other
# usual settings than PreprocessConfig.
READERS = {
    "physionet2018": "partsig.data.signals.readers.physionet2018",
    "edf": "partsig.data.signals.readers.edf_recordings",
    "sleep-edf": "partsig.data.signals.readers.sleep_edf",
    "wfdb": "partsig.data.signals.readers.wfdb_records",
    "bids": "partsig.data.signals.readers.bids",
    "pc18-segments": "partsig.data.signals.readers.pc18_segments",
    "feature-nights": "partsig.data.signals.readers.feature_nights",
}


def get(source: str) -> ModuleType:
    """Return the reader of a source, a plug-in's too; raise ConfigError for an unknown one."""
    reader = registries.load("source", source, READERS, "sources")
    if not isinstance(reader, ModuleType):
        package = registries.package_of(registries.plugged("sources")[source])
        raise ConfigError(
            f"{source!r} writes whole stores (the plug-in {package}) and reads no recordings by "
            "themselves."
        )
    return reader
