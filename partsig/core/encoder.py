"""From patches to tokens: linear tokens, [CLS], transformer, final norm; and a classifier on it."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from partsig.core.normalise import widened
from partsig.core.settings import EncoderConfig
from partsig.core.transformer import Transformer, initialise
from partsig.errors import ConfigError

# Power of a normalised patch below which a spectrum says nothing: 1e-2 is 36 dB below white noise.
SILENCE = 1e-2


class Encoder(nn.Module):
    """ViT over patches (B, N, C, *p), [CLS] as the last token (as in PART's code), no positions.

    Without a position code the patch tokens are equivariant and [CLS] invariant to the order of the
    patches.
    """

    def __init__(self, config: EncoderConfig, channels: int, patch: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(channels * prod(patch), config.width)
        self.spectrum = None
        if config.tokens == "linear+spectrum":
            self.spectrum = nn.Linear(channels * prod(bins(patch)), config.width)
        self.cls = nn.Parameter(torch.empty(config.width))
        self.blocks = Transformer(
            config.depth,
            config.width,
            config.heads,
            config.mlp_ratio,
            config.drop_path,
            own=config.attention == "patch",
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.apply(initialise)
        nn.init.trunc_normal_(self.cls, std=0.02)

    def forward(
        self,
        patches: Tensor,
        level: Tensor | None = None,
        code: Tensor | None = None,
        keys: Tensor | None = None,
        cls_only: bool = False,
        blocks: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Return patch tokens (B, N, E) and the [CLS] token (B, E); none of the former, (B, 0, E),
        with ``cls_only``, which spares most of the last block.

        ``level`` (B, C) is what normalisation took from the window, see
        :func:`~partsig.core.normalise.instance_normalise`; only spectra use it. ``code`` is added
        to the tokens: (N, E) or (B, N, E), or with N + 1 entries, the last of which belongs to
        [CLS]. Where ``keys`` (B, K) is given, only those patches and [CLS] are attended to, in
        every layer. ``blocks``: as they are after the first so many blocks, and the final norm
        behind them; 0 is all. The last blocks of a pretrained encoder know most of its pretext,
        those before may know more of anything else.

        Raises ConfigError where there are fewer blocks.
        """
        check_blocks(blocks, self.config.depth)
        kind = self.embed.weight.dtype  # of half precision, say; windows are normalised in float32
        tokens = self.embed(patches.flatten(2).to(kind))  # (B, N, E)
        if self.spectrum is not None:
            tokens = tokens + self.spectrum(log_spectrum(patches, level).flatten(2).to(kind))
        cls = self.cls.expand(len(tokens), 1, -1)
        n = tokens.shape[1]
        if code is not None and code.shape[-2] == n:
            tokens = tokens + code
        # In [CLS]'s float32, which the sums of the blocks then have under autocast too.
        tokens = torch.cat([tokens.to(cls.dtype), cls], dim=1)  # (B, N + 1, E)
        if code is not None and code.shape[-2] == n + 1:
            tokens = tokens + code
        if keys is not None:
            keys = torch.cat([keys, torch.full_like(keys[:, :1], n)], dim=1)  # and [CLS]
        tokens = self.norm(self.blocks(tokens, keys, 1 if cls_only else None, blocks))
        own = tokens[:, :-1]
        if self.config.attention == "patch":
            own = own + 0 * self.cls  # a gradient for all, which several processes wait for
        return own, tokens[:, -1]


def check_blocks(blocks: int, depth: int) -> None:
    """Raise ConfigError unless an encoder of this depth has so many blocks; 0 is all of them."""
    if not 0 <= blocks <= depth:
        raise ConfigError(f"blocks is {blocks}; the encoder has {depth} of them.")


def log_spectrum(patches: Tensor, level: Tensor | None = None) -> Tensor:
    """Return log power spectra (B, N, C, *bins) of patches (B, N, C, *p), at the window's level.

    Natural logarithm of the squared magnitude of the discrete Fourier transform under a periodic
    Hann window, over all axes; the last axis has p // 2 + 1 bins. A constant keeps silence finite.
    ``level`` (B, C) puts the amplitude back that normalisation took. Divided by 3, a scale at which
    its spread over EEG is of order 1.

    >>> wave = torch.sin(2 * torch.pi * torch.arange(100) / 10)
    >>> log_spectrum(wave.view(1, 1, 1, 100)).argmax().item()
    10
    """
    rank = patches.ndim - 3
    with torch.autocast(patches.device.type, enabled=False):
        patches = widened(patches)
        for axis, p in enumerate(patches.shape[3:]):
            taper = torch.hann_window(p, device=patches.device, dtype=patches.dtype)
            patches = patches * taper.view(p, *(1,) * (rank - 1 - axis))
        spectrum = torch.fft.rfftn(patches, dim=tuple(range(3, 3 + rank)))
        power = (spectrum.real.square() + spectrum.imag.square() + SILENCE).log()
        if level is not None:
            power = power + 2 * level.view(len(level), 1, -1, *(1,) * rank)
        return power / 3


def bins(patch: Sequence[int]) -> tuple[int, ...]:
    """Return how many frequencies the spectrum of a patch has along each axis."""
    return (*patch[:-1], patch[-1] // 2 + 1)
