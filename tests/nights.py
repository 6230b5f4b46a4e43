"""Small synthetic nights of features: stages follow one another as a chain, features are noisy."""

from pathlib import Path

import numpy as np

N_FEATURES = 4
STAY = 0.92


def chain(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n stages of a Markov chain that mostly stays where it is."""
    stages = [0]
    while len(stages) < n:
        stages.append(stages[-1] if rng.random() < STAY else int(rng.integers(5)))
    return np.array(stages)


def night(seed: int, n: int, noise: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, F) and stages (n,) of a night; the stages' means are the same in all."""
    rng = np.random.default_rng(seed)
    stages = chain(rng, n)
    means = np.random.default_rng(0).standard_normal((5, N_FEATURES))
    x = means[stages] + noise * rng.standard_normal((n, N_FEATURES))
    return x.astype(np.float32), stages


def write_nights(folder: Path, n_subjects: int = 12, n: int = 160, **changed: dict) -> Path:
    """Write a file of nights, one for each subject but two for the first; return its folder.

    ``changed`` are other arrays for some nights: ``{"00__1": {"t": …}}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:02d}__1" for i in range(n_subjects)] + ["00__2"]
    arrays = {"features": np.array([f"power {i}" for i in range(N_FEATURES)])}
    for number, name in enumerate(names):
        x, y = night(number + 1, n)
        y = y.astype(np.int16)
        y[:3] = -100
        own = {"x": x, "y": y, "t": 30.0 * np.arange(n)} | changed.get(name, {})
        arrays |= {f"{name}/{key}": value for key, value in own.items()}
    np.savez(folder / "nights.npz", **arrays)
    return folder
