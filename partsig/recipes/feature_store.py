"""Features of every epoch as a store of their own: an encoder's, band powers, or both.

An encoder of patches longer than an epoch gives the tokens of :mod:`partsig.runs.amid`. Features of
an encoder may be brought to their first principal components, which are taken of recordings that it
was pretrained on, so that no test recording has a part in them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from partsig import progress
from partsig.contracts import Dataset, Everything, Examples
from partsig.core.encoder import check_blocks
from partsig.data.store import locate, read_meta
from partsig.errors import ConfigError, DataError
from partsig.modalities import registry
from partsig.places import place_name
from partsig.recipes import components
from partsig.recipes.components import Make
from partsig.recipes.epoch_features import feature_network
from partsig.recipes.loading import load_model
from partsig.runs import amid, features
from partsig.runs import directory as runs
from partsig.runs.epoch_features import (
    AGAIN,
    USABLE,
    FeatureRecipe,
    digest_of,
    read_recipe,
    weights_of,
)
from partsig.runs.exported import LoadedModel
from partsig.runs.run import Run
from partsig.train import distributed

KINDS = ("run", "bands", "both")
TOKEN = "token"  # in place of a pool: an epoch's own, of an encoder of patches longer than it


@dataclass(frozen=True, kw_only=True)
class FeatureStoreRequest:
    """What is asked for: features of ``kind`` (:data:`KINDS`) of a store, to be kept in ``output``.

    ``run`` is None for band powers alone, which need a ``store``; of a run that was itself trained
    on features it is these that are made. ``components``: so many principal components instead of
    all of an encoder's features; 0 is all. The rest is as for embeddings.
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

    @cached_property
    def recipe(self) -> FeatureRecipe | None:
        """The features that the run was trained on, where it has no encoder of its own."""
        if self.run is None or not (self.run / "run.json").is_file():
            return None
        own = Run.read(self.run).config.get("model", "encoder") == "encoder"
        return None if own else read_recipe(self.run)

    def place(self) -> Path:
        """Return where the store lies; raise ConfigError where nothing tells it."""
        recorded = None
        if self.run is not None and (self.run / "run.json").is_file() and not self.recipe:
            recorded = Run.read(self.run).facts["store"]
        if self.store is None and recorded is None:
            raise ConfigError("nothing tells which store the features are to be of: pass --store.")
        return locate(self.store, recorded=recorded, allow_http=self.allow_http)


def write_feature_store(request: FeatureStoreRequest) -> tuple[Path, Everything, int, str]:
    """Write the store; return where, what its features are of, how many, and how pooled.

    What was written before is not computed again.
    """
    asked = _asked(request)
    loaded, place = asked.loaded, request.place()
    facts = read_meta(place) if loaded is None else loaded.facts
    dataset = registry.of(facts).open(place)
    everything = dataset.everything(loaded, request.run or place, request.recordings)
    own = "bands" if request.run is None else request.run.resolve().name
    target = Path(request.output or runs.STORES / f"{place.resolve().name}-{own}")
    device = distributed.pick_device(request.device)
    told: dict[str, object] = {"of": place_name(dataset.path)}
    told["provenance"] = dataset.store.meta["provenance"]
    if loaded is not None:
        seen = {key: everything.meta.get(key) for key in everything.meta if "subjects" in key}
        told |= {"run": place_name(request.run), "pool": asked.pool, "blocks": asked.blocks, **seen}
    take = None
    if asked.bands:
        known, take = dataset.known_features()
        told["bands"] = len(known)
    if asked.components or asked.pool == TOKEN:
        made, width = _apart(request, asked, dataset, everything, told, device)
        if take is not None:
            made.append(_with(feature_network(None, None, 0, take, device), device))
    else:
        width = 0 if loaded is None else loaded.model.width_of(asked.pool, asked.blocks)
        network = feature_network(loaded, asked.pool, asked.blocks, take, device)
        made = [_with(network, device)]
    names = [f"e_{i}" for i in range(width)] + list(known if asked.bands else ())
    if asked.recipe is not None:
        told |= _told_again(request.run, asked.recipe, names, dataset)
    bar = progress.bar(total=everything.n, unit=everything.item, desc="embed")
    with bar:
        parts = _parts(everything, made, bar.update)
        dataset.write_features(target, names, parts, told, loaded)
    return target, everything, len(names), asked.pool or "band powers"


def _with(network: features.FrozenNetwork, device: torch.device) -> Make:
    return lambda part: np.concatenate(list(network.features(part, device)))


