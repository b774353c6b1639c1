"""Method 2, the latent mapper (arXiv 2103.17249, section 5).

Written by `make export` from notebooks/02_latent_mapper.ipynb: edit that.
"""

import math
from contextlib import suppress
from dataclasses import asdict, replace

import torch
import torch.nn.functional as F
from torch import nn

from helpers.inversion import learning_rate
from helpers.losses import augmented_features, clip_loss, directional_clip_loss, text_direction
from helpers.methods.linear_model import keep_directions, keep_losses, kept_sentences, linear_model
from helpers.methods.optimization import identity_losses
from helpers.settings import PAPER_MAPPER
from helpers.stylegan2 import EqualLinear, StyleGenerator
from helpers.training_state import TrainingRun, fingerprint


class Mapper(nn.Module):
    """One network of the paper's Figure 2: PixelNorm, then four equalised linear layers.

    Args: dim: channels of a row; normalize_over: "rows", as the authors' code does, or "channels".
    """

    def __init__(self, dim, normalize_over):
        super().__init__()
        self.axis = 1 if normalize_over == "rows" else 2
        self.layers = nn.ModuleList(EqualLinear(dim, dim, lr_multiplier=0.01) for _ in range(4))

    def forward(self, x):
        """x [N, rows, dim] -> [N, rows, dim]."""
        x = x * torch.rsqrt(x.square().mean(dim=self.axis, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * math.sqrt(2)  # the gain keeps the variance
        return x


class LatentMapper(nn.Module):
    """M_t: a `Mapper` for each part of the rows; a part without one stays as it is.

    Args:
        rows: {"coarse": (first, last + 1), ...} of the networks there are.
        dim: channels of each row.
        normalize_over: "rows", as the authors' code does, on w itself; or "channels", on the
            principal axes of W.
    """

    def __init__(self, rows, dim, normalize_over="channels"):
        super().__init__()
        self.config = dict(rows=rows, dim=dim, normalize_over=normalize_over)
        self.networks = nn.ModuleDict({name: Mapper(dim, normalize_over) for name in rows})

    def forward(self, x, only=None):
        """M_t(x), [N, L, dim] -> [N, L, dim]; `only` names the networks that act."""
        change = torch.zeros_like(x)
        for name, network in self.networks.items():
            if only is None or name in only:
                part = slice(*self.config["rows"][name])
                change[:, part] = network(x[:, part])
        return change


def mapper_step(domain, mapper, w_plus, only=None):
    """0.1 M_t(w): the change of w_plus [N, L, w_dim] that the mapper asks for."""
    if mapper.config["normalize_over"] == "rows":  # the paper's: on w itself
        return 0.1 * mapper(w_plus, only)
    space = domain.w_space
    position = space.position(w_plus, mapper.config["dim"])  # [N, L, K]
    return space.offset(0.1 * mapper(position, only))


ALL = ("coarse", "medium", "fine")  # the names of the networks


def check_networks(domain, names):
    """The names of networks as a tuple; one string counts as one. Raises ValueError for others."""
    names = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in names if name not in domain.rows]
    if unknown or not names:
        raise ValueError(f"networks must be some of {', '.join(domain.rows)}, not {names}.")
    return names


def check_objective(objective):
    """Raises ValueError if it is not known."""
    if objective not in ("ours", "paper"):
        raise ValueError(f'objective must be "ours" or "paper", not {objective!r}.')


def mapper_axes(domain):
    """K, how many of W's principal axes our mapper sees and moves."""
    return min(domain.settings.linear_model.axes, domain.w_space.dim)


def new_mapper(domain, objective="paper", networks=ALL, seed=0):
    """An untrained mapper for a domain, with the networks named. Raises ValueError for others."""
    check_objective(objective)
    networks = check_networks(domain, networks)
    rows = {name: (domain.rows[name].start, domain.rows[name].stop)
            for name in domain.rows if name in networks}
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.default_generator.manual_seed(seed)  # a GPU's stay as they are, too
        if objective == "paper":
            mapper = LatentMapper(rows, domain.generator.w_dim, "rows")
        else:
            mapper = LatentMapper(rows, mapper_axes(domain), "channels")
    return mapper.to(domain.device)


@torch.no_grad()
def apply_mapper(domain, mapper, w_plus, strength=1.0, only=None):
    """w_plus [N, L, w_dim] (or one image's [L, w_dim]) edited: w + strength * 0.1 M_t(w).

    Args: only: the names of the networks that act; without it, all that the mapper has.
    Raises: ValueError for another generator's latent, or names of no network.
    """
    w_plus = domain.generator.check_w_plus(w_plus).to(domain.device)
    if only is not None:
        only = check_networks(domain, only)
    if strength == 0:
        return w_plus.clone()
    return w_plus + strength * mapper_step(domain, mapper, w_plus, only)


@torch.no_grad()
def identities(domain, latents, resolution):
    """R(G(w)) of latents [N, L, w_dim]: [N, E]; None where there is no identity network."""
    if domain.identity is None:
        return None
    generator: StyleGenerator = domain.generator
    images = [generator.synthesize(generator.styles(part), resolution) for part in latents.split(8)]
    return torch.cat([domain.identity(image) for image in images])


def paper_keep_losses(objective, features, index):
    """`keep_losses` of edited images' CLIP vectors [B, D], an option that the paper's objective has
    switched off; the unedited images are drawn anew, and then lost."""
    if not len(objective.kept):
        return {}
    generator, latents = objective.domain.generator, objective.latents[index]  # [B, L, w_dim]
    with torch.no_grad():
        image = generator.synthesize(generator.styles(latents), objective.resolution)
        before = objective.domain.clip.encode_image(image)  # [B, D]
    return keep_losses(features - before, objective.kept, objective.settings)


class MapperObjective:
    """The paper's loss of a mapper for one prompt, on latents [N, L, w_dim]; `kept` [C, D]."""

    scheduled = False  # does the learning rate rise and fall?

    def __init__(self, domain, prompt, latents, settings, resolution, kept=()):
        self.domain, self.prompt, self.latents = domain, prompt, latents
        self.settings, self.resolution, self.kept = settings, resolution, kept
        self.text = domain.clip.encode_text([prompt])  # t [1, D]
        self.persons = identities(domain, latents, resolution)  # [N, E]

    def edit_losses(self, step, image, index, seeds):
        features = self.domain.clip.encode_image(image)  # [B, D]
        return {"clip": clip_loss(features, self.text),
                "latent": self.settings.lambda_l2 * step.square().mean(dim=(1, 2)),
                **paper_keep_losses(self, features, index)}

    def compute_losses(self, mapper, index, seeds):
        """{loss: [B]} of the latents with these numbers [B], and the edited images."""
        step = mapper_step(self.domain, mapper, self.latents[index])  # 0.1 M_t(w)
        s = self.domain.generator.styles(self.latents[index] + step)
        image = self.domain.generator.synthesize(s, self.resolution)  # [B, 3, R, R]
        person = None if self.persons is None else self.persons[index]
        return {**self.edit_losses(step, image, index, seeds),
                **identity_losses(self.domain, image, person, self.settings)}, image


def split_latents(latents, batch):
    """Numbers of the latents to train on, and of those held out: one in ten, 16 at most.

    Raises: ValueError if fewer than `batch` are left to train on.
    """
    held_out = min(16, max(1, len(latents) // 10))
    if len(latents) - held_out < batch:
        raise ValueError(f"The training set has {len(latents)} latents, {held_out} of them held "
                         f"out: too few for a batch of {batch}. Give more, or a smaller batch.")
    return torch.arange(held_out, len(latents)), torch.arange(held_out)


EVAL_INTERVAL = 25  # steps between two evaluations on the held-out latents


def draw_batch(training, settings, seed, step):
    """Numbers of the latents [B] of a step, and of its augmentation: the same in every run."""
    random = torch.Generator().manual_seed(1_000_003 * seed + step)
    chosen = torch.randint(len(training), [settings.batch], generator=random)
    return training[chosen], torch.randint(settings.augmentations, [1], generator=random).tolist()


@torch.no_grad()
def evaluate(run, objective, held_out):
    """Note the loss on the held-out latents; the run keeps the weights if it is the lowest."""
    seeds = range(objective.settings.augmentations)
    losses, _ = objective.compute_losses(run.module, held_out, seeds)
    run.evaluate(losses)


@torch.inference_mode(False)
@torch.enable_grad()
def training_loop(run, objective, seed, callback=None):
    """Take a `TrainingRun` to its last step, or until Ctrl-C or the callback stops it."""
    settings, stopped = objective.settings, False
    training, held_out = split_latents(objective.latents, settings.batch)
    if run.step == 0:
        evaluate(run, objective, held_out)
    with suppress(KeyboardInterrupt):
        while run.step < settings.steps and not stopped:
            index, seeds = draw_batch(training, settings, seed, run.step)
            losses, image = objective.compute_losses(run.module, run.share(index), seeds)
            lr = settings.lr
            if objective.scheduled:
                lr = learning_rate(run.step + 1, settings.steps + 1, settings.lr)
            run.train_step(losses, lr)
            if run.step % EVAL_INTERVAL == 0 or run.step == settings.steps:
                evaluate(run, objective, held_out)
                run.save()
            if callback is not None:
                stopped = bool(callback(run.state(image, settings.steps)))
    if run.step % EVAL_INTERVAL and run.step < settings.steps:  # stopped between two evaluations
        run.save()
        evaluate(run, objective, held_out)


def paper_optimizer(mapper, lr):
    """Ranger as the authors set it."""
    from pytorch_optimizer import Ranger  # takes seconds to import, and only this needs it

    # The first steps know no variance yet and follow the mean gradient, as in the authors' Ranger;
    # without the last option, this package goes *up* the gradient there.
    return Ranger(mapper.parameters(), lr=lr, betas=(0.95, 0.999), eps=1e-5, k=6, alpha=0.5,
                  use_gc=True, degenerated_to_sgd=True)


@torch.no_grad()
def look_at_sources(domain, direction, latents, settings, resolution):
    """The unedited images: CLIP's vectors [augmentations, N, D], and what each still lacks [N]."""
    generator: StyleGenerator = domain.generator
    features, remaining = [], []
    for part in latents.split(8):
        image = generator.synthesize(generator.styles(part), resolution)  # [B, 3, R, R]
        features.append(augmented_features(domain.clip, image, range(settings.augmentations)))
        remaining.append(linear_model(domain).remaining(direction, image))
    return torch.cat(features, dim=1), torch.cat(remaining)


class LinearMapperObjective(MapperObjective):
    """Our loss: notebook 1's change instead of a place, in standard deviations along W's axes."""

    scheduled = True

    def __init__(self, domain, prompt, latents, settings, resolution, kept=()):
        super().__init__(domain, prompt, latents, settings, resolution, kept)
        self.direction = text_direction(domain.clip, domain.neutral, prompt)  # d [D]
        self.features, self.remaining = look_at_sources(domain, self.direction, latents, settings,
                                                        resolution)
        self.goal = settings.goal * self.remaining * linear_model(domain).margin(self.direction)

    def edit_losses(self, step, image, index, seeds):
        settings, space = self.settings, self.domain.w_space
        seen = augmented_features(self.domain.clip, image, seeds)  # [A, B, D]
        change = (seen - self.features[list(seeds)][:, index]).mean(dim=0)  # [B, D]
        clip = directional_clip_loss(change, self.direction, self.goal[index],
                                     settings.lambda_orthogonal)
        length = space.position(space.mean + step, mapper_axes(self.domain))  # [B, L, K]
        # As in notebook 1: without the factor, faces that show the thing would hold back all others
        return {"clip": self.remaining[index]**2 * clip,
                "latent": settings.lambda_l2 * length.square().mean(dim=(1, 2)),
                **keep_losses(change, self.kept, settings)}


def start_at_linear_step(domain, mapper, prompt, settings, keep=None):
    """Set the last biases so that 0.1 M(x) is about the linear CLIP step, whatever x is."""
    direction = text_direction(domain.clip, domain.neutral, prompt)
    kept = keep_directions(domain, domain.neutral, prompt, keep)  # [C, D]
    step = linear_model(domain).step(direction, kept)  # [K]
    wanted = 10 * settings.start * step / math.sqrt(2)  # [K]
    wanted = torch.where(wanted > 0, wanted, wanted / 0.2)  # the last leaky ReLU undoes this
    with torch.no_grad():
        for network in mapper.networks.values():
            last = network.layers[-1]
            last.weight.mul_(settings.last_layer_scale)
            last.bias.copy_(wanted / last.bias_gain)


def mapper_settings(domain, objective, steps=None, settings=None):
    """The numbers of a training: the domain's for "ours", the authors' for "paper".

    Args: steps, settings: in place of these. Raises: ValueError for a bad objective or number.
    """
    check_objective(objective)
    if settings is None:
        settings = domain.settings.mapper if objective == "ours" else PAPER_MAPPER
    if steps is not None and steps < 0:
        raise ValueError(f"steps must be 0 or more, not {steps}.")
    return settings if steps is None else replace(settings, steps=steps)


def begin(domain, prompt, latents, objective, settings, networks, seed, resolution, keep):
    """An untrained mapper, its optimizer and its objective."""
    mapper, kept = new_mapper(domain, objective, networks, seed), ()
    if objective == "ours" or settings.lambda_keep:
        kept = keep_directions(domain, domain.neutral, prompt, keep)  # [C, D]
    if objective == "paper":
        loss = MapperObjective(domain, prompt, latents, settings, resolution, kept)
        return mapper, paper_optimizer(mapper, settings.lr), loss
    start_at_linear_step(domain, mapper, prompt, settings, keep)
    loss = LinearMapperObjective(domain, prompt, latents, settings, resolution, kept)
    return mapper, torch.optim.Adam(mapper.parameters(), lr=settings.lr), loss


def describe_run(domain, loss, objective, networks, seed, keep):
    """What tells a run from others, {name: value}; a file of another run is not taken up."""
    settings = {name: value for name, value in asdict(loss.settings).items() if name != "origin"}
    networks = list(check_networks(domain, networks))
    return dict(prompt=loss.prompt, objective=objective, generator=domain.fingerprint,
                clip=domain.clip_fingerprint, resolution=loss.resolution, seed=seed,
                latents=fingerprint(loss.latents), networks=networks, **settings,
                keep=list(kept_sentences(domain, domain.neutral, loss.prompt, keep)))


@torch.inference_mode(False)
def train_mapper(domain, prompt, latents, *, keep=None, objective="ours", settings=None,
                 steps=None, networks=ALL, seed=0, resolution=None, path=None, callback=None,
                 accelerator=None):
    """Train a mapper for a prompt on latents [N, L, w_dim] (method 2).

    `keep`, `objective`, `resolution` and `callback` are as `optimize_latent`'s. `settings`
    (`MapperSettings`) or `steps` replace the objective's own. With a `path`, the run is kept there
    and goes on where it was. `accelerator` (Hugging Face accelerate) shares each batch between
    processes.

    Returns the mapper with the lowest held-out loss, and history {loss: list}. Raises ValueError
    for a bad prompt, keep, number or network, too few latents, or another run in `path`.
    """
    settings = mapper_settings(domain, objective, steps, settings)
    if objective == "ours":
        resolution = resolution or domain.preview_resolution
    latents = domain.generator.check_w_plus(latents).detach().to(domain.device)
    mapper, optimizer, loss = begin(domain, prompt, latents, objective, settings, networks, seed,
                                    resolution, keep)
    run = TrainingRun(mapper, optimizer, path, accelerator)
    run.resume(describe_run(domain, loss, objective, networks, seed, keep))
    training_loop(run, loss, seed, callback)
    mapper.load_state_dict(run.best)
    return mapper.eval().requires_grad_(False), run.history
