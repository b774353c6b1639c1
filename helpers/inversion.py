"""Gradient descent on a latent, and how a picture becomes one (StyleGAN2's projector, 1912.04958,
appendix D)."""

import math
import warnings
from contextlib import suppress

import torch
import torch.nn.functional as F

from .losses import identity_loss


def learning_rate(step, steps, lr, warm_up=0.05, cool_down=0.25):
    """The schedule of StyleGAN2 and StyleCLIP: linear warm-up, constant, half a cosine down to 0.

    Args: step: from 0 to steps - 1.
    """
    t = step / steps
    down = min(1.0, (1 - t) / cool_down)
    return lr * (0.5 - 0.5 * math.cos(math.pi * down)) * min(1.0, t / warm_up)


class Descent:
    """Adam on x [N, ...], with the schedule above; it keeps the x with the lowest loss of each
    image.

        descent = Descent(start, steps=20, lr=0.1)
        for step in descent:
            image = ...of descent.x...
            descent.update({"clip": ..., "latent": ...}, image)

    Args:
        start: [N, ...], where the search begins; it stays as it is.
        skip: how many steps of the schedule are left out. The authors' begins with a rate of 0, so
            that their first step changes nothing; 1 leaves that one out.
        callback: called with {"step", "steps", "image", "loss"} after each look at x; return True
            to stop.

    Attributes: x; best [N, ...], the best x of each image; history, {name: list of means}, "loss"
    among them.
    """

    def __init__(self, start, *, steps, lr, betas=(0.9, 0.999), skip=0, callback=None):
        if steps < 0:
            raise ValueError(f"steps must be 0 or more, not {steps}.")
        self.x = start.detach().clone().requires_grad_()
        self.best = start.detach().clone()
        self.best_loss = torch.full([len(start)], float("inf"), device=start.device)  # [N]
        self.history = {"loss": []}
        self.steps, self.lr, self.callback = steps, lr, callback
        self.step, self.skip, self.stopped = 0, skip, False
        self.optimizer = torch.optim.Adam([self.x], lr=lr, betas=betas)

    def __iter__(self):
        while self.step < self.steps and not self.stopped:
            yield self.step

    def update(self, losses, image):
        """Note the losses {name: [N]} of x, keep x where it is the best so far, and take a step."""
        loss = sum(losses.values())  # [N]
        better = loss.detach() < self.best_loss
        self.best[better] = self.x.detach()[better]
        self.best_loss[better] = loss.detach()[better]
        for name, value in {**losses, "loss": loss}.items():
            self.history.setdefault(name, []).append(value.mean().item())
        if self.callback is not None:
            state = {"step": self.step + 1, "steps": self.steps, "image": image.detach(),
                     "loss": self.history["loss"][-1]}
            self.stopped = bool(self.callback(state))
        if not self.stopped:
            rate = learning_rate(self.step + self.skip, self.steps + self.skip, self.lr)
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            self.optimizer.step()
        self.step += 1


def pyramid_distance(image, target):
    """Mean absolute difference at full, half, quarter and eighth size, added up: [N, 3, R, R] ->
    [N]."""
    total = 0
    for _ in range(4):
        total = total + (image - target).abs().flatten(1).mean(dim=1)
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
    return total


def check_image(domain, image):
    """The image on the domain's device. Raises ValueError for anything but [N, 3, R, R] of finite
    numbers."""
    side = domain.generator.resolution
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or image.shape[1:] != (3, side, side):
        got = list(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
        raise ValueError(f"image must be [N, 3, {side}, {side}] in [-1, 1], got {got}; "
                         "helpers.images.open_image makes one from any picture.")
    image = image.detach().to(domain.device, torch.float32)
    if not image.isfinite().all():
        raise ValueError("image holds values that are NaN or infinite; open the picture again.")
    if image.numel() and image.abs().max() > 1.5:
        most = image.abs().max().item()
        raise ValueError(f"image must lie in [-1, 1], got values up to {most:g}; "
                         "helpers.images.open_image scales a picture so.")
    if image.numel() and image.min() >= 0:
        warnings.warn("No pixel of the image is darker than 0, the grey in the middle of [-1, 1]: "
                      "was it meant to lie in [0, 1]?", stacklevel=3)
    return image


@torch.inference_mode(False)
@torch.enable_grad()
def invert(domain, image, *, steps=None, callback=None, start=None):
    """Find the w_plus whose image is `image`.

    Where the domain can stop early, most steps are drawn at `domain.preview_resolution`, which
    takes a quarter of the time, and the last ones at full size (`EncodingSettings.preview_share`).

    Args:
        image: [N, 3, R, R] in [-1, 1], R the generator's resolution.
        steps: of gradient descent; without it, as many as `domain.settings.encoding` says.
        callback: called with {"step", "steps", "image", "loss"} after each step; return True to
            stop.
        start: w_plus [N, L, w_dim] to begin from; without it, what the domain's encoder finds, or
            the mean.

    Returns: w_plus [N, L, w_dim], the best of each image so far, and history {"loss", "pixels",
    "features"}, lists. Ctrl-C ends the run early in the same way.
    Raises: ValueError for an image of another size or range, or a number of steps below 0.
    """
    generator, space, settings = domain.generator, domain.w_space, domain.settings.encoding
    image = check_image(domain, image)
    steps = settings.steps if steps is None else steps
    v = torch.zeros(len(image), generator.num_layers, space.dim, device=domain.device)  # [N, L, K]
    with torch.no_grad():
        target = domain.clip.encode_image(image)  # [N, D]
        if start is None and domain.encoder is not None:
            start = generator.broadcast(domain.encoder(image))
        if start is not None:
            v = v + space.position(generator.check_w_plus(start).to(v))
    full_size_from = 0
    if domain.preview_resolution is not None:
        full_size_from = math.ceil(settings.preview_share * steps)
    jitter = settings.jitter if start is None else 0.0
    noise = torch.Generator().manual_seed(0)
    descent = Descent(v, steps=steps, lr=settings.lr, betas=(0.9, 0.99), skip=1, callback=callback)
    with suppress(KeyboardInterrupt):
        for step in descent:
            if step == full_size_from:  # distances of another size are no measure
                descent.best_loss.fill_(float("inf"))
            resolution = generator.resolution
            if step < full_size_from:
                resolution = domain.preview_resolution
            moved, share = descent.x, max(0.0, 1 - 2 * step / steps) ** 2
            if jitter and share:
                # Noise on w at first, so that the search is not caught by the nearest small dip;
                # the same for all images, so that an image is found alike alone and in a batch.
                step_noise = jitter * share * torch.randn(v.shape[1:], generator=noise)  # [L, K]
                moved = moved + step_noise.to(moved.device)
            drawn = generator(space.mean + space.offset(moved), resolution=resolution)
            features = identity_loss(domain.clip.encode_image(drawn), target)  # [N]
            # Rows of w+ may differ, at a price: the generator was trained with one w for all rows.
            prior = descent.x.square().flatten(1).sum(dim=1)  # [N]
            losses = {"pixels": pyramid_distance(drawn, F.adaptive_avg_pool2d(image, resolution)),
                      "features": settings.features * features, "prior": settings.prior * prior}
            descent.update(losses, drawn)
    with torch.no_grad():
        return space.mean + space.offset(descent.best), descent.history
