"""Method 3, global directions (arXiv 2103.17249, section 6).

Written by `make export` from notebooks/03_global_directions.ipynb: edit that.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

from helpers.domains import DATA
from helpers.latents import missing, random_w_plus, suggestion, w_space
from helpers.stylegan2 import half_type
from helpers.sweeps import find_sweep, visit


@lru_cache(maxsize=2)
@torch.no_grad()
def style_statistics(domain, count=10_000, seed=123):
    """Mean and standard deviation [S] of every style channel over random images, at the domain's own
    truncation."""
    s = torch.cat([domain.generator.styles(part) for part in random_w_plus(domain, count, seed).split(1000)])
    return s.mean(dim=0), s.std(dim=0)


def channel_directions(features):
    """Delta-i: features [C, N, 2, D] of C channels in N images, lowered (0) and raised (1) -> unit vectors
    [C, D]."""
    features = F.normalize(features, dim=-1)
    change = F.normalize(features[:, :, 1] - features[:, :, 0], dim=-1)
    return F.normalize(change.mean(dim=1), dim=-1)


def swept_channels(generator, resolution=128):
    """The channels [C] that the sweep visits: all but those to RGB, up to a resolution."""
    return torch.cat([torch.arange(part.start, part.stop) for part in generator.style_layout
                      if part.kind in ("conv", "up") and part.resolution <= resolution])


@torch.no_grad()
def channel_direction(domain, base, channel):
    """Delta-i [D] of one channel, from base codes s [N, S], which stay as they are."""
    mean, std = style_statistics(domain)
    low, high = base.clone(), base.clone()  # the authors' copy is shallow: see below
    low[:, channel], high[:, channel] = mean[channel] - 5 * std[channel], mean[channel] + 5 * std[channel]
    image = domain.generator.synthesize(torch.cat([low, high]), resolution=domain.draw)
    with torch.autocast(domain.device.type, half_type(domain.device),
                        enabled=half_type(domain.device) is not None):
        features = domain.clip.encode_image(image).float()
    return channel_directions(features.view(2, len(base), -1).transpose(0, 1)[None])[0]


def sweep_images(domain, count, seed=0):
    """s [count, S] of the images a sweep looks at: random ones at truncation 0.7, as the authors'."""
    with torch.no_grad():
        return domain.generator.styles(random_w_plus(domain, count, seed, truncation=0.7))


def sweep(domain, *, count=None, seed=0, path=None, callback=None, accelerator=None):
    """Delta-i of every swept channel [C, D], and which are done, bool [C]; with a path, a sweep that was cut
    goes on.

    Args: count: images, by default as many as the domain's settings say (the authors: 100); the others as
    `visit`.
    """
    count = count or domain.settings.directions.images
    base = sweep_images(domain, count, seed)
    settings = dict(generator=domain.fingerprint, clip=domain.clip_fingerprint, count=count, seed=seed)
    return visit(domain, swept_channels(domain.generator).tolist(),
                 lambda c: channel_direction(domain, base, c),
                 settings, path=path, callback=callback, accelerator=accelerator)


TEMPLATES = (DATA / "imagenet_templates.txt").read_text("utf-8").splitlines()


def text_difference(domain, neutral, target):
    """Delta-t: from the neutral to the target sentence, a unit vector [D]. Raises ValueError if they are the
    same."""
    ends = []
    for text in (neutral, target):
        # complains about a sentence that cannot be used, before it is phrased
        domain.clip.encode_text([text])
        # templates have articles
        text = text.strip().removeprefix("a ").removeprefix("an ").removeprefix("the ")
        ends.append(F.normalize(domain.clip.encode_text([t.format(text) for t in TEMPLATES]).mean(dim=0),
                                dim=0))
    if torch.equal(*ends):
        raise ValueError(f'"{target}" says the same as the neutral sentence: describe what should change.')
    return F.normalize(ends[1] - ends[0], dim=0)


def threshold_for(relevance, channels):
    """The threshold that leaves so many channels."""
    return relevance.abs().topk(min(int(channels), len(relevance))).values[-1].item()


def select(relevance, threshold):
    """R [C] -> Delta-s [C] before it is scaled by std: zero below the threshold, the strongest channel 1 (or
    -1).

    Raises ValueError if the threshold leaves no channel.
    """
    kept = torch.where(relevance.abs() >= threshold, relevance, 0)
    if not kept.any():
        few = min(20, len(relevance))
        raise ValueError(f"A threshold of {threshold:.2f} leaves no channel: the largest that leaves {few} "
                         f"is {math.floor(threshold_for(relevance, few) * 100) / 100:.2f}.")
    return kept / kept.abs().max()


