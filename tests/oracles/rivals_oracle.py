"""MAE, MP3 and DropPos written from their equations with loops, in float64.

They take the module's own encoder and layers, and do by loops all that is theirs: who is seen, what
is predicted, what counts.
"""

import math

import torch


def grid_patches(x, patch):
    """Cut the grid by hand, last axis fastest: (B, N, C, *p)."""
    counts = [length // p for length, p in zip(x.shape[2:], patch, strict=True)]
    rows = []
    for flat in range(math.prod(counts)):
        at, rest = [], flat
        for count in reversed(counts):
            at.insert(0, rest % count)
            rest //= count
        where = tuple(slice(i * p, (i + 1) * p) for i, p in zip(at, patch, strict=True))
        rows.append(x[(slice(None), slice(None), *where)])
    return torch.stack(rows, dim=1)


def mae_loss(model, x, order, mode):
    """Mean squared error over masked patches only, each patch normalised by its own moments."""
    patches = grid_patches(x, model.patch)
    n = patches.shape[1]
    total, count = 0.0, 0
    for b in range(len(x)):
        seen = order[b, : model.n_kept].tolist()
        tokens, cls = model.encoder(
            patches[b : b + 1, seen], torch.zeros(1, x.shape[1]), model.code[seen]
        )
        entered = model.decoder.enter(tokens)[0]
        full = [model.mask_token] * n
        for place, token in zip(seen, entered, strict=True):
            full[place] = token
        full = [token + code for token, code in zip(full, model.decoder_code, strict=False)]
        full.append(model.decoder.enter(cls)[0])
        decoded = model.decoder(torch.stack(full)[None])[0]
        for place in range(n):
            if place in seen:
                continue
            truth = patches[b, place].flatten(1)
            if mode == "patch":
                truth = truth.flatten()[None]
            if mode != "raw":
                rows = []
                for row in truth:
                    mean = row.sum() / len(row)
                    variance = ((row - mean) ** 2).sum() / (len(row) - 1)
                    rows.append((row - mean) / torch.sqrt(variance + 1e-6))
                truth = torch.stack(rows)
            total = total + ((decoded[place] - truth.flatten()) ** 2).mean()
            count += 1
    return total / count


def attention_over(block, tokens, keys):
    """One block in which only ``keys`` are attended to, query by query and head by head."""
    normal = block.norm1(tokens)
    width = normal.shape[-1]
    heads = block.attention.heads
    d = width // heads
    weight, bias = block.attention.qkv.weight, block.attention.qkv.bias
    q, k, v = (normal @ weight[i * width : (i + 1) * width].T for i in range(3))
    q, k, v = (t + bias[i * width : (i + 1) * width] for i, t in enumerate((q, k, v)))
    rows = []
    for i in range(len(tokens)):
        mixed = []
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            logits = torch.stack([(q[i, part] * k[j, part]).sum() / math.sqrt(d) for j in keys])
            p = torch.softmax(logits, 0)
            mixed.append(sum(p[a] * v[j, part] for a, j in enumerate(keys)))
        rows.append(block.attention.out(torch.cat(mixed)))
    tokens = tokens + torch.stack(rows)
    return tokens + block.mlp(block.norm2(tokens))


def mp3_loss(model, x, order):
    """Cross-entropy of all patches' positions; the same keys and [CLS] in every layer."""
    patches = grid_patches(x, model.patch)
    n = patches.shape[1]
    nats = []
    for b in range(len(x)):
        tokens = model.encoder.embed(patches[b].flatten(1))
        tokens = torch.cat([tokens, model.encoder.cls[None]])
        keys = [*order[b, : model.n_keys].tolist(), n]
        for block in model.encoder.blocks:
            tokens = attention_over(block, tokens, keys)
        logits = model.head(model.encoder.norm(tokens)[:n])
        for place in range(n):
            nats.append(torch.logsumexp(logits[place], 0) - logits[place, place])
    return torch.stack(nats).mean()


def droppos_loss(model, x, order, sigma, index):
    """Soft cross-entropy over all positions, weighted by likeness to [CLS], of dropped ones."""
    patches = grid_patches(x, model.patch)
    n = patches.shape[1]
    above = below = 0.0
    for b in range(len(x)):
        seen = order[b, : model.n_seen].tolist()
        code = [
            model.code[place] if k < model.n_told else model.position_token
            for k, place in enumerate(seen)
        ]
        level = torch.zeros(1, x.shape[1])
        tokens, cls = model.encoder(patches[b : b + 1, seen], level, torch.stack(code))
        logits = model.decoder(model.decoder.enter(torch.cat([tokens[0], cls]))[None])[0]
        with torch.no_grad():
            every, whole = model.encoder(patches[b : b + 1], level, model.code)
        likeness = [
            torch.exp(torch.cosine_similarity(every[0, k], whole[0], dim=0) / 0.1) for k in range(n)
        ]
        shares = [likeness[place] / sum(likeness) for place in seen]
        shares = [share / sum(shares) for share in shares]
        for k, place in enumerate(seen):
            if k < model.n_told:
                continue
            if sigma > 0:
                target = [
                    math.exp(
                        -sum((a - c) ** 2 for a, c in zip(index[place], other, strict=True))
                        / sigma**2
                    )
                    for other in index
                ]
                target = [value / sum(target) for value in target]
            else:
                target = [float(other == place) for other in range(n)]
            free = torch.logsumexp(logits[k], 0)
            nats = sum(t * (free - logits[k, other]) for other, t in enumerate(target))
            above = above + shares[k] * nats
            below = below + shares[k]
    return above / below


def relative_positioning_loss(model, x, starts):
    """Logistic loss of near and far pairs, one at a time; each kind's mean weighs a half."""
    nats = {True: [], False: []}
    patches = [
        [
            window[(slice(None), *(slice(a, a + p) for a, p in zip(at, model.patch, strict=True)))]
            for at in places.tolist()
        ]
        for window, places in zip(x, starts, strict=True)
    ]
    for b, places in enumerate(starts.tolist()):
        tokens, _ = model.encoder(torch.stack(patches[b])[None], torch.zeros(1, x.shape[1]))
        for i in range(len(places)):
            for j in range(i + 1, len(places)):
                steps = [
                    abs(a - c) / p
                    for a, c, p in zip(places[i], places[j], model.patch, strict=True)
                ]
                distance = math.sqrt(sum(step**2 for step in steps))
                if max(steps) < 1 or model.config.near < distance <= model.config.far:
                    continue
                near = distance <= model.config.near
                features = (tokens[0, i] - tokens[0, j]).abs()
                logit = (model.head.weight[0] * features).sum() + model.head.bias[0]
                p_near = 1 / (1 + torch.exp(-logit))
                nats[near].append(-torch.log(p_near if near else 1 - p_near))
    return sum(sum(some) / len(some) for some in nats.values() if some) / 2
