"""Method 3, global directions (arXiv 2103.17249, section 6).

Written by `make export` from notebooks/03_global_directions.ipynb: edit that.
"""

import math

import torch
import torch.nn.functional as F

from helpers.fused_ops import HalfPrecision, half_type
from helpers.latents import random_w_plus
from helpers.losses import text_direction
from helpers.methods.linear_model import keep_directions, kept_sentences, linear_model
from helpers.training_state import SweepRun


@torch.no_grad()
def linear_relevance(domain, direction, keep=None):
    """R of every channel [S]: how far the linear CLIP step moves it, in standard deviations."""
    step = linear_model(domain).step(direction, keep)  # [K]
    space, generator = domain.w_space, domain.generator
    ends = space.mean + space.offset(torch.stack([0 * step, step]))  # [2, w_dim]
    s = generator.styles(generator.broadcast(ends))  # [2, S]
    _, std = style_statistics(domain)
    return (s[1] - s[0]) / std.clamp(min=1e-8)


@torch.no_grad()
def alpha_for(domain, s, neutral, target, keep=None):
    """alpha [N, 1] that suits each image's s [N, S]: the least that makes CLIP find what is asked.

    `domain.settings.directions` says how many are tried, up to which, and which match is enough.
    """
    settings, model = domain.settings.directions, linear_model(domain)
    direction = text_direction(domain.clip, neutral, target)  # [D]
    delta_s = global_direction(domain, neutral, target, keep=keep)  # [S]
    alphas = torch.linspace(0, settings.alpha_most, settings.tries + 1, device=s.device)
    matches = []
    for alpha in alphas:
        image = domain.generator.synthesize(s + alpha * delta_s,
                                            resolution=domain.preview_resolution)
        matches.append(model.match(direction, image))
        if (torch.stack(matches).amax(dim=0) >= settings.match + settings.slack).all():
            break
    return least_enough(alphas, torch.stack(matches), settings.match, settings.slack)[:, None]


def least_enough(alphas, matches, enough, slack):
    """The least alpha [N] at which a match [A, N] is enough, or within `slack` of the best: linear
    between those that were tried."""
    wanted = (matches.amax(dim=0) - slack).clamp(max=enough)  # [N]
    # argmax of numbers that are all 0 or 1 is the first 1.
    first = (matches >= wanted).int().argmax(dim=0)
    before = (first - 1).clamp(min=0)
    low, high = (matches.gather(0, i[None])[0] for i in (before, first))  # [N]
    share = torch.where(first > before, (wanted - low) / (high - low), 0)
    return alphas[before] + share * (alphas[first] - alphas[before])


def style_statistics(domain):
    """Mean and standard deviation [S] of every style channel over 10,000 random images.

    At the domain's own truncation; computed at the first call and kept on the domain.
    """
    if "style_statistics" not in domain.kept:
        with torch.inference_mode(False), torch.no_grad():
            w_plus = random_w_plus(domain, 10_000, seed=123)
            s = torch.cat([domain.generator.styles(part) for part in w_plus.split(1000)])
            domain.kept["style_statistics"] = s.mean(dim=0), s.std(dim=0)
    mean, std = domain.kept["style_statistics"]
    return mean.clone(), std.clone()


def channel_directions(features):
    """Delta-i of C channels: unit vectors [C, D].

    Args: features: CLIP's vectors [C, N, 2, D] of N images, the channel lowered (0) and raised (1).
    """
    features = F.normalize(features, dim=-1)
    change = F.normalize(features[:, :, 1] - features[:, :, 0], dim=-1)  # [C, N, D]
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
    low[:, channel] = mean[channel] - 5 * std[channel]
    high[:, channel] = mean[channel] + 5 * std[channel]
    image = domain.generator.synthesize(torch.cat([low, high]),
                                        resolution=domain.preview_resolution)  # [2N, 3, R, R]
    half = half_type(domain.device)
    with torch.autocast(domain.device.type, half, enabled=half is not None):
        features = domain.clip.encode_image(image).float()  # [2N, D]
    features = features.view(2, len(base), -1).transpose(0, 1)  # [N, 2, D]
    return channel_directions(features[None])[0]


def sweep_images(domain, count, seed=0):
    """s [count, S] of the images of a sweep: random ones at truncation 0.7, as the authors'."""
    with torch.no_grad():
        return domain.generator.styles(random_w_plus(domain, count, seed, truncation=0.7))


def sweep(domain, *, images=None, seed=0, path=None, callback=None, accelerator=None):
    """Delta-i of every swept channel [C, D], and which are done, bool [C].

    `images` says how many to look at, by default the domain's setting (the authors: 100). With a
    `path`, a sweep is kept there and goes on where it was. `callback` gets {"step", "steps",
    "seconds_left"} after each channel, and stops the sweep by True. `accelerator` shares the
    channels between processes. Raises ValueError for a `path` of another sweep.
    """
    images = domain.settings.directions.images if images is None else images
    if images < 1:
        raise ValueError(f"images must be 1 or more, not {images}.")
    base = sweep_images(domain, images, seed)
    channels = swept_channels(domain.generator).tolist()
    width = domain.clip.encode_text([domain.neutral]).shape[1]  # D
    run = SweepRun(len(channels), width, path, accelerator)
    run.resume({"generator": domain.fingerprint, "clip": domain.clip_fingerprint, "count": images,
                "seed": seed})
    with HalfPrecision(domain.generator):
        for i in run.channels_to_do():
            run.note(i, channel_direction(domain, base, channels[i]), callback)
    return run.result()


