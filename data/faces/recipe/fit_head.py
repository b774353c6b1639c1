"""Fit the reading of where the head is: face, ears, glasses and hair, of the generator's own maps.

A generator's feature maps fall into clusters that are parts of what it draws (Collins et al.,
"Editing in Style", arXiv 2004.14367). Clusters of the maps at 64 px were looked at and named once;
a logistic regression on the same maps learns which belong to the head.
"""

import torch
import torch.nn.functional as F

from helpers.face_networks import HeadReader

from .fit_readouts import features

SIDE = 64  # pixels of the maps
CLUSTERED, FACES = 40, 240  # that make the clusters, and of them and the regression together
CLUSTERS, ROUNDS, SEED = 12, 40, 77
# Looked at on 24 faces: six of skin, eyes, lips and ears, and two of hair (2, 5). The others are
# the neck (0), clothes and hats (9), and background (6, 8).
HEAD = (1, 2, 3, 4, 5, 7, 10, 11)
TAKEN = 30_000  # pixels that k-means sees


def drawn_maps(generator):
    """Feature maps at 64 px of `FACES` random faces, float16 [N, C, 64, 64]."""
    random = torch.Generator().manual_seed(SEED)
    z = torch.randn(FACES, generator.z_dim, generator=random).to(generator.w_avg)
    maps = []
    for part in generator.map(z, truncation=0.7).split(8):
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


def is_head(maps, centres, mean, std):
    """1 where the nearest cluster belongs to the head: [N, C, H, W] -> [N, 1, H, W]."""
    found = []
    for part in maps.split(8):
        nearest = (directions(part, mean, std) @ centres.T).argmax(dim=1)
        head = torch.isin(nearest, torch.tensor(HEAD)).float()
        found.append(head.view(len(part), 1, *maps.shape[2:]))
    return torch.cat(found)


def fit(maps, target, mean, std, *, steps=400, lr=0.01, seed=0):
    """A `HeadReader` of maps [N, C, H, W]; the standardisation is folded into its weights."""
    random = torch.Generator().manual_seed(seed)
    reader = HeadReader(maps.shape[1])
    reader.requires_grad_(True)
    optimizer = torch.optim.Adam(reader.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        at = torch.randint(0, len(maps), (8,), generator=random)
        x = (maps[at].float() - mean[:, None, None]) / std[:, None, None]
        loss = F.binary_cross_entropy_with_logits(reader.linear(x), target[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    reader.requires_grad_(False)
    weight = reader.linear.weight  # [1, C, 1, 1]
    weight.div_(std[:, None, None])
    reader.linear.bias.sub_((weight[0, :, 0, 0] * mean).sum())
    return reader


def head_reader(generator):
    """Make the `HeadReader` of a generator; say how often it is right on faces left out."""
    maps = drawn_maps(generator)
    first = maps[:CLUSTERED].float()
    mean, std = first.mean(dim=(0, 2, 3)), first.std(dim=(0, 2, 3))
    centres = clusters(directions(first, mean, std))
    target = is_head(maps, centres, mean, std)
    train = FACES - CLUSTERED
    reader = fit(maps[:train], target[:train], mean, std)
    right = ((reader(maps[train:].float()) > 0.5) == (target[train:] > 0.5)).float().mean()
    print(f"head: as the clusters on {right:.1%} of the pixels of {CLUSTERED} other faces")
    return reader
