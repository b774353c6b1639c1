"""Fit a StyleGAN2 generator to renders by regression, then give it a mapping network z -> w.

No discriminator: the synthesis network learns to draw the render of known choices, given as a w
that is the sum of one learned vector per choice, variant and pose. Three things make its latent
space one to edit in:

- style mixing: half of the samples give each group of layers (coarse, middle, fine) a w that is
  right in that group's attributes alone, so that each group holds what the world's file says;
- truncation: half of the samples pull w towards the mean, so that psi < 1 still draws clearly;
- noise on w: the neighbourhood of a w draws the same picture.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data.training import Trainer, autocast, to_image
from helpers.fused_ops import half_type
from helpers.stylegan2 import Generator

from .world import POSE

CHANNELS = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32}
W_DIM = 128
# Rows of w+ (10 at 64 px). A world's file says which attributes each group holds; "pose" is the
# four numbers of the pose.
GROUPS = {"coarse": range(0, 3), "middle": range(3, 7), "fine": range(7, 10)}


class Codebook(nn.Module):
    """choices and pose -> w: one vector per choice (and variant), summed.

    Args: world: a `World`.
    """

    def __init__(self, world):
        super().__init__()
        self.world, self.tables = world, nn.ModuleDict()
        for name, choices in world.attributes.items():
            entries = len(choices) * max(world.variants.get(name, [1]))
            self.tables[name] = nn.Embedding(entries, W_DIM)
        self.pose = nn.Linear(len(POSE), W_DIM, bias=False)
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=0.4)
        nn.init.normal_(self.pose.weight, std=0.4)

    def entries(self, choices):
        """Each attribute's row of its table: choices int64 [N, columns] -> {name: int64 [N]}."""
        rows, columns, variants = {}, self.world.columns, self.world.variants
        for name in self.world.attributes:
            row = choices[:, columns.index(name)]
            if name in variants:
                variant = choices[:, columns.index(f"{name}_variant")]
                row = row * max(variants[name]) + variant
            rows[name] = row
        return rows

    def forward(self, choices, poses):
        """int64 [N, columns], float [N, 4] -> w [N, W_DIM]."""
        w = 0
        for name, row in self.entries(choices).items():
            w = w + self.tables[name](row)
        return w + self.pose(poses)

    def mean(self):
        """The mean w over the world, [W_DIM]."""
        total = 0
        for name in self.world.attributes:
            share = torch.from_numpy(self.world.probabilities(name)).float()
            variants = self.world.variants.get(name, [1] * len(share))
            table = self.tables[name].weight.view(len(share), max(variants), W_DIM)
            means = torch.stack([table[i, :count].mean(0) for i, count in enumerate(variants)])
            total = total + share @ means
        return total


class Synthesis(nn.Module):
    """Codebook and generator, trained together.

    Args: world: a `World`.
    """

    def __init__(self, world):
        super().__init__()
        self.world, self.codebook = world, Codebook(world)
        self.generator = Generator(64, CHANNELS, z_dim=64, w_dim=W_DIM)
        self.generator.mapping.requires_grad_(False)  # `finish` makes another
        for layer in self.generator.layers:  # the noise stays off: nothing is left to chance here
            layer.noise_strength.requires_grad_(False)

    def mixed(self, choices, poses, rng):
        """w_plus [N, L, W_DIM] whose groups of rows are right in their own attributes only.

        Args:
            choices: int64 [N, columns]; poses: float [N, 4].
            rng: `np.random.Generator`, draws the other attributes.
        """
        others, other_poses = self.world.draw(len(choices) * len(GROUPS), rng)
        rows, columns = [], self.world.columns
        for k, (name, group) in enumerate(GROUPS.items()):
            mine, held = torch.from_numpy(others[k::len(GROUPS)].copy()), self.world.held[name]
            for attribute in held:
                for column in (attribute, f"{attribute}_variant"):
                    if column in columns:
                        mine[:, columns.index(column)] = choices[:, columns.index(column)]
            pose = poses
            if "pose" not in held:
                pose = torch.from_numpy(other_poses[k::len(GROUPS)].copy())
            rows.append(self.codebook(mine, pose)[:, None].expand(-1, len(group), -1))
        return torch.cat(rows, dim=1)


def attention(world, resolution, pairs=400):
    """Where pictures differ by small details alone, [1, 1, R, R], scaled so that the mean is 1.

    Mouth, eyes and brows are a few pixels, and decide what a face says.
    """
    rng, columns = np.random.default_rng(0), world.columns
    choices, poses = world.draw(pairs, rng)
    for name, choice in world.details_beside.items():
        choices[:, columns.index(name)] = world.attributes[name].index(choice)
    change = np.zeros((resolution, resolution))
    for choice, pose in zip(choices, poses):
        other = choice.copy()
        for name in world.details:
            other[columns.index(name)] = rng.integers(len(world.attributes[name]))
            if name in world.variants:
                other[columns.index(f"{name}_variant")] = 0
        first = world.render(choice, pose, resolution).astype(float)
        change += np.abs(first - world.render(other, pose, resolution)).mean(-1)
    change = torch.from_numpy(change / change.max()).float()[None, None]
    weight = 1 + 8 * F.max_pool2d(change, 3, 1, 1)
    return weight / weight.mean()


