"""Method 1, latent optimization (arXiv 2103.17249, section 4).

Written by `make export` from notebooks/01_latent_optimization.ipynb: edit that.
"""

from contextlib import suppress
from dataclasses import replace

import torch

from helpers.inversion import Descent
from helpers.losses import (
    augmented_features,
    clip_loss,
    directional_clip_loss,
    identity_loss,
    latent_loss,
    text_direction,
)
from helpers.methods.linear_model import keep_directions, keep_losses, linear_model
from helpers.settings import PAPER_OPTIMIZATION


def identity_losses(domain, image, person, settings):
    """{"identity": [N]} of images whose sources' vectors are `person` [N, E]; {} where there is no
    identity network."""
    if person is None:
        return {}
    return {"identity": settings.lambda_id * identity_loss(domain.identity(image), person)}


def optimize_paper(domain, w_plus, prompt, settings, resolution=None, callback=None, keep=None):
    """Equation (1) of the paper, over all of w_plus [N, L, w_dim].

    Args: settings: `OptimizationSettings`; resolution: where the generator stops, in pixels; keep:
    of no effect unless the settings have a `lambda_keep`. The rest as `optimize_latent`.
    """
    generator, clip = domain.generator, domain.clip
    source = generator.check_w_plus(w_plus).detach().to(domain.device)  # w_s
    text = clip.encode_text([prompt])  # t [1, D]
    kept = keep_directions(domain, domain.neutral, prompt, keep) if settings.lambda_keep else ()
    with torch.no_grad():
        image = generator.synthesize(generator.styles(source), resolution)
        person = domain.identity(image) if domain.identity else None  # R(G(w_s)) [N, E]
        before = clip.encode_image(image)  # [N, D]
    descent = Descent(source, steps=settings.steps, lr=settings.lr, callback=callback)
    with suppress(KeyboardInterrupt):
        for _ in descent:
            image = generator.synthesize(generator.styles(descent.x), resolution)  # G(w)
            features = clip.encode_image(image)  # [N, D]
            losses = {"clip": clip_loss(features, text),
                      "latent": settings.lambda_l2 * latent_loss(descent.x, source),
                      **identity_losses(domain, image, person, settings),
                      **keep_losses(features - before, kept, settings)}
            descent.update(losses, image)
    return descent.best, descent.history


def change_losses(clip, image, before, direction, goal, keep, step, settings):
    """The CLIP losses of ours: the change of CLIP's vector, seen in a few augmentations in turn.

    Args: before: CLIP's vectors of the source [A, N, D]; goal: [N]; keep: [C, D]. Returns {name:
    [N]}.
    """
    first, count = step * settings.augmentations_per_step, settings.augmentations
    seeds = [(first + i) % count for i in range(settings.augmentations_per_step)]
    change = (augmented_features(clip, image, seeds) - before[seeds]).mean(dim=0)  # [N, D]
    return {"clip": directional_clip_loss(change, direction, goal, settings.lambda_orthogonal),
            **keep_losses(change, keep, settings)}


def optimize_ours(domain, w_plus, prompt, settings, resolution=None, callback=None, keep=None):
    """Equation (1) with our changes: one offset for all rows, in units of what each image lacks.
    As `optimize_paper`."""
    generator, clip, model = domain.generator, domain.clip, linear_model(domain)
    source = generator.check_w_plus(w_plus).detach().to(domain.device)
    direction = text_direction(clip, domain.neutral, prompt)  # [D]
    kept = keep_directions(domain, domain.neutral, prompt, keep)  # [C, D]
    with torch.no_grad():
        image = generator.synthesize(generator.styles(source), resolution)  # [N, 3, R, R]
        person = domain.identity(image) if domain.identity else None  # [N, E]
        before = augmented_features(clip, image, range(settings.augmentations))  # [A, N, D]
        remaining = model.remaining(direction, image)  # [N]
        start = settings.start * model.step(direction, kept).expand(len(source), 1, -1)  # [N, 1, K]
    goal, lacks = settings.goal * model.margin(direction) * remaining, remaining[:, None, None]
    descent = Descent(start, steps=settings.steps, lr=settings.lr, callback=callback)
    with suppress(KeyboardInterrupt):
        for step in descent:
            v = lacks * descent.x  # [N, 1, K]
            image = generator.synthesize(generator.styles(source + domain.w_space.offset(v)),
                                         resolution)
            losses = change_losses(clip, image, before, direction, goal, kept, step, settings)
            losses["clip"] = remaining**2 * losses["clip"]
            losses["latent"] = settings.lambda_l2 * latent_loss(v, 0)
            descent.update(losses | identity_losses(domain, image, person, settings), image)
    return source + domain.w_space.offset(lacks * descent.best), descent.history


@torch.inference_mode(False)
@torch.enable_grad()
def optimize_latent(domain, w_plus, prompt, *, keep=None, objective="ours", steps=None,
                    lambda_l2=None, lambda_id=None, lambda_keep=None, resolution=None,
                    callback=None):
    """Edit images by text (method 1): w_plus [N, L, w_dim], or one image's [L, w_dim].

    `keep` names what shall stay (`kept_sentences`). `objective` is "ours", or "paper" for equation
    (1), which keeps nothing without a `lambda_keep`; `steps` and lambdas replace its own.
    `resolution`, in pixels, is where the generator stops; ours takes `domain.preview_resolution`.
    `callback` gets {"step", "steps", "image", "loss"} after each step, and stops a run by True.

    Returns w_plus [N, L, w_dim], the best of each image, and history {loss: list of means}. Raises
    ValueError for a bad prompt, keep, objective, number of steps, or another generator's latent.
    """
    given = dict(steps=steps, lambda_l2=lambda_l2, lambda_id=lambda_id, lambda_keep=lambda_keep)
    given = {name: value for name, value in given.items() if value is not None}
    if objective == "paper":
        settings = replace(PAPER_OPTIMIZATION, **given)
        return optimize_paper(domain, w_plus, prompt, settings, resolution, callback, keep)
    if objective != "ours":
        raise ValueError(f'objective must be "ours" or "paper", not {objective!r}.')
    settings = replace(domain.settings.optimization, **given)
    resolution = resolution or domain.preview_resolution
    return optimize_ours(domain, w_plus, prompt, settings, resolution, callback, keep)
