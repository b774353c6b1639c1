"""Gradient descent on a latent; how a picture becomes one (StyleGAN2's projector, 1912.04958,
appendix D), and how a generator learns that picture (pivotal tuning, 2106.05744)."""

import copy
import hashlib
import math
import warnings
from contextlib import suppress
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch.func import functional_call

from .fused_ops import HalfPrecision
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


def pyramid_distance(image, target, levels=4):
    """Mean absolute difference at full, half, quarter, ... size, added up: [N, 3, R, R] -> [N]."""
    total = 0
    for _ in range(levels):
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


def maps_distance(maps, targets):
    """How far feature maps are from others: of unit vectors at each place, the mean square.

    The distance of LPIPS (arXiv 1801.03924) without its learned weights.

    Args: maps, targets: lists of [N, C, H, W], one of each stage of a network. Returns: [N].
    """
    total = 0
    for x, y in zip(maps, targets):
        difference = F.normalize(x, dim=1) - F.normalize(y, dim=1)  # [N, C, H, W]
        total = total + difference.square().sum(dim=1).flatten(1).mean(dim=1)
    return total / len(maps)


class PictureLoss:
    """How far drawn images are from a picture, for CLIP, the identity network and the encoder.

    A weight of the settings that is 0 leaves its part out, and so does a network that is not there.

    Args: settings: `EncodingSettings` or `TuningSettings`; image: [N, 3, R, R].
    """

    def __init__(self, domain, settings, image):
        self.domain, self.settings = domain, settings
        with torch.no_grad():
            self.clip, self.person, self.person_maps, self.encoder_maps = self.look(image)

    def look(self, image):
        """CLIP's vectors [N, D], the person's [N, E] and lists of feature maps, or None."""
        domain, settings = self.domain, self.settings
        person = person_maps = encoder_maps = None
        if domain.identity is not None and settings.identity:
            if settings.identity_maps:
                person_maps = domain.identity.features(image)
                person = domain.identity.vector(person_maps[-1])
            else:
                person = domain.identity(image)
        if domain.encoder is not None and settings.encoder_maps:
            encoder_maps = domain.encoder.features(image)
        return domain.clip.encode_image(image), person, person_maps, encoder_maps

    def __call__(self, image):
        """The losses {name: [N]} of drawn images [N, 3, r, r], weighted."""
        settings = self.settings
        clip, person, person_maps, encoder_maps = self.look(image)
        losses = {"features": settings.features * identity_loss(clip, self.clip)}
        if person is not None:
            losses["identity"] = settings.identity * identity_loss(person, self.person)
        if person_maps is not None:
            distance = maps_distance(person_maps, self.person_maps)
            losses["identity maps"] = settings.identity_maps * distance
        if encoder_maps is not None:
            distance = maps_distance(encoder_maps, self.encoder_maps)
            losses["encoder maps"] = settings.encoder_maps * distance
        return losses


