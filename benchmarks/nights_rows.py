"""The rows of ``nights.py``: networks over the epochs of a night, and what is beside the bands."""

import nights_pretraining as pretraining

SLEEPERS = (10, 3, 1, 30, 2, 5)
# Draws of labelled sleepers: fewer sleepers differ more.
DRAWS = {1: 20, 2: 20, 3: 20, 5: 5, 10: 5, 30: 5}
# Passes over the stretches, and after how many validation looks: 240 to 450 steps.
PASSES = {1: (60, 15), 2: (36, 9), 3: (24, 6), 5: (16, 4), 10: (8, 2), 30: (4, 1)}
EPOCHS_A_STEP = 672
RATE = 2e-3  # of AdamW at its highest


def network(model: str, epochs: int, **own: object) -> dict[str, object]:
    """Return the settings of a network over stretches of so many epochs."""
    batch = max(2, round(EPOCHS_A_STEP / epochs))
    rate = RATE * 512 / batch  # rates are stated for a batch of 512
    return {
        "context.model": model,
        "context.epochs": epochs,
        "loss.smoothing": 0.0,
        "optim.lr": rate,
        "optim.min_lr": rate / 100,
        "optim.warmup_lr": rate / 100,
        "optim.warmup_epochs": 1,
        "optim.weight_decay": 0.01,
        "optim.clip": 1.0,
        "fit.batch_size": batch,
        **own,
    }


ROWS = {
    "gru-21": network("gru", 21),
    "logistic": {"model": "logistic"},
    "gru-1": network("gru", 1),
    "viterbi": network("viterbi", 1),
    "gru-7": network("gru", 7),
    "gru-101": network("gru", 101),
    "gru-21-two-layers": network("gru", 21, **{"context.layers": 2}),
    "transformer-21": network("transformer", 21, **{"context.layers": 2}),
    "gru-240": network("gru", 240),
}
# Of a row's name, its network, and what its features are beside the band powers.
WITH_PRETRAINING = ("gru-21", "gru-1", "viterbi", "gru-7", "gru-101", "transformer-21")
BESIDE = {f"{row}+{way}": (row, way) for row in WITH_PRETRAINING for way in pretraining.WAYS}
# An encoder's tokens of each epoch amid the two hours of a stretch, all of their numbers beside
# the band powers, and the encoder trained with the network: not at all, after three tenths of the
# steps, or from the first step on.
# On validation, three sleepers, three draws, first pretraining seed: 0.5 was .706, frozen first
# .688, frozen .685, rates that do not fall with depth .665; an encoder as drawn .668, none .657.
THROUGH = {"context.through": True, "drop_path": 0.0, "optim.layer_decay": 0.5}
FROZEN_FIRST = {"": 0.0, "-frozen": 1.0, "-frozen-first": 0.3}
ENCODED = {
    f"gru-240{how}+{way}": ("gru-240", way, THROUGH | {"frozen_first": share})
    for how, share in FROZEN_FIRST.items()
    for way in ("part", "random")
}
ROWS |= {name: ROWS[row] for name, (row, _) in BESIDE.items()}
ROWS |= {name: ROWS[row] | own for name, (row, _, own) in ENCODED.items()}
