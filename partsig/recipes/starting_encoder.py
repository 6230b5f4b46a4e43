"""The encoder that fine-tuning starts from, and the settings that it implies."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from partsig import config as configs
from partsig.contracts import Dataset
from partsig.core.channels import take_channels
from partsig.core.encoder import Encoder, EncoderConfig, check_blocks
from partsig.core.frozen_encoder import FrozenEncoder
from partsig.core.objectives.frozen_classifier import check_use
from partsig.core.objectives.supervised import NO_PROJECTION, PROJECTED
from partsig.errors import CheckpointError, ConfigError
from partsig.modalities import registry
from partsig.runs.encoder_sources import Origin
from partsig.runs.frozen import open_as_it_is, provenance
from partsig.runs.models import load_encoder, pretraining_settings, projection_of
from partsig.runs.run import Run
from partsig.runs.settings import FROZEN_WAYS, SCRATCH, FinetuneRecipe, Shape
from partsig.seeds import Stream, seed_of
from partsig.tasks.classification import CONTEXT


@dataclass(frozen=True, kw_only=True)
class Start:
    """What fine-tuning starts from: an encoder, the settings it implies, and what it has seen.

    It takes ``n_channels`` and patches of ``extent`` samples; ``weights`` are its own, none from
    scratch, where ``like`` may be a run whose encoder it has in all but these. ``code`` are
    position codes (N + 1, E) that it was trained with, where it brings them. ``taken`` tells whose
    weights each channel takes, by number; None: those drawn. ``frozen`` is an encoder that is used
    as it is, in place of all of these; ``projection`` the weights of the head that it was trained
    with; ``facts`` are what a run tells of weights that are somebody else's. ``unlike`` says in
    what it will be given other inputs than in pretraining, in a sentence; "": in nothing.
    """

    n_channels: int
    extent: Shape
    weights: Mapping[str, Tensor]
    settings: FinetuneRecipe
    origin: Origin
    pretraining: dict | None
    seen: list[str]
    taken: tuple[int | None, ...]
    code: Tensor | None = None
    like: Path | None = None
    frozen: FrozenEncoder | None = None
    projection: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    unlike: str = ""

    def encoder(self, seed: int) -> Encoder | FrozenEncoder:
        """Return the encoder; what has no weights yet is drawn by ``seed``."""
        if self.frozen is not None:
            return self.frozen
        torch.manual_seed(seed_of(Stream.ENCODER_WEIGHTS, seed))
        encoder = Encoder(self.settings.encoder, self.n_channels, self.extent)
        if self.weights:
            fresh = encoder.state_dict()
            encoder.load_state_dict(take_channels(self.weights, fresh, self.taken))
        return encoder


@dataclass(frozen=True, kw_only=True, eq=False)
class _Brought:
    """What an origin brings along; from scratch that is nothing but the shape that was asked for.

    ``patch`` is the setting that gives its patches, ``positions`` the codes it was pretrained with,
    ``pretraining`` what a comparison has to know, ``seen`` whom it has seen without labels;
    ``taken`` None: each channel has its own weights.
    """

    shape: EncoderConfig
    patch: Mapping[str, object] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    positions: str = "none"
    pretraining: dict | None = None
    seen: list[str] = field(default_factory=list)
    code: Tensor | None = None
    taken: tuple[int | None, ...] | None = None
    frozen: FrozenEncoder | None = None
    projection: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    unlike: str = ""


def start_from(
    origin: Origin,
    dataset: Dataset,
    settings: FinetuneRecipe,
    like: Path | None = None,
    given: Collection[str] = (),
) -> Start:
    """Return what to start from; from scratch, an encoder as that of the run ``like``.

    ``given``: keys of ``settings`` that were asked for, also where they have the usual value.

    Raises ConfigError for settings that are for another origin, CheckpointError for an encoder that
    does not fit the store.
    """
    if settings.model != "encoder" and str(origin) != SCRATCH:
        further = ""
        if settings.model == CONTEXT:
            further = (
                " Or train the encoder, too: --config night-through for one of whole nights, --set "
                "context.through=true for one of signals."
            )
        raise ConfigError(
            f"model={settings.model} is trained from scratch: add --from scratch.{further}"
        )
    if settings.other_channels and like is None and origin.path is None:
        raise ConfigError(
            "channels and adapt say what becomes of a pretrained run's encoder on other channels; "
            f"leave them out --from {origin}."
        )
    if like is not None:
        if str(origin) != SCRATCH or settings.model != "encoder":
            raise ConfigError("--like is for --from scratch, and for model=encoder.")
        brought = _like_run(like, dataset, settings)
    elif origin.source and settings.train in FROZEN_WAYS and origin.is_used_as_it_is:
        brought = _as_it_is(origin, dataset, settings)
    elif origin.source:
        brought = _from_source(origin, dataset, settings)
    elif origin.path is not None:
        brought = _from_run(origin.path, dataset, settings)
    elif settings.blocks:
        raise ConfigError(
            f"blocks={settings.blocks} is for a pretrained encoder; from scratch, set "
            "encoder.depth."
        )
    else:
        brought = _Brought(shape=settings.encoder)
    _check_given(settings, brought, given, str(origin) if like is None else f"--like {like}")
    _check_cls(settings, brought)
    _check_projection(settings, brought, str(origin))
    wish = settings.positions
    if wish == "auto" and (brought.code is not None or brought.positions == "learned"):
        wish = "learned"
    settings = replace(
        settings, encoder=replace(brought.shape, drop_path=settings.drop_path), **brought.patch
    )
    _, extent = settings.extents(dataset.samples_per_unit, dataset.labels.unit_s)
    if wish == "auto" and brought.positions == "sincos":
        wish = "sincos"
    elif wish == "auto":
        # Frozen features, and heads fitted on them, know of no codes; nor do stretches of a night,
        # which begin anywhere.
        fits = extent[-1] <= dataset.window_for(settings)[-1]
        wish = "learned" if settings.train == "full" and fits else "none"
    settings = replace(settings, positions=wish)
    return Start(
        n_channels=len(dataset.ch_names),
        extent=extent,
        weights=brought.weights,
        settings=settings,
        origin=origin,
        pretraining=brought.pretraining,
        seen=brought.seen,
        taken=tuple(range(len(dataset.ch_names))) if brought.taken is None else brought.taken,
        code=brought.code if settings.positions == "learned" else None,
        like=like,
        frozen=brought.frozen,
        projection=brought.projection,
        facts=brought.facts,
        unlike=brought.unlike,
    )


def _as_it_is(origin: Origin, dataset: Dataset, settings: FinetuneRecipe) -> _Brought:
    """Return an encoder as its makers use it; what it is given is its own matter, of any extent."""
    opened = open_as_it_is(origin, dataset)
    if settings.positions not in ("auto", "none"):
        raise ConfigError(
            f"positions={settings.positions}: the encoder of {origin} has its own; leave it out."
        )
    check_use(opened.encoder, settings.pool, settings.blocks)
    rank = opened.encoder.rank
    usual = type(settings)().encoder
    patch = settings.patch_from((1,) * rank, dataset.samples_per_unit)
    _check_shape(settings, usual, patch, str(origin))
    return _Brought(
        shape=usual,
        patch=patch,
        pretraining={"objective": opened.method, "seed": None},
        frozen=opened.encoder,
        facts=provenance(opened),
    )


def _from_source(origin: Origin, dataset: Dataset, settings: FinetuneRecipe) -> _Brought:
    """Return an encoder that no run of ours has trained; all of its blocks, or the first ones."""
    if not origin.can_be_trained:
        why = f": pass --set train={' or '.join(FROZEN_WAYS)}."
        if getattr(getattr(settings, "context", None), "through", False):  # it has no other way
            why = ", as context.through=true would: start from a pretraining run."
        raise ConfigError(f"--from {origin} is used as it is, and cannot be trained further{why}")
    foreign = origin.open(dataset.window_for(settings), len(dataset.ch_names))
    if foreign.n_channels != len(dataset.ch_names):
        raise CheckpointError(
            f"{origin} takes {foreign.n_channels} channels; {dataset.path} has "
            f"{', '.join(dataset.ch_names)}."
        )
    whole = foreign.encoder.config
    patch = settings.patch_from(foreign.patch, dataset.samples_per_unit)
    _check_shape(settings, whole, patch, str(origin))
    check_blocks(settings.blocks, whole.depth)
    shape = replace(whole, depth=settings.blocks or whole.depth)
    kept = Encoder(shape, foreign.n_channels, foreign.patch).state_dict().keys()
    weights = foreign.encoder.state_dict()
    return _Brought(
        shape=shape,
        patch=patch,
        weights={key: weights[key] for key in kept},
        pretraining={"objective": foreign.method, "seed": None},
        code=foreign.code,
        facts={
            "weights_licence": foreign.licence,
            "weights_sha256": foreign.sha256,
            **origin.facts(),
        },
    )


def _from_run(origin: Path, dataset: Dataset, settings: FinetuneRecipe) -> _Brought:
    """Return the encoder of a pretraining run on inputs like the store's."""
    run = Run.finished(origin, "pretrain")
    if run.modality != dataset.modality:
        raise CheckpointError(
            f"{origin} was pretrained on {registry.get(run.modality).plural}; {dataset.path} "
            f"holds {registry.get(dataset.modality).plural}."
        )
    taken = dataset.channels_from(run, settings)
    pretrained = load_encoder(origin, settings.blocks)
    patch = settings.patch_of(pretrained.settings)
    _check_shape(settings, pretrained.encoder.config, patch, str(origin))
    return _Brought(
        shape=pretrained.encoder.config,
        patch=patch,
        weights=pretrained.encoder.state_dict(),
        positions=pretrained.settings.positions,
        pretraining={"objective": pretrained.settings.objective.name, "seed": run.seed},
        seen=run.seen_unlabelled,
        taken=taken,
        projection=projection_of(origin) if settings.pool == PROJECTED else {},
        unlike=settings.unlike(pretrained.settings, dataset.labels.unit_s),
    )


