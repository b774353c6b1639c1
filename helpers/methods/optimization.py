"""Method 1, latent optimization (arXiv 2103.17249, section 4).

Written by `make export` from notebooks/01_latent_optimization.ipynb: edit that.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import cycle

import torch

from helpers.criteria import (
    augment,
    change_distance,
    clip_distance,
    identity_distance,
    latent_distance,
    text_direction,
)
from helpers.inversion import learning_rate
from helpers.latents import gain, missing, suggestion, w_space
from helpers.settings import PAPER_OPTIMIZATION


@torch.enable_grad()
def descend(x, draw, objective, *, steps, rate, callback=None):
    """Gradient descent on x [N, ...]: the best x of each image so far, and {term: list of means}.

    `objective(x, image)` gives {term: distances [N]}; Ctrl-C, or True from the callback, ends it."""
    x, best, history = x.clone().requires_grad_(), x.detach().clone(), {"loss": []}
    optimizer = torch.optim.Adam([x], lr=rate)
    best_loss = torch.full([len(x)], float("inf"), device=x.device)
    with suppress(KeyboardInterrupt):
        for step in range(1, steps + 1):
            terms = objective(x, image := draw(x))
            loss = sum(terms.values())
            keep = loss < best_loss
            best[keep], best_loss[keep] = x.detach()[keep], loss.detach()[keep]
            for name, value in {**terms, "loss": loss}.items():
                history.setdefault(name, []).append(value.mean().item())
            state = {"step": step, "steps": steps, "image": image.detach(), "loss": history["loss"][-1]}
            if callback and callback(state):
                break
            optimizer.param_groups[0]["lr"] = learning_rate(step - 1, steps, rate)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
    return best, history


def optimize_paper(domain, w_plus, prompt, settings, resolution=None, callback=None):
    """Equation (1) of the paper. Arguments and result as `optimize_latent`; `resolution` stops the generator
    early."""
    source = domain.generator.check_w_plus(w_plus).detach().to(domain.device)
    text = domain.clip.encode_text([prompt])
    with torch.no_grad():
        person = domain.identity and domain.identity(domain.generator(source, resolution=resolution))

    def objective(w_plus, image):
        terms = {"clip": clip_distance(domain.clip.encode_image(image), text),
                 "latent": settings.lambda_l2 * latent_distance(w_plus, source)}
        if person is not None:
            terms["identity"] = settings.lambda_id * identity_distance(domain.identity(image), person)
        return terms

    return descend(source, lambda w_plus: domain.generator(w_plus, resolution=resolution), objective,
                   steps=settings.steps, rate=settings.rate, callback=callback)


def change_term(domain, direction, image, settings, goal):
    """The CLIP term: how far the change from the source `image` is from its goal [N], in augmentations."""
    with torch.no_grad():
        start = [domain.clip.encode_image(augment(image, seed)) for seed in range(settings.augmentations)]
    seeds = cycle(range(settings.augmentations))

    def distance(image):
        some = [next(seeds) for _ in range(settings.at_once)]
        moved = sum(domain.clip.encode_image(augment(image, seed)) - start[seed] for seed in some) / len(some)
        return change_distance(moved, direction, goal, settings.sideways)

    return distance


def optimize_ours(domain, w_plus, prompt, settings, resolution=None, callback=None):
    """Equation (1) with the four changes: one offset v [N, 1, K] in `w_space`. As `optimize_paper`."""
    source = domain.generator.check_w_plus(w_plus).detach().to(domain.device)
    space, direction = w_space(domain.generator), text_direction(domain, prompt)
    with torch.no_grad():
        image = domain.generator(source, resolution=resolution)
        person = domain.identity and domain.identity(image)
        lacks = missing(domain, direction, image)
    clip_term = change_term(domain, direction, image, settings,
                            settings.goal * lacks * gain(domain, direction))

    def objective(v, image):
        terms = {"clip": clip_term(image), "latent": settings.lambda_l2 * latent_distance(v, 0)}
        if person is not None:
            terms["identity"] = settings.lambda_id * identity_distance(domain.identity(image), person)
        return terms

    start = settings.start * lacks[:, None, None] * suggestion(domain, direction)
    v, history = descend(start, lambda v: domain.generator(source + space.offset(v), resolution=resolution),
                         objective,
                         steps=settings.steps, rate=settings.rate, callback=callback)
    return source + space.offset(v), history


def optimize_latent(domain, w_plus, prompt, *, objective="ours", steps=None, lambda_l2=None, lambda_id=None,
                    resolution=None, callback=None):
    """Edit images by text (method 1).

    Args:
        w_plus: [N, L, w_dim], or one image's [L, w_dim].
        objective: "ours", or "paper" for equation (1) as its authors run it.
        steps, lambda_l2, lambda_id: in place of the domain's settings (or the authors').
        resolution: where the generator stops; without it, ours stops at `domain.draw` and the paper's
        nowhere.
        callback: called with {"step", "steps", "image", "loss"} after each step; return True to stop.

    Returns: w_plus [N, L, w_dim], the best so far of each image, and history, {term: list of means}.
    Raises: ValueError for a prompt that is empty or too long, or a latent of another generator.
    """
    ways = {"ours": (optimize_ours, domain.settings.optimization, domain.draw),
            "paper": (optimize_paper, PAPER_OPTIMIZATION, None)}
    if objective not in ways:
        raise ValueError(f'objective must be "ours" or "paper", not {objective!r}.')
    optimize, settings, side = ways[objective]
    given = {"steps": steps, "lambda_l2": lambda_l2, "lambda_id": lambda_id}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    return optimize(domain, w_plus, prompt, settings, resolution or side, callback)
