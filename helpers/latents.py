"""Where a generator's latents lie: random faces, the spread of w, and a gallery that a sentence can be looked up in."""

import math
from functools import lru_cache

import torch


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


def linear_model(v, vectors, ridge):
    """How a network's vector moves [D, K] with a step of one standard deviation along each of W's first axes.

    Ridge regression over random images: one linear map in place of the generator and the network.

    Args: v: where the images lie, [N, K] in standard deviations; vectors: [N, D]; ridge: in images.
    """
    v, vectors = v - v.mean(dim=0), vectors - vectors.mean(dim=0)
    return torch.linalg.solve(v.T @ v + ridge * torch.eye(v.shape[1], device=v.device), v.T @ vectors).T


@lru_cache(maxsize=2)
@torch.no_grad()
def gallery(domain):
    """Random images, so that a sentence can be looked up among them.

    How many, and their truncation, are settings. The embedded domains bring all of it along, the vectors of some of
    their images only; with another CLIP it is computed once, at `domain.draw`.

    Returns: {"clip": CLIP's unit vectors [N, D], "clip model": `linear_model` [D, K]} and, where changing the person
        has a price, "identity model", that of the identity network.
    """
    if domain.gallery is not None:
        return {name: part.to(domain.device, torch.float32) for name, part in domain.gallery.items()}
    settings = domain.settings.gallery
    w = random_w_plus(domain, settings.samples, GALLERY_SEED, truncation=settings.psi)[:, 0]
    networks, parts = {"clip": domain.clip.encode_image}, []
    if settings.identity and domain.identity is not None:
        networks["identity"] = domain.identity
    for part in w.split(20):
        image = domain.generator(domain.generator.broadcast(part), resolution=domain.draw)
        parts.append([network(image) for network in networks.values()])
    vectors, v = dict(zip(networks, map(torch.cat, zip(*parts)))), w_space(domain.generator).position(w, settings.axes)
    models = {f"{network} model": linear_model(v, seen, settings.ridge) for network, seen in vectors.items()}
    return {"clip": vectors["clip"], **models}


def gain(domain, direction):
    """How much better than average a sentence's direction [D] is met by those of the gallery that fit it best.

    In CLIP's cosine; at least a thousandth, since the neutral sentence itself gains nothing.
    """
    score = gallery(domain)["clip"] @ direction
    best = score.topk(round(domain.settings.gallery.share * len(score))).values
    return max((best.mean() - score.mean()).item(), 1e-3)


def suggestion(domain, direction):
    """The offset [K] in standard deviations that makes an image fit a sentence, given its direction [D] for CLIP.

    Of all steps that, by the linear model, move CLIP's vector by the `gain` along the direction, it is the one that is
    likeliest (short) and moves little sideways: what else the sentence's faces have in common is held fixed. Where
    changing the person has a price, it also moves the identity network's vector little.
    """
    settings, model = domain.settings.gallery, gallery(domain)["clip model"]
    along = direction @ model
    sideways = model - direction[:, None] * along
    price = torch.eye(len(along), device=along.device) + settings.sideways * sideways.T @ sideways
    if settings.identity and domain.identity is not None:
        person = gallery(domain)["identity model"]
        price = price + settings.identity * person.T @ person
    step = torch.linalg.solve(price, along)
    return step * gain(domain, direction) / (along @ step).clamp(min=1e-12)  # the neutral sentence asks for no step


def missing(domain, direction, image):
    """How much of a sentence's gain each image [N, 3, R, R] still lacks: 1 as a random face has it, or less -> [N]."""
    average = (gallery(domain)["clip"] @ direction).mean()
    had = (domain.clip.encode_image(image) @ direction - average) / gain(domain, direction)
    return (1 - had).clamp(domain.settings.gallery.least, 1)