def _apart(
    request: FeatureStoreRequest,
    asked: "_Asked",
    dataset: Dataset,
    everything: Everything,
    told: dict[str, object],
    device: torch.device,
) -> tuple[list[Make], int]:
    """Return what makes tokens amid the epochs around each, or components, and their number."""
    loaded = asked.loaded
    told["weights_sha256"] = digest_of(weights_of(loaded))
    if asked.pool == TOKEN:
        model, window, patch = loaded.model.eval().to(device), loaded.window[-1], loaded.patch[-1]
        width = model.width_of("mean", asked.blocks)

        def make(part: Examples) -> np.ndarray:
            name = part.names[0]
            return amid.tokens_amid(model, window, patch, part, name, device, asked.blocks)

    else:
        width = loaded.model.width_of(asked.pool, asked.blocks)
        make = _with(feature_network(loaded, asked.pool, asked.blocks, None, device), device)
    if not asked.components:
        return [make], width
    known = components.recordings_seen(everything, loaded.run)
    taught = dataset.everything(loaded, request.run, known)
    axes, explained = components.fit(make, taught.parts, taught.n, asked.components)
    told |= {"components": asked.components, "explained_share": round(explained, 4)}
    return [components.of(make, axes)], asked.components


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What features are to be of: a model's, pooled so, with band powers or without.

    ``recipe``: those of the run of a network on features, in place of a model's own.
    """

    loaded: LoadedModel | None
    pool: str | None
    blocks: int
    bands: bool
    components: int = 0
    recipe: FeatureRecipe | None = None


def _asked(request: FeatureStoreRequest) -> _Asked:
    recipe = request.recipe
    if recipe is not None:
        own = request.kind == "run" and request.pool in (None, "auto")
        if not own or request.blocks or request.components:
            raise ConfigError(
                f"{request.run} tells itself which features it takes: leave out --features, "
                "--pool, --blocks and --components."
            )
        return _Asked(
            loaded=recipe.loaded,
            pool=recipe.pool,
            blocks=recipe.blocks,
            bands=recipe.bands > 0,
            recipe=recipe,
        )
    loaded, pool = None if request.run is None else load_model(request.run, amid=True), None
    if loaded is not None:
        pool = _pool(request, loaded)
        check_blocks(request.blocks, loaded.model.depth)
    return _Asked(
        loaded=loaded,
        pool=pool,
        blocks=request.blocks,
        bands=request.kind in ("bands", "both"),
        components=request.components,
    )


def _pool(request: FeatureStoreRequest, loaded: LoadedModel) -> str:
    labels = registry.of(loaded.facts).usual_labels
    if labels is None or loaded.patch[-1] <= round(labels.unit_s * loaded.facts["sfreq"]):
        return features.check_pool(request.pool, loaded)
    if request.pool not in (None, "auto"):
        raise ConfigError(
            f"{request.run} takes patches longer than what is embedded: of each epoch there is "
            "one token, and nothing to pool; leave --pool out."
        )
    return TOKEN


def _told_again(
    run: Path, recipe: FeatureRecipe, names: list[str], dataset: Dataset
) -> dict[str, object]:
    """Return what a run's own features are of; raise DataError where a store cannot give them."""
    if recipe.scaling != USABLE:
        raise DataError(
            f"{run} was trained on features that an earlier partsig scaled by whole recordings, "
            f"pauses and all, which is not done any more: {AGAIN}. It stages as it did."
        )
    if tuple(names) != recipe.names or dataset.samples_per_unit != recipe.sfreq:
        raise DataError(
            f"{run} takes features of {', '.join(recipe.ch_names)} at {recipe.sfreq:g} Hz; "
            f"{dataset.path} has {', '.join(dataset.ch_names)} at {dataset.samples_per_unit:g} Hz."
        )
    told = {"run": place_name(run)}
    told |= {"subjects_pretraining": recipe.subjects_pretraining}
    return told | {"subjects_labelled": recipe.subjects_labelled}


def _parts(
    everything: Everything, made: Sequence[Make], tell: Callable[[int], object]
) -> Iterator[tuple[Examples, Callable[[], np.ndarray]]]:
    """Yield each part and what computes its features (E, F)."""
    for part in everything.parts:

        def computed(part: Examples = part) -> np.ndarray:
            return np.concatenate([make(part) for make in made], axis=1)

        yield part, computed
        tell(len(part))
