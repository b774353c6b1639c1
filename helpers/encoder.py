"""A first guess of a picture's w in one pass, where `inversion.invert` begins; small, taught on generated faces."""

import torch
import torch.nn.functional as F
from torch import nn

from .identity import trunk


class Encoder(nn.Module):
    """image [N, 3, R, R] in [-1, 1] -> w [N, w_dim].

    Args:
        stages: (channels, units) of each stage, as of the identity network; every stage halves the side.
        size: side in pixels of the network's input.
    """

    def __init__(self, stages, *, size=128, w_dim=512, hidden=32):
        super().__init__()
        self.config = dict(stages=stages, size=size, w_dim=w_dim, hidden=hidden)
        self.size = size
        self.input_layer, self.body = trunk(stages)
        side = size // 2 ** len(stages)
        self.squeeze = nn.Sequential(nn.Conv2d(stages[-1][0], hidden, 1, bias=False), nn.BatchNorm2d(hidden),
                                     nn.Flatten())
        self.linear = nn.Linear(hidden * side * side, w_dim)

    def forward(self, image):
        if image.shape[-1] != self.size:
            image = F.adaptive_avg_pool2d(image, self.size)
        return self.linear(self.squeeze(self.body(self.input_layer(image))))

    @torch.no_grad()
    def fold(self, mean, axes, spread):
        """Give w itself from now on: mean [w_dim] plus the old result, times spread [K], along axes [K, w_dim]."""
        change = axes.T * spread
        self.linear.weight.copy_(change @ self.linear.weight)
        self.linear.bias.copy_(change @ self.linear.bias + mean)