def _check_projection(settings: FinetuneRecipe, brought: _Brought, origin: str) -> None:
    """Refuse what is projected where there is no head for it, or the encoder is to change."""
    if settings.pool != PROJECTED:
        return
    if settings.train not in FROZEN_WAYS:
        raise ConfigError(
            f"pool={PROJECTED} is of an encoder that is left as it is: set train to "
            f"{' or '.join(FROZEN_WAYS)}, not to {settings.train}."
        )
    if brought.frozen is None and not brought.projection:
        raise ConfigError(f"--from {origin}: {NO_PROJECTION}")
    if brought.frozen is None and settings.blocks:
        raise ConfigError(
            f"pool={PROJECTED} is of the whole encoder: leave out blocks={settings.blocks}."
        )


def _like_run(path: Path, dataset: Dataset, settings: FinetuneRecipe) -> _Brought:
    """Return the shape of a run's encoder, without its weights: tokens, patches and positions too.

    Of a pretraining run, or of one that was fine-tuned.
    """
    kind = Run.read(path).kind
    run = Run.finished(path, kind, dataset.modality)
    dataset.channels_from(run, settings)
    if kind == "pretrain":
        theirs = pretraining_settings(run)
        patch, positions, shape = settings.patch_of(theirs), theirs.positions, theirs.encoder
    else:
        theirs = configs.build(type(settings), run.config)
        if theirs.model != "encoder":
            raise ConfigError(f"--like {path}: it is of model={theirs.model}, without an encoder.")
        _, extent = theirs.extents(run.samples_per_unit, run.labels.unit_s)
        patch = settings.patch_from(extent, run.samples_per_unit)
        positions, shape = theirs.positions, theirs.encoder
    _check_shape(settings, shape, patch, f"--like {path}")
    check_blocks(settings.blocks, shape.depth)
    shape = replace(shape, depth=settings.blocks or shape.depth)
    return _Brought(shape=shape, patch=patch, positions=positions)


