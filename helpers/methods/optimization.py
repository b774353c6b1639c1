"""Method 1, latent optimization (arXiv 2103.17249, section 4).

Written by `make export` from notebooks/01_latent_optimization.ipynb: edit that.
"""

from contextlib import suppress
from dataclasses import replace

import torch

from helpers.clip_model import ClipModel
from helpers.inversion import Descent
from helpers.losses import (
    augmented_features,
    clip_loss,
    directional_clip_loss,
    identity_loss,
    latent_loss,
    text_direction,
)
from helpers.methods.linear_model import linear_model
from helpers.settings import PAPER_OPTIMIZATION
from helpers.stylegan2 import StyleGenerator


def optimize_paper(domain, w_plus, prompt, settings, resolution=None, callback=None):
    """Equation (1) of the paper, over all of w_plus [N, L, w_dim].

    Args: settings: `OptimizationSettings`; resolution: where the generator stops, in pixels.
    The rest, and what it returns, as `optimize_latent`.
    """
    generator: StyleGenerator = domain.generator
    clip: ClipModel = domain.clip
    source = generator.check_w_plus(w_plus).detach().to(domain.device)  # w_s
    text = clip.encode_text([prompt])  # t [1, D]
    with torch.no_grad():
        image = generator.synthesize(generator.styles(source), resolution)
        person = domain.identity(image) if domain.identity else None  # R(G(w_s)) [N, E]
    descent = Descent(source, steps=settings.steps, lr=settings.lr, callback=callback)
    with suppress(KeyboardInterrupt):
        for _ in descent:
            image = generator.synthesize(generator.styles(descent.x), resolution)  # G(w)
            losses = {"clip": clip_loss(clip.encode_image(image), text),
                      "latent": settings.lambda_l2 * latent_loss(descent.x, source)}
            if person is not None:
                distance = identity_loss(domain.identity(image), person)
                losses["identity"] = settings.lambda_id * distance
            descent.update(losses, image)
    return descent.best, descent.history


def change_losses(clip, image, before, direction, goal, step, settings):
    """The CLIP loss of ours: the change of CLIP's vector, seen in a few augmentations in turn.

    Args: before: CLIP's vectors of the source [A, N, D]; goal: [N]. Returns {"clip": [N]}.
    """
    first, count = step * settings.augmentations_per_step, settings.augmentations
    seeds = [(first + i) % count for i in range(settings.augmentations_per_step)]
    change = (augmented_features(clip, image, seeds) - before[seeds]).mean(dim=0)  # [N, D]
    return {"clip": directional_clip_loss(change, direction, goal, settings.lambda_orthogonal)}


def optimize_ours(domain, w_plus, prompt, settings, resolution=None, callback=None):
    """Equation (1) with four changes: one offset v [N, 1, K] for all rows. As `optimize_paper`."""
    generator: StyleGenerator = domain.generator
    clip: ClipModel = domain.clip
    source = generator.check_w_plus(w_plus).detach().to(domain.device)
    direction, model = text_direction(clip, domain.neutral, prompt), linear_model(domain)  # [D]
    with torch.no_grad():
        image = generator.synthesize(generator.styles(source), resolution)  # [N, 3, R, R]
        person = domain.identity(image) if domain.identity else None  # [N, E]
        before = augmented_features(clip, image, range(settings.augmentations))  # [A, N, D]
        remaining = model.remaining(direction, image)  # [N]
    goal = settings.goal * remaining * model.margin(direction)  # [N]
    start = settings.start * remaining[:, None, None] * model.step(direction)  # [N, 1, K]
    descent = Descent(start, steps=settings.steps, lr=settings.lr, callback=callback)
    with suppress(KeyboardInterrupt):
        for step in descent:
            w_plus = source + domain.w_space.offset(descent.x)
            image = generator.synthesize(generator.styles(w_plus), resolution)
            losses = change_losses(clip, image, before, direction, goal, step, settings)
            losses["latent"] = settings.lambda_l2 * latent_loss(descent.x, 0)
            if person is not None:
                distance = identity_loss(domain.identity(image), person)
                losses["identity"] = settings.lambda_id * distance
            descent.update(losses, image)
    return source + domain.w_space.offset(descent.best), descent.history


@torch.inference_mode(False)
@torch.enable_grad()
def optimize_latent(domain, w_plus, prompt, *, objective="ours", steps=None, lambda_l2=None,
                    lambda_id=None, resolution=None, callback=None):
    """Edit images by text (method 1): w_plus [N, L, w_dim], or one image's [L, w_dim].

    `objective` is "ours", or "paper" for equation (1) as its authors run it; `steps`, `lambda_l2`
    and `lambda_id` replace its own. `resolution` in pixels says where the generator stops; without
    it, ours stops at `domain.preview_resolution`. `callback` gets {"step", "steps", "image",
    "loss"} after each step, and stops the run by True.

    Returns w_plus [N, L, w_dim], the best of each image, and history {loss: list of means}. Raises
    ValueError for a bad prompt, objective, number of steps, or another generator's latent.
    """
    given = {"steps": steps, "lambda_l2": lambda_l2, "lambda_id": lambda_id}
    given = {name: value for name, value in given.items() if value is not None}
    if objective == "paper":
        settings = replace(PAPER_OPTIMIZATION, **given)
        return optimize_paper(domain, w_plus, prompt, settings, resolution, callback)
    if objective == "ours":
        settings = replace(domain.settings.optimization, **given)
        resolution = resolution or domain.preview_resolution
        return optimize_ours(domain, w_plus, prompt, settings, resolution, callback)
    raise ValueError(f'objective must be "ours" or "paper", not {objective!r}.')
