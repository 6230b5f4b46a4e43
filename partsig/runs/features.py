"""What a frozen network makes of inputs: the one place where such features are computed.

They are computed once: where they are many and a folder is given, they are kept there, one file for
each part (a recording) of each store. A file is told by the network's weights and by the inputs
themselves, so that it is right or not found, whatever is called how; it may be deleted at any time.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from partsig import __version__, regular
from partsig.contracts import Examples
from partsig.core.frozen_encoder import Encoded, FrozenEncoder, joined
from partsig.core.objectives.supervised import EncoderClassifier, pooled
from partsig.errors import ConfigError, DataError, check_option
from partsig.files import atomic
from partsig.runs.exported import POOLS, LoadedModel

# Windows per forward pass where nothing is learned: on a CPU so many that layers stay in its cache
# (measured: 5.3 s a night with 64, 6.2 s with 256 or 32, 6.9 s with 16).
CPU_BATCH, DEVICE_BATCH = 64, 256
# So many items, a minute's work of a CPU, are worth a place on the disk.
KEPT_FROM = 10_000
FOLDER = "features"
SEAL = 20  # bytes of a hash: that of a file's name, and the file's own, at its end


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenNetwork:
    """A network that does not learn, and what is taken of it: ``take`` of windows (B, C, *L).

    ``folder`` is where results are kept; None: nowhere. They are told from any others by
    :func:`key_of` of the ``network`` and by ``told``, which must decide all that is taken.
    """

    take: Callable[[Tensor], Tensor]
    network: nn.Module | None = None
    folder: Path | None = None
    told: str = ""

    @torch.inference_mode()
    def features(self, examples: Examples, device: torch.device) -> Iterator[np.ndarray]:
        """Yield what is taken of all examples in their order, (b, …) float32."""
        if self.network is not None:
            self.network.eval().to(device)
        if self.folder is None or len(examples) < KEPT_FROM:
            yield from self._computed(examples, device)
            return
        key = key_of(self.network) + self.told
        for part in examples.apart():
            file = self.folder / f"{_name(key, part)}.npy"
            kept = _read(file, len(part))
            if kept is None:
                self._keep(part, device, file)
                kept = _read(file, len(part))
            if kept is None:  # it could not be written
                yield from self._computed(part, device)
                continue
            size = batch_size(device)
            yield from (np.array(kept[at : at + size]) for at in range(0, len(kept), size))

    def _computed(self, examples: Examples, device: torch.device) -> Iterator[np.ndarray]:
        for x in in_batches(examples, device):
            yield self.take(x).float().cpu().numpy()

    def _keep(self, part: Examples, device: torch.device, file: Path) -> None:
        """Write the features of a part as they come; a folder that cannot be written is let be."""
        try:
            with atomic(file) as temporary:
                out, at = None, 0
                for block in self._computed(part, device):
                    if out is None:
                        shape = (len(part), *block.shape[1:])
                        out = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
                    out[at : at + len(block)] = block
                    at += len(block)
                out.flush()
                with open(temporary, "r+b") as handle:
                    seal = hashlib.file_digest(handle, _seal).digest()
                    handle.write(seal)  # at its end, where nothing of the array is
        except DataError:
            return


# What can be taken of a frozen encoder: vectors (B, F), which may be taken together, or maps.
VECTORS: dict[str, Callable[[Encoded], Tensor | None]] = {
    "pooled": lambda made: made.pooled,
    "cls": lambda made: made.cls,
    "mean": lambda made: made.mean,
    "projection": lambda made: made.projection,
}
MAPS = ("map", "prefix")


def taken_of(
    encoder: FrozenEncoder,
    what: Sequence[str] = ("pooled",),
    taps: Sequence[int] = (),
    *,
    norm: bool = False,
    folder: Path | None = None,
) -> FrozenNetwork:
    """Return what takes ``what`` of an encoder; its ``features(examples, device)`` yields it.

    Vectors, one beside the other (b, sum of F): pooled, cls, mean, projection. Or by itself map,
    (b, E, *grid): the last one, or those after the blocks ``taps`` (from 0), brought to the grid of
    the first and joined; or prefix, (b, P, sum of E), after ``taps``. ``norm``: behind the
    encoder's last norm.

    Raises ConfigError for what there is not.
    """
    for name in what:
        check_option("what is taken of an encoder", name, (*VECTORS, *MAPS))
    alone = [name for name in what if name in MAPS]
    if not what or (alone and len(what) > 1):
        raise ConfigError(f"{' and '.join(what) or 'nothing'} cannot be taken together.")
    if taps and not alone:
        raise ConfigError(f"{what[0]} is of the whole encoder; taps are for {', '.join(MAPS)}.")
    if what[0] == "prefix" and not taps:
        raise ConfigError("prefix is what stands beside a map after some block: pass taps.")
    if "cls" in what and not encoder.has_cls:
        raise ConfigError("this encoder has no [CLS]; take pooled, or mean.")
    project = "projection" in what
    encoder.check(taps, project)

    def take(x: Tensor) -> Tensor:
        made = encoder.encode(x, taps, norm, project)
        if what[0] == "map":
            return joined(made.maps) if taps else made.map
        if what[0] == "prefix":
            if made.prefix[0] is None:
                raise ConfigError("this encoder has no tokens besides those of its map.")
            return torch.cat(made.prefix, dim=-1)
        return torch.cat([VECTORS[name](made) for name in what], dim=1)

    told = f" {','.join(what)} {','.join(map(str, taps))} {norm}"
    return FrozenNetwork(take=take, network=encoder, folder=folder, told=told)


def _name(key: str, part: Examples) -> str:
    """Return the hash of network and inputs: reading them takes a hundredth of encoding."""
    told = hashlib.blake2b(key.encode(), digest_size=SEAL)
    for x in part.in_order(DEVICE_BATCH):
        told.update(f"{x.dtype} {x.shape}".encode())
        told.update(np.ascontiguousarray(x))
    return told.hexdigest()


def _seal() -> "hashlib._Hash":
    return hashlib.blake2b(digest_size=SEAL)


def _read(file: Path, n: int) -> np.ndarray | None:
    """Return kept features (n, …); None where there are none, or other ones than were written."""
    try:
        regular.check(file)
        whole = np.memmap(file, np.uint8, "r")
        seal = _seal()
        seal.update(whole[:-SEAL])
        if seal.digest() != whole[-SEAL:].tobytes():
            return None
        kept = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if len(kept) == n else None


def key_of(network: nn.Module) -> str:
    """Return what tells the features of a network from any others: its weights but for a head's."""
    told = hashlib.blake2b(f"{__version__} {type(network).__name__}".encode())
    told.update(repr(getattr(network, "config", "")).encode())
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith("head."):
            told.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            told.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return told.hexdigest()