def edges(image):
    """Differences of neighbouring pixels of image [N, 3, R, R], down and across."""
    return image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]


def picture_loss(image, target, weight, critic):
    """How far an image is from its target: a scalar.

    The weighted absolute difference, the same of neighbouring differences, and the distance of
    the critic's features.

    Args:
        image, target: [N, 3, R, R].
        weight: [1, 1, R, R], of `attention`.
        critic: an `AttributeClassifier`.
    """
    loss = (weight * (image - target).abs()).mean()
    for mine, right in zip(edges(image), edges(target)):
        inside = weight[..., :mine.shape[-2], :mine.shape[-1]]
        loss = loss + (inside * (mine - right).abs()).mean()
    some = slice(None, None, 2)  # every second picture: the critic is a fifth of a step
    with autocast():
        mine = critic.features(image[some].contiguous(memory_format=torch.channels_last))
        with torch.no_grad():
            right = critic.features(target[some].contiguous(memory_format=torch.channels_last))
    for ours, theirs in zip(mine, right):
        distance = (ours - theirs).abs().float().mean() / theirs.abs().float().mean()
        loss = loss + 0.3 * distance
    return loss


class SynthesisTrainer(Trainer):
    """Teaches a `Synthesis` to draw renders of known choices.

    Args: renders: of the world's `renders`; critic: an `AttributeClassifier`.
    """

    def __init__(self, model, renders, critic, *, seed, batch=32):
        self.choices, self.poses, self.images = renders
        self.critic = critic.eval().requires_grad_(False)
        model.generator.precision = half_type(torch.device("cpu"))
        model.generator.precision_from = 4
        codes = list(model.codebook.parameters())
        rest = [p for p in model.generator.parameters() if p.requires_grad]
        groups = [{"params": rest, "lr": 6e-3}, {"params": codes, "lr": 9e-3}]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.weight = attention(model.world, 64)
        super().__init__(model, optimizer, len(self.choices), batch, seed, copy.deepcopy(model))

    def loss(self, step, index):
        """`picture_loss` of pictures, half of them with mixed styles."""
        rng = np.random.default_rng([self.seed, step])
        codebook, half = self.module.codebook, len(index) // 2
        choices = torch.from_numpy(self.choices[index])
        poses = torch.from_numpy(self.poses[index])
        plain = self.module.generator.broadcast(codebook(choices[:half], poses[:half]))
        mixed = self.module.mixed(choices[half:], poses[half:], rng)
        w_plus = torch.cat([plain, mixed])  # [batch, L, W_DIM]
        pull = torch.rand(len(index), 1, 1) * 0.4 * (torch.rand(len(index), 1, 1) < 0.5)
        w_plus = w_plus.lerp(codebook.mean(), pull)
        w_plus = w_plus + 0.1 * torch.randn_like(w_plus)
        image = self.module.generator(w_plus, noise="none")
        return picture_loss(image, to_image(self.images[index]), self.weight, self.critic)


def train_synthesis(world, renders, folder, critic, *, seed, steps):
    """The averaged `Synthesis`, trained for `steps`; resumable.

    Args:
        world: a `World`; renders: of its `renders`.
        folder: for the checkpoint.
        critic: an `AttributeClassifier`.
    """
    torch.manual_seed(seed)
    trainer = SynthesisTrainer(Synthesis(world), renders, critic, seed=seed)
    return trainer.train(folder / "synthesis", steps)


# The mapping network is computed, not trained. One number of z decides one attribute (with its
# variant): the range of a Gaussian is cut into intervals as likely as the choices, and every cut
# is a steep ramp made of two leaky ReLUs. Trained networks blur such cuts, and a blurred cut is a
# picture between two. A world's file names the attributes that the first layer decides; the others
# are decided by the second, which has room for them.
Z_DIM = 64
STEEP = 500.0  # a ramp is 1 / STEEP wide, in standard deviations of z
LIFT = 10.0  # keeps a number positive, where a leaky ReLU is the identity (|z| is at most 8 here)
POSE_LIMIT = 1.4  # a pose is the number divided by this, cut off at -1 and 1


def intervals(codebook, name):
    """An attribute's K entries in order.

    Returns: the upper cuts of their intervals [K - 1], and their vectors [K, W_DIM].
    """
    world = codebook.world
    shares, rows, most = [], [], max(world.variants.get(name, [1]))
    for choice, share in enumerate(world.probabilities(name)):
        count = world.variants[name][choice] if name in world.variants else 1
        shares += [share / count] * count
        rows += [choice * most + variant for variant in range(count)]
    cuts = torch.special.ndtri(torch.tensor(shares, dtype=torch.float64).cumsum(0)[:-1])
    return cuts, codebook.tables[name].weight.detach().double()[rows]


