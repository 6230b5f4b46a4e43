"""What reads recordings of each source, by its name."""

from importlib import import_module
from types import ModuleType

from partsig import registries
from partsig.errors import ConfigError, check_option

# Each is a module with CHANNELS, find_records, fingerprint and read_recording; where it has them,
# ``roles(headers)`` is the source's own split, and ``overlooked(headers, settings)`` are sentences
# on what is easily overlooked in all of them together.
READERS = {
    "physionet2018": "partsig.data.signals.readers.physionet2018",
    "edf": "partsig.data.signals.readers.edf_recordings",
    "sleep-edf": "partsig.data.signals.readers.sleep_edf",
    "wfdb": "partsig.data.signals.readers.wfdb_records",
    "bids": "partsig.data.signals.readers.bids",
    "pc18-segments": "partsig.data.signals.readers.pc18_segments",
}


def get(source: str) -> ModuleType:
    """Return the reader of a source, a plug-in's too; raise ConfigError for an unknown one."""
    if source in READERS:
        return import_module(READERS[source])
    others = registries.plugged("sources", READERS)
    check_option("source", source, (*READERS, *others))
    reader = registries.load_plugin(others[source])
    if not isinstance(reader, ModuleType):
        raise ConfigError(
            f"{source!r} writes whole stores (the plug-in {registries.package_of(others[source])}) "
            "and reads no recordings by themselves."
        )
    return reader
