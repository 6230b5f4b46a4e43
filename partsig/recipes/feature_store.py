"""Features of every epoch as a store of their own: an encoder's, band powers, or both."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from partsig import progress
from partsig.contracts import Dataset, Everything, Examples
from partsig.core.encoder import check_blocks
from partsig.data.store import locate, read_meta
from partsig.errors import ConfigError
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes.loading import load_model
from partsig.runs import directory as runs
from partsig.runs import features
from partsig.runs.exported import LoadedModel
from partsig.runs.run import Run
from partsig.train import distributed

KINDS = ("run", "bands", "both")


@dataclass(frozen=True, kw_only=True)
class FeatureStoreRequest:
    """What is asked for: features of ``kind`` (:data:`KINDS`) of a store, to be kept in ``output``.

    ``run`` is None for band powers alone, which need a ``store``; the rest is as for embeddings.
    """

    run: Path | None
    store: str | Path | None
    output: str | Path | None
    kind: str
    recordings: Iterable[str] | None
    pool: str
    blocks: int
    device: str
    allow_http: bool = False

    def place(self) -> Path:
        """Return where the store lies; raise ConfigError where nothing tells it."""
        recorded = None
        if self.run is not None and (self.run / "run.json").is_file():
            recorded = Run.read(self.run).facts["store"]
        if self.store is None and recorded is None:
            raise ConfigError("nothing tells which store the features are to be of: pass --store.")
        return locate(self.store, recorded=recorded, allow_http=self.allow_http)


def write_feature_store(request: FeatureStoreRequest) -> tuple[Path, Everything, int, str]:
    """Write the store; return where, what its features are of, how many, and how pooled.

    What was written before is not computed again.
    """
    loaded = None if request.run is None else load_model(request.run)
    place = request.place()
    facts = read_meta(place) if loaded is None else loaded.facts
    dataset = registry.of(facts).open(place)
    everything = dataset.everything(loaded, request.run or place, request.recordings)
    own = "bands" if request.run is None else request.run.resolve().name
    target = Path(request.output or runs.STORES / f"{place.resolve().name}-{own}")
    device = distributed.pick_device(request.device)
    names: list[str] = []
    takes: list[Callable[[torch.Tensor], torch.Tensor]] = []
    told: dict[str, object] = {"of": place_name(dataset.path)}
    told["provenance"] = dataset.store.meta["provenance"]
    pool = "band powers"
    if loaded is not None:
        pool = features.check_pool(request.pool, loaded)
        check_blocks(request.blocks, loaded.model.depth)
        takes.append(_encoder(loaded, pool, request.blocks, device))
        width = loaded.model.width_of(pool, request.blocks)
        names += [f"e_{i}" for i in range(width)]
        seen = {key: everything.meta.get(key) for key in everything.meta if "subjects" in key}
        told |= {"run": place_name(request.run), "pool": pool, "blocks": request.blocks, **seen}
    if request.kind != "run":
        known, make = dataset.known_features()
        names += known
        takes.append(lambda x: torch.from_numpy(make(x.cpu().numpy()).astype(np.float32)))
        told["bands"] = len(known)
    network = features.FrozenNetwork(
        take=lambda x: torch.cat([take(x).float().cpu() for take in takes], dim=1)
    )
    bar = progress.bar(total=everything.n, unit=everything.item, desc="embed")
    with bar:
        parts = _parts(dataset, everything, network, device, bar.update)
        dataset.write_features(target, names, parts, told)
    return target, everything, len(names), pool


def _encoder(
    loaded: LoadedModel, pool: str, blocks: int, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    model = loaded.model.eval().to(device)
    window = loaded.window[-1]
    return lambda x: features.embed_windows(model, window, x, pool, blocks)


def _parts(
    dataset: Dataset,
    everything: Everything,
    network: features.FrozenNetwork,
    device: torch.device,
    tell: Callable[[int], object],
) -> Iterator[tuple[Examples, Callable[[], np.ndarray]]]:
    """Yield each part and what computes its features (E, F)."""
    for part in everything.parts:

        def computed(part: Examples = part) -> np.ndarray:
            return np.concatenate(list(network.features(part, device)))

        yield part, computed
        tell(len(part))
