"""Fit the reading of where the head is: face, ears, glasses, hair and hat, of the generator's maps.

A generator's feature maps fall into clusters that are parts of what it draws (Collins et al.,
"Editing in Style", arXiv 2004.14367). Clusters of the maps at 64 px were looked at and named once;
two logistic regressions on the same maps learn which belong to the head, and which are cloth. What
no cluster tells is the hat of a face that was labelled by eye: above its forehead.
"""

import torch
import torch.nn.functional as F

from helpers.face_networks import HeadReader

from . import pools
from .captions import ATTRIBUTES, NAMES
from .fit_readouts import features
from .labels import by_eye

SIDE = 64  # pixels of the maps
CLUSTERED, TRAINED, LEFT_OUT = 40, 200, 40  # faces: the first make the clusters, the last check
CLUSTERS, ROUNDS, SEED = 12, 40, 77
# Looked at on 24 faces: six of skin, eyes, lips and ears, and two of hair (2, 5). The others are
# the neck (0), clothes and hats (9), and background (6, 8).
HEAD, CLOTH = (1, 2, 3, 4, 5, 7, 10, 11), (9,)
TAKEN = 30_000  # pixels that k-means sees
CROWN = slice(4, 14), slice(24, 40)  # rows and columns of 64, where a hat is if there is one


def random_faces(generator):
    """w [N, w_dim] of random faces: those to train on, and those left out."""
    random = torch.Generator().manual_seed(SEED)
    z = torch.randn(TRAINED + LEFT_OUT, generator.z_dim, generator=random).to(generator.w_avg)
    return generator.map(z, truncation=0.7)


def faces_with_hats(generator):
    """w [N, w_dim] of those faces to train on that have a hat, by eye."""
    column, yes = NAMES.index("hat"), ATTRIBUTES["hat"].index("yes")
    found = []
    for pool in ("train", "train-more"):
        numbers, choices = by_eye(pool)
        numbers = numbers[choices[:, column] == yes]
        found.append(pools.latents(generator, pool)[numbers])
    return torch.cat(found).to(generator.w_avg)


def drawn_maps(generator, w):
    """Feature maps at 64 px of w [N, w_dim], float16 [N, C, 64, 64]."""
    maps = []
    for part in w.split(8):
        s = generator.styles(generator.broadcast(part))
        maps.append(features(generator, s, 2 * SIDE).half().cpu())
    return torch.cat(maps)


def directions(maps, mean, std):
    """Unit vectors of the pixels of standardised maps: [N, C, H, W] -> [N H W, C]."""
    x = (maps.float() - mean[:, None, None]) / std[:, None, None]
    return F.normalize(x.permute(0, 2, 3, 1).flatten(0, 2), dim=1)


def clusters(x):
    """Spherical k-means of unit vectors [M, C]: centres [CLUSTERS, C]."""
    random = torch.Generator().manual_seed(SEED)
    x = x[torch.randperm(len(x), generator=random)[:TAKEN]]
    centres = x[:CLUSTERS]
    for _ in range(ROUNDS):
        nearest = (x @ centres.T).argmax(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        centres = F.normalize(sums, dim=1)
    return centres


def parts_of(maps, centres, mean, std):
    """1 where the nearest cluster belongs to the head, or is of cloth: [N, C, H, W] ->
    [N, 2, H, W]."""
    found = []
    for part in maps.split(8):
        nearest = (directions(part, mean, std) @ centres.T).argmax(dim=1)
        nearest = nearest.view(len(part), *maps.shape[2:])  # [n, H, W]
        found.append(torch.stack([torch.isin(nearest, torch.tensor(of)).float()
                                  for of in (HEAD, CLOTH)], dim=1))
    return torch.cat(found)


def with_crowns(target):
    """Targets of faces with hats and which of them count, both [N, 2, 64, 64]: above the forehead,
    every pixel that is not head is cloth. What is cloth elsewhere is not trained on them."""
    target, counts = target.clone(), torch.ones_like(target)
    rows, columns = CROWN
    bare = target[:, 0, rows, columns]
    counts[:, 1] = 0
    counts[:, 1, rows, columns] = target[:, 1, rows, columns] = 1 - bare
    return target, counts


def fit(maps, target, counts, mean, std, *, steps=400, lr=0.01, seed=0):
    """A `HeadReader` of maps [N, C, H, W], taught target [N, 2, H, W] where it counts; the
    standardisation is folded into its weights."""
    random = torch.Generator().manual_seed(seed)
    reader = HeadReader(maps.shape[1])
    reader.requires_grad_(True)
    optimizer = torch.optim.Adam(reader.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        at = torch.randint(0, len(maps), (8,), generator=random)
        x = (maps[at].float() - mean[:, None, None]) / std[:, None, None]
        loss = F.binary_cross_entropy_with_logits(reader.linear(x), target[at], counts[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    reader.requires_grad_(False)
    weight = reader.linear.weight  # [2, C, 1, 1]
    weight.div_(std[:, None, None])
    reader.linear.bias.sub_(weight[:, :, 0, 0] @ mean)
    return reader


def head_reader(generator):
    """Make the `HeadReader` of a generator; say how often it is right on faces left out."""
    maps = drawn_maps(generator, random_faces(generator))
    first = maps[:CLUSTERED].float()
    mean, std = first.mean(dim=(0, 2, 3)), first.std(dim=(0, 2, 3))
    centres = clusters(directions(first, mean, std))
    target = parts_of(maps, centres, mean, std)
    hats = drawn_maps(generator, faces_with_hats(generator))
    hats_target, hats_counts = with_crowns(parts_of(hats, centres, mean, std))
    train, few = TRAINED, len(hats) // 5
    reader = fit(torch.cat([maps[:train], hats[few:]]),
                 torch.cat([target[:train], hats_target[few:]]),
                 torch.cat([torch.ones_like(target[:train]), hats_counts[few:]]), mean, std)
    read = reader.linear(maps[train:].float()) > 0
    head, cloth = (read == (target[train:] > 0.5)).float().mean(dim=(0, 2, 3)).tolist()
    rows, columns = CROWN
    there = reader(hats[:few].float()).amax(dim=1)[:, rows, columns] > 0.5
    print(f"As the clusters on {head:.1%} (head) and {cloth:.1%} (cloth) of the pixels of "
          f"{LEFT_OUT} other faces; of {few} other hats, {there.float().mean():.1%} is read as "
          "hat or hair.")
    return reader
