"""Where a generator's latents lie: random faces, the spread of w, and a gallery that a sentence can be looked up in."""

import math
from functools import lru_cache

import torch

from .criteria import text_direction


def random_w_plus(domain, count, seed, truncation=None):
    """w_plus [count, L, w_dim] of random images, at the domain's own truncation psi if none is given."""
    generator = domain.generator
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return generator.broadcast(generator.map(z.to(domain.device), truncation=truncation or domain.psi))


class WSpace:
    """Where the generator's own w live: mean, principal axes and spread along each, from 10,000 samples.

    A step of 1 along an axis of `offset` is one standard deviation there, so one learning rate fits every
    generator, and a change cannot leave the span of w for places where no face was ever drawn.
    """

    def __init__(self, generator, samples=10_000, seed=0):
        noise = torch.randn(samples, generator.z_dim, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            w = generator.map(noise.to(generator.w_avg.device))
        self.mean = w.mean(dim=0)
        _, spread, axes = torch.linalg.svd(w - self.mean, full_matrices=False)
        spread = spread / math.sqrt(samples)
        kept = spread > 0.02 * spread[0]
        self.axes, self.spread = axes[kept], spread[kept]  # [K, w_dim], [K]
        self.dim = len(self.spread)

    def offset(self, v):
        """v [..., K], in standard deviations -> the change of w [..., w_dim]."""
        return (v * self.spread) @ self.axes

    def position(self, w):
        """w [..., w_dim] -> v [..., K], how many standard deviations from the mean along each axis."""
        return (w - self.mean) @ self.axes.T / self.spread


@lru_cache(maxsize=4)
def w_space(generator):
    """The `WSpace` of a generator, computed once."""
    return WSpace(generator)


@lru_cache(maxsize=2)
def gallery(domain, count=1000):
    """Random faces as offsets v [count, K] in `w_space`, and CLIP's vectors [count, D] of their images; made once."""
    w_plus, side = random_w_plus(domain, count, seed=77, truncation=1), min(256, domain.generator.resolution)
    with torch.no_grad():
        features = [domain.clip.encode_image(domain.generator(part, resolution=side)) for part in w_plus.split(50)]
    return w_space(domain.generator).position(w_plus[:, 0]), torch.cat(features)


def suggestion(domain, prompt, share=0.05):
    """The offset [K] from the average face to those that fit the prompt best, and how much better they fit."""
    v, features = gallery(domain)
    score = features @ text_direction(domain, prompt)
    best = score.topk(round(share * len(score))).indices
    gain = (score[best].mean() - score.mean()).item()
    return v[best].mean(dim=0) - v.mean(dim=0), max(gain, 1e-3)  # the neutral sentence itself gains nothing
