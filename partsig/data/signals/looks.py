"""How signals look: log band powers from moment to moment, and changes of gain, noise, channels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from partsig.data.signals.bands import FLOOR

STEP_S = 0.1  # between two moments
WINDOW_S = 1.0  # of the spectrum about each
# Hz: delta, theta, alpha, sigma and beta, as the AASM manual has them.
BANDS_HZ = ((0.5, 4.0), (4.0, 8.0), (8.0, 12.0), (12.0, 16.0), (16.0, 30.0))


class SignalLooks:
    """Appearance is the log power of five bands, every 0.1 s; gain, noise and channels change.

    ``samples_per_unit`` is the rate in Hz. Powers are the mean over channels, so that their number
    does not matter.
    """

    width = len(BANDS_HZ)

    def __init__(self, samples_per_unit: float) -> None:
        self.sfreq = samples_per_unit

    def appearance(self, x: Tensor) -> Tensor:
        """Return log10 powers (B, 5, moments) of signals (B, C, T) in µV, in log10 µV²/Hz.

        By a Hann window of a second (or the signal, where that is shorter) about each moment.
        Bands beyond half the rate are 0.
        """
        x = x.float()
        n = min(round(WINDOW_S * self.sfreq), x.shape[-1])
        step = max(round(STEP_S * self.sfreq), 1)
        hann = torch.hann_window(n, device=x.device)
        pieces = F.pad(x, (n // 2, n - n // 2 - 1), mode="replicate").unfold(-1, n, step)
        pieces = pieces - pieces.mean(-1, keepdim=True)  # (B, C, moments, n)
        density = torch.fft.rfft(pieces * hann).abs().square()
        density = 2 * density / (self.sfreq * hann.square().sum())
        frequency = torch.fft.rfftfreq(n, 1 / self.sfreq, device=x.device)
        bands = []
        for low, high in BANDS_HZ:
            inside = (frequency >= low) & (frequency < high)
            found = bool(inside.any()) and high <= self.sfreq / 2
            power = density[..., inside].mean(-1) if found else density[..., 0] * 0
            bands.append((power + FLOOR).log10().mean(1) if found else power.mean(1))
        return torch.stack(bands, dim=1)

    def changed(
        self,
        x: Tensor,
        generator: torch.Generator,
        first: int,
        total: int,
        *,
        jitter: float,
        drop: float,
    ) -> Tensor:
        """Return signals (B, C, T) as they might be recorded otherwise.

        Each channel times 1 ± ``jitter``, white noise of up to half of ``jitter`` of its SD added,
        and silent with a chance of ``drop``, where there are other channels.
        """
        rows, device = slice(first, first + len(x)), generator.device
        n_chans = x.shape[1]
        drawn = torch.rand(total, 3, n_chans, 1, generator=generator, device=device)[rows]
        noise = torch.randn(total, *x.shape[1:], generator=generator, device=device)[rows]
        gain, loud, silent = drawn.to(x.device).unbind(1)  # each (B, C, 1)
        x = x.float()
        spread = x.std(-1, keepdim=True, correction=0)
        made = x * (1 + jitter * (2 * gain - 1)) + noise.to(x.device) * spread * loud * jitter / 2
        if n_chans > 1:
            silenced = silent < drop
            silenced &= ~silenced.all(1, keepdim=True)  # never all of them
            made = made.masked_fill(silenced, 0.0)
        return made
