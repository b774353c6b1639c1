"""Train the identity network with the ArcFace loss.

A person is skin, hair (colour and drawing) and facial hair; expression, glasses, clothes, background and pose
vary. A fifth of all persons is kept out of training, to measure verification on strangers.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn
from training import augment, autocast, batches, load_or_train, to_image
from world import COLUMNS, hair_is_visible

from helpers.identity import IdentityNetwork

STAGES, DIM = ((16, 1), (32, 2), (64, 2), (128, 1)), 64
SCALE, MARGIN = 24.0, 0.3


def persons(choices):
    """A number for each picture's person, int64 [N]."""
    def column(name):
        return choices[:, COLUMNS.index(name)]

    hair = np.where(hair_is_visible(choices), column("hair_color"), 9)
    number = np.zeros(len(choices), np.int64)
    for part, size in ((column("skin"), 4), (hair, 10), (column("top"), 12), (column("top_variant"), 4),
                       (column("facial_hair"), 3), (column("facial_hair_variant"), 2)):
        number = number * size + part
    return number


def is_stranger(person):
    """A fifth of all persons, chosen by a hash of their number."""
    return person * 2_654_435_761 % 2**32 < 2**32 // 5


class ArcFace(nn.Module):
    """The network and one direction per person of the training set."""

    def __init__(self, count):
        super().__init__()
        self.network = IdentityNetwork(STAGES, size=64, dim=DIM, crop=None)
        self.centres = nn.Parameter(torch.randn(count, DIM))


def train(renders, folder, *, seed, steps, batch=128):
    """Returns the `IdentityNetwork`."""
    torch.manual_seed(seed)
    choices, _, images = renders
    everyone = persons(choices)
    known = np.flatnonzero(~is_stranger(everyone))
    classes = torch.from_numpy(np.unique(everyone[known], return_inverse=True)[1])
    model = ArcFace(int(classes.max()) + 1)
    model.network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)

    def step(i, index):
        pictures = augment(to_image(images[known[index]]))
        with autocast():
            features = model.network(pictures.contiguous(memory_format=torch.channels_last))
        cosine = features.float() @ F.normalize(model.centres, dim=1).T
        target = classes[index]
        own = cosine.gather(1, target[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        scores = cosine.scatter(1, target[:, None], torch.cos(own.acos() + MARGIN))
        loss = F.cross_entropy(SCALE * scores, target)
        loss.backward()
        return loss

    load_or_train(folder / "identity", model, optimizer, step, batches(len(known), batch, seed), steps)
    return model.network


@torch.no_grad()
def verification(model, choices, images, *, pairs=4000, seed=0):
    """Area under the ROC curve for "is it the same person?" on strangers' pictures, as many same as different."""
    everyone = persons(choices)
    strangers = np.flatnonzero(is_stranger(everyone))
    features = torch.cat([model(to_image(images[strangers[i:i + 500]])) for i in range(0, len(strangers), 500)])
    person, rng = everyone[strangers], np.random.default_rng(seed)
    first, second = (a.ravel() for a in np.triu_indices(len(person), 1))
    same = person[first] == person[second]
    chosen = np.concatenate([rng.permutation(np.flatnonzero(part))[:pairs] for part in (same, ~same)])
    score = (features[first[chosen]] * features[second[chosen]]).sum(1)
    return float(roc_auc_score(same[chosen], score))
