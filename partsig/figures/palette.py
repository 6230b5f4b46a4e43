"""Colours of classes: the same number has the same colour in every picture."""

import colorsys

import numpy as np

# Okabe and Ito's, told apart without colour vision; further ones go round the colour circle.
FIRST = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
GOLDEN = 0.6180339887  # of a turn: neighbours in number are far apart in hue


def palette(n: int) -> np.ndarray:
    """Return colours (n, 3) uint8 of classes 0, 1, …

    >>> palette(1).tolist(), len(np.unique(palette(255), axis=0))
    ([[0, 114, 178]], 255)
    """
    colours = [[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in FIRST]
    for number in range(len(FIRST), n):
        turn, ring = (number * GOLDEN) % 1.0, number % 3
        told = colorsys.hls_to_rgb(turn, (0.35, 0.55, 0.75)[ring], (0.9, 0.55, 0.7)[ring])
        colours.append([round(255 * part) for part in told])
    return np.array(colours[:n], np.uint8)
