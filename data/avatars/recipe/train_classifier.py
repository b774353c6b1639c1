"""Train an attribute classifier on renders: the judge, and (another seed and width) the generator's critic."""

import numpy as np
import torch
import torch.nn.functional as F
from training import augment, autocast, batches, load_or_train, to_image
from world import ATTRIBUTES, labels

from helpers.judging import AttributeClassifier


def train(renders, folder, name, *, seed, width, steps, batch=128):
    """Train for `steps`, resumable; returns the classifier."""
    torch.manual_seed(seed)
    choices, _, images = renders
    targets = torch.from_numpy(labels(choices))
    model = AttributeClassifier(ATTRIBUTES, width).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)

    def step(i, index):
        picture = augment(to_image(images[index]))
        with autocast():
            logits = model(picture.contiguous(memory_format=torch.channels_last))
        loss = sum(F.cross_entropy(logits[a].float(), targets[index, k], ignore_index=-1)
                   for k, a in enumerate(ATTRIBUTES))
        loss.backward()
        return loss

    return load_or_train(folder / name, model, optimizer, step, batches(len(choices), batch, seed), steps)


@torch.no_grad()
def accuracy(model, choices, images):
    """{attribute: share read rightly} on renders; hair whose colour cannot be seen is left out."""
    model.eval()
    truth = labels(choices)
    read = [model.read(to_image(images[i:i + 500])) for i in range(0, len(images), 500)]
    result = {}
    for k, name in enumerate(ATTRIBUTES):
        found = np.concatenate([part[name][0].numpy() for part in read])
        known = truth[:, k] >= 0
        result[name] = float((found == truth[:, k])[known].mean())
    return result
