"""An attribute classifier that judges edits. It has seen renders only, and no edit is ever driven by it."""

from itertools import pairwise
from math import log2

import torch
import torch.nn.functional as F
from torch import nn


class AttributeClassifier(nn.Module):
    """A small convolutional network with one head per attribute.

    Args:
        attributes: {attribute: [names of its choices]}.
        width: feature maps of the first stage; doubled twice.
        size: side in pixels of its input, 8 times a power of two.
    """

    def __init__(self, attributes, width=32, size=64):
        super().__init__()
        self.config = dict(attributes=attributes, width=width, size=size)
        self.attributes, self.size = attributes, size

        def stage(inputs, outputs):  # half the side
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

        maps = [3, *(width * min(4, 2**i) for i in range(int(log2(size // 8))))]  # each stage halves the side, to 8 px
        self.stages = nn.ModuleList(stage(*pair) for pair in pairwise(maps))
        self.hidden = nn.Sequential(nn.Conv2d(maps[-1], width, 1), nn.Flatten(), nn.Dropout(0.2),
                                    nn.Linear(64 * width, 256), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(choices)) for name, choices in attributes.items()})

    def features(self, image):
        """The stages' feature maps of an image [N, 3, size, size]."""
        maps = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else image))
        return maps

    def forward(self, image):
        """image [N, 3, R, R] in [-1, 1] -> {attribute: logits [N, choices]}."""
        if image.shape[-1] != self.size:
            image = F.interpolate(image, size=(self.size, self.size), mode="area")
        x = self.hidden(self.features(image)[-1])
        return {name: head(x) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, image):
        """image [N, 3, R, R] -> {attribute: (choice [N], confidence [N])}, the most likely choice of each attribute."""
        best = {name: logits.softmax(dim=1).max(dim=1) for name, logits in self(image).items()}
        return {name: (probability.indices, probability.values) for name, probability in best.items()}

    def changes(self, before, after):
        """What reads differently after an edit, a line per image [N, 3, R, R]."""
        old, new = self.read(before), self.read(after)
        lines = []
        for i in range(len(before)):
            pairs = {name: (choices[old[name][0][i]], choices[new[name][0][i]])
                     for name, choices in self.attributes.items()}
            lines.append("; ".join(f"{name}: {a} -> {b}" for name, (a, b) in pairs.items() if a != b) or "nothing")
        return lines

    def count(self, before, after, attribute, wanted):
        """Shares of images [N, 3, R, R] that show the wanted choice afterwards, and of other attributes unchanged."""
        old, new = self.read(before), self.read(after)
        there = new[attribute][0] == self.attributes[attribute].index(wanted)
        kept = torch.stack([old[name][0] == new[name][0] for name in old if name != attribute])
        return there.float().mean().item(), kept.float().mean().item()
