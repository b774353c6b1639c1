"""Train the identity network with the ArcFace loss (arXiv 1801.07698).

A person is skin, hair (colour and drawing) and facial hair; expression, glasses, clothes,
background and pose vary. A fifth of all persons is kept out of training, to measure verification
on strangers.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn

from data.training import Trainer, augment, autocast, to_image
from helpers.face_networks import IdentityNetwork

from .world import AVATARS

STAGES, DIM = ((16, 1), (32, 2), (64, 2), (128, 1)), 64
SCALE, MARGIN = 24.0, 0.3
NO_HAIR = 9  # in place of a hair colour that cannot be seen


def persons(choices):
    """A number for each picture's person: choices [N, columns] -> int64 [N]."""
    columns = AVATARS.columns
    hair = choices[:, columns.index("hair_color")]
    number = np.zeros(len(choices), np.int64)
    number = number * 4 + choices[:, columns.index("skin")]
    number = number * 10 + np.where(AVATARS.hair_is_visible(choices), hair, NO_HAIR)
    number = number * 12 + choices[:, columns.index("top")]
    number = number * 4 + choices[:, columns.index("top_variant")]
    number = number * 3 + choices[:, columns.index("facial_hair")]
    number = number * 2 + choices[:, columns.index("facial_hair_variant")]
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


class ArcFaceTrainer(Trainer):
    """Teaches an `ArcFace` to tell persons.

    Args:
        images: uint8 [N, R, R, 3].
        known: numbers of the pictures to train on, [M]; classes: their persons' numbers, [M].
    """

    def __init__(self, model, images, known, classes, *, seed, batch=128):
        self.images, self.known, self.classes = images, known, classes
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
        super().__init__(model, optimizer, len(known), batch, seed)

    def loss(self, step, index):
        """Cross entropy over the persons, the angle to one's own made larger by `MARGIN`."""
        pictures = augment(to_image(self.images[self.known[index]]))
        with autocast():
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            features = self.module.network(pictures)
        cosine = features.float() @ F.normalize(self.module.centres, dim=1).T  # [batch, persons]
        target = self.classes[index]
        own = cosine.gather(1, target[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        scores = cosine.scatter(1, target[:, None], torch.cos(own.acos() + MARGIN))
        return F.cross_entropy(SCALE * scores, target)


def train(renders, folder, *, seed, steps):
    """An `IdentityNetwork` trained for `steps`; resumable.

    Args: renders: of `Avatars.renders`; folder: for the checkpoint.
    """
    torch.manual_seed(seed)
    choices, _, images = renders
    everyone = persons(choices)
    known = np.flatnonzero(~is_stranger(everyone))
    classes = torch.from_numpy(np.unique(everyone[known], return_inverse=True)[1])
    model = ArcFace(int(classes.max()) + 1)
    model.network.to(memory_format=torch.channels_last)
    ArcFaceTrainer(model, images, known, classes, seed=seed).train(folder / "identity", steps)
    return model.network


@torch.no_grad()
def verification(model, choices, images, *, pairs=4000, seed=0):
    """Area under the ROC curve for "is it the same person?" on strangers' pictures.

    Half of the pairs show the same person.

    Args: model: an `IdentityNetwork`; choices: int64 [N, columns]; images: uint8 [N, R, R, 3].
    """
    everyone = persons(choices)
    strangers = np.flatnonzero(is_stranger(everyone))
    features = torch.cat([model(to_image(images[strangers[i:i + 500]]))
                          for i in range(0, len(strangers), 500)])
    person, rng = everyone[strangers], np.random.default_rng(seed)
    first, second = (numbers.ravel() for numbers in np.triu_indices(len(person), 1))
    same = person[first] == person[second]
    alike = rng.permutation(np.flatnonzero(same))[:pairs]
    unlike = rng.permutation(np.flatnonzero(~same))[:pairs]
    chosen = np.concatenate([alike, unlike])
    score = (features[first[chosen]] * features[second[chosen]]).sum(1)
    return float(roc_auc_score(same[chosen], score))