def folder_of(origin: str | Path | None, run: Path) -> Path:
    """Return where features are kept: with the run whose encoder makes them, else with ``run``."""
    own = None if origin is None else Path(origin)
    known = own is not None and (own / "run.json").is_file()
    return (own if known else run) / FOLDER


def batch_size(device: torch.device) -> int:
    """Return how many windows go through a network at once on this device."""
    return CPU_BATCH if device.type == "cpu" else DEVICE_BATCH


def in_batches(examples: Examples, device: torch.device) -> Iterator[Tensor]:
    """Yield the inputs of all examples, in order, as they come from a store."""
    for inputs in examples.in_order(batch_size(device)):
        yield torch.from_numpy(inputs).to(device)


def check_pool(pool: str | None, loaded: LoadedModel) -> str:
    """Return the pool that is meant; None and ``auto`` are the model's own."""
    if pool in (None, "auto"):
        return loaded.pool
    if pool not in POOLS:
        raise ConfigError(f"pool is {pool!r}; it can be auto, {', '.join(POOLS)}.")
    return pool


def starts(n_times: int, window: int) -> list[int]:
    """Return where windows begin that cover ``n_times`` samples, as few as will do.

    >>> starts(3000, 500), starts(3000, 3000), starts(3000, 700)
    ([0, 500, 1000, 1500, 2000, 2500], [0], [0, 575, 1150, 1725, 2300])
    """
    n = -(-n_times // window)
    return [round(i * (n_times - window) / max(n - 1, 1)) for i in range(n)]


def embed_windows(
    model: EncoderClassifier, window: int, x: Tensor, pool: str, blocks: int = 0
) -> Tensor:
    """Return embeddings (B, F) of windows (B, C, *L), the last axis at least ``window`` long.

    Longer signals are encoded in the windows of :func:`starts`, each normalised by itself as in
    training; patch tokens of all are pooled together, [CLS] tokens are averaged. ``blocks``: what
    the encoder makes of them after its first so many blocks; 0 is all.
    """
    first = starts(x.shape[-1], window)
    pieces = torch.stack([x[..., at : at + window] for at in first], dim=1)  # (B, n, C, *window)
    together = (-1, len(first))
    tokens, cls, spectrum = model.encode(pieces.flatten(0, 1), pool, blocks)
    if spectrum is not None:
        spectrum = spectrum.unflatten(0, together).mean(1)
    cls = cls.unflatten(0, together).mean(1)
    return pooled(pool, tokens.unflatten(0, together).flatten(1, 2), cls, spectrum)


def embed_tokens(model: EncoderClassifier, x: Tensor, blocks: int = 0) -> Tensor:
    """Return all tokens (B, N + 1, E) of windows (B, C, *L) as long as the model's, [CLS] the last.

    Patch n lies at row n of :func:`~partsig.core.geometry.grid_index`, counted along the last axis
    first. ``blocks``: as for :func:`embed_windows`.
    """
    tokens, cls, _ = model.encode(x, "mean", blocks)
    return torch.cat([tokens, cls.unsqueeze(1)], dim=1)
