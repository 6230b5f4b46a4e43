"""An attentive probe with loops, from its equation: one item, one head, one token at a time."""

import math

import numpy as np


def layer_norm(x, weight, bias, eps=1e-6):
    """Return x (E,) at mean 0 and variance 1, scaled and shifted."""
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return np.array(
        [
            (v - mean) / math.sqrt(variance + eps) * w + b
            for v, w, b in zip(x, weight, bias, strict=True)
        ]
    )


def linear(x, weight, bias):
    """Return weight (O, E) x + bias (O,)."""
    return np.array(
        [
            sum(w * v for w, v in zip(row, x, strict=True)) + b
            for row, b in zip(weight, bias, strict=True)
        ]
    )


def gathered(tokens, p, heads):
    """Return what one query gathers (E,) of tokens (N, E); ``p`` are arrays by their names."""
    width = len(p["query"][0])
    each = width // heads
    zero = np.zeros(width)
    query = layer_norm(p["query"][0], p["query_norm.weight"], p["query_norm.bias"])
    query = linear(query, p["to_query.weight"], p["to_query.bias"])
    keys, values = [], []
    for token in tokens:
        key = layer_norm(token, p["key_norm.weight"], p["key_norm.bias"])
        keys.append(linear(key, p["to_key.weight"], zero))
        value = layer_norm(token, p["value_norm.weight"], p["value_norm.bias"])
        values.append(linear(value, p["to_value.weight"], p["to_value.bias"]))
    mixed = np.zeros(width)
    for head in range(heads):
        own = range(head * each, (head + 1) * each)
        scores = [sum(query[i] * key[i] for i in own) / math.sqrt(each) for key in keys]
        shares = [math.exp(score - max(scores)) for score in scores]
        for i in own:
            mixed[i] = sum(s * value[i] for s, value in zip(shares, values, strict=True)) / sum(
                shares
            )
    return linear(mixed, p["out.weight"], p["out.bias"])


def logits_of_batch(batch, p, heads):
    """Return logits (B, K) in training: each number at the mean and the variance of the batch."""
    found = np.array([gathered(tokens, p, heads) for tokens in batch])
    mean, variance = found.mean(0), found.var(0)
    return _told((found - mean) / np.sqrt(variance + 1e-6), p)


def logits_of_items(batch, p, heads):
    """Return logits (B, K) in use: each item by itself, at what was seen in training."""
    found = np.array([gathered(tokens, p, heads) for tokens in batch])
    spread = np.sqrt(p["norm.running_var"] + 1e-6)
    return _told((found - p["norm.running_mean"]) / spread, p)


def _told(normed, p):
    return np.array([linear(row, p["linear.weight"], p["linear.bias"]) for row in normed])
