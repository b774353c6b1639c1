"""Fit a StyleGAN2 generator to renders by regression: first the synthesis network, then z -> w.

No discriminator: the synthesis network learns to draw the render of known choices, given as a w that is the
sum of one learned vector per choice, variant and pose. Three things make its latent space one to edit in:

- style mixing: half of the samples give each group of layers (coarse, middle, fine) a w that is right
  in that group's attributes alone, so that each group holds what `GROUPS` says;
- truncation: half of the samples pull w towards the mean, so that psi < 1 still draws a clear face;
- noise on w: a face's neighbourhood draws the same face.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from common import batches, load_or_train, to_image
from torch import nn
from world import ATTRIBUTES, COLUMNS, VARIANTS, draw, probabilities, render

from helpers.stylegan2 import Generator

CHANNELS = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32}
W_DIM, Z_DIM = 128, 64
# Rows of w+ (10 at 64 px) and what they hold. "pose" is the four numbers of the pose.
GROUPS = {
    "coarse": (range(0, 3), ("top", "clothes", "pose")),
    "middle": (range(3, 7), ("expression", "glasses", "facial_hair")),
    "fine": (range(7, 10), ("hair_color", "skin", "clothes_color", "background")),
}


class Codebook(nn.Module):
    """choices and pose -> w: one vector per choice (and variant), summed."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleDict({
            name: nn.Embedding(len(choices) * max(VARIANTS.get(name, [1])), W_DIM)
            for name, choices in ATTRIBUTES.items()})
        self.pose = nn.Linear(4, W_DIM, bias=False)
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=0.4)
        nn.init.normal_(self.pose.weight, std=0.4)

    def entries(self, choices):
        """Each attribute's row of its table, {name: int64 [N]}."""
        rows = {}
        for name in ATTRIBUTES:
            row = choices[:, COLUMNS.index(name)]
            if name in VARIANTS:
                row = row * max(VARIANTS[name]) + choices[:, COLUMNS.index(f"{name}_variant")]
            rows[name] = row
        return rows

    def forward(self, choices, poses):
        """int64 [N, columns], float [N, 4] -> w [N, W_DIM]."""
        return sum(self.tables[name](row) for name, row in self.entries(choices).items()) + self.pose(poses)

    def mean(self):
        """The mean w over the world, [W_DIM]."""
        total = 0
        for name in ATTRIBUTES:
            share = torch.from_numpy(probabilities(name)).float()
            variants = VARIANTS.get(name, [1] * len(share))
            table = self.tables[name].weight.view(len(share), max(variants), W_DIM)
            means = torch.stack([table[i, :count].mean(0) for i, count in enumerate(variants)])
            total = total + share @ means
        return total


class Synthesis(nn.Module):
    """Codebook and generator, trained together."""

    def __init__(self):
        super().__init__()
        self.codebook = Codebook()
        self.generator = Generator(64, CHANNELS, z_dim=Z_DIM, w_dim=W_DIM, mapping_layers=8)
        self.generator.mapping.requires_grad_(False)
        for layer in self.generator.layers:  # nothing in this world is left to chance, so the noise stays off
            layer.noise_strength.requires_grad_(False)

    def mixed(self, choices, poses, rng):
        """w_plus [N, L, W_DIM] in which each group of rows is right in its own attributes, and random in the others."""
        others, other_poses = draw(len(choices) * len(GROUPS), rng)
        rows = []
        for k, (group, held) in enumerate(GROUPS.values()):
            mine = torch.from_numpy(others[k::len(GROUPS)].copy())
            for name in held:
                for column in (name, f"{name}_variant"):
                    if column in COLUMNS:
                        mine[:, COLUMNS.index(column)] = choices[:, COLUMNS.index(column)]
            pose = poses if "pose" in held else torch.from_numpy(other_poses[k::len(GROUPS)].copy())
            rows.append(self.codebook(mine, pose)[:, None].expand(-1, len(group), -1))
        return torch.cat(rows, dim=1)


def attention(resolution, pairs=400):
    """Where faces differ by expression alone, [1, 1, R, R], scaled so that the mean weight is 1.

    Mouth, eyes and brows are a few pixels, and decide what a face says.
    """
    rng = np.random.default_rng(0)
    choices, poses = draw(pairs, rng)
    choices[:, COLUMNS.index("glasses")] = 0
    change = np.zeros((resolution, resolution))
    for choice, pose in zip(choices, poses):
        other = choice.copy()
        other[COLUMNS.index("expression")] = rng.integers(len(ATTRIBUTES["expression"]))
        change += np.abs(render(choice, pose, resolution).astype(float) - render(other, pose, resolution)).mean(-1)
    change = torch.from_numpy(change / change.max()).float()[None, None]
    weight = 1 + 8 * F.max_pool2d(change, 3, 1, 1)
    return weight / weight.mean()


