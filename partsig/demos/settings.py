"""What may be changed of demonstrations."""

from dataclasses import asdict, dataclass
from typing import Annotated

from partsig import config as configs
from partsig.errors import check_range


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What may be changed of the demo; None leaves what demo.yaml and demo-finetune.yaml say."""

    pretrain_epochs: Annotated[
        int | None, "epochs of pretraining; null: as the configuration demo"
    ] = None
    windows_per_epoch: Annotated[
        int | None, "windows per epoch of pretraining; null: as the configuration demo"
    ] = None
    finetune_epochs: Annotated[
        int | None, "epochs of fine-tuning; null: as the configuration demo-finetune"
    ] = None
    subjects: Annotated[int, "labelled subjects of fine-tuning"] = 30

    def __post_init__(self) -> None:
        check_counts(self)

    def pretrain(self) -> dict[str, object]:
        """Return the overrides of pretraining."""
        windows = self.windows_per_epoch
        given = {} if windows is None else {"windows_per_epoch": windows}
        return given | for_epochs("demo", self.pretrain_epochs)

    def finetune(self) -> dict[str, object]:
        """Return the overrides of fine-tuning."""
        return for_epochs("demo-finetune", self.finetune_epochs)


@dataclass(frozen=True, kw_only=True)
class ImageDemoConfig:
    """What may be changed of the demo; None leaves what image-tiny and its fine-tuning say."""

    pretrain_epochs: Annotated[
        int | None, "epochs of pretraining; null: as the configuration image-tiny"
    ] = None
    finetune_epochs: Annotated[
        int | None, "epochs of fine-tuning; null: as image-tiny-finetune"
    ] = None
    per_class: Annotated[int, "labelled images of every class"] = 20

    def __post_init__(self) -> None:
        check_counts(self)


@dataclass(frozen=True, kw_only=True)
class PartsDemoConfig:
    """What may be changed of the demo of parts."""

    pretrain_epochs: Annotated[int, "epochs of pretraining"] = 160
    finetune_epochs: Annotated[int, "epochs in which a head learns to tell parts"] = 20

    def __post_init__(self) -> None:
        check_counts(self)


@dataclass(frozen=True, kw_only=True)
class DiscoveryDemoConfig:
    """What may be changed of the demo of part discovery."""

    epochs: Annotated[int, "epochs in which parts are learned"] = 25
    parts: Annotated[int, "parts that are told apart, K; two or more"] = 4

    def __post_init__(self) -> None:
        check_counts(self)


@dataclass(frozen=True, kw_only=True)
class NightDemoConfig:
    """What may be changed of the demo of whole nights."""

    epochs: Annotated[int, "passes over the labelled nights"] = 12
    subjects: Annotated[int, "labelled nights, besides two that choose the pass"] = 4

    def __post_init__(self) -> None:
        check_counts(self)


def check_counts(settings: object) -> None:
    """Raise ConfigError unless what is given of a demo's settings, counts all, is at least 1."""
    for name, value in asdict(settings).items():
        if value is not None:
            check_range(name, value, 1)


def for_epochs(config: str, epochs: int | None) -> dict[str, object]:
    """Return the overrides that train for so many epochs, warm-up included; none for None."""
    if epochs is None:
        return {}
    warmup = configs.read(config)["optim"]["warmup_epochs"]
    return {"fit.epochs": epochs, "optim.warmup_epochs": min(warmup, epochs)}
