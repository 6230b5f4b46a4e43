"""Features of every epoch as a store of their own: an encoder's, band powers, or both.

An encoder of patches longer than an epoch gives the tokens of :mod:`partsig.runs.amid`. Features of
an encoder may be brought to their first principal components, which are taken of recordings that it
was pretrained on, so that no test recording has a part in them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from partsig.recipes import components
from partsig.recipes.components import Make
from partsig.recipes.loading import load_model
from partsig.runs import amid, features
from partsig.runs import directory as runs
from partsig.runs.exported import LoadedModel
from partsig.runs.run import Run
from partsig.train import distributed

KINDS = ("run", "bands", "both")


@dataclass(frozen=True, kw_only=True)
class FeatureStoreRequest:
    """What is asked for: features of ``kind`` (:data:`KINDS`) of a store, to be kept in ``output``.

    ``run`` is None for band powers alone, which need a ``store``. ``components``: so many
    principal components instead of all of an encoder's features; 0 is all. The rest is as for
    embeddings.
    """

    run: Path | None
    store: str | Path | None
    output: str | Path | None
    kind: str
    recordings: Iterable[str] | None
    pool: str
    blocks: int
    device: str
    components: int = 0
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
    loaded = None if request.run is None else load_model(request.run, amid=True)
    place = request.place()
    facts = read_meta(place) if loaded is None else loaded.facts
    dataset = registry.of(facts).open(place)
    everything = dataset.everything(loaded, request.run or place, request.recordings)
    own = "bands" if request.run is None else request.run.resolve().name
    target = Path(request.output or runs.STORES / f"{place.resolve().name}-{own}")
    device = distributed.pick_device(request.device)
    names: list[str] = []
    made: list[Make] = []
    told: dict[str, object] = {"of": place_name(dataset.path)}
    told["provenance"] = dataset.store.meta["provenance"]
    pool = "band powers"
    if loaded is not None:
        pool, make, width = _encoded(loaded, request, dataset, device)
        seen = {key: everything.meta.get(key) for key in everything.meta if "subjects" in key}
        told |= {"run": place_name(request.run), "pool": pool, "blocks": request.blocks, **seen}
        if request.components:
            known = components.recordings_seen(everything, loaded.run)
            taught = dataset.everything(loaded, request.run, known)
            model, explained = components.fit(make, taught.parts, taught.n, request.components)
            make, width = components.of(make, model), request.components
            told |= {"components": width, "explained_share": round(explained, 4)}
        made.append(make)
        names += [f"e_{i}" for i in range(width)]
    if request.kind != "run":
        known, take = dataset.known_features()
        names += known

        def taken(x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(take(x.cpu().numpy()).astype(np.float32))

        made.append(_with(taken, device))
        told["bands"] = len(known)
    bar = progress.bar(total=everything.n, unit=everything.item, desc="embed")
    with bar:
        parts = _parts(everything, made, bar.update)
        dataset.write_features(target, names, parts, told)
    return target, everything, len(names), pool


def _with(take: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> Make:
    network = features.FrozenNetwork(take=take)
    return lambda part: np.concatenate(list(network.features(part, device)))


def _encoded(
    loaded: LoadedModel, request: FeatureStoreRequest, dataset: Dataset, device: torch.device
) -> tuple[str, Make, int]:
    """Return how an encoder's features of epochs are pooled, what makes them, and their number."""
    model, window, patch = loaded.model.eval().to(device), loaded.window[-1], loaded.patch[-1]
    check_blocks(request.blocks, model.depth)
    unit = dataset.labels.unit_s
    if unit is not None and patch > round(unit * dataset.samples_per_unit):
        if request.pool != "auto":
            raise ConfigError(
                f"{request.run} takes patches longer than what is embedded: of each epoch there is "
                "one token, and nothing to pool; leave --pool out."
            )
        return (
            "token",
            lambda part: amid.tokens_amid(
                model, window, patch, part, part.names[0], device, request.blocks
            ),
            model.width_of("mean", request.blocks),
        )
    pool = features.check_pool(request.pool, loaded)
    make = _with(lambda x: features.embed_windows(model, window, x, pool, request.blocks), device)
    return pool, make, model.width_of(pool, request.blocks)


def _parts(
    everything: Everything, made: Sequence[Make], tell: Callable[[int], object]
) -> Iterator[tuple[Examples, Callable[[], np.ndarray]]]:
    """Yield each part and what computes its features (E, F)."""
    for part in everything.parts:

        def computed(part: Examples = part) -> np.ndarray:
            return np.concatenate([make(part) for make in made], axis=1)

        yield part, computed
        tell(len(part))
