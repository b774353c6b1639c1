"""One measure of an edit, for notebooks, tests and bench: is what was asked for there, and did the rest stay?

A classifier reads attributes from pictures. It was trained apart from the networks that drive edits, and drives none.
"""

from dataclasses import dataclass
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


@dataclass
class Verdict:
    """What `judge` found; faces that showed the asked attribute before the edit are left out."""

    there: list[bool]  # of each face: does it show what was asked for?
    kept: dict[str, list[bool]]  # of each other attribute and face: is it as before?

    @property
    def n(self):
        return len(self.there)

    @property
    def success(self):
        """Share of faces that show it now."""
        return sum(self.there) / max(1, self.n)

    @property
    def unchanged(self):
        """Share of faces on which an attribute stayed, averaged over the attributes."""
        shares = [sum(stayed) / len(stayed) for stayed in self.kept.values() if stayed]
        return sum(shares) / max(1, len(shares))

    def __str__(self):
        return f"asked attribute there {self.success:4.0%}, others unchanged {self.unchanged:4.0%} (n = {self.n})"


def judge(domain, before, after, prompt, sure=0.0):
    """The `Verdict` on an edit.

    `domain.asked` says what a prompt asks for; `domain.related` which attributes it changes by its nature (a laugh
    opens the mouth), which are not counted; `domain.hidden` where an attribute cannot be seen (hair under a hat),
    {attribute: (other attribute, *choices of it)}.

    Args:
        before, after: image [N, 3, R, R].
        prompt: one of `domain.asked`.
        sure: how likely, for the classifier, its reading of another attribute must be before and after the edit, from
            0 to 1; a less likely one is not counted, for turning the picture a little may change it as well.

    Raises: ValueError for a prompt of which nobody has said what it asks for.
    """
    if prompt not in domain.asked:
        raise ValueError(f'What "{prompt}" asks for is not known here; known are: {", ".join(domain.asked)}.')
    attribute, *wanted = domain.asked[prompt]
    choices = domain.classifier.attributes
    wanted = [choices[attribute].index(choice) for choice in wanted]
    readings = [domain.classifier.read(image.clamp(-1, 1)) for image in (before, after)]
    old, new = ({name: choice.tolist() for name, (choice, _) in reading.items()} for reading in readings)
    likely = {name: torch.minimum(*(reading[name][1] for reading in readings)).tolist() for name in choices}

    def counts(name, i):
        if likely[name][i] < sure:
            return False
        if name not in domain.hidden:
            return True
        other, *hiding = domain.hidden[name]
        return not any(choices[other][reading[other][i]] in hiding for reading in (old, new))

    faces = [i for i in range(len(before)) if old[attribute][i] not in wanted]
    counted = [name for name in choices if name != attribute and name not in domain.related.get(attribute, ())]
    return Verdict([new[attribute][i] in wanted for i in faces],
                   {name: [old[name][i] == new[name][i] for i in faces if counts(name, i)] for name in counted})


def summary(verdicts):
    """The `Verdict`s of several prompts, averaged: success and unchanged, as shares."""
    verdicts = list(verdicts)
    return (sum(verdict.success for verdict in verdicts) / len(verdicts),
            sum(verdict.unchanged for verdict in verdicts) / len(verdicts))
