"""An image becomes a latent by gradient descent, as in StyleGAN2's projector (1912.04958, appendix D)."""

import math

import torch
import torch.nn.functional as F

from .criteria import identity_distance
from .latents import w_space


def learning_rate(step, steps, rate, warm_up=0.05, cool_down=0.25):
    """Linear warm-up, then constant, then half a cosine down to 0: the schedule of both StyleGAN2 and StyleCLIP."""
    t = step / steps
    down = min(1.0, (1 - t) / cool_down)
    return rate * (0.5 - 0.5 * math.cos(math.pi * down)) * min(1.0, t / warm_up)


def pyramid_distance(image, target):
    """Mean absolute difference at full, half, quarter and eighth size, added up: [N, 3, R, R] -> [N]."""
    total = 0
    for _ in range(4):
        total = total + (image - target).abs().flatten(1).mean(dim=1)
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
    return total


def invert(domain, image, *, steps=None, callback=None, start=None):
    """Find the w_plus whose image is `image`.

    Where the domain says so, pictures are drawn small (`domain.draw`), which takes a quarter of the time, and at full
    size in the last of the steps (`Encoding.small_until`).

    Args:
        domain: a `Domain`.
        image: [N, 3, R, R] in [-1, 1], R the generator's resolution.
        steps: of gradient descent; without it, as many as `domain.settings.encoding` says.
        callback: called after each step with {"step", "steps", "w_plus", "image", "loss"}; return True to stop.
        start: w_plus [N, L, w_dim] to begin from, for example of `helpers.e4e`; without it, what the domain's encoder
            finds, or the mean where there is no encoder.

    Returns: w_plus [N, L, w_dim], the best of each image so far, and history {"loss", "pixels", "features"}, lists.
    Ctrl-C ends the run early in the same way. Raises ValueError for an image of another size.
    """
    generator = domain.generator
    side = generator.resolution
    if image.ndim != 4 or image.shape[1:] != (3, side, side):
        raise ValueError(f"image must be [N, 3, {side}, {side}], got {list(image.shape)}; helpers.images.open_image "
                         "makes one from any picture.")
    settings, image = domain.settings.encoding, image.to(domain.device)
    steps = settings.steps if steps is None else steps
    with torch.no_grad():
        target = domain.clip.encode_image(image)
        if start is None and domain.encoder:
            start = generator.broadcast(domain.encoder(image))
    space = w_space(generator)
    v = torch.zeros(len(image), generator.num_layers, space.dim, device=domain.device)
    if start is not None:
        v += space.position(generator.check_w_plus(start).to(v))
    v.requires_grad_()
    optimizer = torch.optim.Adam([v], betas=(0.9, 0.99))
    history = {"loss": [], "pixels": [], "features": []}
    best = torch.full([len(image)], float("inf"), device=domain.device)
    best_w_plus = generator.broadcast(space.mean.expand(len(image), -1)).clone()
    noise = torch.Generator().manual_seed(0)
    full_from = 0 if domain.draw is None else math.ceil(settings.small_until * steps)
    try:
        for step in range(steps):
            resolution = side if step >= full_from else domain.draw
            if step == full_from:  # distances of another size are no measure
                best.fill_(float("inf"))
            optimizer.param_groups[0]["lr"] = learning_rate(step + 1, steps + 1, settings.rate)
            # Noise on w at first, so that the search is not caught by the nearest small dip; the same for all images,
            # so that an image is found alike alone and in a batch.
            jitter = settings.jitter * max(0.0, 1 - 2 * step / steps) ** 2 if start is None else 0
            jitter = (jitter * torch.randn(v.shape[1:], generator=noise)).to(v.device) if jitter else 0
            w_plus = space.mean + space.offset(v + jitter)
            drawn = generator(w_plus, resolution=resolution)
            pixels = pyramid_distance(drawn, F.adaptive_avg_pool2d(image, resolution))
            features = identity_distance(domain.clip.encode_image(drawn), target)
            # Rows of w+ may differ, at a price: the generator was made for the same w in all rows.
            loss = pixels + settings.features * features + settings.prior * v.square().flatten(1).sum(dim=1)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            with torch.no_grad():
                better = loss < best
                best = torch.where(better, loss, best)
                best_w_plus[better] = w_plus[better]
            optimizer.step()
            for name, value in (("loss", loss), ("pixels", pixels), ("features", features)):
                history[name].append(value.mean().item())
            if callback and callback({"step": step + 1, "steps": steps, "w_plus": best_w_plus,
                                      "image": drawn.detach(), "loss": history["loss"][-1]}):
                break
    except KeyboardInterrupt:
        pass
    return best_w_plus.detach(), history
