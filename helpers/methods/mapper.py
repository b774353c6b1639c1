"""Method 2, the latent mapper (arXiv 2103.17249, section 5).

Written by `make export` from notebooks/02_latent_mapper.ipynb: edit that.
"""

import math
from dataclasses import asdict, replace

import torch
import torch.nn.functional as F
from torch import nn

from helpers.criteria import augment, change_distance, clip_distance, identity_distance, text_direction
from helpers.inversion import learning_rate
from helpers.latents import gain, missing, suggestion, w_space
from helpers.runs import Run, fingerprint
from helpers.settings import PAPER_MAPPER
from helpers.stylegan2 import EqualLinear


class Mapper(nn.Module):
    """One network of the paper's Figure 2: PixelNorm, then four equalised linear layers with leaky ReLU."""

    def __init__(self, dim, normalize_over):
        super().__init__()
        self.axis = {"rows": 1, "channels": 2}[normalize_over]
        self.layers = nn.ModuleList(EqualLinear(dim, dim, lr_multiplier=0.01) for _ in range(4))

    def forward(self, x):
        """x [N, rows, dim] -> [N, rows, dim]."""
        x = x * torch.rsqrt(x.square().mean(dim=self.axis, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * math.sqrt(2)
        return x


class LatentMapper(nn.Module):
    """M_t: a `Mapper` for each part of the rows; a part without one stays as it is.

    Args:
        rows: {"coarse": (first, last + 1), ...} of the networks there are.
        dim: channels of each row.
        normalize_over: "rows", as the authors' code does, which works on w itself; or "channels", on
        w_space's axes.
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
    space = w_space(domain.generator)
    return space.offset(0.1 * mapper(space.position(w_plus, mapper.config["dim"]), only))


@torch.no_grad()
def apply_mapper(domain, mapper, w_plus, strength=1.0, only=None):
    """w_plus [N, L, w_dim] (or one image's [L, w_dim]) edited: w + strength * 0.1 M_t(w)."""
    w_plus = domain.generator.check_w_plus(w_plus).to(domain.device)
    return w_plus if strength == 0 else w_plus + strength * mapper_step(domain, mapper, w_plus, only)


def new_mapper(domain, objective="paper", networks=("coarse", "medium", "fine")):
    """An untrained mapper for a domain, with the networks named."""
    rows = {name: (part.start, part.stop) for name, part in domain.rows.items() if name in networks}
    if not rows:
        raise ValueError(f"Name at least one network of {', '.join(domain.rows)}.")
    if objective == "paper":
        return LatentMapper(rows, domain.generator.w_dim, "rows").to(domain.device)
    return LatentMapper(rows,
                        min(domain.settings.gallery.axes, w_space(domain.generator).dim)).to(domain.device)


def paper_objective(domain, prompt, latents, settings, resolution):
    """The paper's loss as a function of (mapper, numbers of latents, seeds): ({term: distances [N]},
    images)."""
    text, persons = domain.clip.encode_text([prompt]), None
    if domain.identity:
        with torch.no_grad():
            persons = torch.cat([domain.identity(domain.generator(part, resolution=resolution))
                                 for part in latents.split(8)])

    def terms_of(mapper, index, seeds):
        step = mapper_step(domain, mapper, latents[index])
        image = domain.generator(latents[index] + step, resolution=resolution)
        terms = {"clip": clip_distance(domain.clip.encode_image(image), text),
                 "latent": settings.lambda_l2 * step.square().mean(dim=(1, 2))}
        if persons is not None:
            terms["identity"] = settings.lambda_id * identity_distance(domain.identity(image), persons[index])
        return terms, image

    return terms_of


EVERY = 25  # steps between two looks at the held-out latents


def training_loop(run, terms_of, training, held_out, settings, seed, callback=None):
    """Take a `Run` to its last step, or as far as Ctrl-C or the callback let it come."""
    look = torch.no_grad()(lambda: run.look(terms_of(run.module, held_out, range(settings.augmentations))[0]))
    if run.step == 0:
        look()
    try:
        while run.step < settings.steps:
            random = torch.Generator().manual_seed(1_000_003 * seed + run.step)
            batch = training[torch.randint(len(training), [settings.batch], generator=random)]
            seeds = torch.randint(settings.augmentations, [1], generator=random).tolist()
            terms, image = terms_of(run.module, run.share(batch), seeds)
            run.learn(terms)
            if run.step % EVERY == 0 or run.step == settings.steps:
                look()
                run.save()
            if callback and callback(run.state(image.detach(), settings.steps)):
                break
    except KeyboardInterrupt:
        pass
    if run.step % EVERY and run.step < settings.steps:  # ended between two looks
        run.save()
        look()


def paper_optimizer(mapper, rate):
    """Ranger as the authors set it."""
    from pytorch_optimizer import Ranger  # takes seconds to import, and only this needs it

    # the first steps, too few to know a variance from: along the mean gradient, as in the authors' Ranger;
    # without the last option the package goes *up* the gradient there
    return Ranger(mapper.parameters(), lr=rate, betas=(0.95, 0.999), eps=1e-5, k=6, alpha=0.5, use_gc=True,
                  degenerated_to_sgd=True)


def split_latents(latents, batch):
    """Numbers of the latents to train on, and of those held out: one in ten, 16 at most."""
    held_out = min(16, max(1, len(latents) // 10))
    if len(latents) - held_out < batch:
        raise ValueError(f"The training set has {len(latents)} latents, {held_out} of them held out: "
                         f"too few for a batch of {batch}. Give more pictures, or a smaller batch.")
    return torch.arange(held_out, len(latents)), torch.arange(held_out)


@torch.no_grad()
def before_the_edit(domain, direction, latents, settings, resolution):
    """Of the latents' images: CLIP's vectors, augmented [N, augmentations, D], persons [N, D], what each
    lacks [N]."""
    features, persons, lacks = [], [], []
    for part in latents.split(8):
        image = domain.generator(part, resolution=resolution)
        features.append(torch.stack([domain.clip.encode_image(augment(image, seed))
                                     for seed in range(settings.augmentations)], dim=1))
        persons.append(domain.identity(image) if domain.identity else image.new_zeros(len(image), 1))
        lacks.append(missing(domain, direction, image))
    return torch.cat(features), torch.cat(persons), torch.cat(lacks)


def our_objective(domain, prompt, latents, settings, resolution):
    """As `paper_objective`, with notebook 1's change instead of a place, in standard deviations."""
    space, direction = w_space(domain.generator), text_direction(domain, prompt)
    features, persons, lacks = before_the_edit(domain, direction, latents, settings, resolution)
    goal = settings.goal * lacks * gain(domain, direction)

    def terms_of(mapper, index, seeds):
        step = mapper_step(domain, mapper, latents[index])
        image = domain.generator(latents[index] + step, resolution=resolution)
        moved = sum(domain.clip.encode_image(augment(image, seed)) - features[index, seed] for seed in seeds)
        change = change_distance(moved / len(seeds), direction, goal[index], settings.sideways)
        length = space.position(space.mean + step, mapper.config["dim"]).square().mean(dim=(1, 2))
        # A goal shrinks with what its face lacks, and moves sideways are counted in squared goals: without
        # this factor, the few faces that show the attribute already pull the whole mapper back.
        terms = {"clip": lacks[index]**2 * change, "latent": settings.lambda_l2 * length}
        if domain.identity:
            terms["identity"] = settings.lambda_id * identity_distance(domain.identity(image), persons[index])
        return terms, image

    return terms_of


def start_at_suggestion(domain, mapper, prompt, settings):
    """Set the last biases so that 0.1 M(x) is about the suggested offset, whatever x is."""
    wanted = 10 * settings.start * suggestion(domain, text_direction(domain, prompt)) / math.sqrt(2)
    wanted = torch.where(wanted > 0, wanted, wanted / 0.2)  # what the last leaky ReLU makes that offset of
    with torch.no_grad():
        for network in mapper.networks.values():
            last = network.layers[-1]
            last.weight.mul_(settings.scatter)
            last.bias.copy_(wanted / last.bias_gain)


def mapper_settings(domain, objective, **given):
    """The numbers of a training: the domain's (or the authors'), but for those given."""
    if objective not in ("ours", "paper"):
        raise ValueError(f'objective must be "ours" or "paper", not {objective!r}.')
    settings = domain.settings.mapper if objective == "ours" else PAPER_MAPPER
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


class FallingRate(torch.optim.Adam):
    """Adam whose learning rate rises over the first twentieth of the steps and falls over the last
    quarter."""

    def __init__(self, mapper, rate, steps):
        super().__init__(mapper.parameters(), lr=rate)
        self.rate, self.steps = rate, steps

    def step(self):
        group = self.param_groups[0]
        group["taken"] = group.get("taken", 0) + 1
        group["lr"] = learning_rate(group["taken"], self.steps + 1, self.rate)
        super().step()


def train_mapper(domain, prompt, latents, *, objective="ours", steps=None, batch=None, rate=None,
                 lambda_l2=None,
                 lambda_id=None, networks=("coarse", "medium", "fine"), seed=0, resolution=None, path=None,
                 callback=None, accelerator=None):
    """Train a mapper for a prompt on latents [N, L, w_dim], or go on with the run in `path` (method 2).

    Args:
        objective: "ours", or "paper" as its authors run it.
        steps, batch, rate, lambda_l2, lambda_id: in place of the domain's settings (or the authors').
        resolution: where the generator stops; else ours stops at `domain.draw`, the paper's nowhere.
        callback: gets {"step", "steps", "loss", "image"} after each step; True stops, as does Ctrl-C.
        accelerator: of Hugging Face accelerate, shares each batch between processes.

    Returns: the mapper with the lowest held-out loss so far, and history, {term: list}.
    Raises: ValueError for a bad prompt, too few latents, or a run in `path` with other settings.
    """
    settings = mapper_settings(domain, objective, steps=steps, batch=batch, rate=rate, lambda_l2=lambda_l2,
                               lambda_id=lambda_id)
    named = dict(prompt=prompt, objective=objective, generator=domain.fingerprint,
                 latents=fingerprint(latents),
                 networks=list(networks), seed=seed,
                 **{k: v for k, v in asdict(settings).items() if k != "origin"})
    return trained(domain, latents, settings, named, resolution, path, callback, accelerator)


def trained(domain, latents, settings, named, resolution, path, callback, accelerator):
    """`train_mapper`, its settings sorted out: `named` tells this run from others."""
    torch.manual_seed(named["seed"])
    mapper = new_mapper(domain, named["objective"], named["networks"])
    if named["objective"] == "paper":
        terms_of = paper_objective(domain, named["prompt"], latents, settings, resolution)
        optimizer = paper_optimizer(mapper, settings.rate)
    else:
        terms_of = our_objective(domain, named["prompt"], latents, settings, resolution or domain.draw)
        start_at_suggestion(domain, mapper, named["prompt"], settings)
        optimizer = FallingRate(mapper, settings.rate, settings.steps)
    run = Run(mapper, optimizer, named, path, accelerator)
    training_loop(run, terms_of, *split_latents(latents, settings.batch), settings, named["seed"], callback)
    mapper.load_state_dict(run.best)
    return mapper.eval().requires_grad_(False), run.history