def latent_prior(v, settings):
    """The price of v [N, L, K], in standard deviations: of what all rows share, and of what parts
    them. The generator was trained with one w for all rows; where they differ much, edits fail
    (arXiv 2102.02766). Returns [N]."""
    mean = v.mean(dim=1, keepdim=True)  # [N, 1, K]
    shared = v.shape[1] * mean.square().flatten(1).sum(dim=1)
    apart = (v - mean).square().flatten(1).sum(dim=1)
    return settings.prior * shared + settings.prior_rows * apart


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
    "features", ...}, lists. Ctrl-C ends the run early in the same way.
    Raises: ValueError for an image of another size or range, or a number of steps below 0.
    """
    generator, space, settings = domain.generator, domain.w_space, domain.settings.encoding
    image = check_image(domain, image)
    steps = settings.steps if steps is None else steps
    v = torch.zeros(len(image), generator.num_layers, space.dim, device=domain.device)  # [N, L, K]
    with torch.no_grad():
        if start is None and domain.encoder is not None:
            start = generator.broadcast(domain.encoder(image))
        if start is not None:
            v = v + space.position(generator.check_w_plus(start).to(v))
    picture_loss = PictureLoss(domain, settings, image)
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
            pixels = pyramid_distance(drawn, F.adaptive_avg_pool2d(image, resolution))
            losses = {"pixels": pixels, **picture_loss(drawn),
                      "prior": latent_prior(descent.x, settings)}
            descent.update(losses, drawn)
    with torch.no_grad():
        return space.mean + space.offset(descent.best), descent.history


NOT_TUNED = ("mapping", "affine", "readouts")  # parts of names: what leads to s stays as it is


class RelativeChange:
    """The tensors of a generator that tuning changes, and a change of them as one vector x [1, P].

    A change of 1 is a tensor's root mean square, so that one learning rate fits all of them; of the
    noise maps, which are one picture's alone, it is `noise_scale` times that.
    """

    def __init__(self, generator, noise_scale):
        self.tensors, self.scales = {}, []  # {name: tensor}, the unit of each
        for name, tensor in [*generator.named_parameters(), *generator.named_buffers()]:
            noise = name.endswith("noise")
            kinds = name.endswith(("weight", "depthwise", "bias")) or noise
            if kinds and not any(part in name for part in NOT_TUNED):
                self.tensors[name] = tensor.detach().clone()
                scale = tensor.square().mean().sqrt().item()
                self.scales.append(scale * noise_scale if noise else scale)
        self.sizes = [tensor.numel() for tensor in self.tensors.values()]

    def start(self):
        """x of no change [1, P]."""
        return torch.zeros(1, sum(self.sizes), device=next(iter(self.tensors.values())).device)

    def apply(self, x):
        """x [1, P] -> {name: changed tensor}."""
        changed = {}
        for (name, tensor), scale, part in zip(self.tensors.items(), self.scales,
                                               x[0].split(self.sizes)):
            changed[name] = tensor + scale * part.view(tensor.shape)
        return changed


def tuned_domain(domain, changed):
    """A domain as the first, whose generator has some tensors {name: tensor} changed.

    Its W is the first's: linear model, directions and mappers act on it, if more weakly
    (`tuned_strength`); so method 3 looks for more of its match. Early stops were fitted to the
    first generator's maps, so it has none.
    """
    first = domain.tuned_from or domain
    tuning, usual = first.settings.tuning, first.settings.directions
    directions = replace(usual, slack=tuning.slack, match=tuning.match * usual.match,
                         alpha_most=tuning.alpha_most * usual.alpha_most)
    generator = copy.deepcopy(domain.generator)
    generator.load_state_dict(changed, strict=False)
    digest = hashlib.sha256(domain.fingerprint.encode())
    for name in sorted(changed):
        digest.update(changed[name].detach().cpu().numpy().tobytes())
    tuned = replace(domain, generator=generator, fingerprint=digest.hexdigest(), tuned_from=first,
                    settings=replace(first.settings, directions=directions),
                    preview_resolution=None, samples=(), sample_latents=None)
    for name in ("w_space", "linear_model", "style_statistics", "sweep"):  # all of them of W
        if name in domain.kept:
            tuned.kept[name] = domain.kept[name]
    return tuned


@torch.no_grad()
def partly_tuned(tuned):
    """A domain whose generator's weights are a mix: first + edit_share * (tuned - first).

    A tuned generator draws torn faces under a strong edit. Of a photograph, what no edit touches
    comes from the photograph itself, so the mix need not draw it exactly.
    """
    first, share = tuned.tuned_from, tuned.settings.tuning.edit_share
    before, between = first.generator.state_dict(), {}
    for name, after in tuned.generator.state_dict().items():
        if name in before and not torch.equal(before[name], after):
            between[name] = before[name].lerp(after, share)
    return tuned_domain(first, between)


@torch.inference_mode(False)
@torch.enable_grad()
def tune_generator(domain, image, w_plus, *, steps=None, callback=None):
    """Pivotal tuning (Roich et al., arXiv 2106.05744): the generator learns to draw one picture
    from its latent, which stays.

    Args:
        image: [1, 3, R, R] in [-1, 1], R the generator's resolution.
        w_plus: [1, L, w_dim], as `invert` found it.
        steps: of gradient descent; without it, as many as `domain.settings.tuning` says.
        callback: called with {"step", "steps", "image", "loss"} after each step; return True to
            stop.

    Returns: a `Domain` like the first one, which stays as it is; its generator draws this picture,
    the best so far. Ctrl-C ends the run early in the same way.
    Raises: ValueError for another number or size of images, or a number of steps below 0.
    """
    settings = domain.settings.tuning
    image = check_image(domain, image)
    w_plus = domain.generator.check_w_plus(w_plus).detach().to(domain.device)
    if len(image) != 1 or len(w_plus) != 1:
        raise ValueError(f"One generator learns one picture, not {len(image)} with "
                         f"{len(w_plus)} latents: tune one for each.")
    generator = copy.deepcopy(domain.generator)
    change = RelativeChange(generator, settings.noise_lr / settings.lr)
    picture_loss = PictureLoss(domain, settings, image)
    steps = settings.steps if steps is None else steps
    descent = Descent(change.start(), steps=steps, lr=settings.lr, betas=(0.9, 0.99), skip=1,
                      callback=callback)
    with HalfPrecision(generator), suppress(KeyboardInterrupt):
        for _ in descent:
            drawn = functional_call(generator, change.apply(descent.x), (w_plus,))
            pixels = pyramid_distance(drawn, image, levels=settings.levels)
            descent.update({"pixels": pixels, **picture_loss(drawn)}, drawn)
    with torch.no_grad():
        return tuned_domain(domain, change.apply(descent.best))


@torch.no_grad()
def tuned_strength(domain, s, edited, pictures):
    """How much longer the step from s to edited [1, S] has to be in a picture of one's own, for
    CLIP to see there what it sees of it as a domain draws it: from 1 to `TuningSettings.strength`.

    Args: domain: the first one, that is not tuned; pictures [2, 3, R, R]: without the edit and with
        it, as they are shown.
    """
    side = domain.preview_resolution
    drawn = domain.generator.synthesize(torch.cat([s, edited]), resolution=side)
    changes = []
    for images in (drawn, pictures):
        before, after = domain.clip.encode_image(images)
        changes.append(after - before)  # [D]
    wanted, got = changes
    ratio = wanted.square().sum() / (got @ wanted).clamp(min=1e-12)
    return ratio.clamp(1, domain.settings.tuning.strength).item()