def picture_loss(image, target, weight, critic):
    """Weighted absolute difference, the same of neighbouring differences, and the critic's features."""
    def edges(x):
        return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]

    loss = (weight * (image - target).abs()).mean()
    for mine, right in zip(edges(image), edges(target)):
        loss = loss + (weight[..., :mine.shape[-2], :mine.shape[-1]] * (mine - right).abs()).mean()
    with torch.autocast("cpu", torch.bfloat16):
        part = slice(None, None, 2)  # every second picture: the critic is a fifth of a step
        mine = critic.features(image[part].contiguous(memory_format=torch.channels_last))
        with torch.no_grad():
            right = critic.features(target[part].contiguous(memory_format=torch.channels_last))
    for ours, theirs in zip(mine, right):
        loss = loss + 0.3 * (ours - theirs).abs().float().mean() / theirs.abs().float().mean()
    return loss


def train_synthesis(renders, folder, critic, *, seed, steps, batch=32):
    """Returns the averaged `Synthesis`."""
    torch.manual_seed(seed)
    choices, poses, images = renders
    model = Synthesis()
    model.generator.precision, model.generator.precision_from = torch.bfloat16, 4
    critic.eval().requires_grad_(False)
    codes = list(model.codebook.parameters())
    rest = [p for p in model.generator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": rest, "lr": 6e-3}, {"params": codes, "lr": 9e-3}], betas=(0.9, 0.99))
    weight = attention(64)

    def step(i, index):
        rng = np.random.default_rng([seed, i])
        picked, pose = torch.from_numpy(choices[index]), torch.from_numpy(poses[index])
        half = batch // 2
        plain = model.generator.broadcast(model.codebook(picked[:half], pose[:half]))
        w_plus = torch.cat([plain, model.mixed(picked[half:], pose[half:], rng)])
        pull = torch.rand(batch, 1, 1) * 0.4 * (torch.rand(batch, 1, 1) < 0.5)
        w_plus = w_plus.lerp(model.codebook.mean(), pull)
        w_plus = w_plus + 0.1 * torch.randn_like(w_plus)
        target = to_image(images[index])
        loss = picture_loss(model.generator(w_plus, noise="none"), target, weight, critic)
        loss.backward()
        return loss

    return load_or_train(folder / "synthesis", model, optimizer, step, batches(len(choices), batch, seed), steps,
                         average=copy.deepcopy(model))


def partition(z):
    """Which avatar a z stands for: choices int64 [N, columns] and poses float [N, 4].

    Each column of choices owns a plane of z: the angle in it falls into arcs as long as the choices are likely.
    Four more numbers of z are the pose. Angles do not change with z's length, which the mapping network ignores.
    """
    z = z / z.square().mean(dim=1, keepdim=True).sqrt()
    choices = torch.zeros(len(z), len(COLUMNS), dtype=torch.int64)
    for k, column in enumerate(COLUMNS):
        turn = torch.atan2(z[:, 2 * k + 1], z[:, 2 * k]) / (2 * torch.pi) + 0.5
        if column in ATTRIBUTES:
            edges = torch.from_numpy(probabilities(column)).float().cumsum(0)[:-1]
            choices[:, k] = torch.bucketize(turn, edges)
        else:
            attribute = column.removesuffix("_variant")
            count = torch.tensor(VARIANTS[attribute])[choices[:, COLUMNS.index(attribute)]]
            choices[:, k] = (turn * count).long().minimum(count - 1)
    pose = z[:, 2 * len(COLUMNS):2 * len(COLUMNS) + 4]
    return choices, torch.erf(pose / 2**0.5)


def train_mapping(model, folder, *, seed, steps, batch=4096):
    """Teach the mapping network z -> w, for w of the finished codebook. Returns the finished generator."""
    torch.manual_seed(seed)
    generator = model.generator
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    mapping = generator.mapping.requires_grad_(True)
    optimizer = torch.optim.Adam(mapping.parameters(), lr=3e-3, betas=(0.9, 0.99))

    def target(z):
        return model.codebook(*partition(z))

    scale = target(torch.randn(10_000, Z_DIM)).var(dim=0).mean()

    def step(i, index):
        z = torch.randn(batch, Z_DIM)
        loss = F.mse_loss(generator.map(z), target(z)) / scale
        loss.backward()
        return loss

    load_or_train(folder / "mapping", mapping, optimizer, step, lambda i: None, steps)
    with torch.no_grad():
        generator.w_avg.copy_(torch.cat([generator.map(torch.randn(10_000, Z_DIM)) for _ in range(10)]).mean(0))
    generator.precision = None
    return generator.eval().requires_grad_(False)
