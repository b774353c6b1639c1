"""Where a generator's latents lie: random images, and the principal axes of W."""

import math

import torch


def random_w_plus(domain, count, seed, truncation=None):
    """w_plus [count, L, w_dim] of random images.

    Args: seed: the same seed gives the same latents on every device; truncation: psi, the domain's
    own if none is given.
    """
    generator = domain.generator
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        psi = domain.psi if truncation is None else truncation
        w = generator.map(z.to(domain.device), truncation=psi)  # [count, w_dim]
        return generator.broadcast(w)  # [count, L, w_dim]


class WSpace:
    """Where the generator's own w lie: mean, principal axes and spread along each, from 10,000
    samples.

    A step of 1 along an axis of `offset` is one standard deviation of w there. So one learning rate
    fits every generator, and an edit stays within the span of w: outside of it the generator never
    drew a picture.
    """

    def __init__(self, generator, samples=10_000, seed=0):
        noise = torch.randn(samples, generator.z_dim, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            w = generator.map(noise.to(generator.w_avg.device))  # [samples, w_dim]
        self.mean = w.mean(dim=0)
        _, spread, axes = torch.linalg.svd(w - self.mean, full_matrices=False)
        spread = spread / math.sqrt(samples)
        kept = spread > 0.02 * spread[0]  # the other axes hold rounding errors
        self.axes, self.spread = axes[kept], spread[kept]  # [K, w_dim], [K]
        self.dim = len(self.spread)

    def offset(self, v):
        """v [..., K], in standard deviations along the first K axes -> the change of w [...,
        w_dim]."""
        k = v.shape[-1]
        return (v * self.spread[:k]) @ self.axes[:k]

    def position(self, w, k=None):
        """w [..., w_dim] -> v [..., k]: standard deviations from the mean along the first k axes,
        or along all."""
        return (w - self.mean) @ self.axes[:k].T / self.spread[:k]