def _check_given(
    settings: FinetuneRecipe, brought: _Brought, given: Collection[str], origin: str
) -> None:
    """Refuse what was asked of an encoder that is another, even where it is the usual value."""
    theirs = {"encoder": configs.to_dict(brought.shape), **brought.patch}
    mine = {key: getattr(settings, key) for key in brought.patch}
    mine["encoder"] = configs.to_dict(settings.encoder)
    asked = set(given) - {"encoder.drop_path"} - ({"encoder.depth"} if settings.blocks else set())
    _refuse_others(theirs, mine, asked, origin)


def _refuse_others(
    wanted: Mapping[str, object], mine: Mapping[str, object], asked: Collection[str], origin: str
) -> None:
    """Refuse the keys that were asked for and are not as the origin has them."""
    lines = configs.differences(wanted, mine)
    wrong = [line for line in lines if line.partition(":")[0] in asked]
    if wrong:
        raise ConfigError(f"the encoder comes from {origin}; leave out {'; '.join(wrong)}.")


def _check_cls(settings: FinetuneRecipe, brought: _Brought) -> None:
    """Refuse to read a frozen [CLS] that no patch has attended to."""
    alone = brought.frozen is None and brought.shape.attention == "patch"
    if alone and settings.pool == "cls" and settings.train in ("probe", "knn") and brought.weights:
        raise ConfigError(
            "the encoder was pretrained with encoder.attention=patch, where no patch attends to "
            "[CLS], which may have learned nothing: pass --set pool=mean."
        )


def _check_shape(
    settings: FinetuneRecipe, theirs: EncoderConfig, patch: Mapping[str, object], origin: str
) -> None:
    """Refuse an encoder or a patch that is neither the default nor that of the origin."""
    usual = type(settings)()
    mine, wanted, default = (
        {"encoder": configs.to_dict(encoder) | {"drop_path": 0}} | own
        for encoder, own in (
            (settings.encoder, {key: getattr(settings, key) for key in patch}),
            (theirs, dict(patch)),
            (usual.encoder, {key: getattr(usual, key) for key in patch}),
        )
    )
    given = {line.partition(":")[0] for line in configs.differences(default, mine)}
    _refuse_others(wanted, mine, given, origin)
