"""Networks that look at faces: who is it, which w draws it, which attributes does it have?

The identity network has the parameter names of the published IR-SE50 weights, and the encoder
shares its layers.
"""

from itertools import pairwise
from math import log2

import torch
import torch.nn.functional as F
from torch import nn

IR_SE50 = ((64, 3), (128, 4), (256, 14), (512, 3))  # (channels, units) of each stage
FACE = (35 / 256, 223 / 256, 32 / 256, 220 / 256)  # top, bottom, left, right of the authors' crop


class SqueezeExcite(nn.Module):
    """Each channel times a factor that all channels decide, [N, C, H, W] (arXiv 1709.01507)."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x):
        mean = x.mean(dim=(2, 3), keepdim=True)  # [N, C, 1, 1]
        return x * self.fc2(self.fc1(mean).relu()).sigmoid()


class Unit(nn.Module):
    """Residual unit: [N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        if inputs == outputs:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs), nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs), SqueezeExcite(outputs))

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


def trunk(stages):
    """The convolutions of a network: [N, 3, H, W] -> [N, channels, H / 2^n, W / 2^n] for n stages.

    Args: stages: (channels, units) of each stage.
    Returns: the first layer, and a sequence of all units.
    """
    width = stages[0][0]
    first = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
                          nn.PReLU(width))
    units, inputs = [], width
    for channels, count in stages:
        for i in range(count):
            units.append(Unit(inputs, channels, stride=2 if i == 0 else 1))
            inputs = channels
    return first, nn.Sequential(*units)


def stage_maps(network, x):
    """The feature maps after each stage of an `IdentityNetwork` or `Encoder`: a list.

    Args: x [N, 3, size, size], the network's input.
    """
    maps, x = [], network.input_layer(x)
    units = iter(network.body)
    for _, count in network.config["stages"]:
        for _ in range(count):
            x = next(units)(x)
        maps.append(x)  # [N, channels, H / 2^i, W / 2^i]
    return maps


class IdentityNetwork(nn.Module):
    """ArcFace (arXiv 1801.07698) with squeeze-and-excitation: image -> unit vector of the person.

    Args:
        stages: (channels, units) of each stage; every stage halves the side.
        size: side in pixels of the network's input.
        dim: length of the vector.
        crop: (top, bottom, left, right) as shares of the image, or None; the default is the
            authors' crop of photographs aligned as in FFHQ.
    """

    def __init__(self, stages=IR_SE50, *, size=112, dim=512, crop=FACE):
        super().__init__()
        self.config = dict(stages=stages, size=size, dim=dim, crop=crop)
        self.size, self.crop = size, crop
        self.input_layer, self.body = trunk(stages)
        inputs = stages[-1][0]
        side = size // 2 ** len(stages)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.Dropout(0.4), nn.Flatten(),
            nn.Linear(inputs * side * side, dim), nn.BatchNorm1d(dim))

    def preprocess(self, image):
        """image [N, 3, R, R] in [-1, 1] -> the network's input [N, 3, size, size]."""
        if self.crop is not None:
            image = F.adaptive_avg_pool2d(image, 256)  # as the authors do: crop at 256 px
            top, bottom, left, right = (round(256 * edge) for edge in self.crop)
            image = image[:, :, top:bottom, left:right]  # [N, 3, 188, 188] of the authors' crop
        return shrink(image, self.size)

    def features(self, image):
        """image [N, 3, R, R] in [-1, 1] -> a list of the feature maps after each stage."""
        return stage_maps(self, self.preprocess(image))

    def vector(self, maps):
        """The last feature maps [N, channels, side, side] -> unit vectors [N, dim]."""
        x = self.output_layer(maps)  # [N, dim]
        return x / x.norm(dim=1, keepdim=True)

    def forward(self, image):
        """image [N, 3, R, R] in [-1, 1] -> unit vectors [N, dim]."""
        return self.vector(self.features(image)[-1])


class Encoder(nn.Module):
    """image [N, 3, R, R] in [-1, 1] -> w [N, w_dim], where `inversion.invert` begins.

    It is small and was trained on generated faces.

    Args:
        stages: (channels, units) of each stage; every stage halves the side.
        size: side in pixels of the network's input.
        w_dim: length of w.
        hidden: feature maps before the linear layer.
    """

    def __init__(self, stages, *, size=128, w_dim=512, hidden=32):
        super().__init__()
        self.config = dict(stages=stages, size=size, w_dim=w_dim, hidden=hidden)
        self.size = size
        self.input_layer, self.body = trunk(stages)
        side = size // 2 ** len(stages)
        self.squeeze = nn.Sequential(nn.Conv2d(stages[-1][0], hidden, 1, bias=False),
                                     nn.BatchNorm2d(hidden), nn.Flatten())
        self.linear = nn.Linear(hidden * side * side, w_dim)

    def features(self, image):
        """image [N, 3, R, R] in [-1, 1] -> a list of the feature maps after each stage."""
        return stage_maps(self, shrink(image, self.size))

    def forward(self, image):
        return self.linear(self.squeeze(self.features(image)[-1]))

    @torch.no_grad()
    def fold(self, mean, axes, spread):
        """Make the last layer give w itself, where it was trained on coordinates along axes of W.

        Args: mean [w_dim]; axes [K, w_dim]; spread [K], of w along each axis.
        """
        change = axes.T * spread  # [w_dim, K]
        self.linear.weight.copy_(change @ self.linear.weight)
        self.linear.bias.copy_(change @ self.linear.bias + mean)