class Wiring:
    """Rows of one mapping layer's weight and bias, filled from the top."""

    def __init__(self, inputs):
        self.weight = torch.zeros(W_DIM, inputs, dtype=torch.float64)
        self.bias, self.used = torch.zeros(W_DIM, dtype=torch.float64), 0

    def add(self, source, gain, bias):
        """One unit, sqrt(2) * leaky_relu(gain * input[source] + bias): returns its row's number."""
        self.weight[self.used, source], self.bias[self.used] = gain, bias
        self.used += 1
        return self.used - 1

    def ramp(self, source, start, end, scale, offset):
        """The numbers of two units whose difference over sqrt(2) is a ramp.

        It runs from 0.2 to 1 while (input - offset) / scale runs from start to end.
        """
        gain = 1 / (end - start)
        up = self.add(source, gain / scale, -gain * (offset / scale + start))
        down = self.add(source, gain / scale, -gain * (offset / scale + end))
        return up, down


def build_mapping(codebook, generator):
    """Write the mapping network that turns z into the codebook's w, and make all of w positive.

    The last activation is the identity for positive w only, so w is shifted; the generator's
    style biases undo the shift.

    Returns: the shift, [W_DIM].
    """
    root, world = 2**0.5, codebook.world
    first, second = Wiring(Z_DIM), Wiring(W_DIM)
    third = torch.zeros(W_DIM, W_DIM, dtype=torch.float64)
    start = torch.zeros(W_DIM, dtype=torch.float64)
    low = torch.zeros(W_DIM, dtype=torch.float64)
    for source, name in enumerate(world.attributes):
        cuts, vectors = intervals(codebook, name)
        start, low = start + vectors[0], low + vectors.min(0).values
        carried = None if name in world.first else first.add(source, 1, LIFT)
        for cut, step in zip(cuts, vectors.diff(dim=0)):
            begin, end = cut - 0.5 / STEEP, cut + 0.5 / STEEP
            if name in world.first:
                up, down = first.ramp(source, begin, end, 1, 0)
                unit = second.add(up, 1, 1)
                second.weight[unit, down] = -1  # the ramp, 0.2 to 1 times sqrt(2), plus 1
                gain, zero = 1 / (0.8 * 2), (0.2 * root + 1) * root
                third[:, unit] += step * gain
                start = start - step * gain * zero
            else:
                up, down = second.ramp(carried, begin, end, root, root * LIFT)
                third[:, up] += step / (0.8 * root)
                third[:, down] -= step / (0.8 * root)
                start = start - step * 0.25
    for k in range(len(POSE)):
        carried = first.add(len(world.attributes) + k, 1, LIFT)
        up, down = second.ramp(carried, -POSE_LIMIT, POSE_LIMIT, root, root * LIFT)
        vector = codebook.pose.weight.detach().double()[:, k]
        third[:, up] += vector * 2 / (0.8 * root)  # 0.2 ... 1 becomes -1 ... 1
        third[:, down] -= vector * 2 / (0.8 * root)
        start, low = start - vector * 1.5, low - vector.abs()

    shift = 0.1 - low
    layers = ((first.weight, first.bias), (second.weight, second.bias),
              (third / root, (start + shift) / root))
    with torch.no_grad():
        for layer, (weight, bias) in zip(generator.mapping, layers):
            layer.weight.copy_(weight / layer.weight_gain)
            layer.bias.copy_(bias / layer.bias_gain)
        for module in (*generator.layers, *generator.to_rgb):
            affine = module.affine
            affine.bias -= (affine.weight * affine.weight_gain) @ shift.float()
        z = torch.randn(100_000, Z_DIM, generator=torch.Generator().manual_seed(0))
        generator.w_avg.copy_(generator.map(z).mean(0))
    return shift.float()


def partition(world, z):
    """Which picture each z [N, Z_DIM] stands for, to check `build_mapping` by.

    Returns: choices int64 [N, columns] and poses float [N, 4].
    """
    u = z / z.square().mean(dim=1, keepdim=True).sqrt()
    choices = torch.zeros(len(z), len(world.columns), dtype=torch.int64)
    for k, name in enumerate(world.attributes):
        share = torch.from_numpy(world.probabilities(name)).cumsum(0)
        place = torch.special.ndtr(u[:, k].double())
        choices[:, k] = torch.bucketize(place, share[:-1])
        if name in world.variants:
            below = torch.cat([torch.zeros(1).double(), share])[choices[:, k]]
            count = torch.tensor(world.variants[name])[choices[:, k]]
            within = (place - below) / torch.from_numpy(world.probabilities(name))[choices[:, k]]
            variant = (within * count).long().clamp(min=0).minimum(count - 1)
            choices[:, world.columns.index(f"{name}_variant")] = variant
    pose = u[:, len(world.attributes):len(world.attributes) + len(POSE)] / POSE_LIMIT
    return choices, pose.clamp(-1, 1)


def finish(model):
    """The generator of a trained `Synthesis`, with a mapping network computed from its codebook."""
    generator = Generator(64, CHANNELS, z_dim=Z_DIM, w_dim=W_DIM, mapping_layers=3, mapping_lr=1.0)
    state = {name: value for name, value in model.generator.state_dict().items()
             if not name.startswith("mapping")}
    generator.load_state_dict(state, strict=False)
    build_mapping(model.codebook, generator)
    return generator.eval().requires_grad_(False)
