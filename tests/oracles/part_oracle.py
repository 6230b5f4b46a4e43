"""PART written from its equations with loops, in float64: slow, obvious, and independent."""

import math

import torch


def translation(positions, sizes, pairs, ratios):
    """Equation 1 (and 5): one pair, one axis at a time."""
    batch, _, rank = positions.shape
    width = 2 * rank if ratios else rank
    result = torch.zeros(batch, len(pairs), width, dtype=positions.dtype)
    for b in range(batch):
        for p, (i, j) in enumerate(pairs.tolist()):
            for axis in range(rank):
                delta = positions[b, j, axis] - positions[b, i, axis]
                result[b, p, axis] = delta / sizes[b, i, axis]
                if ratios:
                    result[b, p, rank + axis] = sizes[b, j, axis] / sizes[b, i, axis]
    return result


def cross_attention(tokens, pairs, weights, heads):
    """Equation 3 as the published code has it: query from both tokens, keys and values all tokens.

    ``weights`` holds query (w, b), in_proj (w, b), out_proj (w, b), output (w, b).
    """
    (wq, bq), (wi, bi), (wo, bo), (wy, by) = weights
    batch, n, width = tokens.shape
    d = width // heads
    rows = []
    for b in range(batch):
        keys = tokens[b] @ wi[width : 2 * width].T + bi[width : 2 * width]
        values = tokens[b] @ wi[2 * width :].T + bi[2 * width :]
        answers = []
        for i, j in pairs.tolist():
            query = wq @ torch.cat([tokens[b, i], tokens[b, j]]) + bq
            query = wi[:width] @ query + bi[:width]
            mixed = []
            for h in range(heads):
                part = slice(h * d, (h + 1) * d)
                logits = torch.stack(
                    [(query[part] * keys[k, part]).sum() / math.sqrt(d) for k in range(n)]
                )
                p = torch.exp(logits - logits.max())
                p = p / p.sum()
                mixed.append(sum(p[k] * values[k, part] for k in range(n)))
            answers.append(wy @ (wo @ torch.cat(mixed) + bo) + by)
        rows.append(torch.stack(answers))
    return torch.stack(rows)


def boxes_by_rejection(draws, extent, low, high, rng):
    """The published sampler along one axis: two uniform ends, kept when their distance fits."""
    kept = []
    while len(kept) < draws:
        ends = sorted(rng.integers(extent, size=2).tolist())
        if low <= ends[1] - ends[0] <= high:
            kept.append(ends)
    return kept