class HeadReader(nn.Module):
    """Where the head is in a drawn picture: face, ears, glasses and hair, but no neck; and a hat.

    It reads the generator's feature maps, whose clusters are parts of the picture
    (arXiv 2004.14367), and so it knows hair from what is behind it. Cloth above the eyes is a hat,
    below them clothes, and far from the middle a curtain.

    Args: inputs: channels of the maps; side: of the maps that it reads, in pixels; eyes: how far
        down they are, and hat: half the width of hats, in shares of the side.
    """

    def __init__(self, inputs, side=64, eyes=0.5, hat=0.36):
        super().__init__()
        self.config = dict(inputs=inputs, side=side, eyes=eyes, hat=hat)
        self.side, self.eyes, self.hat = side, eyes, hat
        self.linear = nn.Conv2d(inputs, 2, 1)

    def forward(self, maps):
        """maps [N, inputs, side, side] -> how likely it is head, or hat: [N, 2, side, side]."""
        head, cloth = self.linear(maps.float()).sigmoid().split(1, dim=1)
        place = (torch.arange(self.side, device=maps.device) + 0.5) / self.side
        a_hat = (place < self.eyes)[:, None] & ((place - 0.5).abs() < self.hat)  # [side, side]
        return torch.cat([head, cloth * a_hat], dim=1)


def shrink(image, size):
    """image [N, 3, R, R] -> [N, 3, size, size], by averages over areas."""
    return image if image.shape[-1] == size else F.adaptive_avg_pool2d(image, size)


def halving_stage(inputs, outputs):
    """Two 3x3 convolutions, [N, inputs, H, W] -> [N, outputs, H / 2, W / 2]."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs),
        nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
        nn.ReLU())


class AttributeClassifier(nn.Module):
    """Reads attributes from images; it evaluates edits and drives none.

    A small convolutional network with one head per attribute, trained apart from the networks that
    drive edits.

    Args:
        attributes: {attribute: [names of its choices]}.
        width: feature maps of the first stage; doubled twice.
        size: side in pixels of its input, 8 times a power of two.
    """

    def __init__(self, attributes, width=32, size=64):
        super().__init__()
        self.config = dict(attributes=attributes, width=width, size=size)
        self.attributes, self.size = attributes, size
        maps = [3]  # before and after each stage, down to 8 px
        for i in range(int(log2(size // 8))):
            maps.append(width * min(4, 2**i))
        self.stages = nn.ModuleList(halving_stage(*pair) for pair in pairwise(maps))
        self.hidden = nn.Sequential(nn.Conv2d(maps[-1], width, 1), nn.Flatten(), nn.Dropout(0.2),
                                    nn.Linear(64 * width, 256), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(choices))
                                    for name, choices in attributes.items()})

    def features(self, image):
        """image [N, 3, size, size] -> a list of the feature maps after each stage, down to 8 px."""
        maps, x = [], image
        for stage in self.stages:
            x = stage(x)  # [N, C, H / 2, W / 2]
            maps.append(x)
        return maps

    def forward(self, image):
        """image [N, 3, R, R] in [-1, 1] -> {attribute: logits [N, choices]}."""
        x = self.hidden(self.features(shrink(image, self.size))[-1])  # [N, 256]
        return {name: head(x) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, image):
        """The most likely choice of each attribute.

        Args: image [N, 3, R, R] in [-1, 1].
        Returns: {attribute: (index of the choice [N], its probability [N])}.
        """
        readings = {}
        for name, logits in self(image).items():
            best = logits.softmax(dim=1).max(dim=1)
            readings[name] = (best.indices, best.values)
        return readings

    def changes(self, before, after):
        """What reads differently after an edit: a list of N lines, from images [N, 3, R, R]."""
        old, new = self.read(before), self.read(after)
        lines = []
        for i in range(len(before)):
            changed = []
            for name, choices in self.attributes.items():
                was, now = choices[old[name][0][i]], choices[new[name][0][i]]
                if was != now:
                    changed.append(f"{name}: {was} -> {now}")
            lines.append("; ".join(changed) or "nothing")
        return lines