def threshold_for(relevance, channels):
    """The threshold that leaves so many channels of a relevance [C]. Raises ValueError below 1."""
    if not (isinstance(channels, int | float) and channels >= 1 and math.isfinite(channels)):
        raise ValueError(f"channels must be a number of channels from 1, not {channels!r}.")
    return relevance.abs().topk(min(int(channels), len(relevance))).values[-1].item()


def select(relevance, threshold):
    """R [C] -> Delta-s [C] in standard deviations: 0 below the threshold, the strongest 1 or -1.

    Raises: ValueError if the threshold is no number, or leaves no channel.
    """
    kept = torch.where(relevance.abs() >= threshold, relevance, 0)
    if not kept.any():
        few = min(20, len(relevance))
        most = math.floor(threshold_for(relevance, few) * 100) / 100
        raise ValueError(f"A threshold of {threshold:.2f} leaves no channel: the largest that "
                         f"leaves {few} is {most:.2f}.")
    return kept / kept.abs().max()


def sweep_relevance(domain, direction):
    """R of every channel [S] for a text direction [D], by the sweep; 0 where it did not look."""
    channels = swept_channels(domain.generator)
    relevance = torch.zeros(domain.generator.style_dim, device=domain.device)
    relevance[channels] = domain.swept_directions(len(channels)) @ direction
    return relevance


@torch.inference_mode(False)
@torch.enable_grad()
def score_gradients(domain, s, direction):
    """d<E(G(s)), direction>/ds [N, S] for each image; direction [1, D], or [N, D]."""
    gradients = []
    for part, along in zip(s.split(8), direction.expand(len(s), -1).clone().split(8)):
        part = part.clone().requires_grad_(True)
        image = domain.generator.synthesize(part, resolution=domain.preview_resolution)
        score = (domain.clip.encode_image(image) * along).sum()
        gradients.append(torch.autograd.grad(score, part)[0])
    return torch.cat(gradients)


@torch.inference_mode(False)
def derivative_lengths(domain):
    """Root mean square of |dE/ds_c| [S] over images, kept on the domain.

    From random directions r: E<r, J>^2 = |J|^2 for r of N(0, 1).
    """
    if "derivative_lengths" not in domain.kept:
        s = sweep_images(domain, domain.settings.directions.gradient_images)
        size = domain.clip.encode_text([domain.neutral]).shape[1]
        r = torch.randn(len(s), size, generator=torch.Generator().manual_seed(0)).to(s)  # [N, D]
        lengths = score_gradients(domain, s, r).square().mean(dim=0).sqrt()
        domain.kept["derivative_lengths"] = lengths
    return domain.kept["derivative_lengths"].clone()


def gradient_relevance(domain, direction):
    """R of every channel [S] from gradients alone; 0 for those that a sweep leaves out."""
    s = sweep_images(domain, domain.settings.directions.gradient_images)
    gradient = score_gradients(domain, s, direction[None]).mean(dim=0)  # [S]
    cosine = gradient / derivative_lengths(domain).clamp(min=1e-8)
    relevance, channels = torch.zeros_like(gradient), swept_channels(domain.generator)
    relevance[channels] = cosine[channels]
    return relevance


def relevance_of(domain, direction, keep, method):
    """R of every channel [S] for a text direction [D] that leaves what is kept [C, D], computed."""
    if method == "linear":
        return linear_relevance(domain, direction, keep)
    if method not in ("sweep", "gradient"):
        raise ValueError(f"method must be linear, sweep or gradient, not {method!r}.")
    if len(keep):
        Q = torch.linalg.qr(keep.T)[0]  # [D, C] an orthonormal basis of what is kept
        direction = F.normalize(direction - Q @ (Q.T @ direction), dim=0)
    if method == "sweep":
        return sweep_relevance(domain, direction)
    return gradient_relevance(domain, direction)


@torch.inference_mode(False)
def channel_relevance(domain, neutral, target, method, keep=None):
    """R of every channel [S] for a pair of sentences; the last 256 are kept on the domain."""
    cache = domain.kept.setdefault("relevance", {})
    key = neutral, target, method, kept_sentences(domain, neutral, target, keep)
    if key not in cache:
        direction = text_direction(domain.clip, neutral, target)  # [D]
        rows = keep_directions(domain, neutral, target, keep)  # [C, D]
        relevance = relevance_of(domain, direction, rows, method)
        if len(cache) >= 256:  # a page that is open for weeks sees many sentences
            cache.pop(next(iter(cache)))
        cache[key] = relevance
    return cache[key].clone()


@torch.inference_mode(False)
def global_direction(domain, neutral, target, *, keep=None, method=None, threshold=None,
                     channels=None):
    """Delta-s [S] of method 3: s + alpha * Delta-s is the edit from `neutral` to `target`.

    Args:
        neutral, target: sentences, for example domain.neutral and "a person with glasses".
        keep: what shall stay, for example ["glasses"]; see `kept_sentences`.
        method: "linear"; "sweep", the paper's, which needs the domain's sweep; or "gradient".
        threshold: of a channel's relevance (beta in the paper), or
        channels: how many to leave. What is not given, the domain's settings say.
    Raises: ValueError for bad sentences, numbers or methods, or a sweep that is not there.
    """
    settings = domain.settings.directions
    relevance = channel_relevance(domain, neutral, target, method or settings.method, keep)
    if threshold is None and channels is None:
        threshold, channels = settings.threshold, settings.channels
    if threshold is None:
        threshold = threshold_for(relevance, channels)
    _, std = style_statistics(domain)
    return select(relevance, threshold) * std
