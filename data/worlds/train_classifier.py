"""Train an attribute classifier on renders: the judge, and the generator's critic."""

import numpy as np
import torch
import torch.nn.functional as F

from data.training import Trainer, augment, autocast, to_image
from helpers.face_networks import AttributeClassifier


class ClassifierTrainer(Trainer):
    """Teaches an `AttributeClassifier` to read renders.

    Args: world: a `World`; renders: of its `renders`.
    """

    def __init__(self, model, world, renders, *, seed, batch=128):
        choices, _, self.images = renders
        self.world, self.targets = world, torch.from_numpy(world.labels(choices))
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
        super().__init__(model, optimizer, len(choices), batch, seed)

    def loss(self, step, index):
        """Cross entropy, added up over the attributes; what cannot be seen is left out."""
        picture = augment(to_image(self.images[index]))
        with autocast():
            logits = self.module(picture.contiguous(memory_format=torch.channels_last))
        loss = 0
        for k, name in enumerate(self.world.attributes):
            target = self.targets[index, k]
            loss = loss + F.cross_entropy(logits[name].float(), target, ignore_index=-1)
        return loss


def train(world, renders, folder, name, *, seed, width, steps):
    """An `AttributeClassifier` trained for `steps`; its checkpoint is `name` in `folder`."""
    torch.manual_seed(seed)
    model = AttributeClassifier(world.attributes, width).to(memory_format=torch.channels_last)
    return ClassifierTrainer(model, world, renders, seed=seed).train(folder / name, steps)


@torch.no_grad()
def accuracy(model, world, choices, images):
    """{attribute: share read rightly} on renders; what cannot be seen is left out.

    Args: choices: int64 [N, columns]; images: uint8 [N, R, R, 3].
    """
    model.eval()
    truth = world.labels(choices)
    read = [model.read(to_image(images[i:i + 500])) for i in range(0, len(images), 500)]
    result = {}
    for k, name in enumerate(world.attributes):
        found = np.concatenate([part[name][0].numpy() for part in read])
        known = truth[:, k] >= 0
        result[name] = float((found == truth[:, k])[known].mean())
    return result
