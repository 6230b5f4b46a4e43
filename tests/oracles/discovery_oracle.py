"""The losses of part discovery as their papers write them: loops over windows, parts and places."""

import torch


def means(features, weights):
    """Σ_u M_ku f_u / Σ_u M_ku, by window and part."""
    found = []
    for f, w in zip(features, weights, strict=True):
        of_window = []
        for k in range(len(w)):
            total = sum(w[k, u] * f[:, u] for u in range(f.shape[1]))
            of_window.append(total / (sum(w[k, u] for u in range(f.shape[1])) + 1e-7))
        found.append(torch.stack(of_window))
    return torch.stack(found)


def scatter(features, weights):
    """Σ_k Σ_u M_ku |z_k - f_u|², by the foreground of each window."""
    z = means(features, weights)
    found = []
    for n, (f, w) in enumerate(zip(features, weights, strict=True)):
        total = 0.0
        for k in range(len(w)):
            for u in range(f.shape[1]):
                total = total + w[k, u] * ((z[n, k] - f[:, u]) ** 2).sum()
        found.append(total / (w.sum() + 1e-7))
    return torch.stack(found)


def contrast(own, other, every, temperature):
    """- log exp(z·ẑ/τ) / (exp(z·ẑ/τ) + Σ_{j≠k} Σ_i exp(z_k·z_j^i/τ)), mean over windows, parts."""
    found = []
    for n in range(len(own)):
        for k in range(own.shape[1]):
            right = torch.exp(own[n, k] @ other[n, k] / temperature)
            wrong = 0.0
            for i in range(len(every)):
                for j in range(own.shape[1]):
                    if j != k:
                        wrong = wrong + torch.exp(own[n, k] @ every[i, j] / temperature)
            found.append(-torch.log(right / (right + wrong)))
    return sum(found) / len(found)


def divergence(target, made, foreground):
    """Σ_u fg_u Σ_k p_ku log(p_ku / q_ku) / Σ_u fg_u."""
    found = []
    for a, b, fg in zip(target, made, foreground, strict=True):
        total = 0.0
        for u in range(a.shape[1]):
            p = torch.exp(a[:, u]) / torch.exp(a[:, u]).sum()
            q = torch.exp(b[:, u]) / torch.exp(b[:, u]).sum()
            for k in range(len(p)):
                total = total + fg[u] * p[k] * torch.log(p[k] / q[k])
        found.append(total / (fg.sum() + 1e-7))
    return torch.stack(found)


def concentration(weights, places):
    """Σ_k Σ_u |u - c_k|² R_ku / Σ_u R_ku."""
    found = []
    for w in weights:
        total = 0.0
        for k in range(len(w)):
            mass = sum(w[k, u] for u in range(w.shape[1]))
            centre = sum(w[k, u] * places[u] for u in range(w.shape[1])) / (mass + 1e-7)
            for u in range(w.shape[1]):
                total = total + w[k, u] * ((places[u] - centre) ** 2).sum() / (mass + 1e-7)
        found.append(total)
    return torch.stack(found)


def reconstruction(features, parts, basis, foreground):
    """Σ_u fg_u |f_u - Σ_k R_ku w_k|² / Σ_u fg_u."""
    found = []
    for f, r, fg in zip(features, parts, foreground, strict=True):
        total = 0.0
        for u in range(f.shape[1]):
            made = sum(r[k, u] * basis[k] for k in range(len(basis)))
            total = total + fg[u] * ((f[:, u] - made) ** 2).sum()
        found.append(total / (fg.sum() + 1e-7))
    return torch.stack(found)


def likeness(basis):
    """Σ_ij (ŵ_i·ŵ_j - δ_ij)²."""
    unit = [w / w.norm() for w in basis]
    return sum(
        (unit[i] @ unit[j] - (1.0 if i == j else 0.0)) ** 2
        for i in range(len(unit))
        for j in range(len(unit))
    )
