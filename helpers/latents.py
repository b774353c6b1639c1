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
        """v [..., K], in standard deviations along the first K axes -> the change of w [..., w_dim]."""
        k = v.shape[-1]
        return (v * self.spread[:k]) @ self.axes[:k]

    def position(self, w, k=None):
        """w [..., w_dim] -> v [..., K], how many standard deviations from the mean along each (or the first k) axes."""
        return (w - self.mean) @ self.axes[:k].T / self.spread[:k]


@lru_cache(maxsize=4)
def w_space(generator):
    """The `WSpace` of a generator, computed once."""
    return WSpace(generator)


GALLERY_SEED = 77


@lru_cache(maxsize=2)
@torch.no_grad()
def gallery(domain):
    """Random faces, so that a sentence can be looked up among them: w [N, w_dim], and CLIP's vectors [N, D].

    How many, and their truncation, are settings of method 3. The vectors come with the embedded domains; with another
    CLIP they are computed once, at `domain.draw`.
    """
    settings = domain.settings.directions
    w = random_w_plus(domain, settings.samples, GALLERY_SEED, truncation=settings.psi)[:, 0]
    if domain.gallery is not None:
        return w, domain.gallery.to(w)
    features = [domain.clip.encode_image(domain.generator(domain.generator.broadcast(part), resolution=domain.draw))
                for part in w.split(50)]
    return w, torch.cat(features)


def suggestion(domain, prompt):
    """The offset [K] from the average face to those that fit the prompt best, in standard deviations, and their gain.

    Gain: how much better they fit, in CLIP's cosine along the sentence's direction; at least a thousandth, since the
    neutral sentence itself gains nothing.
    """
    w, features = gallery(domain)
    v, score = w_space(domain.generator).position(w), features @ text_direction(domain, prompt)
    best = score.topk(round(domain.settings.directions.share * len(score))).indices
    gain = (score[best].mean() - score.mean()).item()
    return v[best].mean(dim=0) - v.mean(dim=0), max(gain, 1e-3)