def sweep_relevance(domain, neutral, target):
    """R of every channel [S] from the sweep; 0 for those it did not visit."""
    relevance, channels = torch.zeros(domain.generator.style_dim,
                                      device=domain.device), swept_channels(domain.generator)
    relevance[channels] = find_sweep(domain, len(channels)) @ text_difference(domain, neutral, target)
    return relevance


@torch.no_grad()
def samples_relevance(domain, neutral, target):
    """R of every channel [S]: how far the suggested step moves it, in standard deviations."""
    step = suggestion(domain, text_difference(domain, neutral, target))
    ends = w_space(domain.generator).mean + w_space(domain.generator).offset(torch.stack([0 * step, step]))
    s = domain.generator.styles(domain.generator.broadcast(ends))
    return (s[1] - s[0]) / style_statistics(domain)[1].clamp(min=1e-8)


@torch.enable_grad()
def score_gradients(domain, s, direction):
    """d<E(G(s)), direction>/ds [N, S] for each image; direction [D], or [N, D]."""
    gradients = []
    for part, along in zip(s.split(8), direction.expand(len(s), -1).split(8)):
        part = part.clone().requires_grad_(True)
        image = domain.generator.synthesize(part, resolution=domain.draw)
        gradients.append(torch.autograd.grad((domain.clip.encode_image(image) * along).sum(), part)[0])
    return torch.cat(gradients)


@lru_cache(maxsize=4)
def derivative_lengths(domain, seed=0):
    """Root mean square of |dE/ds_c| [S] over images, from random directions: E<r, J>^2 = |J|^2 for r of N(0,
    1)."""
    s, random = sweep_images(domain, domain.settings.directions.gradient_images,
                             seed), torch.Generator().manual_seed(seed)
    size = domain.clip.encode_text([domain.neutral]).shape[1]
    return score_gradients(domain, s,
                           torch.randn(len(s), size, generator=random).to(s)).square().mean(dim=0).sqrt()


def gradient_relevance(domain, neutral, target):
    """R of every channel [S] from gradients alone; 0 for those that a sweep leaves out."""
    difference, channels = text_difference(domain, neutral, target), swept_channels(domain.generator)
    gradient = score_gradients(domain, sweep_images(domain, domain.settings.directions.gradient_images),
                               difference[None]).mean(dim=0)
    relevance = torch.zeros_like(gradient)
    relevance[channels] = (gradient / derivative_lengths(domain).clamp(min=1e-8))[channels]
    return relevance


@lru_cache(maxsize=256)
def relevance_of(domain, neutral, target, method):
    """R of every channel [S] for a pair of sentences; kept, so that a slider does not compute it again."""
    ways = {"samples": samples_relevance, "sweep": sweep_relevance, "gradient": gradient_relevance}
    if method not in ways:
        raise ValueError(f"method must be one of {', '.join(ways)}, got {method!r}.")
    return ways[method](domain, neutral, target)


def global_direction(domain, neutral, target, *, method=None, threshold=None, channels=None):
    """Delta-s [S], such that s + alpha * Delta-s is the edit from `neutral` to `target` (method 3).

    Args:
        neutral, target: sentences, for example domain.neutral and "a person with glasses".
        method: "samples"; "sweep", the paper's, which needs the domain's sweep; or "gradient". By default
        the domain's.
        threshold: of a channel's relevance (beta in the paper), or
        channels: how many to leave; without either, what the domain's settings say.
    """
    settings = domain.settings.directions
    relevance = relevance_of(domain, neutral, target, method or settings.method)
    if threshold is None and channels is None:
        threshold, channels = settings.threshold, settings.channels
    if threshold is None:
        threshold = threshold_for(relevance, channels)
    return select(relevance, threshold) * style_statistics(domain)[1]


@torch.no_grad()
def alpha_for(domain, s, neutral, target):
    """alpha [N, 1] that suits each image's s [N, S]: the domain's, times what it lacks of the target."""
    image = domain.generator.synthesize(s, resolution=domain.draw)
    lacks = missing(domain, text_difference(domain, neutral, target), image)
    return domain.settings.directions.alpha * lacks[:, None]
