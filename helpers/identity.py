"""Who is it? An ArcFace network (Deng et al., arXiv 1801.07698) with squeeze-and-excitation, any depth and width.

Parameters have the names of the published IR-SE50 weights.
"""

import torch.nn.functional as F
from torch import nn

IR_SE50 = ((64, 3), (128, 4), (256, 14), (512, 3))  # (channels, units) of each stage
FACE = (35 / 256, 223 / 256, 32 / 256, 220 / 256)  # top, bottom, left, right of the authors' crop


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid()


class Unit(nn.Module):
    """Improved residual unit: the result and a shortcut, both [N, outputs, H / stride, W / stride]."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride) if inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), SqueezeExcite(outputs))

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


def trunk(stages):
    """The first layer and the units of a network with these stages, (channels, units) each: two modules."""
    width = stages[0][0]
    first = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))
    units, inputs = [], width
    for channels, count in stages:
        for i in range(count):
            units.append(Unit(inputs, channels, stride=2 if i == 0 else 1))
            inputs = channels
    return first, nn.Sequential(*units)


class IdentityNetwork(nn.Module):
    """image -> unit vector of the person in it.

    Args:
        stages: (channels, units) of each stage; every stage halves the side.
        size: side in pixels of the network's input.
        dim: length of the vector.
        crop: (top, bottom, left, right) as shares of the image; the authors' for photographs aligned as FFHQ.
    """

    def __init__(self, stages=IR_SE50, *, size=112, dim=512, crop=FACE):
        super().__init__()
        self.config = dict(stages=stages, size=size, dim=dim, crop=crop)
        self.size, self.crop = size, crop
        self.input_layer, self.body = trunk(stages)
        inputs = stages[-1][0]
        side = size // 2 ** len(stages)
        self.output_layer = nn.Sequential(nn.BatchNorm2d(inputs), nn.Dropout(0.4), nn.Flatten(),
                                          nn.Linear(inputs * side * side, dim), nn.BatchNorm1d(dim))

    def preprocess(self, image):
        """image [N, 3, R, R] in [-1, 1] -> the network's input [N, 3, size, size]."""
        if self.crop is not None:
            image = F.adaptive_avg_pool2d(image, 256)  # as the authors do: crop at 256 px, then shrink
            top, bottom, left, right = (round(256 * edge) for edge in self.crop)
            image = image[:, :, top:bottom, left:right]
        return image if image.shape[-1] == self.size else F.adaptive_avg_pool2d(image, self.size)

    def forward(self, image):
        """image [N, 3, R, R] in [-1, 1] -> unit vectors [N, dim]."""
        x = self.output_layer(self.body(self.input_layer(self.preprocess(image))))
        return x / x.norm(dim=1, keepdim=True)
